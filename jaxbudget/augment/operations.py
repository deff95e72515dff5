"""RandAugment's sixteen operations as numbers: ranges, magnitudes, parameters. Host only.

Source of all of it: fidelity.md 3.4.
"""

import functools
from typing import NamedTuple

import numpy as np

from jaxbudget.augment import pillow

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
IN_PIXELS = ('cutout', 'translate_x', 'translate_y')


class Parameters(NamedTuple):
  """What each operation sets, at one magnitude and image shape (host arrays)."""

  setting: pillow.Setting  # [16,2], by `negate`: warps go the other way half the time
  square: np.ndarray  # f32[16]  side of the cut-out in pixels, < 0 for none


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
  pillow.check_channels(shape)
  values = {name: magnitude(name, m, shape[:2]) for name in OPERATIONS}
  settings = [
    pillow.setting(name, -value if negate and name in pillow.WARPS else value, shape[:2])
    for name, value in values.items()
    for negate in (False, True)
  ]
  square = [value if name == 'cutout' else -1 for name, value in values.items()]
  return Parameters(pillow.stack(settings, (len(OPERATIONS), 2)), np.asarray(square, np.float32))
