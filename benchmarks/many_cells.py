"""Whether a long sweep grows: memory and mappings of a process that trains cell after cell.

  python benchmarks/many_cells.py               # two minutes of a processor
  python benchmarks/many_cells.py --cells=1000  # 40

Each cell has programs of its own (another batch size), as in a sweep over networks; with few
programs kept, what hundreds of cells would leave behind shows after some dozens. The network is
the one that compiles soonest; a small convolutional one takes four times as long. Linux only.
One that is stopped (Ctrl-C) tells of the cells it has seen.
Writes docs/results/many_cells.json.
"""

import argparse
import pathlib
import sys
import tempfile

import record
from record import Figure

from jaxbudget.lab import config, plain
from jaxbudget.lab.sweep import inputs, local

KEPT = 8  # cells, instead of the 22 of a launch


def plan(cells: int):
  grid = [{'batch_size': 16 + i} for i in range(cells)]
  values = {'dataset': 'digits', 'model': 'mlp', 'selector': 'unif_sgd', 'budget': 0.9}
  options = {'epochs': 1, 'seeds': 1}
  made = config.defaults(name='many', grid=tuple(grid), **values)
  config.override(made, options)
  datasets, runs = inputs.plan_runs(made)
  inputs.load_data(datasets, runs)
  return datasets, runs


def footprint() -> tuple[int, float]:
  """Memory mappings of this process, and its resident memory in MB."""
  own = pathlib.Path('/proc/self')
  pages = int((own / 'statm').read_text().split()[1])
  return len((own / 'maps').read_text().splitlines()), pages * 4096 / 1e6


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--cells', type=int, default=40)
  cells = parser.parse_args().cells
  inputs.use_compilation_cache()
  local._PROGRAMS = 9 * KEPT
  datasets, runs = plan(cells)
  seen, train = [], local.run_one

  def look_after(*arguments):
    train(*arguments)
    seen.append(footprint())
    if len(seen) % KEPT == 0:
      print(len(seen), 'cells:', '{} mappings, {:.0f} MB'.format(*seen[-1]), flush=True)

  local.run_one = look_after
  with tempfile.TemporaryDirectory() as temporary:
    code = local.run_all(runs, datasets, pathlib.Path(temporary), plain.make_console(quiet=True))
  # After so many cells the programs kept are all there: no more than they should stay.
  full, cells = 2 * KEPT, len(seen)
  if code and (code < 128 or cells < 5 * KEPT):  # failed, or stopped before anything could show
    return code
  maps, memory = ((seen[-1][k] - seen[full - 1][k]) / (cells - full) for k in (0, 1))
  return record.store(
    'many_cells',
    [
      Figure(f'mappings that a cell leaves behind, {cells} cells', [maps], '', at_most=10),
      Figure(f'memory that a cell leaves behind, {cells} cells', [memory], 'MB', at_most=1),
    ],
    {'seen': seen},
  )


if __name__ == '__main__':
  sys.exit(main())
