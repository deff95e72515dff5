"""Turns arrays that people bring into a data set, or names all that is wrong with them."""

from collections.abc import Mapping

import numpy as np

from jaxbudget.data.dataset import DataError, Dataset, Info, fingerprint, pixel_statistics
from jaxbudget.data.layouts import CHANNELS, usual

KEYS = ('x_train', 'y_train', 'x_test', 'y_test')
_MOST_TOKENS = 2**20  # a single absurd token must not fill the memory with a vocabulary


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
  test_image: np.ndarray | None = None,
  test_label: np.ndarray | None = None,
  *,
  class_names: tuple[str, ...] = (),
  notes: tuple[str, ...] = (),
  where: str = '',
) -> Dataset:
  """Checks arrays and completes them to a data set.

  Inputs are images, features or tokens, by their shape and type. The normalisation of images is
  computed from those to train on; no flips, since nothing is known of what a mirror image means;
  crop padding is an eighth of the shorter side, at most 4, and none where that is one pixel.
  Features and tokens stay as they are. Labels are classes, or numbers to predict. Other layouts
  that are understood (`layouts.usual`) are noted.

  Args:
    name: of the data set, for messages.
    train_image: images u8[N,H,W] or u8[N,H,W,1 or 3], features f[N,D], or tokens, integers
      [N,L] from 0.
    train_label: integers [N] or [N,1], from 0 without gaps; or numbers f[N] or f[N,C].
    test_image: of the same kind and size; None where a validation split is to be carved.
    test_label: likewise.
    class_names: in the order of the labels.
    notes: passed on.
    where: passed on.

  Returns:
    The data set.

  Raises:
    DataError: naming every fault.
  """
  given = named((train_image, train_label, test_image, test_label))
  given = {key: _as_array(name, key, value) for key, value in given.items() if value is not None}
  arrays, changes = usual(given)
  refuse(name, array_faults(arrays, len(class_names)))
  kind = _kind(arrays['x_train'])
  inputs = [_INPUTS[kind](arrays[key]) for key in ('x_train', 'x_test') if key in arrays]
  labels = [_label(arrays[key]) for key in ('y_train', 'y_test') if key in arrays]
  if len(inputs) == 1:
    inputs, labels = [inputs[0], inputs[0][:0]], [labels[0], labels[0][:0]]
  numbers = label_statistics(labels[0])
  facts = {'mean': (), 'std': (), 'pad': 0}
  if kind == 'images':
    facts['mean'], facts['std'] = pixel_statistics(inputs[0])
    facts['pad'] = usual_pad(min(inputs[0].shape[1:3]))
  info = Info(
    name=name,
    num_train=len(inputs[0]),
    num_test=len(inputs[1]),
    num_classes=labels[0].shape[1] if numbers else int(labels[0].max()) + 1,
    image_shape=inputs[0].shape[1:],
    flip=0.0,
    class_names=class_names,
    vocabulary=int(max(x.max(initial=0) for x in inputs)) + 1 if kind == 'tokens' else 0,
    **facts,
    **numbers,
  )
  arrays = inputs[0], labels[0], inputs[1], labels[1]
  return Dataset(info, *arrays, fingerprint(*arrays), (*notes, *changes), where)


def _as_array(name: str, key: str, value) -> np.ndarray:
  """Lists, and arrays of JAX, as arrays of NumPy; those stay what they are, mapped files too."""
  if isinstance(value, np.ndarray):
    return value
  try:
    return np.asarray(value)
  except ValueError as e:  # of lists of several lengths
    raise DataError(f'{name}: {key} is no array: {e}') from e


