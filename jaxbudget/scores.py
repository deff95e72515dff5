"""Per-sample scores, and who is credited for them when a picture shows several samples."""

import jax
import jax.numpy as jnp

from jaxbudget.types import Batch, Outputs

CREDITS = ('aligned', 'first')


def difficulty(outputs: Outputs, label: jax.Array) -> jax.Array:
  """1 - p(label): how far the model is from a label (fidelity.md 2.4).

  Args:
    outputs: of n pictures.
    label: i32[n,M], labels to look at for each picture.

  Returns:
    f32[n,M] in [0, 1].
  """
  probability = jax.nn.softmax(outputs.logits, axis=-1)
  return 1 - jnp.take_along_axis(probability, label, axis=1)


def credited(batch: Batch, outputs: Outputs, credit: str) -> tuple[jax.Array, ...]:
  """Turns a batch of pictures into scores of samples.

  `aligned`: each sample in a picture is credited with the difficulty of its own label
  there, by the share it has in the picture; over a mixed batch the shares of a sample sum
  to 1. `first`: the released code's rule: the sample whose place in the batch it was is
  credited with its own label, in full, whoever the picture shows (fidelity.md 3.2, 3.3).

  Args:
    batch: n pictures of M samples each.
    outputs: what the model said of them.
    credit: `aligned` or `first`.

  Returns:
    (index i32[m], value f32[m], share f32[m]); padding has share 0.
  """
  real = (batch.weight > 0).astype(jnp.float32)
  if credit == 'first':
    value = difficulty(outputs, batch.label[:, None])[:, 0]
    return batch.index, value, real
  share = batch.part_share * real[:, None]
  value = difficulty(outputs, batch.part_label)
  return batch.part_index.ravel(), value.ravel(), share.ravel()
