"""Rows that only look: their candidates pass forward, are noted, and no step is taken.

They stand last in an epoch, where they use no entries of the schedule up, see `Facts.looking`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Outputs, Plan

Note = Callable[[Any, Batch, Outputs], Any]


class Rows(NamedTuple):
  """Where an epoch stands, and what was noted."""

  noted: Any
  row: jax.Array  # i32[]  the next one
  first: jax.Array  # i32[]  the first that only looks


def lay_out(
  noted: Any,
  trained: jax.Array,
  used: jax.Array,
  looked: jax.Array,
  count: jax.Array | int,
  more: jax.Array,
  shape: tuple[int, int],
  weight: jax.Array | float = 1.0,
) -> tuple[Rows, Plan]:
  """Begins an epoch: rows that train, and behind them rows that only look.

  Args:
    noted: what is known.
    trained: i32[n], of which the first `used` are trained on; the last row may be partial.
    used: i32[].
    looked: i32[m], of which the first `count` are looked at, as far as the rows go.
    count: i32[].
    more: i32[], rows that look.
    shape: of the plan, rows that do not exist among them.
    weight: of who is in it.

  Returns:
    (the state, the plan).
  """
  size = shape[1]
  row = jnp.arange(shape[0], dtype=jnp.int32)[:, None]
  rows = -(-used // size)
  looking = row >= rows
  place = jnp.where(looking, row - rows, row) * size + jnp.arange(size, dtype=jnp.int32)[None]
  real = (place < jnp.where(looking, count, used)) & (row < rows + more)
  of = lambda index: index[jnp.minimum(place, index.shape[0] - 1)]
  index = jnp.where(real, jnp.where(looking, of(looked), of(trained)), 0)
  plan = Plan(index, jnp.where(real, jnp.float32(1) * weight, jnp.float32(0)), rows + more)
  return Rows(noted, jnp.int32(0), rows), plan


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
