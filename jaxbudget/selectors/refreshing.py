"""Rows that only look: their candidates pass forward, are noted, and no step is taken.

They stand last in an epoch. They use entries of the learning rate's schedule up, as every row does.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Outputs

Note = Callable[[Any, Batch, Outputs], Any]


class Rows(NamedTuple):
  """Where an epoch stands, and what was noted."""

  noted: Any
  row: jax.Array  # i32[]  the next one
  first: jax.Array  # i32[]  the first that only looks


def begin(state: Rows, noted: Any, first: int | jax.Array) -> Rows:
  """The state at the beginning of an epoch whose rows only look from `first` on."""
  del state
  return Rows(noted, jnp.int32(0), jnp.asarray(first, jnp.int32))


@functools.cache
def hooks(look: Note, learn: Note):
  """`select` and `update`; the same function objects for all budgets.

  Args:
    look: `(noted, batch, outputs) -> noted`, for rows that only look; those of weight 0 are
      padding.
    learn: the same for steps that were taken.

  Returns:
    The two hooks, for a state of `Rows`.
  """

  def select(state, key, batch, forward):
    del key

    def looked():
      noted = look(state.noted, batch, forward(batch))
      return noted, jnp.zeros_like(batch.weight), jnp.int32(batch.index.shape[0])

    def passed():
      return state.noted, batch.weight, jnp.int32(0)

    noted, weight, scored = jax.lax.cond(state.row >= state.first, looked, passed)
    return (
      Rows(noted, state.row + 1, state.first),
      batch._replace(weight=weight),
      {'scored': scored},
    )

  def update(state, batch, outputs):
    return state._replace(noted=learn(state.noted, batch, outputs))

  return select, update
