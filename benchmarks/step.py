"""Training rows per second inside the compiled epoch, with and without the CPU gradient rule.

  python benchmarks/step.py                       # ResNet-18 of width 16; a minute
  python benchmarks/step.py --width=64            # some minutes
  python benchmarks/step.py --smoke               # seconds: does it run?

The real epoch of `unif_sgd`: gather, crop and flip, step, books. Both rules take turns, and a
repeat is one call of `--rows` rows. The plain `lax.conv` gradient runs one row a repeat: inside
a loop it is slow on CPU, which is the point.
"""

import argparse
import itertools
import sys
import time

import jax
import jax.numpy as jnp
import record
from record import Figure

from jaxbudget import engine
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, Spec


def make_call(rule, width, batch, side, rows):
  """Returns a function that runs `rows` rows of an epoch and waits for them."""
  examples = batch * max(rows, 2)
  info = Info('random', examples, 1, 10, (side, side, 3), (0.5,) * 3, (0.5,) * 3, flip=0.5, pad=2)
  image = jax.random.randint(jax.random.key(0), (examples, side, side, 3), 0, 256)
  data = Data(image.astype(jnp.uint8), jnp.arange(examples, dtype=jnp.int32) % 10)
  spec = Spec(examples, batch, 10, epochs=10_000, image_shape=info.image_shape)
  selector = make_selector('unif_sgd', spec, 1.0)
  model = make_model('resnet18', 10, info.image_shape, width=width, conv=rule)
  optimizer = make_optimizer()
  augment = make_augment('standard', info)
  trained, epochs = engine.start(spec, model, augment, selector, optimizer, 1.0), itertools.count()

  def call(rows=rows):
    nonlocal trained
    trained, progress = engine.run_epoch(trained, data, next(epochs), 0.01, stop=rows)
    assert int(progress.row) == rows

  call(rows=0)  # compiles
  return call


def measure(width, batch, side, rows, repeats):
  """Rows per second of both rules: {rule: [one figure a repeat]}."""
  counts = {'cpu': rows, 'lax': 1}
  calls = {rule: make_call(rule, width, batch, side, n) for rule, n in counts.items()}
  calls['cpu']()  # warms up
  speed = {rule: [] for rule in calls}
  for _ in range(repeats):
    for rule, call in calls.items():
      if rule == 'lax' and speed[rule] and speed[rule][-1] < 0.1:
        continue  # one figure of a call that lasts longer than 10 s is enough
      start = time.perf_counter()
      call()
      speed[rule].append(counts[rule] / (time.perf_counter() - start))
  return speed


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--width', type=int, nargs='+', default=[16])
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--side', type=int, default=32, help='pixels')
  parser.add_argument('--rows', type=int, default=4, help='rows in one timed call')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--smoke', action='store_true', help='a tiny network, once')
  flags = parser.parse_args()
  if flags.smoke:
    flags.width, flags.batch, flags.side, flags.rows, flags.repeats = [2], 4, 8, 2, 1
  names = {'cpu': 'fast gradients', 'lax': 'plain lax.conv'}
  table = []
  for width in flags.width:
    speed = measure(width, flags.batch, flags.side, flags.rows, flags.repeats)
    for rule, each in speed.items():
      table.append(Figure(f'resnet18 width {width}, {names[rule]}', each, 'rows/s'))
  if flags.smoke:
    return record.show(table)
  return record.store('step', table)


if __name__ == '__main__':
  sys.exit(main())
