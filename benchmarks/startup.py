"""How long people wait before anything is trained: imports, help, plans, a launch that is done.

  python benchmarks/startup.py
  python benchmarks/startup.py --repeats=1

Every figure is of processes started anew, the files of their programs in the page cache. Bounds
are on processor seconds, user and system, of a process with all its children: nearly all of a start
is one thread, so that is how long people wait on a machine with nothing else to do, and it hardly
depends on what else this one does. Wall-clock seconds stand beside. The last plans are of 10,000
cells with 10 seeds each, with what memory that takes. Writes docs/results/startup.json.
"""

import argparse
import pathlib
import sys
import tempfile

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


def measure(what: str, command: list[str], repeats: int, bound: float | None) -> list[Figure]:
  """Times of a command; a first run, which fills caches, does not count."""
  taken = [record.run(command) for _ in range(1 + repeats)][1:]
  return [
    Figure(what, [one.processor for one in taken], 's of a processor', at_most=bound),
    Figure(f'{what}: wall clock', [one.wall for one in taken], 's'),
  ]


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--repeats', type=int, default=5)
  repeats = parser.parse_args().repeats
  figures = [*measure('launch.py --help', ['launch.py', '--help'], repeats, 0.5), *imports(repeats)]
  with tempfile.TemporaryDirectory() as temporary:
    for name in (*PAPER, 'all'):
      command = ['launch.py', f'--config=configs/{name}.py', '--stage=plan']
      command.append(f'--workdir={temporary}/{name}')
      figures += measure(f'plan of {name}', command, repeats, 3 if name == 'all' else 2)
    record.show(figures)
    again = ['launch.py', '--config=configs/quickstart.py', '--workers=2']
    again.append(f'--workdir={temporary}/quickstart')
    figures += measure('quickstart again, nothing to train', again, repeats, 5)
    figures += large(pathlib.Path(temporary))
  return record.store('startup', figures)


def imports(repeats: int) -> list[Figure]:
  """Imports beside those of JAX and Flax; `import *` fetches all names, optax with them."""
  bare, ours, names = (
    measure(command, ['-c', command], repeats, None)
    for command in ('import jax, flax', 'import jaxbudget', 'from jaxbudget import *')
  )
  pairs = zip(sorted(bare[0].values), sorted(ours[0].values), strict=True)
  ratios = [b / a for a, b in pairs]
  ratio = Figure('import jaxbudget, over import jax, flax', ratios, 'x', at_most=1.2)
  return [*bare, *ours, ratio, *names]


def large(directory: pathlib.Path) -> list[Figure]:
  """A plan of 100,000 runs."""
  config = directory / 'large.py'
  config.write_text(LARGE)
  command = ['launch.py', f'--config={config}', '--stage=plan', f'--workdir={directory}/large']
  taken = record.run(command)
  return [
    Figure('plan of 100,000 runs', [taken.processor], 's of a processor', at_most=60),
    Figure('plan of 100,000 runs: wall clock', [taken.wall], 's'),
    Figure('plan of 100,000 runs: memory', [taken.memory / 1000], 'GB', at_most=2),
  ]


if __name__ == '__main__':
  sys.exit(main())
