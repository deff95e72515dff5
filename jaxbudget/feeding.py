"""Feeding the device with images that do not fit on it, chunk by chunk.

While the device trains on the rows of one chunk, a thread reads those of the next from their
source (`placement.py`) and puts them on the device. The row program finds its images in a `Chunk`
instead of picking them out of all images: what it computes of them is the same, bit for bit,
however rows are cut into chunks.

Memory is bounded: at most two chunks are on the device and one is on the host, each of
`CHUNK_BYTES`, or of two rows where these are larger.
"""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxbudget import parallel
from jaxbudget.placement import Walk
from jaxbudget.types import Data

if TYPE_CHECKING:
  from jaxbudget.state import TrainState

CHUNK_BYTES = 2**26
ALL = 2**31 - 1  # rows; the last chunk serves whatever comes after it


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['pixels', 'first', 'present'],
  meta_fields=['image_shape'],
)
@dataclasses.dataclass(frozen=True)
class Chunk:
  """The images of some rows of a pass, on the device: the array of images in what rows are fed.

  Attributes:
    pixels: [rows,K,D], flat, as `data.flat.FlatImages` are.
    first: i32[], the row that is the first in it.
    image_shape: of an image.
    present: f32[rows,K,1], 0 where there is no image; None where all of them are there.
  """

  pixels: jax.Array  # [rows,K,D]
  first: jax.Array  # i32[]
  image_shape: tuple[int, ...]
  present: jax.Array | None = None  # f32[rows,K,1]

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


def present(images: Any, row: jax.Array) -> jax.Array | None:
  """Inside a compiled program: which images of a row there are, bool[K]; None: all of them."""
  if not isinstance(images, Chunk) or images.present is None:
    return None
  return jax.lax.dynamic_index_in_dim(images.present, row - images.first, keepdims=False)[:, 0] > 0


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
  plan, row, epoch = jax.device_get((state.plan, state.row, state.epoch))
  return _feed(data, plan.index, int(row), min(int(plan.rows), stop), int(epoch), mesh, meter)


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
  """The split with one chunk of its images after the other; the rows that it is for, bytes read."""
  source = data.image

  def placed(pixels, first):
    present = getattr(source, 'present', None) if walk.epoch is not None else None
    # Without a gap it is the program that there always was. Processes that read other columns
    # cannot agree on that here.
    if present is not None and not (jax.process_count() == 1 and present.all()):
      present = np.broadcast_to(present, pixels.shape[:2])[..., None].astype(np.float32)
      present = parallel.place_columns(present, size, mesh)
    else:
      present = None
    chunk = parallel.place_columns(pixels, size, mesh)
    first = parallel.replicate(np.int32(first), mesh)
    return data._replace(image=Chunk(chunk, first, source.shape[1:], present))

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
