"""Images that stay in their files: those that a plan shows are decoded as it is walked.

The third placement beside the device and the host, see `placement.Source`. What is read is a pure
function of seed, epoch and place in the plan, so that a pass may begin at any row.
"""

import collections
import concurrent.futures
import io
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxbudget.data import crops, pictures
from jaxbudget.data.pictures import Look, Picture

Crop = Literal['none', 'random_resized']
OnMissing = Literal['fail', 'skip']
PIECE = 16  # images that are decoded in one go
THREADS = min(16, len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 4)


class Unreadable(OSError):
  """A file of a data set is not there any more, or not what it was."""


class Piece(NamedTuple):
  """Some images to decode, and where they are shown.

  Attributes:
    paths: of the files.
    sizes: i64[n], bytes that they had when they were listed.
    look: how they are brought to one size.
    place: (seed, epoch, i64[n] rows, i64[n] columns) of random crops; None where there are none.
  """

  paths: Sequence[str]
  sizes: np.ndarray
  look: Look
  place: tuple[int, int, np.ndarray, np.ndarray] | None


class Decoded(NamedTuple):
  """What came of a piece.

  Attributes:
    pixels: u8[n,D]; of a worker process, until the next ones are asked for.
    read: bytes read.
    faults: (position in the piece, what is wrong) of images that are black for it.
  """

  pixels: np.ndarray
  read: int
  faults: list[tuple[int, str]]


def decode(piece: Piece, out: np.ndarray | None = None) -> Decoded:
  """Reads and decodes some images.

  Args:
    piece: which, and how.
    out: u8, room for at least their pixels; None takes memory.

  Returns:
    Their pixels, RGB.
  """
  side, read, faults = piece.look.size, 0, []
  shape = len(piece.paths), side, side, 3
  out = np.empty(math.prod(shape), np.uint8) if out is None else out
  pixels = out[: math.prod(shape)].reshape(shape)
  for i, (path, size) in enumerate(zip(piece.paths, piece.sizes, strict=True)):
    box = None
    if piece.place is not None:
      seed, epoch, rows, columns = piece.place
      random = crops.generator(seed, epoch, int(rows[i]), int(columns[i]))
      box = lambda shape, random=random: crops.random_box(random, shape)
    found, count = _decode(path, int(size), piece.look, box)
    read += count
    if isinstance(found, Picture):
      pixels[i] = found.pixels if found.pixels.ndim == 3 else found.pixels[..., None]
    else:
      pixels[i] = 0
      faults.append((i, found))
  return Decoded(pixels.reshape(len(pixels), -1), read, faults)


def _decode(path: str, size: int, look: Look, box: pictures.Box | None) -> tuple[Any, int]:
  """(the picture, or what is wrong; bytes read) of a file."""
  try:
    with open(path, 'rb') as file:
      content = file.read()
  except OSError as error:
    return f'{path} cannot be read: {error.strerror or error}', 0
  if len(content) != size:
    said = f'{path} has changed since it was listed: it has {len(content):,} bytes, not {size:,}'
    return said, len(content)
  return pictures.read(pathlib.Path(path), look, io.BytesIO(content), box), len(content)


