"""A first-in, first-out queue of examples, as an array of fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Spec, blank_batch


class Fifo(NamedTuple):
  """Examples that wait to be trained on, as they were augmented."""

  slots: Batch  # [2s]  oldest first; behind `length` stands rubbish
  length: jax.Array  # i32[]


def empty(spec: Spec) -> Fifo:
  """A queue with room for two batches: one waiting, one arriving."""
  return Fifo(blank_batch(spec, 2 * spec.batch_size), jnp.int32(0))


def push(queue: Fifo, batch: Batch, accepted: jax.Array) -> Fifo:
  """Appends the accepted examples, in their order.

  Args:
    queue: with at most s examples in it.
    batch: s examples.
    accepted: bool[s].

  Returns:
    The queue after.
  """
  order = jnp.argsort(~accepted, stable=True)  # the rejected land behind the end

  def append(slots, values):
    return jax.lax.dynamic_update_slice_in_dim(slots, values[order], queue.length, axis=0)

  slots = jax.tree.map(append, queue.slots, batch)
  return Fifo(slots, queue.length + jnp.sum(accepted, dtype=jnp.int32))


def pop(queue: Fifo, rest: bool | jax.Array = False) -> tuple[Fifo, Batch]:
  """Takes out the s oldest examples if there are so many.

  Args:
    queue: before.
    rest: if there are fewer than s, take all of them.

  Returns:
    (queue after, batch of s examples: those taken first, the others with weight 0).
  """
  size = queue.slots.index.shape[0] // 2
  enough = queue.length >= size
  taken = jnp.where(enough, size, jnp.where(rest, queue.length, 0))
  batch = jax.tree.map(lambda slots: slots[:size], queue.slots)
  real = jnp.arange(size, dtype=jnp.int32) < taken
  batch = batch._replace(weight=jnp.where(real, batch.weight, jnp.float32(0)))

  def advance(slots):
    start = jnp.where(enough, size, 0)
    return slots.at[:size].set(jax.lax.dynamic_slice_in_dim(slots, start, size, axis=0))

  return Fifo(jax.tree.map(advance, queue.slots), queue.length - taken), batch
