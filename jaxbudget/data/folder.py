"""folder:PATH: people's own images, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png."""

import collections
import concurrent.futures
import functools
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxbudget.data import pictures
from jaxbudget.data.arrays import from_arrays, refuse, usual_pad
from jaxbudget.data.dataset import DataError, Dataset, Info, Progress
from jaxbudget.data.encoded import Crop, ImageFiles
from jaxbudget.data.image_files import NAMED, UNTESTED, Listing
from jaxbudget.data.memory import host_free_bytes
from jaxbudget.data.pictures import Look, Picture
from jaxbudget.data.tables import INFO


def load(path: str, listing: Listing, progress: Progress, look: Look | None = None) -> Dataset:
  """Loads the images of a folder; grey if all are grey, otherwise RGB.

  Args:
    path: of the folder, for messages.
    listing: of it, see `image_files.scan`.
    progress: told of images.
    look: how images are read; None leaves them at their size, which must be one.

  Returns:
    The data set; without test images if the folder has none.

  Raises:
    DataError: naming the images that cannot be read or are of another size.
  """
  look = look or Look()
  name, tested = f'folder:{path}', listing.tested
  files = [file for split in listing.files.values() for file in split]
  needed, free = len(files) * look.size**2 * 3, host_free_bytes()
  if free is not None and needed > free:
    raise DataError(
      f'{name}: {len(files):,} images of {look.size}x{look.size} take {needed:,} bytes, but '
      f'{free:,} bytes are free; choose a smaller image_size, or leave them in their files with '
      'placement=files'
    )
  with concurrent.futures.ThreadPoolExecutor() as pool:
    decoded = []
    paths = (pathlib.Path(file.path) for file in files)
    for result in pool.map(functools.partial(pictures.read, look=look), paths):
      decoded.append(result)
      progress(f'decoding {name}', len(decoded), len(files))
  faults = [error for error in decoded if isinstance(error, str)]
  if len(faults) > NAMED:
    faults[NAMED:] = [f'and {len(faults) - NAMED} more unreadable images']
  taken = [(f.path, p) for f, p in zip(files, decoded, strict=True) if isinstance(p, Picture)]
  faults += [] if look.size else _size_fault(taken)
  faults += _dim_fault(taken)
  refuse(name, faults + [UNTESTED] * bool(faults and not tested))
  image, notes = _stack(decoded)
  notes += _notes(decoded, look)
  if tested and tested != 'test':
    notes.append(f'there is no test: {tested} takes its place')
  label = np.array([file.label for file in files], np.int32)
  split = len(listing.files['train'])
  test = (image[split:], label[split:]) if tested else ()
  more = {'class_names': listing.classes, 'notes': tuple(notes), 'where': path}
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
    how = {
      'squash': 'squashed to',
      'crop': 'cropped to a square in the middle and brought to',
      'center': 'brought to 256/224 of the shorter side and cropped in the middle to',
    }
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


def _dim_fault(taken: Sequence[tuple[pathlib.Path, Picture]]) -> list[str]:
  """A few dark images among others are what they are; a whole folder of them is meant otherwise."""
  deep = [(file, picture) for file, picture in taken if 'deep' in picture.changes]
  dim = [file for file, picture in deep if 'dim' in picture.changes]
  if not dim or any(p.pixels.any() for _, p in deep if 'dim' not in p.changes):
    return []
  return [
    f'the grey images of 16 bits hold 0 to 255 only, and would be black: save these {len(dim)} '
    f'with 8 bits, such as {dim[0]}'
  ]


def encoded(
  path: str,
  listing: Listing,
  look: Look,
  crop: Crop = 'none',
  flip: float = 0.0,
  workers: int = 0,
  skips: bool = False,
) -> Dataset:
  """A folder whose images stay in their files; nothing is decoded.

  Args:
    path: of the folder, for messages.
    listing: of it, see `image_files.scan`.
    look: how images are brought to one size, as evaluation sees them.
    crop: what training sees, see `ImageFiles`.
    flip: probability of a horizontal flip in training.
    workers: processes that decode; 0: threads of this one.
    skips: whether training goes on without images that cannot be read.

  Returns:
    The data set, normalised by ImageNet's constants, known by the names and sizes of its files.

  Raises:
    DataError: no size is given, or nothing is there to test on.
  """
  name = f'folder:{path}'
  if not look.size:
    refuse(name, ['images that stay in files need a size: give dataset_options.image_size=S'])
  splits = []
  for split in ('train', listing.tested):
    files = listing.files.get(split, [])
    sizes = np.array([file.size for file in files], np.int64)
    paths, skipped = [file.path for file in files], skips and split == 'train'
    images = ImageFiles(paths, sizes, look, crop, workers=workers, skips=skipped)
    splits += [images, np.array([file.label for file in files], np.int32)]
  constants = INFO['imagenet']
  info = Info(
    name=name,
    num_train=len(splits[1]),
    num_test=len(splits[3]),
    num_classes=len(listing.classes),
    image_shape=splits[0].shape[1:],
    mean=constants.mean,
    std=constants.std,
    flip=flip,
    pad=0 if crop != 'none' else usual_pad(look.size),
    class_names=listing.classes,
  )
  seen = repr((listing.identity(times=False), look, crop))
  notes = ['images stay in their files, and are normalised by the constants of ImageNet']
  if listing.tested not in ('', 'test'):
    notes.append(f'there is no test: {listing.tested} takes its place')
  fingerprint = hashlib.sha256(seen.encode()).hexdigest()[:16]
  return Dataset(info, *splits, fingerprint, tuple(notes), path)
