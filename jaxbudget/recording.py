"""Recorded selection: how often each sample was trained on, epoch by epoch.

`selection.npz` is an archive for `numpy.load` without pickle. Member `epoch_0001` (and so on,
`epoch_10000` behind `epoch_9999`) is u8[P, ceil(N/8)]: plane p holds bit p of every sample's
count, packed by `numpy.packbits`; P is as many as the largest count needs. At most one plane
is needed where no sample comes twice, two up to three times, so a sample-epoch takes one or
two bits, less as the archive is compressed. `num_examples` i64[] is N. Order is not recorded.
"""

import hashlib
import io
import pathlib
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from jaxbudget import paths
from jaxbudget.registry import by_number

FILE = 'selection.npz'


def pack(count: np.ndarray) -> np.ndarray:
  """Packs the counts of an epoch.

  Args:
    count: int[N], not negative.

  Returns:
    u8[P, ceil(N/8)], see above; P is 0 if nothing was trained on.
  """
  planes = int(count.max(initial=0)).bit_length()
  bits = (count[None, :] >> np.arange(planes)[:, None]) & 1
  return np.packbits(bits.astype(np.uint8), axis=1)


def unpack(planes: np.ndarray, num_examples: int) -> np.ndarray:
  """Counts of an epoch: i32[N], from what `pack` gave."""
  bits = np.unpackbits(planes, axis=1, count=num_examples).astype(np.int32)
  return (bits << np.arange(len(bits), dtype=np.int32)[:, None]).sum(axis=0, dtype=np.int32)


def to_bytes(epochs: Sequence[np.ndarray], num_examples: int) -> bytes:
  """The content of selection.npz.

  Args:
    epochs: planes of every epoch.
    num_examples: N.

  Returns:
    A file's content; equal recordings give equal bytes.
  """
  named = {f'epoch_{e:04d}': planes for e, planes in enumerate(epochs, 1)}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, num_examples=np.int64(num_examples), **named)
  return buffer.getvalue()


def find(path: str | pathlib.Path) -> pathlib.Path:
  """The recording in a run's directory, or the file itself.

  Raises:
    ValueError: there is none.
  """
  given = paths.expand(path)
  file = given / FILE if given.is_dir() else given
  if not file.is_file():
    raise ValueError(
      f'recording={str(path)!r}: {file} does not exist; give the directory of a finished run '
      'that was trained with record_selection=True'
    )
  return file


def digest(path: str | pathlib.Path) -> str:
  """Identifies a recording by its content: 16 hex digits.

  Raises:
    ValueError: there is none.
  """
  return hashlib.sha256(find(path).read_bytes()).hexdigest()[:16]


def read(path: str | pathlib.Path) -> np.ndarray:
  """Reads a recording.

  Args:
    path: of the file, or of the run's directory.

  Returns:
    Counts u8 or wider, [E,N].

  Raises:
    ValueError: there is none, or it is damaged or too large to be one.
  """
  file = find(path)
  try:
    with zipfile.ZipFile(file) as archive:
      sizes = {info.filename: info.file_size for info in archive.infolist()}
    with np.load(file, allow_pickle=False) as arrays:
      num_examples = int(arrays['num_examples'])
      names = sorted((n for n in arrays if n.startswith('epoch_')), key=by_number)
      _refuse_bombs(sizes, num_examples)
      _refuse_gaps(names)
      counts = [unpack(_planes(arrays[name], num_examples), num_examples) for name in names]
  except (OSError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as e:
    raise ValueError(f'{file} is damaged or no recording: {e}') from e
  except ValueError as e:
    raise ValueError(f'{file} is no recording: {e}') from e
  if not counts:
    raise ValueError(f'{file} is no recording: it has no epochs')
  return np.stack(counts).astype(np.min_scalar_type(int(np.max(counts))))


def _refuse_bombs(sizes: dict[str, int], num_examples: int) -> None:
  """Members are small: 31 planes at most."""
  largest = 31 * -(-max(0, num_examples) // 8) + 1024
  for name, size in sizes.items():
    if size > largest:
      raise ValueError(f'member {name} has {size} bytes, more than {num_examples} counts take')


def _refuse_gaps(names: list[str]) -> None:
  """Epochs are numbered from 1, all of them."""
  for number, name in enumerate(names, 1):
    if name.removeprefix('epoch_').lstrip('0') != str(number):
      raise ValueError(f'member {name} is found where epoch {number} is expected')


def _planes(array: np.ndarray, num_examples: int) -> np.ndarray:
  width = -(-num_examples // 8)
  if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != width or len(array) > 31:
    raise ValueError(f'u8[P,{width}] is expected, found {array.dtype}{list(array.shape)}')
  return array
