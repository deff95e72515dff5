"""The data sets by name: facts without loading, and loading."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbudget import factories, paths
from jaxbudget.data import download, from_tfds, tables
from jaxbudget.data.arrays import label_statistics, refuse
from jaxbudget.data.dataset import (
  DataError,
  Dataset,
  Info,
  Progress,
  Where,
  fingerprint,
  hold_out,
  no_progress,
  pixel_statistics,
)
from jaxbudget.registry import data_name

KNOWN = tuple(tables.INFO)


def info(
  name: str,
  validation: int = 0,
  mean: Sequence[float] | None = None,
  std: Sequence[float] | None = None,
  flip: float | None = None,
  options: Mapping[str, Any] | None = None,
  **where,
) -> Info:
  """Gives the facts of a data set, from a table where there is one.

  Args:
    name: as for `load`.
    validation: as for `load`.
    mean: as for `load`.
    std: as for `load`.
    flip: as for `load`.
    options: as for `load`.
    **where: `data_dir`, `data_manual_dir`, `data_checksums`, `placement`, as for `load`.

  Returns:
    The facts. Those of the table are of the full data set, even if only a subset is on
    disk, and name no classes.

  Raises:
    DataError: if the name is unknown, or the data must be read and cannot be.
  """
  _find(name, options)
  if name in tables.INFO:
    places = {key: path for key, path in where.items() if key != 'placement'}
    for key, path in places.items():  # they need not be there to plan, but must be paths
      _expand(key, path or '')
    table = tables.INFO[name]
    held = _per_class(table, validation) * table.num_classes
    if validation:
      counts = {'num_train': table.num_train - held, 'num_test': held}
      table = dataclasses.replace(table, **counts)
    return _adjust(table, mean, std, flip)
  given = {'mean': mean, 'std': std, 'flip': flip, 'options': options}
  return load(name, validation=validation, **given, **where).info


def check(
  name: str,
  data_dir: str | None = None,
  data_manual_dir: str | None = None,
  data_checksums: str | None = None,
  validation: int = 0,
  options: Mapping[str, Any] | None = None,
) -> None:
  """Refuses what is wrong with the arguments of `load`, without loading anything.

  Args:
    name: as for `load`.
    data_dir: as for `load`.
    data_manual_dir: as for `load`.
    data_checksums: as for `load`.
    validation: as for `load`.
    options: as for `load`.

  Raises:
    DataError: naming the fault.
  """
  part, filled = _find(name, options)
  if validation and name in tables.INFO:
    _per_class(tables.INFO[name], validation)
  if data_dir and _expand('data_dir', data_dir).is_file():
    raise DataError(f'data_dir={data_dir} is a file, give a directory')
  if data_manual_dir and not _expand('data_manual_dir', data_manual_dir).exists():
    raise DataError(f'data_manual_dir={data_manual_dir}: no such directory')
  if data_checksums:
    _expand('data_checksums', data_checksums)
    download.read_checksums(data_checksums)
  own = {'npz': 'file', 'folder': 'directory'}.get('' if part.outside else part.short)
  if own and not _expand('dataset', filled['path']).exists():
    raise DataError(f'{part.short}:{filled["path"]}: no such {own}')


def _find(
  name: str, options: Mapping[str, Any] | None = None
) -> tuple[factories.Part, dict[str, Any]]:
  """The factory of a data set and all its options."""
  try:
    part = factories.find('dataset', data_name(name))
    return part, part.fill(options or {})
  except ValueError as e:
    raise DataError(str(e)) from e


def _expand(key: str, path: str) -> pathlib.Path:
  try:
    return paths.expand(path)
  except ValueError as error:
    raise DataError(f'{key}: {error}') from None


def load(
  name: str,
  data_dir: str | None = None,
  data_manual_dir: str | None = None,
  data_checksums: str | None = None,
  validation: int = 0,
  progress: Progress = no_progress,
  mean: Sequence[float] | None = None,
  std: Sequence[float] | None = None,
  flip: float | None = None,
  options: Mapping[str, Any] | None = None,
  placement: str = 'auto',
) -> Dataset:
  """Loads a data set into host memory, preparing it on first use.

  Args:
    name: digits, cifar10, cifar100, svhn, mini_imagenet, npz:PATH, folder:PATH, tfds:NAME, or
      anybody's `package.module:factory`; a bare path is a folder's, or that of a .npz file.
    data_dir: where prepared data live; None is the usual directory of tensorflow-datasets.
    data_manual_dir: directory with archives that are on disk already.
    data_checksums: file with the checksums of archives other than the official ones.
    validation: if positive, images to carve from the training set, equally many of each
      class; they *replace* the test set, which is then not touched and need not be there.
    progress: told of slow work.
    mean: normalisation, of pixels divided by 255, one value per channel; None takes the
      study's constants, or computes them from the training set of people's own images.
    std: likewise.
    flip: probability of a horizontal flip; None takes the study's, and 0 for people's own
      images, since nothing is known of what a mirror image means.
    options: of the named data set.
    placement: `files` leaves the images of a folder encoded in their files, see `encoded`; `auto`
      does where they are many.

  Returns:
    The data set.

  Raises:
    DataError: if the name is unknown or the data are missing or unfit.
  """
  check(name, data_dir, data_manual_dir, data_checksums, validation, options)
  part, filled = _find(name, options)
  manual_dir = paths.expand(data_manual_dir) if data_manual_dir else None
  root = from_tfds.root_directory(data_dir)
  where = Where(root, manual_dir, data_checksums, progress, placement)
  try:
    dataset = part.make(Dataset, where, **filled)
  except DataError:
    raise
  except ValueError as e:
    raise DataError(f'dataset {name!r}: {e}') from e
  dataset = _carve(dataset, validation) if validation else dataset
  if not dataset.info.num_test:
    raise DataError(f'{name} has nothing to test on; validation=N takes N of the training samples')
  return dataset._replace(info=_adjust(dataset.info, mean, std, flip))


def _adjust(info: Info, mean, std, flip) -> Info:
  """Puts what the user gave in the place of the usual constants."""
  faults = []
  if info.kind != 'images':
    given = {'mean': mean, 'std': std, 'flip': flip}
    faults = [f'{k}={v} is for images, these are {info.kind}' for k, v in given.items() if v]
    refuse(info.name, faults)
    return info
  channels = info.image_shape[2]
  for key, values in (('mean', mean), ('std', std)):
    if values is not None and len(values) != channels:
      faults.append(f'{key}={tuple(values)} has {len(values)} values for {channels} channels')
  if std is not None and not all(0 < value < float('inf') for value in std):
    faults.append(f'std={tuple(std)} must be positive')
  if flip is not None and not 0 <= flip <= 1:
    faults.append(f'flip={flip} is not a probability (0..1)')
  refuse(info.name, faults)
  given = {'mean': mean and tuple(mean), 'std': std and tuple(std), 'flip': flip}
  return dataclasses.replace(info, **{k: v for k, v in given.items() if v is not None})


def _carve(dataset: Dataset, validation: int) -> Dataset:
  """Puts a validation split, carved from the training set, in the place of the test set."""
  info = dataset.info
  per_class = _per_class(info, validation)
  image, label = dataset.train_image, dataset.train_label
  kept, held = hold_out(np.zeros(len(label), int) if info.label_mean else label, per_class)
  if dataset.is_encoded:  # what is tested on must be there
    images = image.part(kept), image.part(held, skips=False)
  else:
    images = image[kept], image[held]
    info = _normalised(info, image, images[0])
  arrays = images[0], label[kept], images[1], label[held]
  note = (
    f'validation={validation}: {len(held)} of the {len(label)} training images, '
    + ('' if info.label_mean else f'{per_class} of each class, ')
    + 'take the place of the test set; no test image is used'
  )
  return Dataset(
    dataclasses.replace(
      info, num_train=len(kept), num_test=len(held), **label_statistics(label[kept])
    ),
    *arrays,
    _joined(dataset, kept, held) if dataset.is_encoded else fingerprint(*arrays),
    (*dataset.notes, note),
    dataset.where,
  )


def _normalised(info: Info, image: np.ndarray, kept: np.ndarray) -> Info:
  """Constants that were computed of all training images become those of the ones that are kept."""
  if info.kind != 'images' or info.name in tables.INFO:
    return info
  if (tuple(info.mean), tuple(info.std)) != pixel_statistics(image):  # somebody's own
    return info
  mean, std = pixel_statistics(kept)
  return dataclasses.replace(info, mean=mean, std=std)


def _joined(dataset: Dataset, *chosen: np.ndarray) -> str:
  """A hash of what was chosen of a data set that is known by a hash."""
  return fingerprint(np.frombuffer(dataset.fingerprint.encode(), np.uint8), *chosen)


def _per_class(info: Info, validation: int) -> int:
  """Images of each class in a validation split (fidelity.md 1.7)."""
  classes = 1 if info.label_mean else info.num_classes
  if validation and not classes <= validation < info.num_train:
    raise DataError(
      f'validation={validation} is out of range for {info.name}: give 0 (none) or, with '
      f'{classes} classes and {info.num_train} training images, {classes}..{info.num_train - 1}'
    )
  return validation // classes
