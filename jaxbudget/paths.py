"""Paths as people write them, and file names made of what is no path."""

import hashlib
import os
import pathlib
import re


def expand(path: str | os.PathLike) -> pathlib.Path:
  """Puts the home directory in the place of `~` or `~somebody`, as a shell does.

  Args:
    path: any path; without a `~` no home is needed.

  Returns:
    The path.

  Raises:
    ValueError: nobody knows that home directory.
  """
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError:
    whose = pathlib.Path(path).parts[0]
    raise ValueError(f'{os.fspath(path)}: nobody knows what {whose} is; write it out') from None


def file_name(text: str, most: int = 80) -> str:
  """Makes a file name, short and of plain letters, from any text.

  Args:
    text: a name, a path, ...
    most: characters.

  Returns:
    The text where it is such a name; else what is left of it, and a short hash, so that two
    texts never share a name.
  """
  plain = re.sub(r'[^A-Za-z0-9._-]+', '_', text).lstrip('.')
  if text and plain == text and len(text) <= most:
    return text
  digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
  return f'{plain[: most - 9]}-{digest}'
