"""AugMix: a picture mixed with three chains of random operations on it.

Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and
Uncertainty", 2020, without the Jensen-Shannon loss, in the implementation of
https://github.com/google-research/augmix.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.augment import pillow
from jaxbudget.augment.geometric import Stage
from jaxbudget.augment.mix import check_alpha
from jaxbudget.types import Key

WIDTH, DEPTH = 3, 3  # chains, operations in a chain at most
OPERATIONS = (
  'auto_contrast', 'equalize', 'posterize', 'rotate', 'solarize', 'shear_x', 'shear_y',
  'translate_x', 'translate_y',
)  # fmt: skip


class Draw(NamedTuple):
  """What was drawn for a batch of n. The chains of a picture lie side by side."""

  share: jax.Array  # f32[n]        m, of the mixture of chains in the picture
  weight: jax.Array  # f32[n,3]      of each chain in the mixture, rows sum to 1
  depth: jax.Array  # i32[n,3]      operations in each chain, 1 to 3
  operation: jax.Array  # i32[3,n,3]  round by round, position in `OPERATIONS`
  level: jax.Array  # f32[3,n,3]    in [0.1, severity)
  negate: jax.Array  # bool[3,n,3]


def augmix(severity: float = 3.0, alpha: float = 1.0) -> Stage:
  """Mixes each image with three chains of one to three operations.

  Args:
    severity: levels are uniform on [0.1, severity), of 10.
    alpha: the chains' weights are Dirichlet(alpha, alpha, alpha), their share in the picture is
      Beta(alpha, alpha).

  Returns:
    A stage for batches of uint8 images with 1 or 3 channels, to go after crop and flip and
    before normalisation; what it makes are grey levels in between, float32.

  Raises:
    ValueError: an option out of range.
  """
  check_alpha(alpha)
  if not 0.1 < severity <= 10:
    raise ValueError(f'severity={severity!r}: allowed is a number above 0.1, up to 10')

  def stage(key, batch, drawn=None):
    drawn = draw(key, batch.image.shape[0], severity, alpha, drawn)
    return batch._replace(image=apply(batch.image, drawn))

  if alpha != 1:
    stage.draw = lambda key, size: mixture(key, size, alpha)
  return stage


def mixture(key: Key, size: int, alpha: float) -> tuple[jax.Array, jax.Array]:
  """`share` and `weight` of a batch's `Draw`, by the key that `draw` gets."""
  share, weight, *_ = jax.random.split(key, 6)
  if alpha == 1:  # both laws in closed form: no loop of unknown length on the device
    parts = jax.random.exponential(weight, (size, WIDTH), jnp.float32)
    drawn = jax.random.uniform(share, (size,), jnp.float32)
    return drawn, parts / parts.sum(1, keepdims=True)
  return (
    jax.random.beta(share, alpha, alpha, (size,), jnp.float32),
    jax.random.dirichlet(weight, jnp.full(WIDTH, alpha, jnp.float32), (size,), jnp.float32),
  )


def draw(
  key: Key,
  size: int,
  severity: float = 3.0,
  alpha: float = 1.0,
  mixed: tuple[jax.Array, jax.Array] | None = None,
) -> Draw:
  """Draws chains, their weights and their share.

  Args:
    key: of this batch.
    size: n, examples in the batch.
    severity: levels are uniform on [0.1, severity).
    alpha: of the Dirichlet and the Beta distribution.
    mixed: of `mixture`; None draws it here.

  Returns:
    The draw.
  """
  _, _, depth, operation, level, sign = jax.random.split(key, 6)
  shape = (DEPTH, size, WIDTH)
  return Draw(
    *(mixture(key, size, alpha) if mixed is None else mixed),
    depth=jax.random.randint(depth, (size, WIDTH), 1, DEPTH + 1, jnp.int32),
    operation=jax.random.randint(operation, shape, 0, len(OPERATIONS), jnp.int32),
    level=jax.random.uniform(level, shape, jnp.float32, minval=0.1, maxval=severity),
    negate=jax.random.bernoulli(sign, jnp.float32(0.5), shape),
  )


def apply(image: jax.Array, draw: Draw) -> jax.Array:
  """Mixes images as drawn: (1 - m) x + m (w1 chain1 + w2 chain2 + w3 chain3).

  Args:
    image: u8[n,H,W,c] with 1 or 3 channels.
    draw: the draw.

  Returns:
    f32[n,H,W,c].
  """
  pillow.check_channels(image.shape)
  n, *shape = image.shape

  def one_round(chains, drawn):
    step, operation, level, negate = drawn
    after = jax.vmap(apply_operation)(
      chains, operation.reshape(-1), level.reshape(-1), negate.reshape(-1)
    )
    going_on = (step < draw.depth).reshape(-1)
    return jnp.where(going_on[:, None, None, None], after, chains), None

  rounds = jnp.arange(DEPTH, dtype=jnp.int32), draw.operation, draw.level, draw.negate
  chains = jax.lax.scan(one_round, jnp.repeat(image, WIDTH, axis=0), rounds)[0]
  chains = chains.reshape(n, WIDTH, *shape).astype(jnp.float32)
  mixed = jnp.sum(draw.weight[:, :, None, None, None] * chains, axis=1)
  share = draw.share[:, None, None, None]
  return (1 - share) * image.astype(jnp.float32) + share * mixed


def apply_operation(
  image: jax.Array, operation: jax.Array, level: jax.Array, negate: jax.Array
) -> jax.Array:
  """Applies one operation to one image; warps interpolate.

  Args:
    image: u8[H,W,c].
    operation: i32[], position in `OPERATIONS`.
    level: f32[], strength out of 10.
    negate: bool[], a warp goes the other way.

  Returns:
    u8[H,W,c].
  """

  def at(name):
    return operation == OPERATIONS.index(name)

  def whole(most):
    return jnp.floor(level * most / 10).astype(jnp.int32)

  grey = jnp.arange(256, dtype=jnp.int32)
  posterized = grey & ~((1 << (8 - (4 - whole(4)))) - 1)
  solarized = jnp.where(grey < 256 - whole(256), grey, 255 - grey)
  table = jnp.where(at('posterize'), posterized, jnp.where(at('solarize'), solarized, grey))
  fit = pillow.AUTO_CONTRAST * at('auto_contrast').astype(jnp.int32) + pillow.EQUALIZE * at(
    'equalize'
  ).astype(jnp.int32)
  image = pillow.look_up(image, fit, table)
  return pillow.warp_bilinear(image, _affine(image.shape, at, whole, level, negate))


def _affine(shape, at, whole, level, negate):
  """The map of an operation's warp, f32[6]; the identity for all others."""
  height, width, _ = shape
  sign = jnp.where(negate, jnp.float32(-1), jnp.float32(1))

  def signed(name, value):
    return jnp.where(at(name), sign * value, 0.0)

  angle = -signed('rotate', whole(30).astype(jnp.float32)) * (math.pi / 180)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  x, y = width / 2, height / 2
  slope = 0.3 * level / 10
  right = signed('translate_x', whole(width / 3).astype(jnp.float32))
  down = signed('translate_y', whole(height / 3).astype(jnp.float32))
  return jnp.stack(
    [
      cos,
      sin + signed('shear_x', slope),
      x - cos * x - sin * y + right,
      -sin + signed('shear_y', slope),
      cos,
      y + sin * x - cos * y + down,
    ]
  )
