"""npz:PATH: arrays that people saved with `numpy.savez`; nothing is ever unpickled."""

import pathlib
import zipfile
import zlib
from collections.abc import Iterable

import numpy as np

from jaxbudget.data.arrays import KEYS, array_faults, from_arrays, refuse
from jaxbudget.data.dataset import DataError, Dataset
from jaxbudget.data.layouts import usual
from jaxbudget.data.memory import host_free_bytes
from jaxbudget.paths import expand

# What zipfile raises; of encrypted members and unknown compressions a RuntimeError.
_DAMAGE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load(path: str) -> Dataset:
  """Loads `x_train, y_train, x_test, y_test` from a file of `numpy.savez`.

  Args:
    path: the file; inputs and labels as `arrays.from_arrays` takes them. Without `x_test` and
      `y_test`, `x_val` and `y_val` are tested on.

  Returns:
    The data set; without test samples if the file has neither.

  Raises:
    DataError: naming every fault of the file.
  """
  name = f'npz:{path}'
  file = expand(path)
  if not file.is_file():
    raise DataError(f'{name}: no such file')
  if not zipfile.is_zipfile(file):
    raise DataError(f'{name}: not an npz file (write it with numpy.savez), or cut short')
  arrays, faults, notes = {}, [], ()
  try:
    with _open(name, file) as archive:
      places = {key: key for key in KEYS if key in archive}
      if not places.keys() & {'x_test', 'y_test'} and {'x_val', 'y_val'} <= {*archive}:
        places |= {'x_test': 'x_val', 'y_test': 'y_val'}
        notes = ('there is no x_test: x_val and y_val take its place',)
      missing = [key for key in KEYS if key not in places]
      if missing not in ([], ['x_test', 'y_test']):
        faults.append(
          f'lacks {", ".join(missing)} (it has {", ".join(archive) or "nothing"}; '
          f'needed are {", ".join(KEYS)})'
        )
      _check_memory(name, archive, places.values())
      for key, place in places.items():
        array = _read(archive, place, faults)
        if array is not None:
          arrays[key] = array
  except _DAMAGE as error:
    raise DataError(f'{name}: cannot be read: {error}') from error
  if faults:
    refuse(name, faults + array_faults(usual(arrays)[0]))
  return from_arrays(name, *map(arrays.get, KEYS), notes=notes, where=str(file))


def _open(name: str, file: pathlib.Path) -> np.lib.npyio.NpzFile:
  """Opens a zip file as one of `numpy.savez`, which it may not be at its beginning."""
  try:
    archive = np.load(file, allow_pickle=False)
  except ValueError as error:
    raise DataError(f'{name}: not an npz file (write it with numpy.savez): {error}') from error
  if not isinstance(archive, np.lib.npyio.NpzFile):
    raise DataError(f'{name}: a single array, give an npz file (write it with numpy.savez)')
  return archive


def _check_memory(name: str, archive: np.lib.npyio.NpzFile, keys: Iterable[str]) -> None:
  """Refuses arrays that do not fit into memory, before they are read."""
  members = archive.zip.infolist()
  needed = sum(m.file_size for m in members if m.filename.removesuffix('.npy') in keys)
  free = host_free_bytes()
  if free is not None and needed > free:
    raise DataError(f'{name} holds {needed:,} bytes of arrays, but {free:,} bytes are free')


def _read(archive: np.lib.npyio.NpzFile, key: str, faults: list[str]) -> np.ndarray | None:
  try:
    return archive[key]
  except MemoryError as error:
    faults.append(f'{key} does not fit into memory: {error}')
  except ValueError as error:  # object arrays among others
    if 'Object arrays' in str(error):
      faults.append(f'{key} is an object array, which would have to be unpickled: give numbers')
    else:
      faults.append(f'{key} is not a NumPy array: {error}')
  except _DAMAGE as error:
    faults.append(f'{key} cannot be read: {error}')
  return None
