"""Worker processes that decode images: one grain pipeline for all passes of this process.

Workers take seconds to start, and what is to be decoded is known an epoch at a time. So they are
started once with a pipeline of tickets without end. What tickets stand for is written into a folder
before each pass, and who holds a ticket that is not written yet waits.

Pixels go into slots of one block of shared memory, which are used again and again: fresh shared
memory for each piece, as grain would take it, costs a seventh of the time that decoding does.
"""

import atexit
import contextlib
import os
import pathlib
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import shared_memory
from typing import Any

import numpy as np

from jaxbudget.data.encoded import PIECE, Decoded, Piece, by_threads, decode

_POLL = 0.003  # seconds between two looks for the next pass
_BUFFER = 8  # pieces that wait in each worker to be taken, 128 images
_SLOTS = _BUFFER + 2  # of a worker: for these, for the one in its hands and for the one in ours
_STOP = 'stop'
_pools: dict[tuple[int, int], 'Pool'] = {}


class WorkerLost(OSError):
  """A process that decodes images ended when it should not have."""


def run(pieces: Sequence[Piece], workers: int, size: int) -> Iterator[Decoded]:
  """Decodes the pieces of a pass by processes, which stay for the next one.

  Memory is bounded: ten pieces of each worker.

  Args:
    pieces: of the pass.
    workers: processes; if they are on another pass, threads of this one do it.
    size: bytes of the pixels of a piece, at most.

  Yields:
    What comes of each piece, in their order; its pixels until the next one is asked for.

  Raises:
    WorkerLost: a worker was killed; the next pass starts others.
  """
  if not pieces:
    return
  key = workers, size
  pool = _pools.get(key) or _pools.setdefault(key, Pool(*key))
  if not pool.free.acquire(blocking=False):
    yield from by_threads(decode, pieces)
    return
  try:
    yield from pool.run(pieces)
  except WorkerLost:
    _pools.pop(key, None)
    raise
  finally:
    pool.free.release()


class Slots:
  """Rooms for pieces in shared memory, and how many pieces have been taken out of them so far.

  Args:
    workers: that fill them, each its own ones in turn.
    size: bytes of a room.
    name: of the block; None makes one.
  """

  def __init__(self, workers: int, size: int, name: str | None = None):
    self._workers, self._size, count = workers, size, workers * _SLOTS
    self.block = shared_memory.SharedMemory(name, name is None, 8 + count * size)
    self._taken = np.ndarray(1, np.int64, self.block.buf)
    self._rooms = np.ndarray((count, size), np.uint8, self.block.buf, 8)
    if name is None:
      self._taken[0] = 0

  def __reduce__(self):
    return Slots, (self._workers, self._size, self.block.name)

  def of(self, ticket: int) -> np.ndarray:
    """The room of a ticket, u8[size]."""
    turn, worker = divmod(ticket, self._workers)
    return self._rooms[worker * _SLOTS + turn % _SLOTS]

  def is_free(self, ticket: int) -> bool:
    """Whether what was in a ticket's room before has been taken."""
    return ticket - _SLOTS * self._workers < self._taken[0]

  def take(self) -> None:
    """Lets go of the room of the first ticket that was not taken yet."""
    self._taken[0] += 1

  def close(self) -> None:
    """Gives the memory back."""
    self._taken = self._rooms = None
    with contextlib.suppress(BufferError):  # somebody still looks at pixels
      self.block.close()
    self.block.unlink()


