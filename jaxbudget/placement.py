"""Where images lie: on the device, or beyond it, from where they come chunk by chunk.

A plan says before its epoch what will be looked at. So images that do not fit on the device stay
where they are, the *source*: those of the next rows are gathered there by host threads while the
device trains on the rows before, and the row program finds them in a `Chunk` instead of picking
them out of all images. What it computes is the same, bit for bit, however rows are cut into chunks.

Memory is bounded: at most two chunks are on the device and one is on the host, each of
`CHUNK_BYTES`, or of two rows where these are larger. Labels and all that a method knows of each
sample are on the device always.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxbudget import parallel
from jaxbudget.types import Data

if TYPE_CHECKING:
  from jaxbudget.state import TrainState

PLACEMENTS = ('auto', 'device', 'host', 'files')
CHUNK_BYTES = 2**26
_THREADS = min(8, os.cpu_count() or 1)  # that gather a chunk
ALL = 2**31 - 1  # rows; the last chunk serves whatever comes after it


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

  def read(self, index: np.ndarray) -> np.ndarray:
    """Images of samples i32[n] of the part."""
    return self._source.read(self._index[index])

  def walk(self, walk: Walk) -> Iterator[np.ndarray]:
    """The chunks of a pass, see `Source.walk`."""
    return self._source.walk(walk._replace(index=self._index[walk.index]))


def of(data: Data) -> str:
  """Where the images of a split lie: `device`, or the placement of their source."""
  return data.image.placement if data.is_fed else 'device'


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


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=['pixels', 'first'], meta_fields=['image_shape']
)
@dataclasses.dataclass(frozen=True)
class Chunk:
  """The images of some rows of a pass, on the device: the array of images in what rows are fed.

  Attributes:
    pixels: [rows,K,D], flat, as `data.flat.FlatImages` are.
    first: i32[], the row that is the first in it.
    image_shape: of an image.
  """

  pixels: jax.Array  # [rows,K,D]
  first: jax.Array  # i32[]
  image_shape: tuple[int, ...]

  def of_row(self, row: jax.Array) -> jax.Array:
    """The images of a row of the pass: [K, *image_shape]."""
    row = jax.lax.dynamic_index_in_dim(self.pixels, row - self.first, keepdims=False)
    return row.reshape(-1, *self.image_shape)


def fetch(images: Any, row: jax.Array, index: jax.Array) -> jax.Array:
  """Inside a compiled program: the images of a row of a pass.

  Args:
    images: all N, to be indexed, or a `Chunk` with the row in it.
    row: i32[], of a plan, or the number of an evaluation batch.
    index: i32[K], its samples.

  Returns:
    [K, ...].
  """
  return images.of_row(row) if isinstance(images, Chunk) else images[index]


@dataclasses.dataclass
class Meter:
  """What feeding took so far."""

  waited: float = 0.0  # seconds for chunks that were not there yet
  bytes_read: int = 0  # by the sources of this process


class Feed:
  """Gives a pass what its rows need; use it in a `with` block.

  Args:
    data: a split on the device, which is given whole.
    chunks: or of a split elsewhere (its chunk, the row before which that ends, bytes read).
    meter: told of waiting and reading.
  """

  def __init__(
    self,
    data: Data | None,
    chunks: Iterator[tuple[Data, int, int]] | None = None,
    meter: Meter | None = None,
  ):
    self._data, self._end = data, ALL if chunks is None else -1
    self._chunks, self._meter = chunks, meter or Meter()
    self._thread = self._next = None
    if chunks is not None:
      self._thread = concurrent.futures.ThreadPoolExecutor(1, 'jaxbudget-feed')
      self._read_ahead()

  def __enter__(self) -> 'Feed':
    return self

  def __exit__(self, *raised) -> None:
    self._data = None
    if self._thread is not None:
      self._thread.shutdown(cancel_futures=True)
      self._chunks.close()

  def _read_ahead(self) -> None:
    self._next = self._thread.submit(next, self._chunks, None)

  def at(self, row: int, stop: int) -> tuple[Data, int]:
    """What the next rows need; let go of what was given before, and let the device be done.

    Args:
      row: the first of them; rows are asked for in rising order.
      stop: the row to stop before.

    Returns:
      (the split, or a chunk of it in its place; the row before which that ends, at most `stop`).
    """
    while row >= self._end:
      self._data, start = None, time.monotonic()
      self._data, self._end, read = self._next.result()
      self._meter.waited += time.monotonic() - start
      self._meter.bytes_read += read
      self._read_ahead()
    return self._data, min(stop, self._end)


def rows(
  data: Data,
  state: 'TrainState',
  mesh: jax.sharding.Mesh | None = None,
  stop: int = ALL,
  meter: Meter | None = None,
) -> Feed:
  """Feeds the rows of the epoch under way.

  Args:
    data: the training split.
    state: with the plan, at the row to begin with.
    mesh: devices that train.
    stop: the row to stop before, if that is known.
    meter: told of waiting and reading.

  Returns:
    What gives each call of `epoch.train_rows` its data.
  """
  if not data.is_fed:
    return Feed(data)
  index, planned, row, epoch = jax.device_get(
    (state.plan[0], state.plan[2], state.row, state.epoch)
  )
  return _feed(data, index, int(row), min(int(planned), stop), int(epoch), mesh, meter)


def batches(
  data: Data,
  size: int,
  mesh: jax.sharding.Mesh | None = None,
  start: int = 0,
  stop: int = ALL,
  meter: Meter | None = None,
) -> Feed:
  """Feeds a pass over all samples in their order, batch by batch.

  Args:
    data: a split, N samples.
    size: of a batch; the last one is filled up with the last sample.
    mesh: devices that look at them.
    start: the first batch to look at.
    stop: the batch to stop before.
    meter: told of waiting and reading.

  Returns:
    What gives batches their data; batch i is row i.
  """
  if not data.is_fed:
    return Feed(data)
  total = data.label.shape[0]
  index = np.arange(-(-total // size) * size, dtype=np.int32).reshape(-1, size)
  stop = min(len(index), stop)
  return _feed(data, np.minimum(index, total - 1), start, stop, None, mesh, meter)


def _feed(data, index, start, stop, epoch, mesh, meter) -> Feed:
  """Feeds rows of an index i32[R,K]. Chunks have one shape, so that one program serves them all."""
  (slots, size), source = index.shape, data.image
  row_bytes = size * math.prod(source.shape[1:]) * source.dtype.itemsize
  # Never one: the compiler would take what is done to its images out of the loop over rows, and
  # round it otherwise.
  rows = max(2, min(slots, CHUNK_BYTES // row_bytes))
  columns = parallel.own_columns(size, mesh)
  walk = Walk(index[:, columns], columns, start, stop, rows, epoch)
  return Feed(None, _chunks(data, walk, size, mesh), meter)


def _chunks(data, walk, size, mesh) -> Iterator[tuple[Data, int, int]]:
  """What is to be trained on, on the device, chunk by chunk."""
  source = data.image

  def placed(pixels, first):
    chunk = parallel.place_columns(pixels, size, mesh)
    first = parallel.replicate(np.int32(first), mesh)
    return data._replace(image=Chunk(chunk, first, source.shape[1:]))

  if not walk.firsts:  # nothing to look at: a program is to be compiled
    shape = walk.rows, len(walk.columns), math.prod(source.shape[1:])
    yield placed(np.zeros(shape, source.dtype), walk.start), ALL, 0
    return
  before, chunks = source.bytes_read, source.walk(walk)
  try:
    for first in walk.firsts:
      found = jax.block_until_ready(placed(next(chunks), first))
      end, now = first + walk.rows, source.bytes_read
      yield found, end if end < walk.stop else ALL, now - before
      del found  # it may leave the device while the next one is read
      before = now
  finally:
    chunks.close()
