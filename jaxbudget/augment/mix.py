"""Mixup and RICAP: pictures that show several samples, and targets that say so.

Both act on the normalised batch, after the standard transform, with one draw for the whole
batch. Cross-entropy is linear in the target, so a weighted sum of criteria is the ordinary
loss against a weighted sum of one-hot targets: mixing needs no loss of its own.

Draws are kept apart from their application, so that a draw can be recorded and replayed.
"""

import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbudget.augment import products
from jaxbudget.augment.geometric import Stage
from jaxbudget.types import Batch, Key

RICAP_PARTS = 4  # top left, bottom left, top right, bottom right


class MixupDraw(NamedTuple):
  """One draw of mixup, for a batch of n."""

  share: jax.Array  # f32[]    lambda, the weight of the sample at its own position
  partner: jax.Array  # i32[n]  pi, a permutation


class RicapDraw(NamedTuple):
  """One draw of RICAP, for a batch of n. Patches in the order of `RICAP_PARTS`."""

  corner: jax.Array  # i32[2]     (w, h): the row and the column where the four patches meet
  order: jax.Array  # i32[4,n]   a permutation for each patch: who fills it
  offset: jax.Array  # i32[4,2]  row and column of the crop, the same for the whole batch


def mixup(alpha: float = 0.3, *, mix_image: bool = True, fold: bool = False) -> Stage:
  """Mixes each sample with another one of its batch, images and targets alike.

  Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, as in fidelity.md 3.2.
  The two switches are what Selective Backprop's released code does instead (fidelity.md,
  Q2): labels mixed over unmixed images, and lambda folded to max(lambda, 1 - lambda).

  Args:
    alpha: lambda ~ Beta(alpha, alpha), > 0.
    mix_image: False leaves the images alone; parts and targets are mixed all the same.
    fold: whether a sample always has the larger share at its own position.

  Returns:
    A stage for batches of float images; it doubles the parts.

  Raises:
    ValueError: if `alpha` is not positive and finite.
  """
  check_alpha(alpha)

  def stage(key, batch, drawn=None):
    draw = draw_mixup(key, batch.index.shape[0], alpha, fold=fold, beta=drawn)
    return apply_mixup(batch, draw, mix_image=mix_image)

  stage.draw = lambda key, size: mixup_beta(key, alpha)
  return stage


def mixup_beta(key: Key, alpha: float) -> jax.Array:
  """The Beta draw of a batch, f32[], by the key that `draw_mixup` gets."""
  return jax.random.beta(jax.random.split(key)[0], alpha, alpha, dtype=jnp.float32)


def draw_mixup(
  key: Key, size: int, alpha: float, *, fold: bool = False, beta: jax.Array | None = None
) -> MixupDraw:
  """Draws one lambda and one permutation.

  Args:
    key: of this batch.
    size: n, examples in the batch.
    alpha: of the Beta distribution.
    fold: whether to return max(lambda, 1 - lambda).
    beta: f32[], of `mixup_beta`; None draws it here.

  Returns:
    The draw.
  """
  _, partner_key = jax.random.split(key)
  share = mixup_beta(key, alpha) if beta is None else beta
  share = jnp.maximum(share, 1 - share) if fold else share
  return MixupDraw(share, permutation(partner_key, size))


def apply_mixup(batch: Batch, draw: MixupDraw, *, mix_image: bool = True) -> Batch:
  """Mixes a batch as drawn: lambda * x + (1 - lambda) * x[pi]."""
  position = jnp.arange(batch.index.shape[0], dtype=jnp.int32)
  share = jnp.stack([draw.share, 1 - draw.share])
  if mix_image:
    image = share[0] * batch.image + share[1] * batch.image[draw.partner]
    batch = batch._replace(image=image)
  return combine(batch, jnp.stack([position, draw.partner]), share)


def ricap(alpha: float = 0.3) -> Stage:
  """Patches each picture together from random crops of four samples of the batch.

  Takahashi et al., "RICAP: Random Image Cropping and Patching Data Augmentation for Deep
  CNNs", 2018, as in fidelity.md 3.3. Patches may be empty; then their share is 0.

  Args:
    alpha: the corner where the patches meet is Beta(alpha, alpha) in each direction, > 0.

  Returns:
    A stage for batches of images of any side; it multiplies the parts by four.

  Raises:
    ValueError: if `alpha` is not positive and finite.
  """
  check_alpha(alpha)

  def stage(key, batch, drawn=None):
    n, height, width, _ = batch.image.shape
    return apply_ricap(batch, draw_ricap(key, n, (height, width), alpha, drawn))

  stage.draw = lambda key, size: ricap_beta(key, alpha)
  return stage


def ricap_beta(key: Key, alpha: float) -> jax.Array:
  """The Beta draws of a batch, f32[2], by the key that `draw_ricap` gets."""
  corner_key, _, _ = jax.random.split(key, 3)
  return jax.random.beta(corner_key, alpha, alpha, (2,), dtype=jnp.float32)


def draw_ricap(
  key: Key, size: int, side: tuple[int, int], alpha: float, beta: jax.Array | None = None
) -> RicapDraw:
  """Draws the corner, four permutations and four crop offsets.

  Args:
    key: of this batch.
    size: n, examples in the batch.
    side: (height, width) of the images.
    alpha: of the Beta distribution.
    beta: f32[2], of `ricap_beta`; None draws them here.

  Returns:
    The draw.
  """
  _, order_key, offset_key = jax.random.split(key, 3)
  whole = jnp.asarray(side, jnp.int32)
  fraction = ricap_beta(key, alpha) if beta is None else beta
  corner = jnp.round(whole.astype(jnp.float32) * fraction).astype(jnp.int32)  # half to even
  order = jax.vmap(lambda k: permutation(k, size))(jax.random.split(order_key, RICAP_PARTS))
  room = whole[None] - patch_sizes(corner, side)  # a crop fits at offsets 0..room
  offset = jax.random.randint(offset_key, (RICAP_PARTS, 2), 0, room + 1, jnp.int32)
  return RicapDraw(corner, order, offset)


