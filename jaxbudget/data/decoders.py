"""Worker processes that decode images: one grain pipeline for all passes of this process.

Workers take seconds to start, and what is to be decoded is known an epoch at a time. So they are
started once with a pipeline of tickets without end. What tickets stand for is written into a folder
before each pass, and who holds a ticket that is not written yet waits.
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

import numpy as np

from jaxbudget.data.encoded import Decoded, Piece, by_threads, decode

_POLL = 0.003  # seconds between two looks for the next pass
_BUFFER = 8  # pieces that wait in each worker to be taken, 128 images
_STOP = 'stop'
_pools: dict[int, 'Pool'] = {}


class WorkerLost(OSError):
  """A process that decodes images ended when it should not have."""


def run(pieces: Sequence[Piece], workers: int) -> Iterator[Decoded]:
  """Decodes the pieces of a pass by processes, which stay for the next one.

  Memory is bounded: nine pieces in each worker, and one here.

  Args:
    pieces: of the pass.
    workers: processes; if they are on another pass, threads of this one do it.

  Yields:
    What comes of each piece, in their order.

  Raises:
    WorkerLost: a worker was killed; the next pass starts others.
  """
  if not pieces:
    return
  pool = _pools.get(workers) or _pools.setdefault(workers, Pool(workers))
  if not pool.free.acquire(blocking=False):
    yield from by_threads(decode, pieces)
    return
  try:
    yield from pool.run(pieces)
  except WorkerLost:
    _pools.pop(workers, None)
    raise
  finally:
    pool.free.release()


class Tickets:
  """What grain takes for a data set: element i is the i-th piece of all passes.

  Args:
    directory: holds, for a pass that begins at ticket I, `count-I` and `pieces-I`, and `left-I`
      if nobody wants the rest of it any more.
    parent: the process that writes them.
  """

  def __init__(self, directory: pathlib.Path, parent: int):
    self._directory, self._parent = directory, parent
    self._first, self._end, self._pieces = 0, 0, None

  def __len__(self) -> int:
    return 2**60

  def __getitem__(self, ticket: int) -> Decoded:
    """Decodes a piece; waits for it if need be."""
    if self._pieces is None:  # a signal to stop is for the parent, who ends us
      signal.signal(signal.SIGINT, signal.SIG_IGN)
      signal.signal(signal.SIGTERM, signal.SIG_IGN)
      self._pieces = []
    while ticket >= self._end:
      with contextlib.suppress(FileNotFoundError):
        count = (self._directory / f'count-{self._end}').read_text('utf-8')
        self._first, self._end, self._pieces = self._end, self._end + int(count), []
        continue
      if os.getppid() != self._parent:
        os._exit(0)  # nobody is left to be told
      if (self._directory / _STOP).exists():
        raise RuntimeError('no more passes')
      time.sleep(_POLL)
    if (self._directory / f'left-{self._first}').exists():
      return Decoded(np.zeros((0, 0), np.uint8), 0, [])  # None would be passed over
    if not self._pieces:
      with (self._directory / f'pieces-{self._first}').open('rb') as file:
        self._pieces = pickle.load(file)  # noqa: S301  our own parent wrote it
    return decode(self._pieces[ticket - self._first])


class Pool:
  """Workers.

  Args:
    workers: how many.
  """

  def __init__(self, workers: int):
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # a notebook; grain has flags of its own
      flags.FLAGS.mark_as_parsed()
    self.free = threading.Lock()
    self._next, self._directory = 0, pathlib.Path(tempfile.mkdtemp(prefix='jaxbudget-decode-'))
    tickets = grain.MapDataset.source(Tickets(self._directory, os.getpid()))
    pipeline = tickets.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BUFFER)
    self._results = iter(pipeline.mp_prefetch(options))
    atexit.register(self.close)

  def run(self, pieces: Sequence[Piece]) -> Iterator[Decoded]:
    """Decodes the pieces of a pass; what is left of one that ends early is not decoded."""
    first, left = self._next, len(pieces)
    self._write(f'pieces-{first}', pickle.dumps(list(pieces)))
    self._write(f'count-{first}', str(left).encode())
    self._next += left
    try:
      while left:
        left -= 1
        yield self._take()
    except WorkerLost:
      left = 0
      raise
    finally:
      self._write(f'left-{first}', b'')
      with contextlib.suppress(WorkerLost):  # which the next pass will tell
        for _ in range(left):
          self._take()
      (self._directory / f'pieces-{first}').unlink(missing_ok=True)

  def _write(self, name: str, content: bytes) -> None:
    """Writes a file that is seen as a whole or not at all."""
    with contextlib.suppress(FileNotFoundError):  # closed
      (self._directory / f'.{name}').write_bytes(content)
      (self._directory / f'.{name}').rename(self._directory / name)

  def _take(self) -> Decoded:
    try:
      return next(self._results)
    except (RuntimeError, StopIteration, ValueError) as error:
      self.close()
      raise WorkerLost(f'a process that decodes images was lost ({error})') from error

  def close(self) -> None:
    """Ends the workers."""
    atexit.unregister(self.close)
    self._write(_STOP, b'')
    self._results.close()
    shutil.rmtree(self._directory, ignore_errors=True)
