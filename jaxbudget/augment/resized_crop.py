"""Random resized crops: a part of each image, of random area and ratio, brought to full size.

Szegedy et al., "Going Deeper with Convolutions", 2015, section 6, as torchvision has it.
"""

import jax
import jax.numpy as jnp

from jaxbudget.augment.geometric import Stage
from jaxbudget.data.crops import RATIO, SCALE, TRIES, middle
from jaxbudget.types import Key


def random_resized_crop(
  scale: tuple[float, ...] = SCALE, ratio: tuple[float, ...] = RATIO
) -> Stage:
  """Crops a random part of each image and enlarges it to the image's own size.

  Images are as large as the network's, so a crop is never larger than what it is brought to: the
  bilinear filter needs no averaging, and the pixels are those of Pillow's BILINEAR within one
  grey level, which Pillow rounds between its passes. It differs from torchvision's pipeline in
  what is cropped: the image as it was loaded, not the photograph before it was made small.

  Args:
    scale: least and most of the crop's area, as shares of the image's, uniform in between.
    ratio: least and most of its width over its height, uniform in logarithms.

  Returns:
    A stage for batches of uint8 images.

  Raises:
    ValueError: an option out of range.
  """
  check_range('scale', scale, 1)
  check_range('ratio', ratio, float('inf'))

  def stage(key, batch):
    n, height, width, _ = batch.image.shape
    corner, size = draw_boxes(key, n, (height, width), tuple(scale), tuple(ratio))
    return batch._replace(image=resize_boxes(batch.image, corner, size))

  return stage


def check_range(name: str, pair: tuple[float, ...], most: float) -> None:
  """Refuses what is no range of positive numbers.

  Raises:
    ValueError: with name and value.
  """
  if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most or pair[1] == float('inf'):
    raise ValueError(f'{name}={tuple(pair)!r}: allowed are two numbers, 0 < low <= high <= {most}')


def draw_boxes(
  key: Key, n: int, shape: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
  """Draws a box in each of n images: of ten tries the first that fits, else the middle.

  Args:
    key: of this batch.
    n: images.
    shape: (height, width) of them.
    scale: as for `random_resized_crop`.
    ratio: as for `random_resized_crop`.

  Returns:
    (corner i32[n,2], size i32[n,2]), rows and columns.
  """
  height, width = shape
  area_key, ratio_key, place_key = jax.random.split(key, 3)
  low, high = jnp.log(jnp.asarray(ratio, jnp.float32))
  area = jax.random.uniform(
    area_key, (n, TRIES), jnp.float32, minval=scale[0] * height * width,
    maxval=scale[1] * height * width,
  )  # fmt: skip
  wide = jnp.exp(jax.random.uniform(ratio_key, (n, TRIES), jnp.float32, minval=low, maxval=high))
  tried = jnp.stack([jnp.round(jnp.sqrt(area / wide)), jnp.round(jnp.sqrt(area * wide))], 2)
  tried = tried.astype(jnp.int32)  # [n,TRIES,2]
  side = jnp.asarray(shape, jnp.int32)
  fits = jnp.all((tried > 0) & (tried <= side[None, None]), axis=2)
  first = jnp.argmax(fits, axis=1).astype(jnp.int32)
  size = jnp.take_along_axis(tried, first[:, None, None], axis=1)[:, 0]
  # The places of a box that fits are drawn by numbers in [0, 1): how many there are is traced.
  share = jax.random.uniform(place_key, (n, 2), jnp.float32)
  corner = jnp.floor(share * (side[None] - size + 1).astype(jnp.float32)).astype(jnp.int32)
  middle_corner, middle_size = (jnp.asarray(x, jnp.int32)[None] for x in middle(shape, ratio))
  found = jnp.any(fits, axis=1)[:, None]
  size = jnp.where(found, size, middle_size)
  return jnp.where(found, jnp.minimum(corner, side[None] - size), middle_corner), size


def resize_boxes(image: jax.Array, corner: jax.Array, size: jax.Array) -> jax.Array:
  """Brings a box of each image to the size of the image, by bilinear interpolation.

  As two products with sparse matrices: pixels read from computed places are what a TPU is slow at.

  Args:
    image: u8[n,H,W,c].
    corner: i32[n,2], first row and column of each box.
    size: i32[n,2], rows and columns; the box lies in the image.

  Returns:
    u8[n,H,W,c].
  """
  rows, columns = (_weights(corner[:, k], size[:, k], image.shape[1 + k]) for k in (0, 1))
  exact = jax.lax.Precision.HIGHEST
  pixels = jnp.einsum('nyh,nhwc->nywc', rows, image.astype(jnp.float32), precision=exact)
  pixels = jnp.einsum('nxw,nywc->nyxc', columns, pixels, precision=exact)
  return jnp.round(pixels).astype(jnp.uint8)


def _weights(corner, size, side):
  """What each of `side` outputs takes of each of as many inputs, f32[n,side,side]."""
  place = jnp.arange(side, dtype=jnp.float32)
  low, length = (x.astype(jnp.float32)[:, None] for x in (corner, size))
  at = low - 0.5 + (place + 0.5)[None] * (length / side)  # the middle of each output
  at = jnp.clip(at, low, low + length - 1)  # nothing beyond the box is seen
  return jnp.maximum(0, 1 - jnp.abs(at[:, :, None] - place[None, None]))
