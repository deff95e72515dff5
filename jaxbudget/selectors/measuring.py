"""Losses of candidates: measured on the spot, or every few epochs and remembered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Forward, Spec


class Memory(NamedTuple):
  """Losses that later epochs may choose by (`staleness` > 1)."""

  loss: jax.Array  # f32[N]  as last measured; inf: never
  measuring: jax.Array  # bool[]  this epoch runs the scoring passes


def memory(spec: Spec, staleness: int) -> Memory | None:
  """A memory that knows nothing yet; None where every epoch measures."""
  if staleness == 1:
    return None
  return Memory(jnp.full(spec.num_examples, jnp.inf, jnp.float32), jnp.array(True))


def with_losses(
  memory: Memory | None, index: jax.Array, epoch: jax.Array, staleness: int
) -> tuple[Memory | None, jax.Array]:
  """Begins an epoch: who has no loss to be chosen by comes last, if none is measured.

  Args:
    memory: before the epoch.
    index: i32[N], the epoch's order.
    epoch: i32[].
    staleness: epochs that one measurement serves.

  Returns:
    (the memory, the order).
  """
  if memory is None:
    return None, index
  measuring = epoch % staleness == 0
  unknown = jnp.isinf(memory.loss[index]) & ~measuring
  index = index[jnp.argsort(unknown, stable=True)]
  return memory._replace(measuring=measuring), index


def measure(
  memory: Memory | None, batch: Batch, forward: Forward
) -> tuple[Memory | None, jax.Array, jax.Array]:
  """Losses of the candidates: measured, or remembered in an epoch that reuses them.

  Args:
    memory: of the method.
    batch: K candidates.
    forward: the eval-mode pass.

  Returns:
    (the memory after, losses f32[K], forward passes spent i32[]).
  """
  count = jnp.int32(batch.index.shape[0])
  if memory is None:
    return None, forward(batch).loss, count
  # The batch is scored as a whole or not at all, so a cond saves the whole pass.
  loss = jax.lax.cond(
    memory.measuring, lambda: forward(batch).loss, lambda: memory.loss[batch.index]
  )
  # Who stands in for a missing sample is in the batch twice: only the place that counts is written.
  known = jnp.where(batch.weight > 0, batch.index, memory.loss.shape[0])
  memory = memory._replace(loss=memory.loss.at[known].set(loss, mode='drop'))
  return memory, loss, jnp.where(memory.measuring, count, 0)


def percentile(pool: jax.Array, count: jax.Array, loss: jax.Array) -> jax.Array:
  """Share of known losses that lie strictly below a loss.

  Args:
    pool: f32[R], the known losses; inf where there is none yet.
    count: i32[], how many are known.
    loss: f32[n].

  Returns:
    f32[n] in [0, 1).
  """
  # Accelerators take one kernel for all comparisons; sorting and searching are loops.
  below = pool[None] < loss[:, None]  # [n,R]
  below |= jnp.isnan(loss)[:, None] & ~jnp.isnan(pool)[None]  # as if sorted: NaN comes last
  below = jnp.sum(below, axis=1, dtype=jnp.int32)
  return below.astype(jnp.float32) / count.astype(jnp.float32)
