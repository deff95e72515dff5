"""Reports: from a workdir of results to tables, statistics, figures and one page.

`load_workdir` reads, `equal_compute` compares, `summary` prints, `write_report` writes `report/`
into the workdir.
"""

import importlib

_HOME = {
  'Problem': 'load',
  'Workdir': 'load',
  'equal_compute': 'frontier',
  'load_workdir': 'load',
  'summary': 'terminal',
  'write_report': 'page',
}
__all__ = list(_HOME)


def __getattr__(name: str):
  """Imports on first use: pandas, scipy and matplotlib are slow, and not every launch reports."""
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
