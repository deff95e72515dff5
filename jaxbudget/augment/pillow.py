"""Pillow's operations on the device: a lookup table, a blend and an affine warp.

Under `vmap` a branch would run every operation on every image. Instead each operation is a
choice of numbers, a `Setting`: of one lookup table, one blend with a degenerate image and one
affine warp, applied in this order. An operation moves one of the three and leaves the others
at their identity.

All arithmetic that decides a pixel is whole-number or has margin to spare, so the results
are those of Pillow and do not depend on how XLA rounds (fidelity.md 3.4).
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbudget.augment import products

LUMA = (19595, 38470, 7471)  # weights of R, G, B in the grey value, in 1/65536
AUTO_CONTRAST, EQUALIZE = 1, 2  # tables that are fitted to the image
GREY, MEAN, SMOOTH = 1, 2, 3  # what a blend is with; 0 is black
FITS = {'auto_contrast': AUTO_CONTRAST, 'equalize': EQUALIZE}
OTHERS = {'brightness': 0, 'color': GREY, 'contrast': MEAN, 'sharpness': SMOOTH}
WARPS = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')


class Setting(NamedTuple):
  """What one operation sets; of several operations, stacked. Host arrays or on the device."""

  fit: jax.Array  # i32[]       0: the table as it stands
  table: jax.Array  # u8[256]
  other: jax.Array  # i32[]
  factor: jax.Array  # f32[]    of the blend; 1 leaves the image alone
  affine: jax.Array  # i32[6]   16.16 fixed point, from output to input


# Host: operations as numbers


def check_channels(shape: tuple[int, ...]) -> None:
  """Raises ValueError unless images [...,H,W,c] have 1 or 3 channels, as Pillow's have."""
  if shape[-1] not in (1, 3):
    raise ValueError(f'image_shape={tuple(shape[-3:])}: allowed are 1 or 3 channels')


def setting(name: str, value: float, side: tuple[int, int]) -> Setting:
  """An operation as numbers.

  Args:
    name: of the operation.
    value: bits kept (posterize), threshold (solarize), grey levels (solarize_add), degrees
      counter-clockwise (rotate), slope (shear), pixels to the left or up (translate), factor
      (color, contrast, brightness, sharpness); no part of identity, auto_contrast, equalize
      and invert.
    side: (height, width) of the images.

  Returns:
    Host arrays.
  """
  warped = _affine_map(name, value, *side) if name in WARPS else (1, 0, 0, 0, 1, 0)
  return Setting(
    fit=np.int32(FITS.get(name, 0)),
    table=np.asarray(_table(name, value), np.uint8),
    other=np.int32(OTHERS.get(name, 0)),
    factor=np.float32(value if name in OTHERS else 1),
    affine=np.asarray(_fixed_point(warped), np.int32),
  )


def stack(settings: Iterable[Setting], shape: tuple[int, ...]) -> Setting:
  """Stacks operations into arrays with these leading axes."""
  fields = (np.stack(field) for field in zip(*settings, strict=True))
  return Setting(*(field.reshape(*shape, *field.shape[1:]) for field in fields))


def _table(name, value):
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


# Device


def apply(image: jax.Array, setting: Setting) -> jax.Array:
  """Applies an operation to one image.

  Args:
    image: u8[H,W,c] with 1 or 3 channels.
    setting: the operation.

  Returns:
    u8[H,W,c].
  """
  image = look_up(image, setting.fit, setting.table)
  image = _blend(_degenerate(image, setting.other), image, setting.factor)
  return _warp(image, setting.affine)


def apply_chosen(image: jax.Array, settings: Setting, chosen: jax.Array) -> jax.Array:
  """Applies to each image operations of its own, one after another.

  Args:
    image: u8[n,H,W,c] with 1 or 3 channels.
    settings: host arrays of k operations.
    chosen: i32[rounds,n], positions in [0, k).

  Returns:
    u8[n,H,W,c].
  """
  check_channels(image.shape)
  settings = jax.tree.map(jnp.asarray, settings)

  def one_round(image, chosen):
    return jax.vmap(apply)(image, jax.tree.map(lambda field: field[chosen], settings)), None

  return lax.scan(one_round, image, chosen)[0]


def look_up(image: jax.Array, fit: jax.Array, table: jax.Array) -> jax.Array:
  """The first of the three: replaces grey levels by a table.

  Args:
    image: u8[H,W,c].
    fit: i32[], `AUTO_CONTRAST` or `EQUALIZE` fit a table to the image, 0 takes `table`.
    table: [256], whole numbers.

  Returns:
    u8[H,W,c].
  """
  table = _fitted_table(image, fit, table)
  return lax.platform_dependent(table, image, tpu=products.look_up, default=_look_up)


def _look_up(table, image):
  channel = jnp.arange(image.shape[-1], dtype=jnp.int32)[None, None]
  return table.at[channel, image.astype(jnp.int32)].get(mode='promise_in_bounds').astype(jnp.uint8)


