"""Training steps of ResNet-18 with the CPU convolution rule and with plain `lax.conv`.

  python benchmarks/conv.py                 # widths 16 and 64; some minutes
  python benchmarks/conv.py --width=16 --repeats=10
  python benchmarks/conv.py --smoke         # seconds: does it run?

Each program is timed by itself ("alone": one dispatch a step) and inside a compiled loop
("loop": `lax.fori_loop`, where a compiled epoch runs it). All of them take turns within a
repeat, so that a busy moment of the machine hits them alike. Compile time is left out.
"""

import argparse
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from jaxbudget import models


def make_step(model, target):
  """SGD on one batch: `(params, model_state), image -> (params, model_state)`."""

  def loss(params, model_state, image):
    logits, model_state = model.apply(params, model_state, image, True)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), axis=1)), model_state

  def step(state, image):
    gradient, model_state = jax.grad(loss, has_aux=True)(*state, image)
    params = jax.tree.map(lambda p, g: p - 0.01 * g, state[0], gradient)
    return params, model_state

  return step


def make_programs(width, batch, side, steps, compute_dtype):
  """Compiled calls by (rule, place), each running `steps` steps."""
  keys = jax.random.split(jax.random.key(0), 2)
  image = jax.random.normal(keys[0], (batch, side, side, 3))
  target = jax.nn.one_hot(jnp.arange(batch) % 10, 10)
  programs = {}
  for rule in ('cpu', 'lax'):
    model = models.make_model(
      'resnet18', 10, image.shape[1:], width=width, conv=rule, compute_dtype=compute_dtype
    )
    state = model.init(keys[1])
    step = make_step(model, target)

    def looped(state, image, steps, step=step):
      return lax.fori_loop(0, steps, lambda _, state: step(state, image), state)

    alone = jax.jit(step).lower(state, image).compile()
    loop = jax.jit(looped).lower(state, image, steps).compile()

    def run_alone(state=state, alone=alone):
      for _ in range(steps):
        state = alone(state, image)
      return state

    programs[rule, 'alone'] = run_alone
    programs[rule, 'loop'] = lambda state=state, loop=loop: loop(state, image, steps)
  return programs


def measure(programs, steps, repeats):
  """Seconds a step, `repeats` of them for each program, in turns."""
  seconds = {name: [] for name in programs}
  for repeat in range(repeats + 1):  # the first warms up
    for name, program in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(program())
      if repeat:
        seconds[name].append((time.perf_counter() - start) / steps)
  return seconds


def processor():
  try:
    with open('/proc/cpuinfo') as file:
      return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--width', type=int, nargs='+', default=[16, 64])
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--side', type=int, default=32, help='pixels')
  parser.add_argument('--steps', type=int, default=2, help='steps in one timed call')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--compute_dtype', default='float32', choices=['float32', 'bfloat16'])
  parser.add_argument('--smoke', action='store_true', help='a tiny network, once')
  flags = parser.parse_args()
  if flags.smoke:
    flags.width, flags.batch, flags.side, flags.steps, flags.repeats = [2], 4, 8, 1, 1

  print(
    f'{processor()}, {os.cpu_count()} cores, {jax.default_backend()} backend; '
    f'python {platform.python_version()}, jax {jax.__version__}; '
    f'ResNet-18, batch {flags.batch}, {flags.side}x{flags.side}, {flags.compute_dtype}, '
    f'{flags.repeats} repeats of {flags.steps} steps'
  )
  print('| width | rule | place | median ms a step | fastest | slowest | rows/s | lax / this |')
  print('|---|---|---|---|---|---|---|---|')
  for width in flags.width:
    programs = make_programs(width, flags.batch, flags.side, flags.steps, flags.compute_dtype)
    seconds = measure(programs, flags.steps, flags.repeats)
    for (rule, place), times in seconds.items():
      median = statistics.median(times)
      ratio = statistics.median(seconds['lax', place]) / median
      print(
        f'| {width} | {rule} | {place} | {1e3 * median:.1f} | {1e3 * min(times):.1f} '
        f'| {1e3 * max(times):.1f} | {flags.batch / median:.0f} | {ratio:.2f} |',
        flush=True,
      )


if __name__ == '__main__':
  main()
