"""Downsampled ImageNet: people's own copies of the npz batches that its makers publish.

Chrabaszcz, Loshchilov and Hutter, "A Downsampled Variant of ImageNet as an Alternative to the
CIFAR datasets", 2017. Each file has `data` u8[n, 3*S*S], red, green and blue planes one after
another, and `labels`, 1 to 1000; the sides share file names and are told apart by their widths.
"""

import dataclasses
import hashlib
import pathlib
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from jaxbudget.data import cache, from_tfds
from jaxbudget.data.arrays import refuse
from jaxbudget.data.dataset import DataError, Dataset, Where, fingerprint
from jaxbudget.data.tables import DOWNSAMPLED, INFO

TRAIN = tuple(f'train_data_batch_{i}.npz' for i in range(1, 11))
TEST = ('val_data.npz',)
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load(name: str, where: Where) -> Dataset:
  """Loads downsampled ImageNet.

  Args:
    name: `imagenet64`, `imagenet32`, `imagenet16` or `imagenet8`.
    where: its `manual_dir` holds the files, or folders that hold them.

  Returns:
    The data set, memory-mapped; of batches with fewer images a part of it.

  Raises:
    DataError: a file is missing, damaged or something else, or the disk is full.
  """
  root = from_tfds.known_root(where.root)
  directory = where.manual_dir or root / 'downloads' / 'manual'
  files = _files(name, directory)
  if not files and not where.manual_dir:  # what was cached once needs no batches any more
    kept, _ = cache.read(root / 'jaxbudget' / name)
    if kept is not None:
      return kept
  missing = [file for file in (*TRAIN, *TEST) if file not in files]
  if missing:
    side = DOWNSAMPLED[name]
    raise DataError(
      f'{name}: {directory} lacks {", ".join(missing)}. Needed in data_manual_dir, or in folders '
      f'in it, are {TRAIN[0]} to {TRAIN[-1]} and {TEST[0]} with rows of {3 * side * side:,} bytes '
      f'({side}x{side} pixels), as https://image-net.org/download-images has them; not the pickled '
      'files without .npz, for nothing is unpickled here'
    )
  stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files.values()]
  source = hashlib.sha256(repr(stats).encode()).hexdigest()
  key = f'{name}-{source[:12]}' if where.manual_dir else name
  build = lambda: _build(name, files, root / 'jaxbudget' / key, where)
  return from_tfds.cached(root, key, source, build, where.progress)


def _files(name: str, directory: pathlib.Path) -> dict[str, pathlib.Path]:
  """The files of one side, by name.

  Raises:
    DataError: a file is there twice, or cannot be read.
  """
  width, found = 3 * DOWNSAMPLED[name] ** 2, {}
  if not directory.is_dir():
    return found
  inner = sorted(path for path in directory.iterdir() if path.is_dir())
  for file in (*TRAIN, *TEST):
    paths = [place / file for place in (directory, *inner) if (place / file).is_file()]
    paths = [path for path in paths if _shape(path)[1:] == (width,)]
    if len(paths) > 1:
      raise DataError(f'{name}: {file} is there twice: {", ".join(map(str, paths))}')
    if paths:
      found[file] = paths[0]
  return found


def _shape(path: pathlib.Path) -> tuple[int, ...]:
  """Of `data`, without reading it."""
  try:
    with zipfile.ZipFile(path) as archive, archive.open('data.npy') as file:
      version = np.lib.format.read_magic(file)
      read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
      )
      shape, _, dtype = read(file)
  except _DAMAGE as error:
    raise DataError(f'{path} cannot be read: {error}') from error
  if dtype != np.uint8 or len(shape) != 2:
    raise DataError(f'{path}: data is {dtype}{list(shape)}, expected uint8[n, 3*S*S]')
  return shape


def _build(
  name: str, files: Mapping[str, pathlib.Path], directory: pathlib.Path, where: Where
) -> Dataset:
  """Writes the images where the cache will have them, batch by batch."""
  arrays, table = [], INFO[name]
  done, total = 0, sum(_shape(path)[0] for path in files.values())
  for split, batches in (('train', TRAIN), ('test', TEST)):
    count = sum(_shape(files[batch])[0] for batch in batches)
    image = cache.room(directory, f'{split}_image', (count, *table.image_shape), np.uint8)
    label, at = np.empty(count, np.int32), 0
    for batch in batches:
      pixels, classes = _read(files[batch], table.num_classes)
      planes = pixels.reshape(-1, 3, *table.image_shape[:2])
      image[at : at + len(planes)] = planes.transpose(0, 2, 3, 1)
      label[at : at + len(planes)] = classes
      at, done = at + len(planes), done + len(planes)
      where.progress(f'reading {name}', done, total)
    arrays += [image, label]
  counts = {'num_train': len(arrays[1]), 'num_test': len(arrays[3])}
  notes, expected = (), {key: getattr(table, key) for key in counts}
  if counts != expected:
    found, full = (' and '.join(f'{n:,}' for n in c.values()) for c in (counts, expected))
    notes = (f'subset: {found} training and test images instead of {full}',)
  info = dataclasses.replace(table, **counts)
  place = str(files[TRAIN[0]].parent)
  return Dataset(info, *arrays, fingerprint(*arrays), notes, place)


def _read(path: pathlib.Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
  """The rows u8[n, 3*S*S] and classes from 0 of a file."""
  try:
    with np.load(path, allow_pickle=False) as archive:
      pixels, label = archive['data'], np.asarray(archive['labels'])
  except _DAMAGE as error:
    raise DataError(f'{path} cannot be read: {error}') from error
  faults = []
  if label.shape != (len(pixels),) or label.dtype.kind not in 'iu':
    faults.append(f'labels is {label.dtype}{list(label.shape)}, expected {len(pixels)} numbers')
  elif label.size and not 1 <= label.min() <= label.max() <= num_classes:
    faults.append(f'labels are {label.min()} to {label.max()}, expected 1 to {num_classes}')
  refuse(str(path), faults)
  return pixels, label - 1
