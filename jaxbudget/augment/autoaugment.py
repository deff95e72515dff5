"""AutoAugment's policy for CIFAR-10, found by search: 25 pairs of operations.

Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", 2019, as torchvision
has it (`AutoAugmentPolicy.CIFAR10`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.augment import pillow
from jaxbudget.augment.geometric import Stage
from jaxbudget.types import Key

LEVELS = 10
# Two operations each: name, probability, level.
POLICIES = (
  (('invert', 0.1, 0), ('contrast', 0.2, 6)),
  (('rotate', 0.7, 2), ('translate_x', 0.3, 9)),
  (('sharpness', 0.8, 1), ('sharpness', 0.9, 3)),
  (('shear_y', 0.5, 8), ('translate_y', 0.7, 9)),
  (('auto_contrast', 0.5, 0), ('equalize', 0.9, 0)),
  (('shear_y', 0.2, 7), ('posterize', 0.3, 7)),
  (('color', 0.4, 3), ('brightness', 0.6, 7)),
  (('sharpness', 0.3, 9), ('brightness', 0.7, 9)),
  (('equalize', 0.6, 0), ('equalize', 0.5, 0)),
  (('contrast', 0.6, 7), ('sharpness', 0.6, 5)),
  (('color', 0.7, 7), ('translate_x', 0.5, 8)),
  (('equalize', 0.3, 0), ('auto_contrast', 0.4, 0)),
  (('translate_y', 0.4, 3), ('sharpness', 0.2, 6)),
  (('brightness', 0.9, 6), ('color', 0.2, 8)),
  (('solarize', 0.5, 2), ('invert', 0.0, 0)),
  (('equalize', 0.2, 0), ('auto_contrast', 0.6, 0)),
  (('equalize', 0.2, 0), ('equalize', 0.6, 0)),
  (('color', 0.9, 9), ('equalize', 0.6, 0)),
  (('auto_contrast', 0.8, 0), ('solarize', 0.2, 8)),
  (('brightness', 0.1, 3), ('color', 0.7, 0)),
  (('solarize', 0.4, 5), ('auto_contrast', 0.9, 0)),
  (('translate_y', 0.9, 9), ('translate_y', 0.7, 9)),
  (('auto_contrast', 0.9, 0), ('solarize', 0.8, 3)),
  (('equalize', 0.8, 0), ('invert', 0.1, 0)),
  (('translate_y', 0.7, 9), ('auto_contrast', 0.9, 0)),
)


class Draw(NamedTuple):
  """What was drawn for a batch of n, for the two operations of a pair in turn."""

  policy: jax.Array  # i32[n]
  applied: jax.Array  # bool[2,n]
  negate: jax.Array  # bool[2,n]  whether an operation goes the other way, if it has two


def autoaugment() -> Stage:
  """Applies to each image one of the 25 pairs, each of the two with its probability.

  Returns:
    A stage for batches of uint8 images with 1 or 3 channels, to go before crop and flip.
  """

  def stage(key, batch):
    n, *side, _ = batch.image.shape
    chosen = positions(draw(key, n))
    return batch._replace(image=pillow.apply_chosen(batch.image, table(*side), chosen))

  return stage


def draw(key: Key, size: int) -> Draw:
  """Draws pairs, whether their operations are applied, and signs.

  Args:
    key: of this batch.
    size: n, examples in the batch.

  Returns:
    The draw.
  """
  policy_key, applied_key, sign_key = jax.random.split(key, 3)
  policy = jax.random.randint(policy_key, (size,), 0, len(POLICIES), jnp.int32)
  probability = jnp.asarray([[p for _, p, _ in pair] for pair in POLICIES], jnp.float32)
  applied = jax.random.uniform(applied_key, (2, size), jnp.float32) < probability[policy].T
  return Draw(policy, applied, jax.random.bernoulli(sign_key, jnp.float32(0.5), (2, size)))


def positions(draw: Draw) -> jax.Array:
  """Where in `table` the drawn operations are: i32[2,n]."""
  place = 2 * draw.policy[None] + jnp.arange(2, dtype=jnp.int32)[:, None]
  place = 2 * place + draw.negate.astype(jnp.int32)
  return jnp.where(draw.applied, place, 4 * len(POLICIES))


@functools.cache
def table(height: int, width: int) -> pillow.Setting:
  """Pair by pair both operations, of both signs, and at the end the identity: [101]."""
  settings = [
    pillow.setting(name, value(name, level, negate, (height, width)), (height, width))
    for pair in POLICIES
    for name, _, level in pair
    for negate in (False, True)
  ]
  settings.append(pillow.setting('identity', 0.0, (height, width)))
  return pillow.stack(settings, (len(settings),))


def value(name: str, level: int, negate: bool, side: tuple[int, int]) -> float:
  """The value of an operation, in the units of `pillow.setting`.

  Args:
    name: of the operation.
    level: in [0, 9].
    negate: the other one of the two directions, where there are two.
    side: (height, width) of the images.

  Returns:
    The value.
  """
  strength, sign = level / (LEVELS - 1), -1 if negate else 1
  if name.startswith('shear'):
    return sign * 0.3 * strength
  if name.startswith('translate'):
    length = side[1] if name == 'translate_x' else side[0]
    return sign * int(150 / 331 * length * strength)
  if name == 'rotate':
    return sign * 30 * strength
  if name in pillow.OTHERS:
    return 1 + sign * 0.9 * strength
  if name == 'posterize':
    return 8 - round(4 * strength)
  # Of solarize; nobody asks for that of the others. 255 * 6 / 9 is 170, 255 * (1 - 3 / 9) is more.
  return 255 * (LEVELS - 1 - level) / (LEVELS - 1)