def patch_sizes(corner: jax.Array, side: tuple[int, int]) -> jax.Array:
  """Rows and columns of the four patches.

  Args:
    corner: i32[2], row and column where they meet.
    side: (height, width) of the images.

  Returns:
    i32[4,2]: (w,h), (H-w,h), (w,W-h), (H-w,W-h).
  """
  (w, h), (height, width) = corner, side
  rows = jnp.stack([w, height - w, w, height - w])
  cols = jnp.stack([h, h, width - h, width - h])
  return jnp.stack([rows, cols], axis=1)


def apply_ricap(batch: Batch, draw: RicapDraw) -> Batch:
  """Patches a batch together as drawn."""
  _, height, width, _ = batch.image.shape
  image = lax.platform_dependent(batch.image, draw, tpu=patch_by_products, default=patch_by_places)
  area = patch_sizes(draw.corner, (height, width)).prod(axis=1)
  share = area.astype(jnp.float32) / (height * width)
  return combine(batch._replace(image=image), draw.order, share)


def patch_by_places(image: jax.Array, draw: RicapDraw) -> jax.Array:
  """The pictures of RICAP, f32[n,H,W,c], by one read of each pixel from a computed place."""
  _, height, width, _ = image.shape
  # Sizes are only known on the device: instead of slicing, say for each output pixel which
  # patch covers it and where it comes from, and gather once.
  y, x = jnp.arange(height, dtype=jnp.int32), jnp.arange(width, dtype=jnp.int32)
  lower, right = (y >= draw.corner[0]).astype(jnp.int32), (x >= draw.corner[1]).astype(jnp.int32)
  patch = lower[:, None] + 2 * right[None, :]  # [H,W]
  row = (y - lower * draw.corner[0])[:, None] + draw.offset[patch, 0]  # [H,W]
  col = (x - right * draw.corner[1])[None, :] + draw.offset[patch, 1]  # [H,W]
  source = draw.order.T[:, patch]  # [n,H,W]
  return image.at[source, row[None], col[None]].get(mode='promise_in_bounds')


def patch_by_products(image: jax.Array, draw: RicapDraw) -> jax.Array:
  """The same for a TPU: whole images in four orders, each moved as a whole, and a choice.

  Corner and offsets are those of the whole batch, and no patch leaves its image: as a row of
  pixels, an image moved down and to the right is that row moved along.
  """
  n, height, width, channels = image.shape
  pixels = products.rows(image.reshape(n, -1), draw.order.reshape(-1))
  pixels = pixels.reshape(RICAP_PARTS, n, -1)
  moved = []
  for k in range(RICAP_PARTS):
    down = draw.offset[k, 0] - (k % 2) * draw.corner[0]
    along = draw.offset[k, 1] - (k // 2) * draw.corner[1]
    moved.append(jnp.roll(pixels[k], -(down * width + along) * channels, axis=1))
  y, x = jnp.arange(height, dtype=jnp.int32), jnp.arange(width, dtype=jnp.int32)
  lower = jnp.repeat(y >= draw.corner[0], width * channels)[None]  # [1,HWc]
  right = jnp.tile(jnp.repeat(x >= draw.corner[1], channels), height)[None]
  left_half, right_half = (jnp.where(lower, moved[k + 1], moved[k]) for k in (0, 2))
  return jnp.where(right, right_half, left_half).reshape(image.shape)


def check_alpha(alpha: float) -> None:
  """Raises ValueError unless `alpha` is positive and finite."""
  if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real):
    raise ValueError(f'alpha={alpha!r}: allowed is a number > 0')
  if not (alpha > 0 and math.isfinite(alpha)):
    raise ValueError(f'alpha={alpha!r}: allowed is a finite number > 0')


def permutation(key: Key, size: int) -> jax.Array:
  """A random order of a batch, i32[n]."""
  return jax.random.permutation(key, jnp.arange(size, dtype=jnp.int32))


def combine(batch: Batch, order: jax.Array, share: jax.Array) -> Batch:
  """Mixes targets, parts and weights: position j shows sample order[k,j] by share[k].

  A picture weighs what its samples do, by their shares: else the weight that makes a draw
  unbiased would fall to whomever the sample is shown beside.

  Args:
    batch: of n examples; its images are left alone.
    order: i32[K,n], who is shown.
    share: f32[K], by how much; sums to 1.

  Returns:
    The batch with K times as many parts.
  """
  parts = range(order.shape[0])

  def join(values):
    return jnp.concatenate([values(k) for k in parts], axis=1)

  # As differences: equal weights stay what they are to the bit. A position of no weight is none.
  moved = sum(share[k] * (batch.weight[order[k]] - batch.weight) for k in parts)
  return batch._replace(
    weight=jnp.where(batch.weight > 0, batch.weight + moved, jnp.float32(0)),
    target=sum(share[k] * batch.target[order[k]] for k in parts),
    part_index=join(lambda k: batch.part_index[order[k]]),
    part_label=join(lambda k: batch.part_label[order[k]]),
    part_share=join(lambda k: share[k] * batch.part_share[order[k]]),
  )
