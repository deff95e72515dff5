"""Which selection method does best under which budget, on real 8x8 digits, in a minute or two.

  jaxbudget --config=quickstart --workers=2 --workdir=runs/quickstart

Cost: 13 cells x 3 seeds of a small network, a minute or two on 2 CPU cores.
Expected: every budgeted method below full SGD at B = 0.1, close to it at 0.3; choosing
important samples does not beat uniform sampling by more than the noise between seeds.
"""

from jaxbudget.lab import config

BUDGETED = ('scan_sgd', 'unif_sgd', 'p_sgd', 'c_sgd', 'selective_backprop', 'ordered_sgd')


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells."""
  grid = [{'selector': 'sgd', 'budget': 1.0}]
  grid += [{'selector': name, 'budget': b} for b in (0.1, 0.3) for name in BUDGETED]
  found = config.defaults(
    name='quickstart',
    dataset='digits',
    model='resnet8',
    epochs=10,
    batch_size=32,
    xla_optimization=2,  # half of the time goes into compilation; the bits are the same
    threads=1,  # so small a network keeps no more busy: two workers train two runs side by side
    grid=tuple(grid),
  )
  config.override(found, config.parse_arg(arg))  # refuses what the grid sets
  return found
