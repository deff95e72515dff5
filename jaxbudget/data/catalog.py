"""The data sets by name: facts without loading, and loading."""

import dataclasses
import difflib

from jaxbudget.data import digits, npz
from jaxbudget.data.dataset import (
  DataError,
  Dataset,
  Info,
  Progress,
  fingerprint,
  hold_out,
  no_progress,
)

KNOWN = ('digits', 'cifar10', 'cifar100', 'svhn', 'mini_imagenet')
TABLE = {'digits': digits.INFO}
WITH_ARGUMENT = {'npz': 'npz:PATH', 'folder': 'folder:PATH', 'tfds': 'tfds:NAME'}


def _parse(name: str) -> tuple[str, str]:
  """Splits 'npz:a.npz' into ('npz', 'a.npz'), 'digits' into ('digits', '')."""
  kind, _, argument = name.partition(':')
  if name in KNOWN or (argument and kind in WITH_ARGUMENT):
    return kind, argument
  spelling = {known: known for known in KNOWN} | WITH_ARGUMENT
  close = difflib.get_close_matches(kind, spelling, 1)
  hint = f'; did you mean {spelling[close[0]]!r}?' if close else ''
  raise DataError(f'unknown dataset {name!r}{hint}; known: {", ".join(spelling.values())}')


def info(name: str, validation: int = 0, **where) -> Info:
  """Gives the facts of a data set, from a table where there is one.

  Args:
    name: as for `load`.
    validation: as for `load`.
    **where: `data_dir`, `data_manual_dir`, `data_checksums`, as for `load`.

  Returns:
    The facts; of the full data set if the table knows it, even if only a subset is on disk.

  Raises:
    DataError: if the name is unknown, or the data must be read and cannot be.
  """
  _parse(name)
  if name in TABLE:
    held = _per_class(TABLE[name], validation) * TABLE[name].num_classes
    counts = {'num_train': TABLE[name].num_train - held, 'num_test': held}
    return dataclasses.replace(TABLE[name], **counts) if validation else TABLE[name]
  return load(name, validation=validation, **where).info


def load(
  name: str,
  data_dir: str | None = None,
  data_manual_dir: str | None = None,
  data_checksums: str | None = None,
  validation: int = 0,
  progress: Progress = no_progress,
) -> Dataset:
  """Loads a data set into host memory, preparing it on first use.

  Args:
    name: digits, cifar10, cifar100, svhn, mini_imagenet, npz:PATH, folder:PATH, tfds:NAME.
    data_dir: where prepared data live; None is the usual directory of tensorflow-datasets.
    data_manual_dir: directory with archives that are on disk already.
    data_checksums: file with the checksums of archives other than the official ones.
    validation: if positive, images to carve from the training set, equally many of each
      class; they *replace* the test set, which is then not touched.
    progress: told of slow work.

  Returns:
    The data set.

  Raises:
    DataError: if the name is unknown or the data are missing or unfit.
  """
  kind, argument = _parse(name)
  if kind == 'digits':
    dataset = digits.load()
  elif kind == 'npz':
    dataset = npz.load(argument)
  else:
    raise DataError(f'dataset {name!r} cannot be loaded yet')
  return _carve(dataset, validation) if validation else dataset


def _carve(dataset: Dataset, validation: int) -> Dataset:
  """Puts a validation split, carved from the training set, in the place of the test set."""
  info = dataset.info
  per_class = _per_class(info, validation)
  kept, held = hold_out(dataset.train_label, per_class)
  image, label = dataset.train_image, dataset.train_label
  arrays = image[kept], label[kept], image[held], label[held]
  note = (
    f'validation={validation}: {len(held)} of the {len(label)} training images, {per_class} of '
    'each class, take the place of the test set; no test image is used'
  )
  return Dataset(
    dataclasses.replace(info, num_train=len(kept), num_test=len(held)),
    *arrays,
    fingerprint(*arrays),
    (*dataset.notes, note),
    dataset.where,
  )


def _per_class(info: Info, validation: int) -> int:
  """Images of each class in a validation split (fidelity.md 1.7)."""
  if validation and not info.num_classes <= validation < info.num_train:
    raise DataError(
      f'validation={validation} is out of range for {info.name}: give 0 (none) or, with '
      f'{info.num_classes} classes and {info.num_train} training images, '
      f'{info.num_classes}..{info.num_train - 1}'
    )
  return validation // info.num_classes
