"""RandAugment on the device: fifteen of Pillow's operations and a cut-out.

Rules: fidelity.md 3.4, after Cubuk et al., "RandAugment: Practical automated data augmentation
with a reduced search space", 2020, in the implementation of ildoonet/pytorch-randaugment.
"""

import functools
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbudget.augment import pillow
from jaxbudget.augment.geometric import Stage
from jaxbudget.augment.operations import MAX_M, OPERATIONS, Parameters, make_parameters
from jaxbudget.types import Key

CUTOUT_COLOR = (125, 123, 114)


class Draw(NamedTuple):
  """Operations drawn for a batch of n, in the order of application."""

  operation: jax.Array  # i32[rounds,n]     position in `OPERATIONS`
  negate: jax.Array  # bool[rounds,n]      whether a signed operation goes the other way
  centre: jax.Array  # f32[rounds,n,2]     x and y of a cut-out square, in pixels


MOST = 100  # operations; more are a mistake, and would fill the memory


def randaugment(n: int = 2, m: float = 4) -> Stage:
  """Applies n random operations of magnitude m to each image.

  Operations are drawn independently, with replacement, and always applied. Strength is not
  monotone in m: posterize, solarize and the blends are *stronger* at small m.

  Args:
    n: operations for each image, 1 to 100.
    m: magnitude in [0, 30].

  Returns:
    A stage for batches of uint8 images with 1 or 3 channels, to go before crop and flip.

  Raises:
    ValueError: if n or m is out of range.
  """
  if isinstance(n, bool) or not isinstance(n, numbers.Integral) or not 1 <= n <= MOST:
    raise ValueError(f'n={n!r}: allowed is a whole number of operations, 1 to {MOST}')
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
    jax.random.randint(operation_key, (rounds, size), 0, len(OPERATIONS), jnp.int32),
    jax.random.bernoulli(sign_key, jnp.float32(0.5), (rounds, size)),
    1 + jax.random.uniform(centre_key, (rounds, size, 2), jnp.float32) * extent[None, None],
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
  setting = jax.tree.map(lambda x: x[operation, negate.astype(jnp.int32)], parameters.setting)
  return _cut_out(pillow.apply(image, setting), centre, parameters.square[operation])


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
    color = np.array([(np.dot(pillow.LUMA, CUTOUT_COLOR) + 32768) >> 16], np.uint8)
  return jnp.where((inside & (square >= 0))[..., None], jnp.asarray(color)[None, None], image)