def _fitted_table(image, fit, table):
  """The table of an operation, i32[c,256]; two operations fit theirs to the image."""
  level = jnp.arange(256, dtype=jnp.int32)[None]
  count = lax.platform_dependent(image, tpu=products.histogram, default=_histogram)
  low = image.min((0, 1)).astype(jnp.int32)[:, None]
  high = image.max((0, 1)).astype(jnp.int32)[:, None]
  total = image.shape[0] * image.shape[1]
  step = (total - jnp.take_along_axis(count, high, axis=1)) // 255
  below = jnp.cumsum(count, axis=1, dtype=jnp.int32) - count
  # Both are a quotient, and the identity where there is nothing to divide by. (Pillow's
  # auto_contrast divides in float64 and may come out one below a whole result.)
  equalize = fit == EQUALIZE
  over = jnp.where(equalize, step // 2 + below, (level - low) * 255)
  under = jnp.where(equalize, step, high - low)
  fitted = jnp.where(under > 0, jnp.clip(over // jnp.maximum(under, 1), 0, 255), level)
  return jnp.where(fit > 0, fitted, table.astype(jnp.int32)[None])


def _histogram(image):
  """Counts of the grey levels of each channel, i32[c,256]."""
  # A whole-number scatter-add: 10x faster on CPU than one-hot products or sorting.
  channels = image.shape[-1]
  pixel = image.reshape(-1, channels).astype(jnp.int32)
  count = jnp.zeros((channels, 256), jnp.int32)
  channel = jnp.arange(channels, dtype=jnp.int32)[None]
  return count.at[channel, pixel].add(1, mode='promise_in_bounds')


def _degenerate(image, other):
  """What an operation blends with: f32[H,W,c], whole numbers; black by default."""
  grey = luma(image)
  mean = (2 * jnp.sum(grey, dtype=jnp.int32) + grey.size) // (2 * grey.size)  # rounded half up
  value = image.astype(jnp.int32)
  flat = jnp.where(other == MEAN, mean, 0)
  plain = jnp.where(other == GREY, grey, flat)
  plain = jnp.broadcast_to(plain[..., None], image.shape)
  return jnp.where(other == SMOOTH, _smooth(value), plain).astype(jnp.float32)


def luma(image: jax.Array) -> jax.Array:
  """The grey value of an image u8[H,W,c] with 1 or 3 channels, as Pillow rounds it: i32[H,W]."""
  if image.shape[-1] == 1:
    return image[..., 0].astype(jnp.int32)
  red, green, blue = (image[..., k].astype(jnp.int32) * LUMA[k] for k in range(3))
  return (red + green + blue + 32768) >> 16


def _smooth(value):
  """Weighs each pixel's neighbourhood by [1 1 1; 1 5 1; 1 1 1] / 13; keeps the border."""
  if min(value.shape[:2]) < 3:
    return value
  rows = value[:-2] + value[1:-1] + value[2:]
  around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
  inner = (around + 4 * value[1:-1, 1:-1] + 6) // 13  # rounded to nearest: no ties in 13ths
  return value.at[1:-1, 1:-1].set(inner)


def _blend(other, image, factor):
  """Returns other + factor * (image - other), truncated into u8."""
  # Factors are multiples of 1/3000 (0.02, 0.033, 1.99/30, ...) and so is every result: the
  # half of that decides nothing but what float32 rounding would, and factor 1 returns the image.
  value = other + factor * (image.astype(jnp.float32) - other) + 1 / 6000
  return jnp.clip(value, 0, 255).astype(jnp.uint8)


def _warp(image, affine):
  """Reads each output pixel from where an affine map points; outside is black."""
  height, width, _ = image.shape
  x, y = jnp.arange(width, dtype=jnp.int32)[None], jnp.arange(height, dtype=jnp.int32)[:, None]
  col = (affine[0] * x + affine[1] * y + affine[2]) >> 16
  row = (affine[3] * x + affine[4] * y + affine[5]) >> 16
  return lax.platform_dependent(image, row, col, tpu=products.read, default=_read)


def _read(image, row, col):
  """Pixels at i32[H,W] each; outside is black."""
  return image.at[row, col].get(mode='fill', fill_value=0, wrap_negative_indices=False)


def _read_inside(image, row, col):
  """The same where all lie inside."""
  return image.at[row, col].get(mode='promise_in_bounds')


def warp_bilinear(image: jax.Array, affine: jax.Array) -> jax.Array:
  """Reads each output pixel from between the four that an affine map points at.

  As Pillow does: what lies outside the image is black, the border is repeated, and the result
  is truncated.

  Args:
    image: u8[H,W,c].
    affine: f32[6], (a,b,c,d,e,f): output (x,y) reads input (ax + by + c, dx + ey + f), both at
      the centres of pixels.

  Returns:
    u8[H,W,c].
  """
  height, width, _ = image.shape
  x = jnp.arange(width, dtype=jnp.float32)[None] + 0.5
  y = jnp.arange(height, dtype=jnp.float32)[:, None] + 0.5
  col = affine[0] * x + affine[1] * y + affine[2]
  row = affine[3] * x + affine[4] * y + affine[5]
  inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
  left, top = jnp.floor(col - 0.5), jnp.floor(row - 0.5)
  right_share, lower_share = (col - 0.5 - left)[..., None], (row - 0.5 - top)[..., None]

  def read(dy, dx):
    i = jnp.clip(top.astype(jnp.int32) + dy, 0, height - 1)
    j = jnp.clip(left.astype(jnp.int32) + dx, 0, width - 1)
    pixel = lax.platform_dependent(image, i, j, tpu=products.read, default=_read_inside)
    return pixel.astype(jnp.float32)

  upper, lower = (read(dy, 0) + (read(dy, 1) - read(dy, 0)) * right_share for dy in (0, 1))
  # The margin is for float32; where Pillow interpolates nothing, results are whole numbers.
  value = jnp.clip(upper + (lower - upper) * lower_share + 1e-4, 0, 255)
  return jnp.where(inside[..., None], value, 0).astype(jnp.uint8)
