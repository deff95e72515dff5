"""Data sets as uint8 arrays: by name, from people's own files, from their archives."""

from jaxbudget.data.arrays import from_arrays
from jaxbudget.data.catalog import check, info, load
from jaxbudget.data.dataset import DataError, Dataset, Info, Progress, Where
from jaxbudget.data.device import Choice, choose, place
from jaxbudget.data.progress import progress_bars
from jaxbudget.data.summary import describe

__all__ = [
  'Choice',
  'DataError',
  'Dataset',
  'Info',
  'Progress',
  'Where',
  'check',
  'choose',
  'describe',
  'from_arrays',
  'info',
  'load',
  'place',
  'progress_bars',
]
