"""TrivialAugment: one random operation at a random strength. Nothing to tune.

Mueller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021.
"""

import functools

import jax
import jax.numpy as jnp

from jaxbudget import registry
from jaxbudget.augment import pillow
from jaxbudget.augment.geometric import Stage
from jaxbudget.types import Key

LEVELS = 31
SPACES = ('wide', 'official_wide', 'official_small')
OPERATIONS = (
  'identity', 'auto_contrast', 'equalize', 'rotate', 'solarize', 'color', 'posterize', 'contrast',
  'brightness', 'sharpness', 'shear_x', 'shear_y', 'translate_x', 'translate_y',
)  # fmt: skip


def trivialaugment(space: str = 'wide') -> Stage:
  """Applies to each image one of 14 operations at one of 31 levels, all equally likely.

  Args:
    space: how strong the levels are: torchvision's `TrivialAugmentWide`, or `official_wide` and
      `official_small` (`fixed_standard`, for small networks) of https://github.com/automl/trivialaugment.

  Returns:
    A stage for batches of uint8 images with 1 or 3 channels, to go before crop and flip.

  Raises:
    ValueError: an unknown space.
  """
  registry.check('space', space, SPACES)

  def stage(key, batch):
    n, *side, _ = batch.image.shape
    chosen = draw(key, n)
    return batch._replace(image=pillow.apply_chosen(batch.image, table(space, *side), chosen[None]))

  return stage


def draw(key: Key, size: int) -> jax.Array:
  """Draws an operation, a level and a sign for each image: i32[n], a position in `table`."""
  return jax.random.randint(key, (size,), 0, len(OPERATIONS) * LEVELS * 2, jnp.int32)


@functools.cache
def table(space: str, height: int, width: int) -> pillow.Setting:
  """All operations at all levels, of both signs: host arrays, in this order [14 * 31 * 2]."""
  settings = [
    pillow.setting(name, value(space, name, level, negate, min(height, width)), (height, width))
    for name in OPERATIONS
    for level in range(LEVELS)
    for negate in (False, True)
  ]
  return pillow.stack(settings, (len(settings),))


def value(space: str, name: str, level: int, negate: bool, side: int = 32) -> float:
  """The value of an operation, in the units of `pillow.setting`.

  Distances in pixels shrink with the shorter side below 32 px, as RandAugment's do.

  Args:
    space: one of `SPACES`.
    name: one of `OPERATIONS`.
    level: in [0, 30].
    negate: the other one of the two directions, where there are two.
    side: the shorter side of the images.

  Returns:
    The value.
  """
  strength, sign = level / (LEVELS - 1), -1 if negate else 1
  small, theirs = space == 'official_small', space != 'wide'
  if name.startswith('shear'):
    return sign * strength * (0.3 if small else 0.99)
  if name.startswith('translate'):
    # By whole numbers: 32 px * 15 / 30 is 16, not a float just below.
    return sign * (level * (10 if small else 32) * min(side, 32) // (32 * (LEVELS - 1)))
  if name == 'rotate':
    degrees = level * (30 if small else 135)
    return sign * (degrees // (LEVELS - 1) if theirs else degrees / (LEVELS - 1))
  if name in pillow.OTHERS:
    low, range_ = (0.1, 1.8) if small else (0.01, 1.99)
    return low + range_ * strength if theirs else 1 + sign * 0.99 * strength
  if name == 'posterize':
    return 8 - level * (4 if small else 6) // (LEVELS - 1) if theirs else 8 - round(level / 5)
  if name == 'solarize':
    weaker = LEVELS - 1 - level  # 255 * 22 / 30 is 187; 255 * (1 - 8 / 30) is a hair more
    return 256 - 256 * level // (LEVELS - 1) if theirs else 255 * weaker / (LEVELS - 1)
  return 0.0
