"""folder:PATH: people's own images, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png."""

import concurrent.futures
import hashlib
import os
import pathlib

import numpy as np
import PIL.Image

from jaxbudget.data.arrays import from_arrays, refuse
from jaxbudget.data.dataset import DataError, Dataset, Progress
from jaxbudget.paths import expand

SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
_NAMED = 10  # unreadable images that a message names


def scan(path: str) -> tuple[tuple[str, ...], dict[str, list[tuple[pathlib.Path, int]]], str]:
  """Lists the images of a folder; classes are the sub-folders of `train` in sorted order.

  Args:
    path: holds `train` and `test`, each with a folder for every class.

  Returns:
    (class names, {split: (file, label) in sorted order}, identity of the files).

  Raises:
    DataError: naming every fault of the layout.
  """
  root = expand(path)
  if not root.is_dir():
    raise DataError(f'folder:{path}: no such directory')
  found = {
    split: sorted(
      d.name for d in (root / split).glob('*') if d.is_dir() and not d.name.startswith('.')
    )
    for split in ('train', 'test')
  }
  faults = [
    f'no class folders in {root / split} (expected {split}/CLASS/IMAGE)'
    for split, classes in found.items()
    if not classes
  ]
  classes = tuple(found['train'])
  if classes and (strange := sorted(set(found['test']) - set(classes))):
    faults.append(f'test has classes that train has not: {", ".join(strange[:_NAMED])}')
  listed, identity = {}, hashlib.sha256()
  for split in found:
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
  refuse(f'folder:{path}', faults)
  return classes, listed, identity.hexdigest()


def _images(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    file
    for file in directory.rglob('*')
    if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith('.')
  )


def load(path: str, progress: Progress) -> Dataset:
  """Loads the images of a folder; grey if all are grey, otherwise RGB.

  Args:
    path: as for `scan`; all images of one size.
    progress: told of images.

  Returns:
    The data set.

  Raises:
    DataError: naming the images that cannot be read or are of another size.
  """
  classes, listed, _ = scan(path)
  name = f'folder:{path}'
  files = [entry for split in listed.values() for entry in split]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    faults, decoded = [], []
    for result in pool.map(_decode, (file for file, _ in files)):
      decoded.append(result)
      progress(f'decoding {name}', len(decoded), len(files))
  unreadable = [error for error in decoded if isinstance(error, str)]
  faults += unreadable[:_NAMED]
  if len(unreadable) > _NAMED:
    faults.append(f'and {len(unreadable) - _NAMED} more unreadable images')
  faults += [] if unreadable else _size_fault(files, decoded)
  refuse(name, faults)
  if any(image.ndim == 3 for image in decoded):
    grey = sum(image.ndim == 2 for image in decoded)
    decoded = [x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2) for x in decoded]
    notes = (f'{grey} grey images among coloured ones were taken as RGB',) if grey else ()
  else:
    decoded, notes = [image[..., None] for image in decoded], ()
  label = np.array([label for _, label in files], np.int32)
  split = len(listed['train'])
  image = np.stack(decoded)
  return from_arrays(
    name,
    image[:split],
    label[:split],
    image[split:],
    label[split:],
    class_names=classes,
    notes=notes,
    where=path,
  )


def _decode(file: pathlib.Path) -> np.ndarray | str:
  """The pixels u8[H,W] or u8[H,W,3], or what is wrong with the file."""
  try:
    with PIL.Image.open(file) as image:
      grey = image.mode in ('1', 'L', 'LA', 'La')
      if image.mode.startswith(('I', 'F')):
        return f'{file} has mode {image.mode}; convert it to 8 bits a channel'
      return np.asarray(image.convert('L' if grey else 'RGB'))
  except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
    return f'{file} cannot be decoded: {error}'


def _size_fault(files, decoded) -> list[str]:
  sizes = {}
  for (file, _), image in zip(files, decoded, strict=True):
    sizes.setdefault(image.shape[:2], []).append(file)
  if len(sizes) == 1:
    return []
  common = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
  return [
    f'images of {len(sizes)} sizes, resize them to one: '
    + ', '.join(f'{len(f)} of {w}x{h} (such as {f[0]})' for (h, w), f in common)
  ]
