"""What a process owes the world: signals are answered, and no run depends on its output.

A terminal that is closed, a pipe whose reader has left and a full disk behind standard output are
nobody's fault: what cannot be written is dropped, the work goes on and the files are whole.
"""

import contextlib
import gc
import io
import os
import pathlib
import select
import signal
import site
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

# What asks a process to end, and by default ends it at once: the terminal is closed, Ctrl-C, kill,
# what clusters are asked to send before the time limit, and a limit of processor seconds.
_NAMES = ('SIGHUP', 'SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU')
STOP = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
_PIECE = 512  # bytes that a pipe which is ready takes without waiting, by POSIX
_LOOK = 200  # milliseconds between looks at signals while nobody reads

_received: list[int] = []  # signals; once asked to end, a process waits for no reader any more


class Signalled(BaseException):  # noqa: N818  like KeyboardInterrupt
  """A signal, other than Ctrl-C, asks this process to end; nothing has to be saved.

  Attributes:
    number: of the signal.
  """

  def __init__(self, number: int):
    super().__init__(f'stopped by {signal.Signals(number).name}')
    self.number = number


@contextlib.contextmanager
def answering() -> Iterator[None]:
  """Makes signals raise, in the time of a `with` block: `KeyboardInterrupt` or `Signalled`.

  The default would be to die at once; but then files stay behind that are only half written, and
  the first process of a container would not hear them at all.
  """

  def strike(number, frame):
    del frame
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Signalled(number)

  with _handled(strike):
    yield


@contextlib.contextmanager
def collecting() -> Iterator[list[int]]:
  """Collects signals, for work that looks at them between its steps and saves what it has.

  A second Ctrl-C is obeyed at once.

  Yields:
    Numbers of the signals so far.
  """
  collected: list[int] = []

  def note(number, frame):
    del frame
    _received.append(number)
    if collected and number == signal.SIGINT:
      raise KeyboardInterrupt
    collected.append(number)

  with _handled(note):
    yield collected


@contextlib.contextmanager
def _handled(handler: Callable) -> Iterator[None]:
  """Handles the signals of `STOP`, but not those that were to be ignored (nohup)."""
  if threading.current_thread() is not threading.main_thread():  # where Python lets nobody do so
    yield
    return
  ignored = (signal.SIG_IGN, None)
  previous = {s: signal.getsignal(s) for s in STOP if signal.getsignal(s) not in ignored}
  try:
    for number in previous:
      signal.signal(number, handler)
    yield
  finally:
    for number, before in previous.items():
      signal.signal(number, before)


def same_package() -> dict[str, str]:
  """Environment variables by which a fresh Python imports the jaxbudget that is running here.

  Else a repository in the folder of the launch would go before the package that is installed,
  and what is neither installed nor there would not be found.
  """
  root = str(pathlib.Path(__file__).parents[3])
  places = [place for place in os.environ.get('PYTHONPATH', '').split(os.pathsep) if place]
  if root not in {*places, *site.getsitepackages(), site.getusersitepackages()}:
    places = [root, *places]
  paths = {'PYTHONPATH': os.pathsep.join(places)} if places else {}
  return {'PYTHONSAFEPATH': '1', **paths}


def guard_streams() -> None:
  """Makes standard output and error never fail; the first thing that a program does.

  Streams that are closed become /dev/null, lest a file of ours is opened under their number and
  takes what libraries print. Streams that somebody has replaced (a notebook) are left alone.
  """
  for handle in range(3):
    try:
      os.fstat(handle)
    except OSError:
      os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
  if sys.stdin is None:
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
  sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1)
  sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2)


def collect_less() -> None:
  """Looks for garbage less often: JAX makes much in tracing that stays. For programs of our own."""
  gc.freeze()  # what modules are made of is no garbage
  gc.set_threshold(20_000)


def forgiving(stream: TextIO | None) -> TextIO | None:
  """A way to standard output that never fails, for programs whose own stream must stay theirs.

  Args:
    stream: `sys.stdout`.

  Returns:
    Another stream to the same place; `stream` itself if somebody has replaced it.
  """
  return stream if stream is None else _guarded(stream, sys.__stdout__, 1)


def _guarded(stream, original, handle: int):
  if stream is not original:
    return stream
  if stream is not None:
    with contextlib.suppress(OSError):
      stream.flush()
  raw = _Stream(handle, 'w', closefd=False)
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=stream.encoding if stream is not None else 'utf-8',
    errors='backslashreplace',  # a name in a message is no reason to fail
    line_buffering=stream is not None and stream.line_buffering,
  )


class _Stream(io.FileIO):
  """Drops what cannot be written; where nobody reads it waits, but not against a signal."""

  def write(self, content) -> int:
    piece = memoryview(content)[:_PIECE]
    try:
      while self._wait():
        written = super().write(piece)
        if written is not None:  # else it does not block, and somebody else was faster
          return written
    except OSError:
      pass
    return len(memoryview(content))

  def _wait(self) -> bool:
    """Waits until something can be written; False if a signal asks this process to end."""
    if not hasattr(select, 'poll'):
      return True
    ready = select.poll()
    ready.register(self, select.POLLOUT)
    while not ready.poll(_LOOK):
      if _received:
        return False
    return True
