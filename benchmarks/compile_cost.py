"""Start-up: from the command to the first training step, and what compilation takes of it.

  python benchmarks/compile_cost.py
  python benchmarks/compile_cost.py --smoke     # one cold start; nothing is stored

The start is that of configs/quickstart.py: `launch.py`'s path from a new process to the end
of the first dispatch of rows. Cold: the compilation cache is an empty directory. Warm: the
second start with it.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import record
from record import Figure

ROOT = pathlib.Path(__file__).parents[1]
TARGETS = {'cold': 20.0, 'warm': 8.0}  # seconds

# Runs the launcher, and stops dead at the first sign of progress.
START = """
import os, pathlib, sys, time
began = float(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from configs import quickstart
from jaxbudget.lab import launcher
from jaxbudget.lab.sweep import local
train = local.train
imported = time.time()
def first_step(run, train_data, test_data, directory, progress, stop, **more):
  def told(epochs, rows):
    print(imported - began, time.time() - began, flush=True)
    os._exit(0)
  train(run, train_data, test_data, directory, told, stop, **more)
local.train = first_step
launcher.launch(quickstart.get_config(), pathlib.Path(sys.argv[3]), stage='train')
"""


def start(cache):
  """Starts the quickstart once. Returns (seconds to import, seconds to the first step)."""
  workdir = tempfile.mkdtemp()
  environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': str(cache)}
  command = [sys.executable, '-c', START, str(time.time()), str(ROOT), workdir]
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  shutil.rmtree(workdir)
  if done.returncode:
    raise RuntimeError(done.stderr)
  return tuple(map(float, done.stdout.split()[-2:]))


def measure_starts(repeats):
  """Cold and warm starts."""
  found = {'import': [], 'cold': [], 'warm': []}
  for _ in range(repeats):
    with tempfile.TemporaryDirectory() as cache:
      for kind in ('cold', 'warm'):
        imported, seconds = start(cache)
        found[kind].append(seconds)
        found['import'].append(imported)
  return found


def compile_seconds(model, width, selector, budget=0.3):
  """Seconds to trace and to compile a row program and a plan program, without a cache."""
  import jax

  from jaxbudget import engine, epoch
  from jaxbudget.augment import make_augment
  from jaxbudget.data import Info
  from jaxbudget.models import make_model
  from jaxbudget.optimizers import make_optimizer
  from jaxbudget.selectors import make_selector
  from jaxbudget.types import Spec

  jax.config.update('jax_enable_compilation_cache', False)
  shape, n = (32, 32, 3), 50_000
  spec = Spec(n, 128, 10, 200, shape)
  info = Info('random', n, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=4)
  method, optimizer = make_selector(selector, spec, budget), make_optimizer()
  network, augment = make_model(model, 10, shape, width=width), make_augment('standard', info)
  shapes = engine.row_shapes(spec, network, augment, method, optimizer, budget)
  _, state, _, _, root, place = shapes
  start = time.perf_counter()
  lowered = epoch.train_rows.lower(*shapes)
  traced = time.perf_counter()
  lowered.compile()
  compiled = time.perf_counter()
  epoch.plan_program.lower(method.plan, n // 128, state.selector, place, root).compile()
  return {
    'trace the row program': traced - start,
    'compile the row program': compiled - traced,
    'trace and compile the plan': time.perf_counter() - compiled,
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--smoke', action='store_true')
  flags = parser.parse_args()
  starts = measure_starts(1 if flags.smoke else flags.repeats)
  table = [
    Figure(f'quickstart to the first step, {kind}', starts[kind], 's', at_most=TARGETS[kind])
    for kind in ('cold', 'warm')
  ]
  table.append(Figure('importing all of it, part of that', starts['import'], 's'))
  cases = [('resnet8', 2, 'p_sgd')]
  if not flags.smoke:
    cases = [('resnet18', w, m) for w in (16, 64) for m in ('p_sgd', 'selective_backprop')]
  for case in cases:
    found = compile_seconds(*case)
    what = f'{case[0]} width {case[1]}, {case[2]}'
    table += [Figure(f'{key}, {what}', [seconds], 's') for key, seconds in found.items()]
  if flags.smoke:
    return record.show(table)
  return record.store('compile_cost', table)


if __name__ == '__main__':
  sys.exit(main())
