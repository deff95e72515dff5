"""Draws by a table of values, and the weights that make up for it.

What p_sgd, c_sgd, active_bias, online_batch_selection, gradient_norm, class_sampling and rais
share. Needell et al. 2014 (mixed weights), Zhao and Zhang 2015 (inverse probabilities), Madow 1949
(systematic draws of known chance).
"""

import jax
import jax.numpy as jnp

from jaxbudget import registry
from jaxbudget.sampling import draw, systematic
from jaxbudget.types import Key

WEIGHTS = ('none', 'inverse')


def check(weights: str, mix: float) -> None:
  """Refuses options that are out of range.

  Raises:
    ValueError: with the option.
  """
  registry.check('weights', weights, WEIGHTS)
  if not 0 <= mix <= 1:
    raise ValueError(f'mix={mix} must be in [0, 1]: 0 is uniform, 1 as the method says')


def mixed(value: jax.Array, mix: float) -> jax.Array:
  """Values whose shares are lam of their own and 1 - lam of uniform ones.

  Args:
    value: f32[N], not negative; all zero means uniform.
    mix: lam; 1 leaves the values as they are.

  Returns:
    f32[N], of mean 1 if lam < 1: inverse weights are at most 1/(1 - lam).
  """
  if mix == 1:
    return value
  value = jnp.where(jnp.any(value > 0), value, jnp.ones_like(value))
  return jnp.float32(1 - mix) + jnp.float32(mix) * value / jnp.mean(value)


def weighted(
  key: Key,
  value: jax.Array,
  samples: int,
  weights: str = 'none',
  replacement: bool = False,
  mix: float = 1.0,
) -> tuple[jax.Array, jax.Array | None]:
  """Draws samples by their values.

  Without replacement and with inverse weights the draw is systematic: successive draws have no
  chance of inclusion that could be written down.

  Args:
    key: a typed key.
    value: f32[N], not negative; all zero means uniform.
    samples: n.
    weights: `none`, or `inverse`: 1/(N p), or n/(N chance) without replacement.
    replacement: a sample may come several times.
    mix: share of the values in the chances, see `mixed`.

  Returns:
    (i32[n]; f32[n] weights of those drawn, None where all are 1).
  """
  value = mixed(value, mix)
  if weights == 'none':
    return draw(key, value, samples, replacement), None
  if replacement:
    value = jnp.where(jnp.any(value > 0), value, jnp.ones_like(value))
    index = draw(key, value, samples, replacement=True)
    return index, (jnp.mean(value) / value)[index]
  index, chance = systematic(key, value, samples)
  return index, jnp.float32(samples / value.shape[0]) / chance[index]
