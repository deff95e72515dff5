r"""Epochs of jaxbudget and of plain PyTorch, in turns on the same cores.

  python benchmarks/side_by_side.py                       # needs torch: pip install -e .[bench]
  python benchmarks/side_by_side.py 'digits quickstart, sgd' --torch_python=/elsewhere/bin/python
  python benchmarks/side_by_side.py --smoke               # seconds: does it run?

Each side is a process of its own with 2 cores, and an epoch is a whole one: selection,
loading, augmentation, steps, feedback. Both take turns; compile time and each side's first
epoch are left out. Throughput is in forward equivalents a second (a forward pass of a
sample is 1, a training step 3), since Selective Backprop draws how much it trains on; a
ratio is that of two epochs that followed each other.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import record
from cases import CASES, Case, smoke
from record import Figure


def make_epoch(case: Case):
  """Returns a function that trains one epoch: () -> (samples scored, samples trained on)."""
  import jax
  import jax.numpy as jnp

  from jaxbudget import engine, optimizers
  from jaxbudget.augment import make_augment
  from jaxbudget.data import Info
  from jaxbudget.models import make_model
  from jaxbudget.selectors import make_selector
  from jaxbudget.types import Data, Spec

  n, channels = case.num_examples, case.channels
  shape = case.side, case.side, channels
  flip, pad = 0.5 if channels == 3 else 0.0, case.side // 8
  info = Info('random', n, 0, 10, shape, (0.5,) * channels, (0.25,) * channels, flip, pad)
  keys = jax.random.split(jax.random.key(1))
  data = Data(
    jax.random.bits(keys[0], (n, *shape), jnp.uint8), jax.random.randint(keys[1], (n,), 0, 10)
  )
  spec = Spec(n, case.batch_size, 10, 1000, shape)
  options = {'prime': False} if case.method == 'selective_backprop' else {}
  selector = make_selector(case.method, spec, case.budget, options)
  model = make_model(case.model, 10, shape, width=case.width)
  optimizer = optimizers.make_optimizer()
  augment = make_augment('standard', info)
  trained = engine.start(spec, model, augment, selector, optimizer, case.budget)
  trained = engine.prepare(trained, data)
  done = 0

  def run():
    nonlocal trained, done
    trained, progress = engine.run_epoch(trained, data, done, learning_rate=0.1)
    done += 1
    metrics = jax.device_get(progress.metrics)
    return int(metrics.scored.sum()), int(metrics.trained.sum())

  return run


def serve(case: Case) -> None:
  """Trains an epoch for each line of standard input."""
  import jax

  run = make_epoch(case)
  for _ in sys.stdin:
    start = time.perf_counter()
    scored, trained = run()
    seconds = time.perf_counter() - start
    answer = {'seconds': seconds, 'scored': scored, 'trained': trained}
    print(json.dumps({**answer, 'version': f'jax {jax.__version__}'}), flush=True)


class Side:
  """A process that trains an epoch when told to."""

  def __init__(self, command, threads):
    limits = {'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    self.process = subprocess.Popen(
      ['taskset', '-c', ','.join(map(str, cores)), *command],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits},
    )  # fmt: skip

  def epoch(self):
    """Trains an epoch. Returns the answer, with its throughput in forward equivalents."""
    self.process.stdin.write('epoch\n')
    self.process.stdin.flush()
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f'{self.process.args} ended with {self.process.wait()}')
    answer = json.loads(line)
    spent = answer['scored'] + 3 * answer['trained']
    return {**answer, 'throughput': spent / answer['seconds']}

  def close(self):
    """Ends the process."""
    self.process.stdin.close()
    self.process.wait(timeout=60)


def measure(name, flags):
  """Lets both sides take turns. Returns figures of a case, and what they come from."""
  common = [f'--threads={flags.threads}', '--serve', *(['--smoke'] if flags.smoke else []), name]
  here = os.path.dirname(os.path.abspath(__file__))
  ours = Side([sys.executable, os.path.join(here, 'side_by_side.py'), *common], flags.threads)
  theirs = Side([flags.torch_python, os.path.join(here, 'torch_reference.py'), *common],
                flags.threads)  # fmt: skip
  rounds = [(ours.epoch(), theirs.epoch()) for _ in range(1 + flags.repeats)][1:]
  ours.close()
  theirs.close()
  unit, versions = 'forward passes/s', sorted({pair[1]['version'] for pair in rounds})
  speeds = [[side['throughput'] for side in pair] for pair in rounds]
  mine, torch = zip(*speeds, strict=True)
  ratios = [a / b for a, b in speeds]
  figures = [
    Figure(f'{name}: jaxbudget / PyTorch', ratios, 'x', at_least=CASES[name].target),
    Figure(f'{name}: jaxbudget', list(mine), unit),
    Figure(f'{name}: PyTorch', list(torch), unit),
  ]
  return figures, {'case': CASES[name]._asdict(), 'rounds': rounds, 'against': versions}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('cases', nargs='*', default=list(CASES), metavar='CASE')
  parser.add_argument('--torch_python', default=os.environ.get('TORCH_PYTHON', sys.executable))
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--smoke', action='store_true', help='tiny sizes; nothing is stored')
  parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.serve:
    case = CASES[flags.cases[0]]
    return serve(smoke(case) if flags.smoke else case)
  if subprocess.run([flags.torch_python, '-c', 'import torch'], capture_output=True).returncode:
    sys.exit(f'{flags.torch_python} has no torch: pip install -e .[bench], or --torch_python')
  if flags.smoke:
    flags.repeats = 1
  table, details = [], {'threads': flags.threads, 'cases': {}}
  for name in flags.cases:
    figures, more = measure(name, flags)
    table += figures
    details['cases'][name] = more
    details['against'] = more.pop('against')[0]
    record.show(figures)
  if flags.smoke:
    return 0
  return record.store('side_by_side', table, details)


if __name__ == '__main__':
  sys.exit(main())
