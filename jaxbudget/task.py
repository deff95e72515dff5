"""What the engine must know of a problem: its loss, and what counts as right."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.losses import cross_entropy


class Task(NamedTuple):
  """A problem to learn, as pure functions.

  Attributes:
    name: of the task.
    score_name: what `correct` is a share of, for headings.
    loss: `(output f32[n,...], target f32[n,...]) -> f32[n]`, linear in the target where
      pictures are mixed.
    correct: `(output, target) -> bool[n]`.
  """

  name: str
  score_name: str
  loss: Callable[[jax.Array, jax.Array], jax.Array]
  correct: Callable[[jax.Array, jax.Array], jax.Array]


def _same_class(logits, target):
  return jnp.argmax(logits, -1) == jnp.argmax(target, -1)


CLASSIFICATION = Task('classification', 'accuracy', cross_entropy, _same_class)
