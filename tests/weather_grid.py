"""The config of a launch under weather: a literal in a file.

python launch.py --config=tests/weather_grid.py:/tmp/drawn.txt
"""

import pathlib

from jaxbudget.lab import config


def get_config(arg: str):
  """Reads a dict of values from the file named."""
  values = eval(pathlib.Path(arg).read_text(), {'nan': float('nan'), 'inf': float('inf')})
  return config.defaults(**values)