class ImageFiles:
  """A source of images in files.

  Args:
    paths: of the N files.
    sizes: i64[N], their bytes.
    look: how images are brought to one size, which must be given; as evaluation sees them.
    crop: `random_resized` shows a random part of each in training; `none` all as evaluation does.
    seed: of random crops.
    workers: processes that decode; 0: threads of this one.
    skips: what cannot be read is black and `present` says so, instead of raising.

  Attributes:
    missing: what could not be read: reasons by path.
    present: bool[rows,k], what could, of the chunk that was yielded last, and all before the first
      one; None if nothing is skipped.
  """

  placement = 'files'
  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    paths: Sequence[str],
    sizes: np.ndarray,
    look: Look,
    crop: Crop = 'none',
    seed: int = 0,
    workers: int = 0,
    skips: bool = False,
  ):
    self.paths, self.sizes, self.look, self.crop = paths, sizes, look, crop
    self.seed, self.workers = seed, workers
    self.shape = (len(paths), look.size, look.size, 3)
    self.skips, self.present = skips, np.ones((1, 1), bool) if skips else None
    self.bytes_read, self.missing = 0, {}

  @property
  def nbytes(self) -> int:
    """Of the files."""
    return int(self.sizes.sum())

  def seeded(self, seed: int) -> 'ImageFiles':
    """The same images, cropped as a run of that seed shows them."""
    given = self.paths, self.sizes, self.look, self.crop
    return ImageFiles(*given, seed, self.workers, self.skips)

  def part(self, index: np.ndarray, skips: bool | None = None) -> 'ImageFiles':
    """The images of samples i[n], left out if they cannot be read as these are, or as is said."""
    paths = [self.paths[i] for i in index]
    skips = self.skips if skips is None else skips
    given = self.look, self.crop, self.seed, self.workers, skips
    return ImageFiles(paths, self.sizes[index], *given)

  def read(self, index: np.ndarray) -> np.ndarray:
    """Images of samples i32[n], as evaluation sees them: u8[n,S,S,3]."""
    index = np.asarray(index)
    starts = range(0, len(index), PIECE)
    pieces = [self._piece(index[start : start + PIECE], None) for start in starts]
    results = by_threads(decode, pieces)
    found = [self._taken(*pair)[0] for pair in zip(pieces, results, strict=True)]
    return np.concatenate([np.zeros((0, *self.shape[1:]), np.uint8), *found])

  def walk(self, walk) -> Iterator[np.ndarray]:
    """The chunks of a pass, see `placement.Source.walk`."""
    size, width = walk.index.shape[1], math.prod(self.shape[1:])
    spans = [
      (first * size, at, min(at + PIECE, last * size))
      for first in walk.firsts
      for last in (min(first + walk.rows, walk.stop),)
      for at in range(first * size, last * size, PIECE)
    ]
    pieces = [self._shown(walk, low, high) for _, low, high in spans]
    results = self._decoded(pieces)
    try:
      for begin, group in itertools.groupby(zip(spans, pieces, strict=True), lambda x: x[0][0]):
        chunk = np.empty((walk.rows * size, width), np.uint8)
        present = np.ones(walk.rows * size, bool)
        for (_, low, high), piece in group:
          pixels, there = self._taken(piece, next(results))
          chunk[low - begin : high - begin] = pixels.reshape(-1, width)
          present[low - begin : high - begin] = there
        if self.skips:
          self.present = present.reshape(walk.rows, size)
        yield chunk.reshape(walk.rows, size, width)
        del chunk, pixels  # before the next one is made
    finally:
      results.close()

  def _decoded(self, pieces: list[Piece]) -> Iterator[Decoded]:
    """Decodes pieces ahead of who takes them, in their order."""
    if not self.workers:
      return by_threads(decode, pieces)
    from jaxbudget.data import decoders  # late: it needs grain

    return decoders.run(pieces, self.workers, PIECE * math.prod(self.shape[1:]))

  def _shown(self, walk, low: int, high: int) -> Piece:
    """The images at some positions of a plan, row by row."""
    rows, columns = np.divmod(np.arange(low, high), walk.index.shape[1])
    index = walk.index[rows, columns]
    if walk.epoch is None or self.crop == 'none':
      return self._piece(index, None)
    return self._piece(index, (self.seed, walk.epoch, rows, walk.columns[columns]))

  def _piece(self, index: np.ndarray, place: tuple | None) -> Piece:
    return Piece([self.paths[i] for i in index], self.sizes[index], self.look, place)

  def _taken(self, piece: Piece, found: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """The images u8[n,S,S,3] of a piece, and which there are: bool[n].

    Raises:
      Unreadable: one of them cannot be read, and is not to be skipped.
    """
    self.bytes_read += found.read
    if found.faults and not self.skips:
      raise Unreadable('; '.join(said for _, said in found.faults))
    present = np.ones(len(piece.paths), bool)
    for position, said in found.faults:
      self.missing[piece.paths[position]], present[position] = said, False
    return found.pixels.reshape(-1, *self.shape[1:]), present


def by_threads(function: Callable, items: Iterable, threads: int = THREADS) -> Iterator:
  """Applies a function by threads of this process, not far ahead of who takes what comes of it.

  Args:
    function: of an item.
    items: drawn as they are needed.
    threads: how many.

  Yields:
    What the function gives of each item, in their order.
  """
  items, under_way = iter(items), collections.deque()
  with concurrent.futures.ThreadPoolExecutor(threads, 'jaxbudget-decode') as pool:
    try:
      for item in itertools.islice(items, 2 * threads):
        under_way.append(pool.submit(function, item))
      while under_way:
        done = under_way.popleft().result()
        for item in itertools.islice(items, 1):
          under_way.append(pool.submit(function, item))
        yield done
    finally:
      pool.shutdown(cancel_futures=True)
