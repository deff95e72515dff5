"""The decoded cache: uint8 arrays on disk, mapped into memory and verified by their hash."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxbudget.data.dataset import Dataset, Info, Progress, fingerprint
from jaxbudget.data.download import disk_fault

_ARRAYS = ('train_image', 'train_label', 'test_image', 'test_label')
_FORMAT = 1


def read(directory: pathlib.Path, source: str = '') -> tuple[Dataset | None, str]:
  """Maps a cached data set into memory and verifies its hash.

  Args:
    directory: of one data set.
    source: identity of what the cache was made from; a cache of another source is stale.
      Empty accepts any.

  Returns:
    (data set, ''), or (None, why not); the reason is empty if there is simply no cache.
  """
  try:
    meta = json.loads((directory / 'meta.json').read_text('utf-8'))
    if meta['format'] != _FORMAT or (source and meta['source'] != source):
      return None, ''
    arrays = [np.load(directory / f'{name}.npy', mmap_mode='r') for name in _ARRAYS]
    if fingerprint(*arrays) != meta['fingerprint']:
      return None, 'its content does not match its hash'
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in meta['info'].items()}
    notes = tuple(meta['notes'])
    return Dataset(Info(**fields), *arrays, meta['fingerprint'], notes, str(directory)), ''
  except FileNotFoundError:
    return None, ''
  except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
    return None, str(error)


def room(directory: pathlib.Path, name: str, shape: tuple[int, ...], dtype: Any) -> np.memmap:
  """Gives an array that `write` moves into the cache, for data that memory need not hold twice.

  Args:
    directory: of one data set. Call this under its `lock`.
    name: of the array in `Dataset`.
    shape: of the array.
    dtype: of the array.

  Returns:
    The array, on the disk: all of its room is taken, so that none is missing when it is filled.

  Raises:
    DataError: the disk is full or cannot be written; nothing is left behind then.
  """
  temporary = directory.with_name(f'{directory.name}.tmp-room')
  try:
    temporary.mkdir(exist_ok=True)
    array = np.lib.format.open_memmap(temporary / f'{name}.npy', 'w+', np.dtype(dtype), shape)
    if hasattr(os, 'posix_fallocate'):  # not everywhere
      with (temporary / f'{name}.npy').open('r+b') as file:
        os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)
    return array
  except OSError as error:
    shutil.rmtree(temporary, ignore_errors=True)
    raise disk_fault(error, directory) from error


def write(directory: pathlib.Path, dataset: Dataset, source: str = '') -> None:
  """Writes a cache so that at any moment it is there as a whole or not at all.

  Args:
    directory: of one data set; replaced if it exists. Call this under its `lock`.
    dataset: what to keep; arrays of `room` are moved.
    source: see `read`.

  Raises:
    DataError: if the disk is full or read-only; a former cache is then untouched.
    PermissionError: it is somebody else's.
  """
  parent = directory.parent
  arrays = {name: getattr(dataset, name) for name in _ARRAYS}
  rooms = {_place(array).parent for array in arrays.values()}
  for stale in parent.glob(f'{directory.name}.tmp-*'):  # of a process that was killed
    if stale not in rooms:
      shutil.rmtree(stale, ignore_errors=True)
  meta = {
    'format': _FORMAT,
    'source': source,
    'fingerprint': dataset.fingerprint,
    'info': dataclasses.asdict(dataset.info),
    'notes': dataset.notes,
  }
  try:
    with tempfile.TemporaryDirectory(prefix=f'{directory.name}.tmp-', dir=parent) as temporary:
      new = pathlib.Path(temporary) / 'new'
      new.mkdir()
      for name, array in arrays.items():
        place = _place(array)
        if place.parent == directory.with_name(f'{directory.name}.tmp-room'):
          array.flush()
          place.rename(new / f'{name}.npy')
        else:
          _save(new / f'{name}.npy', array)
      (new / 'meta.json').write_text(json.dumps(meta, indent=1), 'utf-8')
      if directory.exists():
        directory.rename(pathlib.Path(temporary) / 'old')
      new.rename(directory)
    shutil.rmtree(directory.with_name(f'{directory.name}.tmp-room'), ignore_errors=True)
  except PermissionError:
    raise
  except OSError as error:
    raise disk_fault(error, directory) from error


def _place(array: np.ndarray) -> pathlib.Path:
  """The file of an array that is mapped from one."""
  return pathlib.Path(getattr(array, 'filename', None) or '')


def _save(path: pathlib.Path, array: np.ndarray) -> None:
  """Does what `numpy.save` does, but a full disk raises an error with a number."""
  with path.open('wb') as file:
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array).data)
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def lock(directory: pathlib.Path, progress: Progress) -> Iterator[None]:
  """Lets one process at a time prepare a data set; others wait.

  The system releases the lock of a process that dies.

  Args:
    directory: of one data set; need not exist yet.
    progress: told of the waiting.

  Raises:
    OSError: if the directory cannot be written.
  """
  import filelock  # late: what is prepared needs none of it

  directory.parent.mkdir(parents=True, exist_ok=True)
  file = filelock.FileLock(directory.with_name(f'{directory.name}.lock'))
  try:
    file.acquire(blocking=False)
  except filelock.Timeout:
    progress(f'waiting for another process that prepares {directory.name}', 0, None)
    file.acquire()
  try:
    yield
  finally:
    file.release()
