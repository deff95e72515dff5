"""Gets archives from disk or the network, and never lets a wrong file pass."""

import errno
import hashlib
import pathlib
import time
from collections.abc import Sequence

from jaxbudget import paths
from jaxbudget.data.dataset import DataError, Progress
from jaxbudget.data.tables import Archive

TIMEOUT = 30.0  # seconds without a single byte
ATTEMPTS = 4
_BLOCK = 1 << 20


def read_checksums(path: str) -> dict[str, Archive]:
  """Reads a checksum file in the form of tensorflow-datasets.

  Args:
    path: lines of url, size in bytes, sha256 and file name, separated by tabs.

  Returns:
    Archives by file name.

  Raises:
    DataError: naming the first malformed line.
  """
  try:
    lines = paths.expand(path).read_text('utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise DataError(f'data_checksums={path}: cannot be read: {error}') from error
  archives = {}
  for number, line in enumerate(lines, 1):
    if not line.strip() or line.startswith('#'):
      continue
    fields = line.strip().split('\t')
    valid = len(fields) == 4 and fields[1].isdigit() and len(fields[2]) == 64
    if not valid or set(fields[2].lower()) - set('0123456789abcdef'):
      raise DataError(
        f'data_checksums={path}, line {number}: expected url, size, sha256 (64 hex digits) and '
        f'file name separated by tabs, got {line!r}'
      )
    archives[fields[3]] = Archive(fields[0], int(fields[1]), fields[2].lower(), fields[3])
  return archives


def replace_listed(official: Sequence[Archive], checksums: str | None) -> tuple[Archive, ...]:
  """Puts the user's checksums, matched by file name, in the place of the official ones.

  Args:
    official: the archives of a data set.
    checksums: path of the user's checksum file, if any.

  Returns:
    The archives to look for.
  """
  listed = read_checksums(checksums) if checksums else {}
  return tuple(listed.get(archive.filename, archive) for archive in official)


def get(
  archive: Archive,
  manual_dirs: Sequence[pathlib.Path],
  download_dir: pathlib.Path,
  progress: Progress,
) -> pathlib.Path:
  """Finds an archive on disk or downloads it; what it returns has the right checksum.

  Args:
    archive: what to get.
    manual_dirs: directories that may hold the file; their content is never changed.
    download_dir: where downloads are kept.
    progress: told of bytes.

  Returns:
    Path of the file.

  Raises:
    DataError: if the file is not the right one, or cannot be downloaded.
  """
  for directory in manual_dirs:
    path = directory / archive.filename
    if path.is_file():
      if fault := _mismatch(path, archive, progress):
        raise DataError(
          f'{path} {fault}; get the file of {archive.url} again, or describe a deliberate '
          'subset or mirror in a checksum file (data_checksums=PATH)'
        )
      return path
  path = download_dir / archive.filename
  if not path.is_file() or _mismatch(path, archive, progress):
    download(archive, path, progress)
  return path


def _mismatch(path: pathlib.Path, archive: Archive, progress: Progress) -> str:
  """Says how a file differs from what it should be; empty if it does not."""
  size = path.stat().st_size
  if size != archive.size:
    cut = 'is cut short' if size < archive.size else 'is not the expected file'
    return f'{cut}: {size:,} bytes, expected {archive.size:,}'
  digest = hashlib.sha256()
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      digest.update(block)
      progress(f'checking {archive.filename}', file.tell(), size)
  if digest.hexdigest() != archive.sha256:
    return f'has the wrong checksum: sha256 {digest.hexdigest()}, expected {archive.sha256}'
  return ''


def download(
  archive: Archive,
  target: pathlib.Path,
  progress: Progress,
  timeout: float = TIMEOUT,
  attempts: int = ATTEMPTS,
) -> None:
  """Downloads a file; it is there as a whole, verified, or not at all.

  Args:
    archive: what to download.
    target: where it goes.
    progress: told of bytes.
    timeout: seconds that a connection may stay silent.
    attempts: connections to try before giving up.

  Raises:
    DataError: if the server does not deliver, or delivers something else.
  """
  import pooch  # late: what is on disk needs none of it
  import requests

  if not archive.url.startswith(('http://', 'https://')):
    raise DataError(f'{archive.filename}: cannot download {archive.url!r}, only http and https')
  pooch.get_logger().setLevel('ERROR')
  problem = ''
  for attempt in range(attempts):
    if attempt:
      time.sleep(min(0.2 * 4**attempt, 10.0))
    fetch = pooch.HTTPDownloader(
      progressbar=_Bar(archive, progress),
      chunk_size=_BLOCK,
      timeout=timeout,
      headers={'User-Agent': 'jaxbudget'},
    )
    try:
      target.unlink(missing_ok=True)  # it is not what it should be, see `get`
      known = f'sha256:{archive.sha256}'
      pooch.retrieve(archive.url, known, target.name, target.parent, downloader=fetch)
      return
    except requests.HTTPError as error:
      problem = f'the server answers {error.response.status_code} {error.response.reason}'
      if error.response.status_code < 500:
        raise DataError(f'{archive.url}: {problem}') from error
    except requests.RequestException as error:
      silent = isinstance(error, requests.Timeout) or 'timed out' in str(error)
      said = f'no connection, or it broke: {error}'
      problem = f'the server has been silent for {timeout:g} s' if silent else said
    except OSError as error:
      raise disk_fault(error, target) from error
    except ValueError as error:
      raise DataError(
        f'{archive.url}: the downloaded file has the wrong checksum, or is longer than the '
        f'{archive.size:,} bytes expected; it was thrown away. A mirror or subset needs its own '
        'checksum file (data_checksums=PATH)'
      ) from error
  raise DataError(
    f'{archive.url}: {problem} ({attempts} attempts); try again later, or put '
    f'{archive.filename} into a directory and give data_manual_dir'
  )


class _Bar:
  """What pooch tells its progress to; ends a download that is too long."""

  def __init__(self, archive: Archive, progress: Progress):
    self.archive, self.progress = archive, progress
    self.total = self.done = 0

  def update(self, count: int) -> None:
    """Adds bytes; pooch counts whole blocks, and all once more in the end."""
    self.done += count
    if self.done >= self.archive.size + 2 * _BLOCK:
      raise ValueError(f'more than {self.archive.size} bytes')
    done = min(self.done, self.archive.size)
    self.progress(f'downloading {self.archive.filename}', done, self.archive.size)

  def reset(self) -> None:
    """Starts to count anew."""
    self.done = 0

  def close(self) -> None:
    """Has nothing to close."""


def disk_fault(error: Exception, path: pathlib.Path) -> DataError:
  """Explains why something could not be written.

  Args:
    error: what the system or array_record said.
    path: what was to be written.

  Returns:
    The error to raise.
  """
  reason = getattr(error, 'strerror', None) or str(error)
  # array_record gives no error number.
  numbered = getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT)
  if numbered or 'No space left' in reason:
    reason = (
      'no space left on the disk; free some, or set data_dir to a larger one. What was prepared '
      'before is intact'
    )
  return DataError(f'{path}: cannot be written: {reason}')
