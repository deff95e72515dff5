"""CutMix: pictures of two samples, one shown in a rectangle of the other.

Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features", 2019, in the implementation of https://github.com/clovaai/CutMix-PyTorch: one
rectangle and one permutation for the whole batch.
"""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.augment.geometric import Stage
from jaxbudget.augment.mix import check_alpha, combine, permutation
from jaxbudget.types import Batch, Key


class Draw(NamedTuple):
  """One draw, for a batch of n."""

  low: jax.Array  # i32[2]      first row and column of the rectangle
  high: jax.Array  # i32[2]     first row and column behind it; equal to `low`: no rectangle
  partner: jax.Array  # i32[n]  a permutation: whom the rectangle shows


def cutmix(alpha: float = 1.0, *, probability: float = 0.5) -> Stage:
  """Pastes a rectangle of another sample into each picture, and mixes targets by area.

  Args:
    alpha: the share kept is Beta(alpha, alpha) before the rectangle is cut at the border, > 0.
    probability: that a batch is mixed at all.

  Returns:
    A stage for batches of images; it doubles the parts. In a batch that is not mixed each sample
    has all of its picture and the partner a share of 0.

  Raises:
    ValueError: an option out of range.
  """
  check_alpha(alpha)
  if isinstance(probability, bool) or not isinstance(probability, numbers.Real):
    raise ValueError(f'probability={probability!r}: allowed is a number in [0, 1]')
  if not 0 <= probability <= 1:
    raise ValueError(f'probability={probability!r}: allowed is a number in [0, 1]')

  def stage(key, batch, drawn=None):
    n, height, width, _ = batch.image.shape
    return apply(batch, draw(key, n, (height, width), alpha, probability, drawn))

  if alpha != 1:
    stage.draw = lambda key, size: share_kept(key, alpha)
  return stage


def share_kept(key: Key, alpha: float) -> jax.Array:
  """The Beta draw of a batch, f32[], by the key that `draw` gets."""
  _, share_key, _, _ = jax.random.split(key, 4)
  if alpha == 1:  # Beta(1, 1) is uniform: no loop of unknown length on the device
    return jax.random.uniform(share_key, (), jnp.float32)
  return jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32)


def draw(
  key: Key,
  size: int,
  side: tuple[int, int],
  alpha: float,
  probability: float,
  share: jax.Array | None = None,
) -> Draw:
  """Draws a rectangle and a permutation.

  Args:
    key: of this batch.
    size: n, examples in the batch.
    side: (height, width) of the images.
    alpha: of the Beta distribution.
    probability: that there is a rectangle.
    share: f32[], of `share_kept`; None draws it here.

  Returns:
    The draw.
  """
  coin, _, centre_key, partner_key = jax.random.split(key, 4)
  share = share_kept(key, alpha) if share is None else share
  whole = jnp.asarray(side, jnp.int32)
  centre = jax.random.randint(centre_key, (2,), 0, whole, jnp.int32)
  low, high = rectangle(share, centre, side)
  applied = jax.random.bernoulli(coin, jnp.float32(probability))
  return Draw(low, jnp.where(applied, high, low), permutation(partner_key, size))


def rectangle(
  share: jax.Array, centre: jax.Array, side: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """Where the rectangle is.

  Args:
    share: f32[], lambda, what would be kept of a picture without a border.
    centre: i32[2], row and column.
    side: (height, width) of the images.

  Returns:
    (low, high), i32[2] each: first row and column, and the first behind. An odd side loses a
    pixel, as in the paper's code.
  """
  whole = jnp.asarray(side, jnp.int32)
  half = (whole.astype(jnp.float32) * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
  return jnp.clip(centre - half, 0, whole), jnp.clip(centre + half, 0, whole)


def apply(batch: Batch, draw: Draw) -> Batch:
  """Pastes as drawn; the partner's share is exactly the rectangle's."""
  n, height, width, _ = batch.image.shape

  def within(axis, length):
    place = jnp.arange(length, dtype=jnp.int32)
    return (place >= draw.low[axis]) & (place < draw.high[axis])

  inside = within(0, height)[:, None, None] & within(1, width)[None, :, None]
  image = jnp.where(inside[None], batch.image[draw.partner], batch.image)
  pasted = jnp.prod(draw.high - draw.low).astype(jnp.float32) / (height * width)
  order = jnp.stack([jnp.arange(n, dtype=draw.partner.dtype), draw.partner])
  return combine(batch._replace(image=image), order, jnp.stack([1 - pasted, pasted]))
