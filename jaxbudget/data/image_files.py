"""The image files of a folder: which there are, of what class and size; nothing is decoded."""

import hashlib
import os
import pathlib
from typing import NamedTuple

from jaxbudget.data import ground_truth
from jaxbudget.data.arrays import refuse
from jaxbudget.data.dataset import DataError
from jaxbudget.paths import expand

SUFFIXES = (
  '.bmp', '.gif', '.jfif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip
NAMED = 10  # files that a message names
_FORMAT = 2  # of what is cached of a folder
_TEST = ('test', 'val', 'valid', 'validation')  # the first that is there is tested on
_FLAT = ([], ['images'])  # folders of a split that are no classes
UNTESTED = (
  'no class folders in test, nor in val (expected test/CLASS/IMAGE; with validation=N none is '
  'needed)'
)


class File(NamedTuple):
  """An image that nobody has looked into yet.

  Attributes:
    path: of the file, absolute if that of the folder is.
    label: its class, from 0.
    size: bytes.
    changed: its time, in nanoseconds.
  """

  path: str
  label: int
  size: int
  changed: int


class Listing(NamedTuple):
  """The images of a folder.

  Attributes:
    root: of the folder.
    classes: their names, in the order of the labels.
    files: by split, in sorted order: `train`, and if it is there the one to test on, under its
      own name.
  """

  root: pathlib.Path
  classes: tuple[str, ...]
  files: dict[str, list[File]]

  @property
  def tested(self) -> str:
    """The split to test on; empty if there is none."""
    return next((split for split in self.files if split != 'train'), '')

  def identity(self, times: bool = True) -> str:
    """A hash of what is there: names, sizes, classes, and times of change if wanted."""
    found = hashlib.sha256(f'{_FORMAT}{"" if times else " no times"}'.encode())
    found.update('\0'.join(self.classes).encode('utf-8', 'surrogateescape'))
    for file in (file for files in self.files.values() for file in files):
      name = os.path.relpath(file.path, self.root)
      found.update(os.fsencode(name))  # which need not be UTF-8
      found.update(f'\0{file.size}\0{file.label}\0{file.changed if times else ""}\0'.encode())
    return found.hexdigest()


def scan(path: str) -> Listing:
  """Lists the images of a folder; classes are the sub-folders of `train` in sorted order.

  Args:
    path: holds `train` and, to test on, `test` or `val`, each with a folder for every class; what
      is tested on may lie flat beside a list of its classes, see `ground_truth`.

  Returns:
    What is there.

  Raises:
    DataError: naming every fault of the layout.
  """
  root = expand(path)
  if not root.is_dir():
    raise DataError(f'folder:{path}: no such directory')
  classes, faults = tuple(_class_folders(root / 'train')), []
  if not classes:
    faults.append(f'no class folders in {root / "train"} (expected train/CLASS/IMAGE)')
  listed = {'train': _by_class(root / 'train', classes, faults)}
  tested, flat = '', []
  for split in _TEST:
    found = _class_folders(root / split)
    if found not in _FLAT or (found and 'images' in classes):
      if classes and (strange := sorted(set(found) - set(classes))):
        faults.append(f'{split} has classes that train has not: {", ".join(strange[:NAMED])}')
      tested, listed[split] = split, _by_class(root / split, classes, faults)
    elif files := _images(root / split):
      known = ground_truth.find(
        root, split, [os.path.basename(file.path) for file in files], classes
      )
      if known is None:
        flat.append(f'{split} holds {len(files)} images without classes: {ground_truth.WANTED}')
        continue
      labels, wrong = known
      faults += wrong
      tested = split
      listed[split] = [f._replace(label=n) for f, n in zip(files, labels, strict=bool(not wrong))]
    if tested:
      break
  if not tested:
    faults += flat
  refuse(f'folder:{path}', faults + [UNTESTED] * bool(faults and not (tested or flat)))
  return Listing(root, classes, listed)


def _by_class(directory: pathlib.Path, classes: tuple[str, ...], faults: list[str]) -> list[File]:
  """The images of a split with class folders; faults are added to those there are."""
  found = []
  for label, name in enumerate(classes):
    files = _images(directory / name)
    if not files and (directory / name).is_dir():
      faults.append(f'class folder {directory.name}/{name} holds no image ({", ".join(SUFFIXES)})')
    found += [file._replace(label=label) for file in files]
  return found


def _class_folders(directory: pathlib.Path) -> list[str]:
  folders = (d.name for d in directory.glob('*') if d.is_dir())
  return sorted(name for name in folders if not name.startswith('.'))


def _images(directory: pathlib.Path) -> list[File]:
  """The images below a folder, in sorted order, of no class yet."""
  found, left = [], [directory] if directory.is_dir() else []
  while left:
    with os.scandir(left.pop()) as entries:  # which knows what is a file without asking again
      for entry in entries:
        if entry.is_dir(follow_symlinks=False):
          left.append(pathlib.Path(entry.path))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and not entry.name.startswith('.'):
          if entry.is_file():
            stat = entry.stat()
            found.append(File(entry.path, -1, stat.st_size, stat.st_mtime_ns))
  return sorted(found, key=lambda file: file.path.split(os.sep))
