"""A first-in, first-out queue of examples, as an array of fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Spec, blank_batch


class Fifo(NamedTuple):
  """Examples that wait to be trained on, as they were augmented: fewer than a batch."""

  slots: Batch  # [s]  oldest first; behind `length` stands rubbish
  length: jax.Array  # i32[]


def empty(spec: Spec) -> Fifo:
  """A queue in which nothing waits."""
  return Fifo(blank_batch(spec, spec.batch_size), jnp.int32(0))


def exchange(
  queue: Fifo, batch: Batch, accepted: jax.Array, rest: bool | jax.Array = False
) -> tuple[Fifo, Batch]:
  """Appends the accepted examples in their order, then takes out the s oldest if there are so many.

  Args:
    queue: before.
    batch: s examples, which arrive.
    accepted: bool[s], of them.
    rest: if there are fewer than s then, take all of them.

  Returns:
    (queue after, batch of s examples: those taken first, the others with weight 0).
  """
  size = accepted.shape[0]
  place = jnp.arange(size, dtype=jnp.int32)
  waited = place < queue.length
  length = queue.length + jnp.sum(accepted, dtype=jnp.int32)
  enough = length >= size
  taken = jnp.where(enough, size, jnp.where(rest, length, 0))

  # Who arrives takes the places behind those that waited, and from the first one on again, where
  # they wait once the places were taken from: all in one gather.
  order = jnp.argsort(~accepted, stable=True)  # the rejected come last
  arrived = jax.tree.map(lambda x: x[order[(place - queue.length) % size]], batch)

  def waiting_or_arrived(waits):
    return jax.tree.map(lambda old, new: jax.vmap(jnp.where)(waits, old, new), queue.slots, arrived)

  chosen = waiting_or_arrived(waited)
  chosen = chosen._replace(weight=jnp.where(place < taken, chosen.weight, jnp.float32(0)))
  return Fifo(waiting_or_arrived(waited & ~enough), length - taken), chosen
