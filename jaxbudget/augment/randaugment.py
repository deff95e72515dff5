"""RandAugment on the device: sixteen operations as three families and a mask.

Under `vmap` a 16-way branch would run all sixteen operations on every image. Instead each
operation is a choice of parameters: of one lookup table, one blend with a degenerate image,
one affine warp and one cut-out square, applied in this order. An operation moves one of the
four and leaves the others at their identity.

All arithmetic that decides a pixel is whole-number or has margin to spare, so the results
are those of Pillow and do not depend on how XLA rounds. Rules: fidelity.md 3.4, after
Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search
space", 2020, in the implementation of ildoonet/pytorch-randaugment.
"""

import functools
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbudget.augment.geometric import Stage
from jaxbudget.augment.operations import MAX_M, OPERATIONS, Parameters, make_parameters
from jaxbudget.types import Key

AUTO_CONTRAST, EQUALIZE, COLOR, CONTRAST, SHARPNESS = map(
  OPERATIONS.index, ('auto_contrast', 'equalize', 'color', 'contrast', 'sharpness')
)
CUTOUT_COLOR = (125, 123, 114)
LUMA = (19595, 38470, 7471)  # weights of R, G, B in the grey value, in 1/65536


class Draw(NamedTuple):
  """Operations drawn for a batch of n, in the order of application."""

  operation: jax.Array  # i32[rounds,n]     position in `OPERATIONS`
  negate: jax.Array  # bool[rounds,n]      whether a signed operation goes the other way
  centre: jax.Array  # f32[rounds,n,2]     x and y of a cut-out square, in pixels


def randaugment(n: int = 2, m: float = 4) -> Stage:
  """Applies n random operations of magnitude m to each image.

  Operations are drawn independently, with replacement, and always applied. Strength is not
  monotone in m: posterize, solarize and the blends are *stronger* at small m.

  Args:
    n: operations for each image, >= 1.
    m: magnitude in [0, 30].

  Returns:
    A stage for batches of uint8 images with 1 or 3 channels, to go before crop and flip.

  Raises:
    ValueError: if n or m is out of range.
  """
  if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1:
    raise ValueError(f'n={n!r}: allowed is a whole number of operations >= 1')
  if isinstance(m, bool) or not isinstance(m, numbers.Real) or not 0 <= m <= MAX_M:
    raise ValueError(f'm={m!r}: allowed is a magnitude in [0, {MAX_M}]')

  def stage(key, batch):
    draw = draw_operations(key, n, batch.image.shape)
    return batch._replace(image=apply_operations(batch.image, draw, m))

  return stage


def draw_operations(key: Key, rounds: int, shape: tuple[int, int, int, int]) -> Draw:
  """Draws operations, signs and places.

  Args:
    key: of this batch.
    rounds: operations for each image.
    shape: (n, height, width, channels) of the batch.

  Returns:
    The draw; the centre of a cut-out is uniform on (1, width) x (1, height).
  """
  size, height, width, _ = shape
  extent = jnp.asarray([width - 1, height - 1], jnp.float32)
  operation_key, sign_key, centre_key = jax.random.split(key, 3)
  return Draw(
    jax.random.randint(operation_key, (rounds, size), 0, len(OPERATIONS)),
    jax.random.bernoulli(sign_key, 0.5, (rounds, size)),
    1 + jax.random.uniform(centre_key, (rounds, size, 2)) * extent[None, None],
  )


def apply_operations(image: jax.Array, draw: Draw, m: float) -> jax.Array:
  """Applies the drawn operations one after another.

  Args:
    image: u8[n,H,W,c] with 1 or 3 channels.
    draw: what to apply.
    m: magnitude in [0, 30].

  Returns:
    u8[n,H,W,c].
  """
  parameters = jax.tree.map(jnp.asarray, make_parameters(m, image.shape[1:]))
  apply = jax.vmap(functools.partial(apply_operation, parameters))
  return lax.scan(lambda image, drawn: (apply(image, *drawn), None), image, draw)[0]


def apply_operation(
  parameters: Parameters,
  image: jax.Array,
  operation: jax.Array,
  negate: jax.Array,
  centre: jax.Array,
) -> jax.Array:
  """Applies one operation to one image.

  Args:
    parameters: of all operations.
    image: u8[H,W,c].
    operation: i32[], position in `OPERATIONS`.
    negate: bool[].
    centre: f32[2], x and y.

  Returns:
    u8[H,W,c].
  """
  image = _look_up(image, _table(image, operation, parameters.table[operation]))
  image = _blend(_degenerate(image, operation), image, parameters.factor[operation])
  image = _warp(image, parameters.affine[operation, negate.astype(jnp.int32)])
  return _cut_out(image, centre, parameters.square[operation])


