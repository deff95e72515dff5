"""Reads tar files in memory; nothing is ever extracted to disk."""

import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator

from jaxbudget.data.dataset import DataError


def members(
  path: pathlib.Path, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes | None]]:
  """Goes through the regular files of a tar, compressed or not; links are passed over.

  Args:
    path: the tar.
    wanted: tells by its name whether the content of a file is of interest.

  Yields:
    (name, content), the content None where it is not wanted.

  Raises:
    DataError: if the tar is damaged, or holds a path that climbs out of its directory.
  """
  try:
    with tarfile.open(path) as tar:
      for member in tar:
        parts = pathlib.PurePosixPath(member.name)
        if parts.is_absolute() or '..' in parts.parts:
          # Nothing would be written, but such an archive is not to be trusted.
          raise DataError(
            f'{path}: refused, it holds {member.name!r}, a path that climbs out of its directory'
          )
        if member.isreg():
          name = member.name.removeprefix('./')
          yield name, tar.extractfile(member).read() if wanted(name) else None
  except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
    raise DataError(f'{path}: cannot be read, cut short or damaged: {error}') from error
