"""People's copies of mini-ImageNet: a directory or a tar with images/ and three lists."""

import csv
import pathlib
import re
from collections.abc import Iterator, Mapping

from jaxbudget.data.dataset import DataError
from jaxbudget.data.tar import members

LISTS = ('train.csv', 'val.csv', 'test.csv')  # the order matters
FULL = 60_000  # images
_HEADER = ('filename', 'label')
NEEDED = (
  'a directory, or a tar named like mini-imagenet.tar(.gz), with images/, train.csv, val.csv and '
  'test.csv (columns filename,label; with that header or without)'
)


def locate(manual_dir: pathlib.Path) -> pathlib.Path | None:
  """Finds mini-ImageNet.

  Args:
    manual_dir: a directory that is, or contains, the data; or a tar file itself.

  Returns:
    The directory of the lists or the tar; None if there is neither.

  Raises:
    DataError: if there are several.
  """
  if manual_dir.is_file():
    return manual_dir
  if not manual_dir.is_dir():
    return None
  inner = sorted(path for path in manual_dir.iterdir() if path.is_dir())
  found = [path for path in (manual_dir, *inner) if (path / LISTS[0]).is_file()]
  tar = re.compile(r'mini.?imagenet.*\.(tar|tar\.gz|tgz)', re.IGNORECASE)
  found = found or sorted(path for path in manual_dir.iterdir() if tar.fullmatch(path.name))
  if len(found) > 1:
    raise DataError(
      f'{manual_dir} holds mini-ImageNet more than once: {", ".join(path.name for path in found)}; '
      'give the path of the one to use as data_manual_dir'
    )
  return found[0] if found else None


def identity(source: pathlib.Path) -> str:
  """Tells one copy from another, cheaply: paths, sizes and times, not content."""
  files = [source] if source.is_file() else [source / name for name in LISTS]
  stats = [(str(file.resolve()), file.stat()) for file in files if file.is_file()]
  return repr([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])


def read_lists(source: pathlib.Path) -> list[tuple[str, str]]:
  """Reads the three lists in the official order.

  Args:
    source: directory or tar.

  Returns:
    (file name, wnid) of every image.

  Raises:
    DataError: if a list is missing or malformed, or names an image that is not there.
  """
  if source.is_dir():
    lists = {name: (source / name).read_bytes() for name in LISTS if (source / name).is_file()}
    names = {path.name for path in (source / 'images').glob('*')}
  else:
    content = dict(members(source, lambda name: _leaf(name) in LISTS))
    lists = {_leaf(name): blob for name, blob in content.items() if blob is not None}
    names = {_leaf(name) for name in content if pathlib.PurePosixPath(name).parent.name == 'images'}
  if missing := [name for name in LISTS if name not in lists]:
    raise DataError(f'{source} lacks {", ".join(missing)}')
  listed = [row for name in LISTS for row in _rows(f'{source}: {name}', lists[name], names)]
  if not listed:
    raise DataError(f'{source}: the lists name no image')
  if missing := sorted({name for name, _ in listed} - names):
    raise DataError(
      f'{source}: the lists name {len(missing)} images that are not in images/, '
      f'the first is {missing[0]!r}'
    )
  return listed


def _rows(where: str, content: bytes, known: set[str]) -> Iterator[tuple[str, str]]:
  """The images of a list; a header there may be, blank lines and a byte order mark too."""
  first = True
  lines = content.decode('utf-8-sig', 'replace').splitlines()
  for number, row in enumerate(csv.reader(lines, skipinitialspace=True), 1):
    row = [cell.strip() for cell in row]
    if not any(row):
      continue
    header = first and [cell.lower() for cell in row] == list(_HEADER)
    if len(row) != 2 or not all(row):
      raise DataError(f'{where}, line {number}: expected filename,label, got {row}')
    if first and not header and row[0] not in known:
      raise DataError(
        f'{where}, line {number}: expected the header filename,label or an image of images/, '
        f'got {row}'
      )
    first = False
    if not header:
      yield row[0], row[1]


def images(source: pathlib.Path, wanted: Mapping[str, object]) -> Iterator[tuple[str, bytes]]:
  """Reads images, in whatever order is quick.

  Args:
    source: directory or tar.
    wanted: its keys are the file names.

  Yields:
    (file name, content).
  """
  if source.is_dir():
    for name in wanted:
      yield name, (source / 'images' / name).read_bytes()
  else:
    is_wanted = lambda n: _leaf(n) in wanted and pathlib.PurePosixPath(n).parent.name == 'images'
    for name, content in members(source, is_wanted):
      if content is not None:
        yield _leaf(name), content


def _leaf(name: str) -> str:
  return pathlib.PurePosixPath(name).name
