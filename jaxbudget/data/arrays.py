"""Turns arrays that people bring into a data set, or names all that is wrong with them."""

from collections.abc import Mapping

import numpy as np

from jaxbudget.data.dataset import DataError, Dataset, Info, fingerprint, pixel_statistics

KEYS = ('x_train', 'y_train', 'x_test', 'y_test')


def refuse(name: str, faults: list[str]) -> None:
  """Raises a `DataError` with all faults in one message, if there are any."""
  if faults:
    count = f'{len(faults)} faults: ' if len(faults) > 1 else ''
    raise DataError(f'{name}: {count}{"; ".join(faults)}')


def named(arrays: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
  """Gives four arrays, in the usual order, their names."""
  return dict(zip(KEYS, arrays, strict=True))


def from_arrays(
  name: str,
  train_image: np.ndarray,
  train_label: np.ndarray,
  test_image: np.ndarray,
  test_label: np.ndarray,
  *,
  class_names: tuple[str, ...] = (),
  notes: tuple[str, ...] = (),
  where: str = '',
) -> Dataset:
  """Checks four arrays and completes them to a data set.

  Normalisation is computed from the training images; no flips, since nothing is known
  of what a mirror image means; crop padding is an eighth of the shorter side, at most 4.

  Args:
    name: of the data set, for messages.
    train_image: u8[N,H,W] or u8[N,H,W,1 or 3].
    train_label: integers [N] or [N,1], from 0 without gaps.
    test_image: u8[N_test,H,W] or with channels, of the same size.
    test_label: integers [N_test] or [N_test,1].
    class_names: in the order of the labels.
    notes: passed on.
    where: passed on.

  Returns:
    The data set.

  Raises:
    DataError: naming every fault.
  """
  arrays = (train_image, train_label, test_image, test_label)
  refuse(name, array_faults(named(arrays), len(class_names)))
  images = [x if x.ndim == 4 else x[..., None] for x in (train_image, test_image)]
  labels = [y.reshape(-1).astype(np.int32) for y in (train_label, test_label)]
  mean, std = pixel_statistics(images[0])
  height, width, channels = images[0].shape[1:]
  info = Info(
    name=name,
    num_train=len(images[0]),
    num_test=len(images[1]),
    num_classes=int(labels[0].max()) + 1,
    image_shape=(height, width, channels),
    mean=mean,
    std=std,
    flip=0.0,
    pad=min(4, max(1, min(height, width) // 8)),
    class_names=class_names,
  )
  arrays = images[0], labels[0], images[1], labels[1]
  return Dataset(info, *arrays, fingerprint(*arrays), notes, where)


def array_faults(arrays: Mapping[str, np.ndarray], num_names: int = 0) -> list[str]:
  """Says what is wrong with the arrays of a data set.

  Args:
    arrays: some or all of `x_train, y_train, x_test, y_test`.
    num_names: number of class names; 0 if the classes have none.

  Returns:
    One phrase for each fault.
  """
  faults = []
  for split in ('train', 'test'):
    image, label = arrays.get(f'x_{split}'), arrays.get(f'y_{split}')
    if image is not None:
      faults += _image_faults(f'x_{split}', image)
    if label is not None:
      faults += _label_faults(f'y_{split}', label)
    if np.ndim(image) and np.ndim(label) and len(image) != len(label):
      faults.append(f'x_{split} has {len(image)} images but y_{split} {len(label)} labels')
  if not faults and len(arrays) == len(KEYS):
    faults = _joint_faults(*(arrays[key] for key in KEYS), num_names)
  return faults


def _image_faults(key: str, image: np.ndarray) -> list[str]:
  faults = []
  if image.dtype != np.uint8:
    faults.append(
      f'{key} has dtype {image.dtype}, give pixels as uint8 in 0..255' + _not_finite(image)
    )
  if image.ndim not in (3, 4) or (image.ndim == 4 and image.shape[3] not in (1, 3)):
    faults.append(f'{key} has shape {image.shape}, allowed are [N,H,W], [N,H,W,1] and [N,H,W,3]')
  elif not image.size:
    faults.append(f'{key} is empty (shape {image.shape})')
  return faults


def _label_faults(key: str, label: np.ndarray) -> list[str]:
  if label.ndim != 1 and not (label.ndim == 2 and label.shape[1] == 1):
    return [f'{key} has shape {label.shape}, allowed are [N] and [N,1]']
  if not label.size:
    return [f'{key} is empty']
  if label.dtype.kind not in 'iu':
    return [f'{key} has dtype {label.dtype}, give labels as integers 0..C-1' + _not_finite(label)]
  if label.min() < 0:
    return [f'{key} has negative labels (lowest {label.min()}), allowed are 0..C-1']
  return []


def _not_finite(array: np.ndarray) -> str:
  count = int(np.sum(~np.isfinite(array))) if array.dtype.kind == 'f' else 0
  return f' (it holds {count} NaN or infinite values)' if count else ''


def _joint_faults(train_image, train_label, test_image, test_label, num_names) -> list[str]:
  faults = []
  shapes = [x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1) for x in (train_image, test_image)]
  if shapes[0] != shapes[1]:
    faults.append(f'train images have shape {shapes[0]} but test images {shapes[1]}')
  seen = np.unique(train_label)
  num_classes = num_names or int(seen[-1]) + 1
  if seen[-1] >= num_classes:
    faults.append(f'y_train has label {seen[-1]} out of range 0..{num_classes - 1}')
  elif len(seen) < num_classes:
    # Not a range up to num_classes: a single absurd label must not fill the memory.
    gap = int(np.argmax(seen != np.arange(len(seen)))) if seen[-1] >= len(seen) else len(seen)
    faults.append(
      f'{num_classes - len(seen)} of {num_classes} classes (labels 0..{num_classes - 1}) have no '
      f'training image, the first is class {gap}'
    )
  if test_label.max() >= num_classes:
    faults.append(
      f'y_test has label {test_label.max()} out of range 0..{num_classes - 1} of y_train'
    )
  return faults
