"""RandAugment's sixteen operations as numbers: ranges, magnitudes, parameters. Host only.

Source of all of it: fidelity.md 3.4.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

MAX_M = 30  # the magnitude at which an operation reaches the end of its range

# name: (value at m = 0, value at m = 30); pixels are those of images of 32 or more.
RANGES = {
  'auto_contrast': (0.0, 1.0),
  'equalize': (0.0, 1.0),
  'invert': (0.0, 1.0),
  'rotate': (0.0, 30.0),  # degrees
  'posterize': (0.0, 4.0),  # bits kept
  'solarize': (0.0, 256.0),  # threshold
  'solarize_add': (0.0, 110.0),  # grey levels
  'color': (0.1, 1.9),  # blend factors
  'contrast': (0.1, 1.9),
  'brightness': (0.1, 1.9),
  'sharpness': (0.1, 1.9),
  'shear_x': (0.0, 0.3),
  'shear_y': (0.0, 0.3),
  'cutout': (0.0, 40.0),  # pixels
  'translate_x': (0.0, 100.0),
  'translate_y': (0.0, 100.0),
}
OPERATIONS = tuple(RANGES)
SIGNED = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')  # negated half the time
IN_PIXELS = ('cutout', 'translate_x', 'translate_y')


class Parameters(NamedTuple):
  """What each operation sets, at one magnitude and image shape (host arrays)."""

  table: np.ndarray  # u8[16,256]
  factor: np.ndarray  # f32[16]
  affine: np.ndarray  # i32[16,2,6]   by `negate`; 16.16 fixed point, from output to input
  square: np.ndarray  # f32[16]       side of the cut-out in pixels, < 0 for none


def magnitude(name: str, m: float, side: tuple[int, int]) -> float:
  """The value of an operation at magnitude m, in the units of `RANGES`.

  Distances in pixels shrink with the shorter side below 32 px only: 13 px of shift would
  blank an 8x8 digit, but fidelity.md 3.4 has absolute pixels at 32 and 84.

  Args:
    name: of the operation.
    m: magnitude in [0, 30].
    side: (height, width) of the images.

  Returns:
    The value, without sign.
  """
  low, high = RANGES[name]
  value = low + m / MAX_M * (high - low)
  return value * min(1, min(side) / 32) if name in IN_PIXELS else value


@functools.cache
def make_parameters(m: float, shape: tuple[int, int, int]) -> Parameters:
  """Tabulates what each operation does at magnitude m.

  Args:
    m: magnitude in [0, 30].
    shape: (height, width, channels) of the images.

  Returns:
    Host arrays.

  Raises:
    ValueError: if there are neither 1 nor 3 channels.
  """
  height, width, channels = shape
  if channels not in (1, 3):
    raise ValueError(f'image_shape={shape}: RandAugment allows 1 or 3 channels')
  table = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
  factor = np.ones(16, np.float32)
  affine = np.tile(np.int32(_fixed_point((1, 0, 0, 0, 1, 0))), (16, 2, 1))
  square = np.full(16, -1, np.float32)
  for position, name in enumerate(OPERATIONS):
    value = magnitude(name, m, (height, width))
    if name in ('color', 'contrast', 'brightness', 'sharpness'):
      factor[position] = value
    elif name == 'cutout':
      square[position] = value
    elif name in SIGNED:
      maps = [_affine_map(name, v, height, width) for v in (value, -value)]
      affine[position] = [_fixed_point(matrix) for matrix in maps]
    else:
      table[position] = _fixed_table(name, value)
  return Parameters(table, factor, affine, square)


def _fixed_table(name, value):
  """Tables that do not depend on the image; the identity for those that do."""
  level = np.arange(256)
  if name == 'invert':
    return 255 - level
  if name == 'posterize':
    return level & ~(2 ** (8 - max(1, int(value))) - 1)
  if name == 'solarize':
    return np.where(level < value, level, 255 - level)
  if name == 'solarize_add':
    added = np.minimum(255, level + int(value))
    return np.where(added < 128, added, 255 - added)
  return level


def _affine_map(name, value, height, width):
  """(a,b,c,d,e,f): output (x,y) reads input (ax + by + c, dx + ey + f)."""
  if name == 'rotate':  # counter-clockwise about the centre
    cos, sin = math.cos(math.radians(value)), -math.sin(math.radians(value))
    x, y = width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y
  return {
    'shear_x': (1, value, 0, 0, 1, 0),
    'shear_y': (1, 0, 0, value, 1, 0),
    'translate_x': (1, 0, value, 0, 1, 0),
    'translate_y': (1, 0, 0, 0, 1, value),
  }[name]


def _fixed_point(matrix):
  """The map in 1/65536, taken at pixel centres: Pillow's rounding, ties included."""
  a, b, c, d, e, f = matrix
  centred = a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2
  return [math.floor(entry * 65536 + 0.5) for entry in centred]
