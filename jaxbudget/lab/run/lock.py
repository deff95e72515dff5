"""One owner per directory, among processes and hosts that share it.

Ours and no library's (the data cache uses `filelock`): it must tell who owns a run and since
when, be succeeded when its host dies, and be found lost by an owner that slept.

The owner holds `flock` on a file `lock` and touches it every few seconds. `flock` goes with
its process, so on one host a lock is never stale; a lock of another host is stale when it has
not changed for `STALE` seconds *as seen from here* (clocks need not agree). On network file
systems where `flock` holds only within each host (Lustre without `-o flock`, NFS with
`local_lock`) the touch alone tells, and a takeover by two hosts at once is found out by
reading back who wrote last. Nobody deletes a lock but its owner.
"""

import contextlib
import errno
import json
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

try:
  import fcntl
except ImportError:  # not a Unix: the touch alone tells
  fcntl = None

FILE = 'lock'
BEAT = 10.0  # seconds between touches
STALE = 90.0  # seconds without one
SETTLE = 2.0  # seconds until a takeover from another host is read back

_seen: dict[pathlib.Path, tuple[Any, float]] = {}  # what locks looked like, and since when


class Busy(Exception):  # noqa: N818  it is no error
  """Somebody else owns the directory; the message says who."""


class Lost(Exception):  # noqa: N818
  """The lock was taken over by somebody else while it was ours (this process slept long)."""


class Lock:
  """An owned directory."""

  def __init__(self, path: pathlib.Path, handle: int, token: str):
    self._path, self._handle, self._token = path, handle, token
    self._over = threading.Event()
    self._beating = threading.Thread(target=self._beat, name='lock', daemon=True)
    self._lost = False
    self._beating.start()

  def check(self) -> None:
    """Returns if the directory is still ours.

    Raises:
      Lost: it is not; the caller must not write there any more.
    """
    if self._lost:
      raise Lost(f'{self._path} was taken over by {_describe(_read(self._path))}')

  def release(self) -> None:
    """Gives the directory up."""
    self._over.set()
    self._beating.join()
    if self._is_ours():
      with contextlib.suppress(OSError):
        self._path.unlink()
    os.close(self._handle)

  def _beat(self) -> None:
    while not self._over.wait(BEAT):
      with contextlib.suppress(OSError):
        if not self._is_ours():
          self._lost = True
          return
        os.utime(self._handle)

  def _is_ours(self) -> bool:
    return (_read(self._path) or {}).get('token') == self._token


@contextlib.contextmanager
def own(directory: pathlib.Path) -> Iterator[Lock]:
  """Owns a directory for the time of a `with` block.

  Args:
    directory: exists.

  Yields:
    The lock, to `check` before something is written.

  Raises:
    Busy: somebody else owns it.
    OSError: the file cannot be written.
  """
  lock = _acquire(directory / FILE)
  try:
    yield lock
  finally:
    lock.release()


@contextlib.contextmanager
def wait_for(directory: pathlib.Path) -> Iterator[Lock]:
  """Like `own`, but waits until it is free: for owners that are soon done."""
  while True:
    with contextlib.suppress(Busy):
      lock = _acquire(directory / FILE)
      break
    time.sleep(0.05)
  try:
    yield lock
  finally:
    lock.release()


def owner(directory: pathlib.Path) -> dict[str, Any] | None:
  """Who owns a directory, or did when it died: host, pid, since; None if nobody does."""
  return _read(directory / FILE)


def alive(directory: pathlib.Path) -> dict[str, Any] | None:
  """Like `owner`, but None too if the owner is gone, as far as one look from here can tell."""
  path = directory / FILE
  try:
    handle, shared = _open_to_look(path)
  except OSError:
    return None
  try:
    held = _try_flock(handle, shared)
    if held and _left_by_this_host(handle):
      return None
    # Of another host, and clocks may differ: only for people to read.
    if held is not False and time.time() - os.fstat(handle).st_mtime > STALE:
      return None
    return _read(path)
  finally:
    os.close(handle)  # gives the flock back


def _open_to_look(path: pathlib.Path) -> tuple[int, bool]:
  """A handle, and whether it can only read: on a read-only mount, or of another user's lock."""
  try:
    return os.open(path, os.O_RDWR), False
  except OSError as e:
    if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
      raise
    return os.open(path, os.O_RDONLY), True


