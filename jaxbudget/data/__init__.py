"""Data sets as uint8 arrays: by name, from people's own files, from their archives."""

from jaxbudget.data.catalog import check, info, load
from jaxbudget.data.dataset import DataError, Dataset, Info

__all__ = ['DataError', 'Dataset', 'Info', 'check', 'info', 'load']
