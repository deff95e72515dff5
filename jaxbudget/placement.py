"""Where images lie: on the device, or beyond it in a *source*, from which the device is fed.

A plan says before its epoch what will be looked at. So images that do not fit on the device stay
where they are, and those of the next rows are read there while the device trains on the rows
before (`feeding.py`). Labels and all that a method knows of each sample are on the device always.
"""

import concurrent.futures
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxbudget.types import Data

PLACEMENTS = ('auto', 'device', 'host', 'files')
_THREADS = min(8, os.cpu_count() or 1)  # that gather a chunk


class Walk(NamedTuple):
  """What a pass will look at, and in what order.

  Attributes:
    index: i32[R,k], the samples of each row; of a row that several processes share, its own ones.
    columns: i32[k], where in the whole row they stand.
    start: the first row to read.
    stop: the row to stop before, at most R.
    rows: rows in a chunk.
    epoch: the epoch, 0-based, whose plan this is; None where images are wanted as evaluation sees
      them: in evaluation, scans and scoring.
  """

  index: np.ndarray  # i32[R,k]
  columns: np.ndarray  # i32[k]
  start: int
  stop: int
  rows: int
  epoch: int | None = None

  @property
  def firsts(self) -> range:
    """The first row of each chunk."""
    return range(self.start, self.stop, self.rows)


class Source(Protocol):
  """Images that are not on the device; stands for the array of images in a `Data`.

  Attributes:
    placement: its name, of `PLACEMENTS`.
    shape: (N, height, width, channels), or of other inputs.
    dtype: of an image.
    bytes_read: so far, of what it reads from: of encoded images their files.
  """

  placement: str
  shape: tuple[int, ...]
  dtype: np.dtype
  bytes_read: int

  def read(self, index: np.ndarray) -> np.ndarray:
    """Images of samples i32[n], as evaluation sees them: [n, *shape[1:]]."""

  def walk(self, walk: Walk) -> Iterator[np.ndarray]:
    """The chunks of a pass in their order, one for each of `walk.firsts`.

    A source that may leave images out, black and of no weight, has `present`: bool[rows,k] of the
    chunk that it yielded last; and `missing`: what it left out, reasons by the names of files. One
    that draws has `seeded`, see the function of that name.

    The iterator is a generator, run in one thread, and closed when the pass ends early. It need
    not look ahead: the next chunk is asked for while the device works on the one before.

    Args:
      walk: of the pass.

    Yields:
      [rows, k, D] of D = the pixels of an image; rows beyond `walk.stop` may hold anything. Each is
      a new array: the device may go on to read from it.
    """


class HostImages:
  """A source of images in host memory, or in a file that is mapped into it.

  Args:
    array: u8[N,H,W,channels]; f32[N,D] features; i32[N,L] tokens.
  """

  placement = 'host'

  def __init__(self, array: np.ndarray):
    self._array = np.ascontiguousarray(array)  # as files and caches have them; a view, no copy
    self.shape, self.dtype = array.shape, array.dtype
    self.bytes_read = 0

  def read(self, index: np.ndarray) -> np.ndarray:
    """Images of samples i32[n]: [n, *shape[1:]]."""
    out = np.empty((len(index), *self.shape[1:]), self.dtype)
    self._fill(index, out.reshape(len(index), -1))
    self.bytes_read += out.nbytes
    return out

  def walk(self, walk: Walk) -> Iterator[np.ndarray]:
    """The chunks of a pass, see `Source.walk`."""
    width, size = math.prod(self.shape[1:]), walk.index.shape[1]
    for chunk, filled in gather(self._fill, walk, width, self.dtype):
      self.bytes_read += filled * size * width * self.dtype.itemsize
      yield chunk
      del chunk  # before the next one is made

  def _fill(self, index: np.ndarray, out: np.ndarray) -> None:
    """Copies images to [n,D]; the copying threads do not hold Python's lock."""
    if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
      raise IndexError(f'sample {index.min()} to {index.max()} of {self.shape[0]}')
    # A mode other than `raise` copies to where it is to be without a detour.
    np.take(self._array, index, axis=0, out=out.reshape(-1, *self.shape[1:]), mode='clip')


def gather(
  fill: Callable[[np.ndarray, np.ndarray], None], walk: Walk, width: int, dtype: Any
) -> Iterator[tuple[np.ndarray, int]]:
  """Gathers the chunks of a pass by threads, for sources that have no better way.

  Args:
    fill: `(index i32[n], out [n,D])` writes the images of samples; called from several threads.
    walk: of the pass.
    width: D, numbers of an image.
    dtype: of an image.

  Yields:
    ([rows,k,D], rows of it that were filled; the others are zero).
  """
  size = walk.index.shape[1]
  with concurrent.futures.ThreadPoolExecutor(_THREADS, 'jaxbudget-gather') as pool:
    for first in walk.firsts:
      index = walk.index[first : min(first + walk.rows, walk.stop)]
      chunk = np.zeros((walk.rows, size, width), dtype)
      out = chunk.reshape(-1, width)[: index.size]
      pieces = (np.array_split(x, _THREADS) for x in (index.reshape(-1), out))
      list(pool.map(fill, *pieces))
      yield chunk, len(index)
      del chunk, out, pieces  # before the next one is made


class Part:
  """A source that is a part of another one.

  Args:
    source: the whole.
    index: i32[n], the samples that are in the part.
  """

  def __init__(self, source: Source, index: np.ndarray):
    self._source, self._index = source, index
    self.shape, self.dtype = (len(index), *source.shape[1:]), source.dtype
    self.placement = source.placement

  @property
  def bytes_read(self) -> int:
    """Of the whole."""
    return self._source.bytes_read

  @property
  def present(self) -> np.ndarray | None:
    """Of the whole, of the chunk that was read last."""
    return getattr(self._source, 'present', None)

  @property
  def missing(self) -> dict[str, str]:
    """Of the whole."""
    return getattr(self._source, 'missing', {})

  def read(self, index: np.ndarray) -> np.ndarray:
    """Images of samples i32[n] of the part."""
    return self._source.read(self._index[index])

  def walk(self, walk: Walk) -> Iterator[np.ndarray]:
    """The chunks of a pass, see `Source.walk`."""
    return self._source.walk(walk._replace(index=self._index[walk.index]))


def of(data: Data) -> str:
  """Where the images of a split lie: `device`, or the placement of their source."""
  return data.image.placement if data.is_fed else 'device'


def seeded(data: Data, seed: int) -> Data:
  """A split for the run of a seed: a source that draws, such as random crops, draws by it."""
  if not hasattr(data.image, 'seeded'):
    return data
  return data._replace(image=data.image.seeded(seed))


def missing(data: Data) -> list[str]:
  """The files of a split that could not be read and were left out, if that is allowed."""
  return sorted(getattr(data.image, 'missing', {}))


def part(data: Data, index: np.ndarray) -> Data:
  """A part of a split, wherever its images lie.

  Args:
    data: N samples.
    index: i32[n], those that are in the part.

  Returns:
    n samples.
  """
  if data.is_fed:
    return Data(Part(data.image, index), data.label[index])
  return jax.tree.map(lambda x: x[index], data)