# Lookup tables


def _table(image, operation, table):
  """The table of an operation, i32[c,256]; two operations fit theirs to the image."""
  level = jnp.arange(256, dtype=jnp.int32)[None]
  count = _histogram(image)
  low = image.min((0, 1)).astype(jnp.int32)[:, None]
  high = image.max((0, 1)).astype(jnp.int32)[:, None]
  total = image.shape[0] * image.shape[1]
  step = (total - jnp.take_along_axis(count, high, axis=1)) // 255
  below = jnp.cumsum(count, axis=1) - count
  # Both are a quotient, and the identity where there is nothing to divide by. (Pillow's
  # auto_contrast divides in float64 and may come out one below a whole result.)
  equalize = operation == EQUALIZE
  over = jnp.where(equalize, step // 2 + below, (level - low) * 255)
  under = jnp.where(equalize, step, high - low)
  fitted = jnp.where(under > 0, jnp.clip(over // jnp.maximum(under, 1), 0, 255), level)
  return jnp.where(equalize | (operation == AUTO_CONTRAST), fitted, table.astype(jnp.int32)[None])


def _histogram(image):
  """Counts of the grey levels of each channel, i32[c,256]."""
  # A whole-number scatter-add: 10x faster on CPU than one-hot products or sorting.
  channels = image.shape[-1]
  pixel = image.reshape(-1, channels).astype(jnp.int32)
  count = jnp.zeros((channels, 256), jnp.int32)
  return count.at[jnp.arange(channels)[None], pixel].add(1, mode='promise_in_bounds')


def _look_up(image, table):
  """Replaces every grey level by the entry of its channel's table[c,256]."""
  channel = jnp.arange(image.shape[-1])[None, None]
  return table.at[channel, image.astype(jnp.int32)].get(mode='promise_in_bounds').astype(jnp.uint8)


# Blends


def _degenerate(image, operation):
  """What an operation blends with: f32[H,W,c], whole numbers; black by default."""
  grey = luma(image)
  mean = (2 * grey.sum() + grey.size) // (2 * grey.size)  # rounded half up
  value = image.astype(jnp.int32)
  flat = jnp.where(operation == CONTRAST, mean, 0)
  other = jnp.where(operation == COLOR, grey, flat)
  other = jnp.broadcast_to(other[..., None], image.shape)
  return jnp.where(operation == SHARPNESS, _smooth(value), other).astype(jnp.float32)


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
  # With whole m, factors are multiples of 0.02 and so is every result: the 0.005 decides
  # nothing but what float32 rounding would, and factor 1 returns the image.
  value = other + factor * (image.astype(jnp.float32) - other) + 0.005
  return jnp.clip(value, 0, 255).astype(jnp.uint8)


# Warp and cut-out


def _warp(image, affine):
  """Reads each output pixel from where an affine map points; outside is black."""
  height, width, _ = image.shape
  x, y = jnp.arange(width, dtype=jnp.int32)[None], jnp.arange(height, dtype=jnp.int32)[:, None]
  col = (affine[0] * x + affine[1] * y + affine[2]) >> 16
  row = (affine[3] * x + affine[4] * y + affine[5]) >> 16
  return image.at[row, col].get(mode='fill', fill_value=0, wrap_negative_indices=False)


def _cut_out(image, centre, square):
  """Fills a square; its far edges are inclusive, as drawn by Pillow."""
  height, width, channels = image.shape
  side = jnp.asarray([width, height], jnp.float32)
  near = jnp.floor(jnp.maximum(0, centre - square / 2))
  far = jnp.floor(jnp.minimum(side, near + square))
  x, y = jnp.arange(width, dtype=jnp.float32), jnp.arange(height, dtype=jnp.float32)
  inside = ((y >= near[1]) & (y <= far[1]))[:, None] & ((x >= near[0]) & (x <= far[0]))[None]
  color = np.array(CUTOUT_COLOR, np.uint8)
  if channels == 1:
    color = np.array([(np.dot(LUMA, CUTOUT_COLOR) + 32768) >> 16], np.uint8)
  return jnp.where((inside & (square >= 0))[..., None], jnp.asarray(color)[None, None], image)
