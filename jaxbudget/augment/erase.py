"""Rectangles of nothing: Cutout and random erasing, on normalised images."""

import numbers

import jax
import jax.numpy as jnp

from jaxbudget.augment.geometric import Stage
from jaxbudget.types import Key

TRIES = 10  # of random erasing, until a rectangle fits


def cutout(size: int = 16, *, inside: bool = False) -> Stage:
  """Sets a square of each image to 0, the mean colour.

  DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
  2017: 16 pixels for CIFAR-10, 8 for CIFAR-100, 20 for SVHN.

  Args:
    size: side of the square in pixels.
    inside: whether it lies wholly in the image, as in airbench. Else its centre is any pixel,
      and it is cut at the border.

  Returns:
    A stage for batches of normalised images.

  Raises:
    ValueError: if `size` is not a whole number >= 1.
  """
  if isinstance(size, bool) or not isinstance(size, int) or size < 1:
    raise ValueError(f'size={size!r}: allowed is a whole number of pixels >= 1')

  def stage(key, batch):
    n, height, width, _ = batch.image.shape
    side = jnp.asarray([height, width], jnp.int32)
    if inside:
      corner = jax.random.randint(key, (n, 2), 0, side[None] - size + 1, jnp.int32)
    else:
      corner = jax.random.randint(key, (n, 2), 0, side[None], jnp.int32) - size // 2
    return batch._replace(image=erase(batch.image, corner, jnp.full((n, 2), size, jnp.int32)))

  return stage


def random_erasing(
  probability: float = 0.5,
  *,
  area: tuple[float, float] = (0.02, 0.33),
  ratio: tuple[float, float] = (0.3, 3.3),
) -> Stage:
  """Sets a random rectangle of some images to 0, the mean colour.

  Zhong et al., "Random Erasing Data Augmentation", 2020, as torchvision has it.

  Args:
    probability: that an image loses a rectangle.
    area: least and most of its area, as shares of the image, uniform in between.
    ratio: least and most of height over width, uniform in logarithms.

  Returns:
    A stage for batches of normalised images.

  Raises:
    ValueError: an option out of range.
  """
  if not _is_number(probability) or not 0 <= probability <= 1:
    raise ValueError(f'probability={probability!r}: allowed is a number in [0, 1]')
  for name, pair, most in (('area', area, 1), ('ratio', ratio, float('inf'))):
    if len(pair) != 2 or not all(map(_is_number, pair)) or not 0 < pair[0] <= pair[1] <= most:
      raise ValueError(f'{name}={pair!r}: allowed are two numbers, 0 < low <= high <= {most}')

  def stage(key, batch):
    corner, size = draw_rectangles(key, batch.image.shape, probability, area, ratio)
    return batch._replace(image=erase(batch.image, corner, size))

  return stage


def draw_rectangles(
  key: Key,
  shape: tuple[int, ...],
  probability: float,
  area: tuple[float, float],
  ratio: tuple[float, float],
) -> tuple[jax.Array, jax.Array]:
  """Draws rectangles for random erasing: of ten tries the first that fits.

  Args:
    key: of this batch.
    shape: (n, height, width, channels) of the batch.
    probability: as for `random_erasing`.
    area: as for `random_erasing`.
    ratio: as for `random_erasing`.

  Returns:
    (corner i32[n,2], size i32[n,2]), rows and columns; size 0 where nothing is erased.
  """
  n, height, width, _ = shape
  coin, area_key, ratio_key, place = jax.random.split(key, 4)
  share = jax.random.uniform(area_key, (n, TRIES), jnp.float32, minval=area[0], maxval=area[1])
  log_ratio = jnp.log(jnp.asarray(ratio, jnp.float32))
  tall = jax.random.uniform(
    ratio_key, (n, TRIES), jnp.float32, minval=log_ratio[0], maxval=log_ratio[1]
  )
  pixels, tall = share * (height * width), jnp.exp(tall)
  size = jnp.stack([jnp.round(jnp.sqrt(pixels * tall)), jnp.round(jnp.sqrt(pixels / tall))], 2)
  side = jnp.asarray([height, width], jnp.int32)
  size = size.astype(jnp.int32)  # [n,TRIES,2]
  fits = jnp.all(size < side[None, None], axis=2)
  first = jnp.argmax(fits, axis=1).astype(jnp.int32)
  erased = jax.random.bernoulli(coin, jnp.float32(probability), (n,)) & jnp.any(fits, axis=1)
  size = jnp.take_along_axis(size, first[:, None, None], axis=1)[:, 0]
  size = jnp.where(erased[:, None], size, 0)
  return jax.random.randint(place, (n, 2), 0, side[None] - size + 1, jnp.int32), size


def erase(image: jax.Array, corner: jax.Array, size: jax.Array) -> jax.Array:
  """Sets a rectangle of each image to 0.

  Args:
    image: f32[n,H,W,c].
    corner: i32[n,2], first row and column; may lie outside.
    size: i32[n,2], rows and columns.

  Returns:
    f32[n,H,W,c].
  """

  def within(axis):
    place = jnp.arange(image.shape[1 + axis], dtype=jnp.int32)[None]
    low = corner[:, axis, None]
    return (place >= low) & (place < low + size[:, axis, None])

  inside = within(0)[:, :, None, None] & within(1)[:, None, :, None]
  return jnp.where(inside, jnp.zeros((), image.dtype), image)


def _is_number(value):
  return isinstance(value, numbers.Real) and not isinstance(value, bool)
