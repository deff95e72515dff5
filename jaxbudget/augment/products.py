"""Look-ups in pixels as products with matrices of zeros and ones: a TPU's form.

A CPU or a GPU reads from a computed place as fast as from any other. A TPU reads so one element
after another, and is fast at matrix products; XLA makes the zeros and ones where it multiplies
by them, so they take no memory. Grey levels are exact in bfloat16 and sums of them in float32,
so all of it is exact. The forms are the cheapest of those compiled for a TPU v5e, by its compiler.
"""

import jax
import jax.numpy as jnp

_DIGIT = 16  # a grey level is two digits of this base


def look_up(table: jax.Array, image: jax.Array) -> jax.Array:
  """Replaces grey levels.

  Args:
    table: i32[c,256], of grey levels.
    image: u8[H,W,c].

  Returns:
    u8[H,W,c], `table[c, image[h,w,c]]`.
  """
  channels = image.shape[-1]
  high, low = _digits(image)
  rows = table.reshape(channels, _DIGIT, _DIGIT)
  row = _product('chl,chp->clp', rows, high)
  level = jnp.sum(jnp.where(low, row, 0), axis=1)  # [c,HW]
  return level.T.astype(jnp.uint8).reshape(image.shape)


def histogram(image: jax.Array) -> jax.Array:
  """Counts grey levels.

  Args:
    image: u8[H,W,c] of at most 2^24 pixels.

  Returns:
    i32[c,256].
  """
  high, low = _digits(image)
  count = _product('chp,clp->chl', high, low)
  return count.astype(jnp.int32).reshape(-1, _DIGIT**2)


def _digits(image):
  """Which high and which low digit each pixel has: bool[c,16,HW] each."""
  level = image.reshape(-1, image.shape[-1]).T[:, None].astype(jnp.int32)
  digit = jnp.arange(_DIGIT, dtype=jnp.int32)[None, :, None]
  return level >> 4 == digit, level & 15 == digit


def _product(axes, *arrays):
  """A sum of products in float32, of what bfloat16 holds exactly."""
  exact = (array.astype(jnp.bfloat16) for array in arrays)
  return jnp.einsum(axes, *exact, preferred_element_type=jnp.float32)


def read(image: jax.Array, row: jax.Array, col: jax.Array) -> jax.Array:
  """Reads pixels; outside is black.

  Args:
    image: u8[H,W,c].
    row: i32[H,W].
    col: i32[H,W].

  Returns:
    u8[H,W,c], `image[row, col]`.
  """
  height, width, channels = image.shape
  inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
  place = jnp.where(inside, row * width + col, -1).reshape(1, -1)
  chosen = place == jnp.arange(height * width, dtype=place.dtype)[:, None]  # [from,to]
  found = _product('fc,ft->tc', image.reshape(-1, channels), chosen)
  return found.astype(jnp.uint8).reshape(image.shape)


def rows(array: jax.Array, index: jax.Array) -> jax.Array:
  """Reads rows.

  Args:
    array: f32[n,D], finite.
    index: i32[m].

  Returns:
    f32[m,D], `array[index]`.
  """
  chosen = index[:, None] == jnp.arange(array.shape[0], dtype=index.dtype)[None]
  # At the highest precision a TPU adds three bfloat16 parts of each number: all of it.
  return jnp.dot(chosen.astype(array.dtype), array, precision='highest')