def _acquire(path: pathlib.Path) -> Lock:
  record = {
    'host': socket.gethostname(),
    'boot': _boot(),
    'pid': os.getpid(),
    'since': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
    'token': secrets.token_hex(8),
  }
  handle = None if path.exists() else _create(path, record)
  if handle is None:
    handle = _succeed(path, record)
  _seen.pop(path, None)
  return Lock(path, handle, record['token'])


def _create(path: pathlib.Path, record: dict[str, Any]) -> int | None:
  """Makes the file, signed and locked from its first moment; None if it is there already."""
  temporary = path.with_name(f'.{path.name}.{record["token"]}.tmp')
  handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
  try:
    _try_flock(handle)
    _write(handle, record)
    os.link(temporary, path)
    return handle
  except (FileExistsError, FileNotFoundError):  # or an owner who was faster has swept ours away
    os.close(handle)
    return None
  except OSError as e:
    os.close(handle)
    if e.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
      return _create_unlinked(path, record)
    raise
  finally:
    temporary.unlink(missing_ok=True)


def _create_unlinked(path: pathlib.Path, record: dict[str, Any]) -> int | None:
  """Likewise where there are no hard links; unsigned for a moment."""
  try:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
  except FileExistsError:
    return None
  _try_flock(handle)
  _write(handle, record)
  return handle


def _succeed(path: pathlib.Path, record: dict[str, Any]) -> int:
  """Takes a lock over whose owner is gone.

  Raises:
    Busy: it is not gone, as far as can be seen from here.
  """
  try:
    handle = os.open(path, os.O_RDWR)
  except FileNotFoundError:
    raise Busy('a process that is just finishing') from None
  try:
    held = _try_flock(handle)
    if held is False:
      raise Busy(_describe(_read(path)))
    gone = held and _left_by_this_host(handle)
    if not gone and not _stale(path):
      raise Busy(_describe(_read(path)))
    if not _same_file(handle, path):  # its owner was just done with it
      raise Busy('a process that is just finishing')
    _write(handle, record)
    if not gone:
      time.sleep(SETTLE)
      if (_read(path) or {}).get('token') != record['token']:
        raise Busy(_describe(_read(path)))
  except BaseException:
    os.close(handle)
    raise
  return handle


def _try_flock(handle: int, shared: bool = False) -> bool | None:
  """Takes the flock: False if somebody has it, None if the file system has no such thing.

  A handle that can only read has a shared one at most, wherever it is NFS's.
  """
  if fcntl is None:
    return None
  try:
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    return True
  except OSError as e:
    if e.errno in (errno.EAGAIN, errno.EACCES):
      return False
    if e.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
      return None
    raise


def _left_by_this_host(handle: int) -> bool:
  """Whether the last owner ran on this host; it is gone if we have its flock."""
  left_by = _parse(os.pread(handle, 4096, 0)) or {}
  boot = _boot()
  return boot != '' and left_by.get('boot') == boot


def _stale(path: pathlib.Path) -> bool:
  """Whether a lock has looked the same for `STALE` seconds of our own clock."""
  try:
    status = path.stat()
    look = status.st_ino, status.st_mtime_ns, path.read_bytes()
  except OSError:
    return False
  now = time.monotonic()
  if _seen.get(path, (None,))[0] != look:
    _seen[path] = look, now
  return now - _seen[path][1] > STALE


def _same_file(handle: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(handle), path.stat())
  except OSError:
    return False


def _write(handle: int, record: dict[str, Any]) -> None:
  text = json.dumps(record).encode() + b'\n'
  os.pwrite(handle, text, 0)
  os.ftruncate(handle, len(text))
  os.fsync(handle)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
  try:
    return _parse(path.read_bytes())
  except OSError:
    return None


def _parse(text: bytes) -> dict[str, Any] | None:
  try:
    record = json.loads(text)
  except ValueError:
    return None
  return record if isinstance(record, dict) else None


def _describe(record: dict[str, Any] | None) -> str:
  if record is None:
    return 'another process'
  return f'process {record.get("pid")} on {record.get("host")} since {record.get("since")}'


def _boot() -> str:
  """Identifies a running kernel, hence the reach of a flock; '' where there is no such thing."""
  try:
    return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text('utf-8').strip()
  except OSError:
    return ''
