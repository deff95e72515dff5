"""The queue against a list."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.selectors import fifo
from jaxbudget.types import Spec, blank_batch

SIZE = 4
SPEC = Spec(num_examples=100, batch_size=SIZE, num_classes=3, epochs=1, image_shape=(2, 2, 1))
EXCHANGE = jax.jit(fifo.exchange)
ROWS = st.lists(
  st.tuples(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), st.booleans()), max_size=12
)


def _arriving(first):
  """Samples from a number on, each with its number in its pixels."""
  index = first + jnp.arange(SIZE, dtype=jnp.int32)
  image = jnp.broadcast_to(index.astype(jnp.float32)[:, None, None, None], (SIZE, 2, 2, 1))
  ones = jnp.ones(SIZE, jnp.float32)
  return blank_batch(SPEC, SIZE)._replace(index=index, image=image, weight=ones)


@given(ROWS)
def test_the_queue_is_a_list_from_whose_head_a_batch_is_taken(rows):
  queue, waiting = fifo.empty(SPEC), []
  for k, (accepted, rest) in enumerate(rows):
    batch = _arriving(SIZE * k)
    queue, taken = EXCHANGE(queue, batch, jnp.array(accepted), jnp.array(rest))
    waiting += [SIZE * k + place for place, takes in enumerate(accepted) if takes]
    count = SIZE if len(waiting) >= SIZE else len(waiting) * rest
    expected, waiting = waiting[:count], waiting[count:]
    np.testing.assert_array_equal(taken.weight, np.arange(SIZE) < count)
    np.testing.assert_array_equal(taken.index[:count], expected)
    np.testing.assert_array_equal(taken.image[:count, 1, 1, 0], expected)
    assert queue.length == len(waiting) < SIZE
    np.testing.assert_array_equal(queue.slots.index[: len(waiting)], waiting)
