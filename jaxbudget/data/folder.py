"""folder:PATH: people's own images, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png."""

import collections
import concurrent.futures
import functools
import hashlib
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxbudget.data import pictures
from jaxbudget.data.arrays import from_arrays, refuse
from jaxbudget.data.dataset import DataError, Dataset, Progress
from jaxbudget.data.memory import host_free_bytes
from jaxbudget.data.pictures import Look, Picture
from jaxbudget.paths import expand

SUFFIXES = (
  '.bmp', '.gif', '.jfif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp',
)  # fmt: skip
_FORMAT = 2  # of what is cached of a folder
_TEST = ('test', 'val', 'valid', 'validation')  # the first that is there is tested on
_NAMED = 10  # unreadable images that a message names
_UNTESTED = (
  'no class folders in test, nor in val (expected test/CLASS/IMAGE; with validation=N none is '
  'needed)'
)


def scan(path: str) -> tuple[tuple[str, ...], dict[str, list[tuple[pathlib.Path, int]]], str]:
  """Lists the images of a folder; classes are the sub-folders of `train` in sorted order.

  Args:
    path: holds `train` and, to test on, `test` or `val`, each with a folder for every class.

  Returns:
    (class names, {split: (file, label) in sorted order}, identity of the files). Splits are
    train and, if it is there, the one to test on, under its own name.

  Raises:
    DataError: naming every fault of the layout.
  """
  root = expand(path)
  if not root.is_dir():
    raise DataError(f'folder:{path}: no such directory')
  found = {split: _class_folders(root / split) for split in ('train', *_TEST)}
  tested = next((split for split in _TEST if found[split]), '')
  classes, faults = tuple(found['train']), []
  if not classes:
    faults.append(f'no class folders in {root / "train"} (expected train/CLASS/IMAGE)')
  if classes and tested and (strange := sorted(set(found[tested]) - set(classes))):
    faults.append(f'{tested} has classes that train has not: {", ".join(strange[:_NAMED])}')
  listed, identity = {}, hashlib.sha256(f'{_FORMAT}'.encode())
  for split in filter(None, ('train', tested)):
    listed[split] = []
    for label, name in enumerate(classes):
      files = _images(root / split / name)
      if not files and name in found[split]:
        faults.append(f'class folder {split}/{name} holds no image ({", ".join(SUFFIXES)})')
      for file in files:
        stat = file.stat()
        identity.update(os.fsencode(file.relative_to(root)))  # which need not be UTF-8
        identity.update(f'\0{stat.st_size}\0{stat.st_mtime_ns}\0'.encode())
        listed[split].append((file, label))
  refuse(f'folder:{path}', faults + [_UNTESTED] * bool(faults and not tested))
  return classes, listed, identity.hexdigest()


def _class_folders(directory: pathlib.Path) -> list[str]:
  folders = (d.name for d in directory.glob('*') if d.is_dir())
  return sorted(name for name in folders if not name.startswith('.'))


def _images(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    file
    for file in directory.rglob('*')
    if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith('.')
  )


def load(path: str, progress: Progress, look: Look | None = None) -> Dataset:
  """Loads the images of a folder; grey if all are grey, otherwise RGB.

  Args:
    path: as for `scan`.
    progress: told of images.
    look: how images are read; None leaves them at their size, which must be one.

  Returns:
    The data set; without test images if the folder has none.

  Raises:
    DataError: naming the images that cannot be read or are of another size.
  """
  look = look or Look()
  classes, listed, _ = scan(path)
  name = f'folder:{path}'
  files = [entry for split in listed.values() for entry in split]
  needed, free = len(files) * look.size**2 * 3, host_free_bytes()
  if free is not None and needed > free:
    raise DataError(
      f'{name}: {len(files):,} images of {look.size}x{look.size} take {needed:,} bytes, but '
      f'{free:,} bytes are free; choose a smaller image_size'
    )
  with concurrent.futures.ThreadPoolExecutor() as pool:
    decoded = []
    for result in pool.map(functools.partial(pictures.read, look=look), (f for f, _ in files)):
      decoded.append(result)
      progress(f'decoding {name}', len(decoded), len(files))
  faults = [error for error in decoded if isinstance(error, str)]
  if len(faults) > _NAMED:
    faults[_NAMED:] = [f'and {len(faults) - _NAMED} more unreadable images']
  taken = [(f, p) for (f, _), p in zip(files, decoded, strict=True) if isinstance(p, Picture)]
  faults += [] if look.size else _size_fault(taken)
  tested = next((split for split in listed if split != 'train'), '')
  refuse(name, faults + [_UNTESTED] * bool(faults and not tested))
  image, notes = _stack(decoded)
  notes += _notes(decoded, look)
  if tested and tested != 'test':
    notes.append(f'there is no test: {tested} takes its place')
  label = np.array([label for _, label in files], np.int32)
  split = len(listed['train'])
  test = (image[split:], label[split:]) if tested else ()
  more = {'class_names': classes, 'notes': tuple(notes), 'where': path}
  return from_arrays(name, image[:split], label[:split], *test, **more)


def _stack(decoded: Sequence[Picture]) -> tuple[np.ndarray, list[str]]:
  """Images of one size as u8[N,H,W,1 or 3]."""
  pixels = [picture.pixels for picture in decoded]
  grey = sum(image.ndim == 2 for image in pixels)
  if grey == len(pixels):
    return np.stack(pixels)[..., None], []
  pixels = [x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2) for x in pixels]
  note = f'{grey} grey images among coloured ones were taken as RGB'
  return np.stack(pixels), [note] if grey else []


def _notes(decoded: Sequence[Picture], look: Look) -> list[str]:
  """What was done to images, with counts."""
  count = collections.Counter(change for picture in decoded for change in picture.changes)
  notes = [
    f'{words.format(**look._asdict())}: {count[change]} of {len(decoded)} images'
    for change, words in pictures.CHANGES.items()
    if count[change]
  ]
  sides = {picture.side for picture in decoded}
  if look.size and sides != {(look.size, look.size)}:
    (w0, h0), (w1, h1) = min(sides), max(sides)
    were = f'of {len(sides)} sizes, {w0}x{h0} to {w1}x{h1},' if len(sides) > 1 else f'of {w0}x{h0}'
    how = {'squash': 'squashed to', 'crop': 'cropped to a square in the middle and brought to'}
    notes.append(f'images {were} were {how[look.fit]} {look.size}x{look.size}')
  return notes


def _size_fault(taken: Sequence[tuple[pathlib.Path, Picture]]) -> list[str]:
  sizes = {}
  for file, picture in taken:
    sizes.setdefault(picture.side, []).append(file)
  if len(sizes) < 2:
    return []
  common = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
  return [
    f'images of {len(sizes)} sizes, bring them to one with dataset_options.image_size=S: '
    + ', '.join(f'{len(f)} of {w}x{h} (such as {f[0]})' for (w, h), f in common)
  ]