class Tickets:
  """What grain takes for a data set: element i is the i-th piece of all passes.

  Args:
    directory: holds, for a pass that begins at ticket I, `count-I` and `pieces-I`, and `left-I`
      if nobody wants the rest of it any more.
    slots: for the pixels.
    parent: the process that writes them, and takes the pixels.
  """

  def __init__(self, directory: pathlib.Path, slots: Slots, parent: int):
    self._directory, self._slots, self._parent = directory, slots, parent
    self._first, self._end, self._pieces = 0, 0, None

  def __len__(self) -> int:
    return 2**60

  def __getitem__(self, ticket: int) -> dict[str, Any]:
    """Decodes a piece into its slot, and tells the rest; waits for it if need be."""
    if self._pieces is None:  # a signal to stop is for the parent, who ends us
      signal.signal(signal.SIGINT, signal.SIG_IGN)
      signal.signal(signal.SIGTERM, signal.SIG_IGN)
      self._pieces = []
    while ticket >= self._end or not self._slots.is_free(ticket):
      if ticket >= self._end and self._next_pass():
        continue
      if os.getppid() != self._parent:
        os._exit(0)  # nobody is left to be told
      if (self._directory / _STOP).exists():
        raise RuntimeError('no more passes')
      time.sleep(_POLL)
    told = {'ticket': ticket, 'images': 0, 'read': 0, 'faults': []}
    if (self._directory / f'left-{self._first}').exists():
      return told
    if not self._pieces:
      with (self._directory / f'pieces-{self._first}').open('rb') as file:
        self._pieces = pickle.load(file)  # noqa: S301  our own parent wrote it
    found = decode(self._pieces[ticket - self._first], self._slots.of(ticket))
    return told | {'images': len(found.pixels), 'read': found.read, 'faults': found.faults}

  def _next_pass(self) -> bool:
    """Goes on to the next pass, if it is there."""
    try:
      count = (self._directory / f'count-{self._end}').read_text('utf-8')
    except FileNotFoundError:
      return False
    self._first, self._end, self._pieces = self._end, self._end + int(count), []
    return True


class Pool:
  """Workers.

  Args:
    workers: how many.
    size: bytes of the pixels of a piece, at most.
  """

  def __init__(self, workers: int, size: int):
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # a notebook; grain has flags of its own
      flags.FLAGS.mark_as_parsed()
    self.free = threading.Lock()
    self._next, self._taken = 0, 0  # tickets that were given out, and that were taken
    self._directory = pathlib.Path(tempfile.mkdtemp(prefix='jaxbudget-decode-'))
    self._slots = Slots(workers, size)
    tickets = grain.MapDataset.source(Tickets(self._directory, self._slots, os.getpid()))
    pipeline = tickets.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BUFFER)
    self._results = iter(pipeline.mp_prefetch(options))
    atexit.register(self.close)

  def run(self, pieces: Sequence[Piece]) -> Iterator[Decoded]:
    """Decodes the pieces of a pass; what is left of one that ends early is not decoded."""
    first, end = self._next, self._next + len(pieces)
    self._write(f'pieces-{first}', pickle.dumps(list(pieces)))
    self._write(f'count-{first}', str(len(pieces)).encode())
    self._next = end
    try:
      while self._taken < end:
        told = self._take()
        pixels = self._slots.of(told['ticket'])
        pixels = pixels.reshape(PIECE, -1)[: told['images']]
        try:
          yield Decoded(pixels, told['read'], told['faults'])
        finally:
          self._slots.take()
    finally:
      self._write(f'left-{first}', b'')
      with contextlib.suppress(WorkerLost):  # which has been told, or the next pass will tell
        while self._taken < end:
          self._take()
          self._slots.take()
      (self._directory / f'pieces-{first}').unlink(missing_ok=True)

  def _write(self, name: str, content: bytes) -> None:
    """Writes a file that is seen as a whole or not at all."""
    with contextlib.suppress(FileNotFoundError):  # closed
      (self._directory / f'.{name}').write_bytes(content)
      (self._directory / f'.{name}').rename(self._directory / name)

  def _take(self) -> dict[str, Any]:
    """What is told of the next ticket."""
    try:
      told = next(self._results or iter(()))
      if told['ticket'] != self._taken:
        raise RuntimeError(f'ticket {told["ticket"]} came for {self._taken}')
    except (RuntimeError, StopIteration, ValueError) as error:
      self.close()
      raise WorkerLost(f'a process that decodes images was lost ({error})') from error
    self._taken += 1
    return told

  def close(self) -> None:
    """Ends the workers."""
    atexit.unregister(self.close)
    if self._results is not None:
      self._write(_STOP, b'')
      self._results.close()
      self._results = None  # now, while what grain needs to let it go is still there
      shutil.rmtree(self._directory, ignore_errors=True)
      self._slots.close()
