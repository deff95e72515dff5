"""The grid of the fault campaign: every method and augmentation, small and often saved.

python launch.py --config=tests/fault_grid.py:cells=few --workdir=/tmp/faults
"""

from jaxbudget.lab import config

ALL = (
  {'selector': 'sgd', 'budget': 1.0},
  {'selector': 'scan_sgd'},
  {'selector': 'unif_sgd'},
  {'selector': 'p_sgd'},
  {'selector': 'c_sgd'},
  {'selector': 'selective_backprop'},
  {'selector': 'selective_backprop', 'selector_options.rate': 'exact'},
  {'selector': 'ordered_sgd', 'selector_options.thresholds': (20.0, 30.0)},
  {
    'selector': 'ordered_sgd',
    'selector_options.thresholds': (20.0, 30.0),
    'selector_options.backward': 'compact',
  },
  {'selector': 'random_subset'},
  {'selector': 'coreset'},  # and dynamics_sgd, its scoring run
  {'selector': 'p_sgd', 'augment': 'randaugment'},
  {'selector': 'unif_sgd', 'augment': 'mixup'},
  {'selector': 'p_sgd', 'augment': 'ricap'},
  {'selector': 'selective_backprop', 'augment': 'ricap'},
  {'selector': 'selective_backprop', 'augment': 'mixup'},
)
FEW = ({'selector': 'selective_backprop', 'augment': 'ricap'},)  # the one with the largest state

# What launches do is what a few runs are tried for, not what a network computes.
LINEAR = {'model': 'tests.linear:linear'}
RESNET = {'model': 'resnet8', 'width': 4}


def get_config(arg: str | None = None):
  """Reads `cells=all` or `cells=few`, and `key=value,...` for all cells."""
  given = config.parse_arg(arg)
  few = given.pop('cells', 'all') == 'few'
  return config.defaults(
    **{
      'dataset': 'digits',
      **(LINEAR if few else RESNET),
      'budget': 0.5,
      'epochs': 3,
      'batch_size': 128,
      'learning_rate': 0.05,
      'seeds': 3 if few else 1,
      'rows_per_call': 2,
      'checkpoint_every': 1e-3,
      'record_selection': True,
      'grid': FEW if few else ALL,
      **given,
    }
  )
