"""Gets archives from disk or the network, and never lets a wrong file pass."""

import errno
import hashlib
import http.client
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import BinaryIO

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
    lines = pathlib.Path(path).expanduser().read_text().splitlines()
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
  """Downloads a file, picking up where an earlier attempt was cut off.

  Args:
    archive: what to download.
    target: where it goes, once complete and verified.
    progress: told of bytes.
    timeout: seconds that a connection may stay silent.
    attempts: connections to try before giving up.

  Raises:
    DataError: if the server does not deliver, or delivers something else.
  """
  if not archive.url.startswith(('http://', 'https://')):
    raise DataError(f'{archive.filename}: cannot download {archive.url!r}, only http and https')
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise disk_fault(error, target.parent) from error
  part = target.with_name(f'{target.name}.part')
  began_with_part = part.exists()
  problem = ''
  for attempt in range(attempts):
    if attempt:
      time.sleep(min(0.2 * 4**attempt, 10.0))
    problem = _fetch(archive, part, progress, timeout)
    if not problem:
      break
  else:
    raise DataError(
      f'{archive.url}: {problem} ({attempts} attempts); try again later (what has arrived is '
      f'kept), or put {archive.filename} into a directory and give data_manual_dir'
    )
  fault = _mismatch(part, archive, progress)
  if fault and began_with_part:  # the rest of another file: start afresh
    part.unlink()
    return download(archive, target, progress, timeout, attempts)
  if fault:
    part.unlink()
    raise DataError(
      f'{archive.url}: the downloaded file {fault}; it was thrown away. A mirror or subset needs '
      'its own checksum file (data_checksums=PATH)'
    )
  os.replace(part, target)


def _fetch(archive: Archive, part: pathlib.Path, progress: Progress, timeout: float) -> str:
  """Makes one connection and appends to the partial file; returns what went wrong, if anything."""
  try:
    with part.open('ab') as file:
      return _receive(archive, file, progress, timeout)
  except OSError as error:  # those of the network do not come this far
    raise disk_fault(error, part) from error


def _receive(archive: Archive, file: BinaryIO, progress: Progress, timeout: float) -> str:
  have = file.tell()
  if have >= archive.size:
    return ''
  request = urllib.request.Request(archive.url, headers={'User-Agent': 'jaxbudget'})
  if have:
    request.add_header('Range', f'bytes={have}-')
  silent = f'the server has been silent for {timeout:g} s'
  try:
    response = urllib.request.urlopen(request, timeout=timeout)
  except urllib.error.HTTPError as error:
    error.close()
    if error.code == 416:  # what we have is not the beginning of what they have
      file.truncate(0)
    elif error.code < 500:
      raise DataError(f'{archive.url}: the server answers {error.code} {error.reason}') from error
    return f'the server answers {error.code} {error.reason}'
  except (OSError, http.client.HTTPException) as error:
    reason = getattr(error, 'reason', error)
    return silent if isinstance(reason, TimeoutError) else f'no connection: {reason}'
  with response:
    if have and response.status != 206:  # the server does not resume
      file.truncate(0)
      have = 0
    while have < archive.size:
      try:
        block = response.read1(_BLOCK)
      except TimeoutError:
        return silent
      except (OSError, http.client.HTTPException) as error:
        return f'the connection broke: {error}'
      if not block:
        return f'the connection was cut after {have:,} of {archive.size:,} bytes'
      file.write(block)
      have += len(block)
      progress(f'downloading {archive.filename}', have, archive.size)
  return ''


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
