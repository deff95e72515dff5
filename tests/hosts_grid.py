"""Two runs on all devices of all processes; see `hosts_test.py`."""

from jaxbudget.lab import config


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells."""
  return config.defaults(
    **{
      'dataset': 'digits',
      'model': 'linear',
      'budget': 0.5,
      'epochs': 4,
      'batch_size': 128,
      'learning_rate': 0.5,
      'seeds': 2,
      'devices': 0,
      'rows_per_call': 2,
      'checkpoint_every': 1e-3,
      'record_selection': True,
      'selector': 'selective_backprop',
      **config.parse_arg(arg),
    }
  )
