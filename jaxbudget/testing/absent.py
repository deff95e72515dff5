"""The rule for samples that are not there: of weight 0 in a row, as those of a missing file."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.testing.toy import SPEC
from jaxbudget.types import Batch, Outputs, Selector, blank_batch


def taken(selector: Selector) -> Iterator[str]:
  """Whether a method that takes some of its candidates takes those of weight 0 before others.

  Args:
    selector: the method; nothing is said of one that takes all, or has padding of its own.
  """
  count = selector.facts.candidates
  blank, key = blank_batch(SPEC, count), jax.random.key(3)
  state = jax.eval_shape(selector.init, key)
  chosen = jax.eval_shape(lambda *given: selector.select(*given, _forward), state, key, blank)[1]
  more = count - len(chosen.weight)
  if selector.partial or not 0 < more < count <= SPEC.num_examples:
    return
  place = jnp.arange(count, dtype=jnp.int32)
  absent = (place > 0) & (place <= more)  # the first is who stands for padding
  state = jax.jit(selector.plan)(selector.init(key), key, jnp.int32(0))[0]
  select = jax.jit(lambda *given: selector.select(*given, _forward)[1])
  for bright in (-1.0, 0.0, 1.0):  # whichever way they are ranked
    image = jax.random.uniform(key, blank.image.shape, jnp.float32)
    shift = jnp.where(absent, jnp.float32(bright), 0).reshape(-1, *(image.ndim - 1) * [1])
    batch = blank._replace(
      index=place, image=image + shift, weight=1 - absent.astype(jnp.float32),
      target=jax.nn.one_hot(place % SPEC.num_classes, SPEC.num_classes, dtype=jnp.float32),
      part_index=place[:, None], part_label=place[:, None] % SPEC.num_classes,
      part_share=jnp.ones((count, 1), jnp.float32),
    )  # fmt: skip
    found = jax.device_get(select(state, key, batch))
    if (found.weight > 0).any() and np.asarray(absent)[found.index].any():
      yield (
        'select takes candidates of weight 0, whose images are not there, before others that are: '
        'rank them last, see `sampling.present_first`'
      )
      return


def _forward(batch: Batch) -> Outputs:
  """A model that is the surer of a picture the brighter it is."""
  bright = jnp.mean(batch.image.astype(jnp.float32).reshape(batch.index.shape[0], -1), axis=1)
  logits = 3 * bright[:, None] * batch.target
  return Outputs(logits, -jnp.sum(jax.nn.log_softmax(logits) * batch.target, axis=-1))
