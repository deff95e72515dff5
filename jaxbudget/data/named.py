"""The data sets that have names, each loaded by a function of its own."""

import dataclasses
import hashlib
import os

from jaxbudget.data import digits as digits_lib
from jaxbudget.data import downsampled, from_tfds, image_files
from jaxbudget.data import folder as folder_lib
from jaxbudget.data import npz as npz_lib
from jaxbudget.data.dataset import DataError, Dataset, Where
from jaxbudget.data.encoded import Crop, OnMissing
from jaxbudget.data.pictures import Fit, Look
from jaxbudget.data.tables import INFO, PHOTOGRAPH
from jaxbudget.paths import expand

# Pixels of a folder beyond which its images stay in their files, unless asked otherwise: a number
# of the data alone, for a run is known by pixels, or by names and sizes.
_MOST_DECODED = 2**34


def digits(where: Where) -> Dataset:
  """8x8 handwritten digits, 1,437 to train on; ships with scikit-learn, needs no network."""
  del where
  return digits_lib.load()


def cifar10(where: Where) -> Dataset:
  """32x32 photographs of 10 classes, 50,000 to train on; downloaded on first use."""
  return from_tfds.load_archived('cifar10', *where[:4])


def cifar100(where: Where) -> Dataset:
  """32x32 photographs of 100 classes, 50,000 to train on; downloaded on first use."""
  return from_tfds.load_archived('cifar100', *where[:4])


def svhn(where: Where) -> Dataset:
  """32x32 house numbers, 73,257 to train on; downloaded on first use."""
  return from_tfds.load_archived('svhn', *where[:4])


def mini_imagenet(where: Where) -> Dataset:
  """84x84 photographs of 100 classes, 50,000 to train on, from your own copy (data_manual_dir)."""
  return from_tfds.load_mini_imagenet(where.root, where.manual_dir, where.progress)


def imagenet(
  where: Where,
  *,
  crop: Crop = 'random_resized',
  decode_workers: int = 0,
  on_missing: OnMissing = 'fail',
) -> Dataset:
  """224x224 photographs of 1000 classes, 1,281,167 to train on, from your own copy."""
  if where.manual_dir is None:
    raise DataError(
      'imagenet: give data_manual_dir, a directory with train/ and val/ as they are published, '
      'class folders, or a flat val/ beside a list of its classes, see docs/own_data.md'
    )
  table = INFO['imagenet']
  options = {'image_size': PHOTOGRAPH, 'fit': 'center', 'crop': crop, 'flip': table.flip}
  options |= {'decode_workers': decode_workers, 'on_missing': on_missing}
  where = where._replace(placement='files' if where.placement == 'auto' else where.placement)
  dataset = folder(where, path=str(where.manual_dir), **options)
  return dataset._replace(info=dataclasses.replace(dataset.info, name='imagenet'))


def imagenet64(where: Where) -> Dataset:
  """64x64 photographs of 1000 classes, 1,281,167 to train on, from your own npz batches."""
  return downsampled.load('imagenet64', where)


def imagenet32(where: Where) -> Dataset:
  """32x32 photographs of 1000 classes, 1,281,167 to train on, from your own npz batches."""
  return downsampled.load('imagenet32', where)


def imagenet16(where: Where) -> Dataset:
  """16x16 photographs of 1000 classes, 1,281,167 to train on, from your own npz batches."""
  return downsampled.load('imagenet16', where)


def imagenet8(where: Where) -> Dataset:
  """8x8 photographs of 1000 classes, 1,281,167 to train on, from your own npz batches."""
  return downsampled.load('imagenet8', where)


def npz(where: Where, *, path: str, flip: float = 0.0) -> Dataset:
  """Your arrays x_train, y_train, x_test, y_test in a file of `numpy.savez`: images, or others."""
  del where
  dataset = npz_lib.load(path)
  if flip and dataset.info.kind != 'images':
    raise ValueError(f'flip={flip} is for images, these are {dataset.info.kind}')
  if not 0 <= flip <= 1:
    raise ValueError(f'flip={flip} is not a probability (0..1)')
  return dataset._replace(info=dataclasses.replace(dataset.info, flip=flip))


def folder(
  where: Where,
  *,
  path: str,
  image_size: int = 0,
  fit: Fit = 'squash',
  background: int = 255,
  flip: float = 0.0,
  crop: Crop = 'none',
  decode_workers: int = 0,
  on_missing: OnMissing = 'fail',
) -> Dataset:
  """Your images, PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, brought to one size if wanted.

  Args:
    where: as for all data sets.
    path: the folder; docs/own_data.md shows its layout.
    image_size: side of the square that images are brought to; 0 leaves them as they are.
    fit: `squash` changes the ratio of the sides, `crop` takes the square in the middle first,
      `center` the middle of what has its shorter side at 256/224 of the size.
    background: grey level, 0 to 255, behind what is transparent.
    flip: probability of a horizontal flip in training.
    crop: `random_resized` trains on a random part of each image, brought to size as it is decoded;
      for images that stay in their files, see `placement=files`.
    decode_workers: processes that decode those; 0: threads of this one.
    on_missing: `fail` stops, saved, where one of those cannot be read any more; `skip` trains
      without it, lists it in result.json, and is not pooled with runs that had it.

  Returns:
    The data set.

  Raises:
    ValueError: an option is out of range, or images cannot be used.
  """
  for key, value, most in (
    ('image_size', image_size, 4096), ('background', background, 255), ('flip', flip, 1),
    ('decode_workers', decode_workers, 1024),
  ):  # fmt: skip
    if not 0 <= value <= most:
      raise ValueError(f'{key}={value} is refused: it must be in 0..{most}')
  look = Look(image_size, fit, background)
  listing = image_files.scan(path)
  count = sum(map(len, listing.files.values()))
  many = where.placement == 'auto' and 3 * image_size**2 * count > _MOST_DECODED
  if where.placement == 'files' or many:
    skips = on_missing == 'skip'
    return folder_lib.encoded(path, listing, look, crop, flip, decode_workers, skips)
  if crop != 'none':
    raise ValueError(
      f'crop={crop} is for images that stay in their files: allowed is placement=files, or here '
      'augment=random_resized_crop'
    )
  place = os.fsencode(expand(path).resolve()) + (b'' if look == Look() else repr(look).encode())
  key = f'folder-{hashlib.sha256(place).hexdigest()[:12]}'
  build = lambda: folder_lib.load(path, listing, where.progress, look)
  dataset = from_tfds.cached(where.root, key, listing.identity(), build, where.progress)
  # The cache may have been made under another spelling of the path.
  info = dataclasses.replace(dataset.info, name=f'folder:{path}', flip=flip)
  return dataset._replace(info=info)


def tfds(where: Where, *, name: str, image_size: int = 0, fit: Fit = 'squash') -> Dataset:
  """Any image classification set of tensorflow-datasets that is prepared, such as imagenet2012."""
  if not 0 <= image_size <= 4096:
    raise ValueError(f'image_size={image_size} is refused: it must be in 0..4096')
  look = Look(image_size, fit) if image_size else None
  return from_tfds.load_any(name, where.root, where.progress, look)
