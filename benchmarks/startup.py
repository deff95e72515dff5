"""How long people wait before anything is trained: imports, help, plans, a launch that is done.

  python benchmarks/startup.py
  python benchmarks/startup.py --repeats=1

Every figure is of processes started anew, the files of their programs in the page cache. The last
plans are of 10,000 cells with 10 seeds each, with what memory that takes. Writes
docs/results/startup.json.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import record
from record import Figure

ROOT = record.ROOT
PAPER = ('figure1', *(f'table{n}' for n in range(1, 7)))
LARGE = """
from jaxbudget.lab import config

METHODS = 'unif_sgd', 'p_sgd', 'c_sgd', 'ordered_sgd', 'selective_backprop'


def get_config():
  rates = [1e-4 * (1 + i) for i in range(400)]
  grid = [
    {'selector': method, 'budget': budget, 'learning_rate': rate}
    for method in METHODS for budget in (0.1, 0.2, 0.3, 0.4, 0.5) for rate in rates
  ]
  return config.defaults(
    name='large', dataset='digits', model='resnet8', epochs=10, seeds=10, grid=tuple(grid)
  )
"""


def seconds(command: list[str], repeats: int) -> list[float]:
  """Wall-clock time of a command; a first run, which fills caches, does not count."""
  found = []
  for _ in range(1 + repeats):
    start = time.monotonic()
    subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    found.append(time.monotonic() - start)
  return found[1:]


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=5)
  repeats = parser.parse_args().repeats
  figures = [
    Figure('launch.py --help', seconds(['launch.py', '--help'], repeats), 's', at_most=0.5)
  ]
  bare, ours = (seconds(['-c', f'import {names}'], repeats) for names in ('jax, flax', 'jaxbudget'))
  figures.append(Figure('import jax, flax', bare, 's'))
  ratios = [b / a for a, b in zip(sorted(bare), sorted(ours), strict=True)]
  figures.append(Figure('import jaxbudget, over import jax, flax', ratios, 'x', at_most=1.2))
  with tempfile.TemporaryDirectory() as temporary:
    for name in (*PAPER, 'all'):
      command = ['launch.py', f'--config=configs/{name}.py', '--stage=plan']
      taken = seconds([*command, f'--workdir={temporary}/{name}'], repeats)
      figures.append(Figure(f'plan of {name}', taken, 's', at_most=3 if name == 'all' else 2))
    record.show(figures)
    figures += second_launch(temporary, repeats) + large(pathlib.Path(temporary))
  return record.store('startup', figures)


def second_launch(directory: str, repeats: int) -> list[Figure]:
  """The quickstart when there is nothing left to train: it plans and reports."""
  command = ['launch.py', '--config=configs/quickstart.py', '--workers=2']
  taken = seconds([*command, f'--workdir={directory}/quickstart'], repeats)
  return [Figure('quickstart again, nothing to train', taken, 's', at_most=5)]


def large(directory: pathlib.Path) -> list[Figure]:
  """A plan of 100,000 runs."""
  config = directory / 'large.py'
  config.write_text(LARGE)
  start = time.monotonic()
  command = ['launch.py', f'--config={config}', '--stage=plan', f'--workdir={directory}/large']
  subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
  taken = time.monotonic() - start
  # Of all children so far; none before this one comes near.
  memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
  return [
    Figure('plan of 100,000 runs', [taken], 's', at_most=60),
    Figure('plan of 100,000 runs: memory', [memory], 'GB', at_most=2),
  ]


if __name__ == '__main__':
  sys.exit(main())