def usual_pad(side: int) -> int:
  """Padding of the random crop where nobody knows better: an eighth of the side, 1 to 4."""
  return min(4, max(1, side // 8)) if side > 1 else 0


def label_statistics(label: np.ndarray) -> dict[str, tuple[float, ...]]:
  """Mean and deviation of labels that are numbers, as `Info` has them.

  Args:
    label: f32[N,C], or i32[N] of classes.

  Returns:
    `label_mean` and `label_std`, one each for an output; nothing of classes. A constant has the
    deviation 1.
  """
  if label.dtype.kind != 'f':
    return {}
  mean, std = label.mean(0, np.float64), label.std(0, np.float64)
  scale = [float(value) if value > 0 else 1.0 for value in std]
  return {'label_mean': tuple(mean.tolist()), 'label_std': tuple(scale)}


def _kind(inputs: np.ndarray) -> str:
  """What inputs are meant to be: floats or integers in two dimensions are no images."""
  if inputs.ndim == 2 and inputs.dtype.kind in 'fiu':
    return 'features' if inputs.dtype.kind == 'f' else 'tokens'
  return 'images'


_INPUTS = {
  'images': lambda x: x if x.ndim == 4 else x[..., None],
  'features': lambda x: np.ascontiguousarray(x, np.float32),
  'tokens': lambda x: np.ascontiguousarray(x, np.int32),
}


def _label(label: np.ndarray) -> np.ndarray:
  """Classes as i32[N], numbers as f32[N,C]."""
  if label.dtype.kind == 'f':
    return label.reshape(len(label), -1).astype(np.float32)
  return label.reshape(-1).astype(np.int32)


def array_faults(arrays: Mapping[str, np.ndarray], num_names: int = 0) -> list[str]:
  """Says what is wrong with the arrays of a data set.

  Args:
    arrays: some or all of `x_train, y_train, x_test, y_test`.
    num_names: number of class names; 0 if the classes have none.

  Returns:
    One phrase for each fault.
  """
  faults, sound = [], {}
  for split in ('train', 'test'):
    image, label = arrays.get(f'x_{split}'), arrays.get(f'y_{split}')
    found = {}
    if image is not None:
      found[f'x_{split}'] = _INPUT_FAULTS[_kind(image)](f'x_{split}', image)
    if label is not None:
      found[f'y_{split}'] = _label_faults(f'y_{split}', label, numbers_fit=not num_names)
    for key, own in found.items():
      faults += own
      sound |= {} if own else {key: arrays[key]}
    if np.ndim(image) and np.ndim(label) and len(image) != len(label):
      kind = _kind(image) if _kind(image) == 'images' else 'inputs'
      faults.append(f'x_{split} has {len(image)} {kind} but y_{split} {len(label)} labels')
  # What two arrays are together is seen of those that are sound, whatever is wrong with others.
  inputs, labels = ([sound.get(f'{x}_{s}') for s in ('train', 'test')] for x in 'xy')
  if all(x is not None for x in inputs):
    faults += _input_pair_faults(*inputs)
  if all(y is not None for y in labels):
    faults += _label_pair_faults(*labels, num_names)
  elif labels[0] is not None and labels[0].dtype.kind != 'f':
    faults += _class_faults(labels[0], labels[0], num_names)
  return faults


def _image_faults(key: str, image: np.ndarray) -> list[str]:
  faults = []
  if image.dtype != np.uint8:
    faults.append(f'{key} has dtype {image.dtype}, give pixels as uint8 in 0..255' + _held(image))
  if image.ndim not in (3, 4) or (image.ndim == 4 and image.shape[3] not in CHANNELS):
    faults.append(
      f'{key} has shape {image.shape}, allowed are images [N,H,W], [N,H,W,1] and [N,H,W,3], or '
      'channels first, features [N,D] as floats, and tokens [N,L] as integers'
    )
  elif not image.size:
    faults.append(f'{key} is empty (shape {image.shape})')
  return faults


def _feature_faults(key: str, features: np.ndarray) -> list[str]:
  if not features.size:
    return [f'{key} is empty (shape {features.shape})']
  with np.errstate(over='ignore'):
    narrow = features.astype(np.float32)
  if wrong := _not_finite(narrow):
    return [f'{key} holds features that are no numbers of 32 bits{wrong}']
  return []


def _token_faults(key: str, tokens: np.ndarray) -> list[str]:
  if not tokens.size:
    return [f'{key} is empty (shape {tokens.shape})']
  if tokens.min() < 0 or tokens.max() >= _MOST_TOKENS:
    return [
      f'{key} holds tokens from {tokens.min()} to {tokens.max()}, allowed are 0..{_MOST_TOKENS - 1}'
    ]
  return []


_INPUT_FAULTS = {'images': _image_faults, 'features': _feature_faults, 'tokens': _token_faults}


def _label_faults(key: str, label: np.ndarray, numbers_fit: bool = True) -> list[str]:
  numbers = label.dtype.kind == 'f' and numbers_fit
  if label.ndim != 1 and not (label.ndim == 2 and (numbers or label.shape[1] == 1)):
    wide = '' if not numbers else ', and of numbers [N,C]'
    return [f'{key} has shape {label.shape}, allowed are [N] and [N,1]{wide}']
  if not label.size:
    return [f'{key} is empty']
  if numbers and not _not_finite(label.astype(np.float32)):
    return []
  if label.dtype.kind not in 'iu':
    wanted = 'give labels as integers 0..C-1, or as finite floats, numbers to predict'
    return [f'{key} has dtype {label.dtype}, {wanted}' + _not_finite(label)]
  if label.min() < 0:
    return [f'{key} has negative labels (lowest {label.min()}), allowed are 0..C-1']
  return []


def _held(image: np.ndarray) -> str:
  """What pixels are instead."""
  if wrong := _not_finite(image):
    return wrong
  known = image.size and image.dtype.kind in 'iuf'
  return f' (it holds {image.min():g} to {image.max():g})' if known else ''


def _not_finite(array: np.ndarray) -> str:
  count = int(np.sum(~np.isfinite(array))) if array.dtype.kind == 'f' else 0
  return f' (it holds {count} NaN or infinite values)' if count else ''


def _input_pair_faults(train_image, test_image) -> list[str]:
  kinds = [_kind(x) for x in (train_image, test_image)]
  shapes = [_INPUTS[_kind(x)](x[:1]).shape[1:] for x in (train_image, test_image)]
  if kinds[0] != kinds[1]:
    return [f'training inputs are {kinds[0]} but test inputs {kinds[1]}']
  if shapes[0] != shapes[1]:
    return [f'train {kinds[0]} have shape {shapes[0]} but test {kinds[0]} {shapes[1]}']
  return []


def _label_pair_faults(train_label, test_label, num_names) -> list[str]:
  faults = []
  numbers = [y.dtype.kind == 'f' for y in (train_label, test_label)]
  if any(numbers):
    widths = [_label(y).shape[1:] for y in (train_label, test_label)]
    if numbers[0] != numbers[1]:
      one, other = (('numbers', 'classes'), ('classes', 'numbers'))[not numbers[0]]
      faults.append(f'y_train holds {one} but y_test {other}')
    elif widths[0] != widths[1]:
      faults.append(f'y_train has {widths[0][0]} numbers a sample but y_test {widths[1][0]}')
    return faults
  return _class_faults(train_label, test_label, num_names)


def _class_faults(train_label, test_label, num_names) -> list[str]:
  faults = []
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
