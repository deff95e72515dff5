"""Layouts that arrays come in: what is meant beyond doubt is brought into the usual one."""

from collections.abc import Mapping

import numpy as np

CHANNELS = (1, 3)


def usual(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Brings images and labels into the usual layout.

  Args:
    arrays: some or all of `x_train, y_train, x_test, y_test`. Images may be whole numbers of any
      type in 0..255, and [N,1 or 3,H,W]; classes may be one-hot [N,C].

  Returns:
    (the arrays: pixels uint8, channels last, classes in one column; what was changed, in words).
    What is not understood stays as it is.
  """
  found, notes = {}, {}
  for key, array in arrays.items():
    readers = (_whole_pixels, _channels_last) if key.startswith('x') else (_one_hot,)
    for read in readers:
      array, note = read(array)
      if note:
        notes.setdefault(note, []).append(key)
    found[key] = array
  return found, tuple(f'{" and ".join(keys)}: {note}' for note, keys in notes.items())


def _whole_pixels(image: np.ndarray) -> tuple[np.ndarray, str]:
  whole = image.dtype.kind in 'iu' and image.dtype != np.uint8 and image.ndim in (3, 4)
  if whole and image.size and image.min() >= 0 and image.max() <= 255:
    return image.astype(np.uint8), f'pixels of {image.dtype} in 0..255 were taken as uint8'
  return image, ''


def _channels_last(image: np.ndarray) -> tuple[np.ndarray, str]:
  """[N,H,W,channels] of [N,channels,H,W], which it can only be if the last axis is no channel."""
  if image.ndim == 4 and image.shape[1] in CHANNELS and image.shape[3] not in CHANNELS:
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1)), 'channels first were put last'
  return image, ''


def _one_hot(label: np.ndarray) -> tuple[np.ndarray, str]:
  """Classes i[N] of rows with a single one among zeros."""
  if label.ndim == 2 and label.shape[1] > 1 and len(label) and label.dtype.kind in 'biuf':
    ones = label == 1
    if (ones.sum(1) == 1).all() and (ones | (label == 0)).all():
      return label.argmax(1), f'one-hot rows of {label.shape[1]} were taken as classes'
  return label, ''
