"""Per-sample scores, and who is credited for them when a picture shows several samples."""

from typing import NamedTuple

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


def own_loss(outputs: Outputs, label: jax.Array) -> jax.Array:
  """-ln p(label): the loss of a picture as one of the samples in it would have it.

  Args:
    outputs: of n pictures.
    label: i32[n,M], labels to look at for each picture.

  Returns:
    f32[n,M]; for a plain image with its own label the cross-entropy.
  """
  if outputs.part_loss is not None:
    return outputs.part_loss
  return -jnp.take_along_axis(jax.nn.log_softmax(outputs.logits, axis=-1), label, axis=1)


def gradient_bound(outputs: Outputs, target: jax.Array) -> jax.Array:
  """The norm of the loss's gradient by the outputs; of cross-entropy ||softmax - target||_2.

  Katharopoulos and Fleuret, `Not All Samples Are Created Equal
  <https://arxiv.org/abs/1803.00942>`_, 2018: up to a factor a bound of the full gradient's.

  Args:
    outputs: of n pictures.
    target: f32[n,C].

  Returns:
    f32[n].
  """
  if outputs.gradient_norm is not None:
    return outputs.gradient_norm
  return jnp.linalg.norm(jax.nn.softmax(outputs.logits, axis=-1) - target, axis=-1)


def same_class(logits: jax.Array, target: jax.Array) -> jax.Array:
  """Whether the likeliest class is the one that a picture shows most of.

  Args:
    logits: f32[n,C].
    target: f32[n,C].

  Returns:
    bool[n].
  """
  return jnp.argmax(logits, axis=-1) == jnp.argmax(target, axis=-1)


def is_class(outputs: Outputs, label: jax.Array) -> jax.Array:
  """Whether the likeliest class is this label.

  Args:
    outputs: of n pictures.
    label: i32[n].

  Returns:
    bool[n].
  """
  return jnp.argmax(outputs.logits, axis=-1).astype(jnp.int32) == label


def own_bound(outputs: Outputs, label: jax.Array) -> jax.Array:
  """||softmax - onehot||_2: the bound of a picture as one of the samples in it would have it.

  Args:
    outputs: of n pictures.
    label: i32[n,M], labels to look at for each picture.

  Returns:
    f32[n,M]; for a plain image with its own label the `gradient_bound`.
  """
  if outputs.gradient_norm is not None:
    return jnp.broadcast_to(outputs.gradient_norm[:, None], label.shape)
  p = jax.nn.softmax(outputs.logits, axis=-1)
  # 1 - p(label) is what the others sum to: differences of numbers near 1 have few digits left.
  own = jax.nn.one_hot(label, p.shape[-1], dtype=bool)
  others = jnp.where(own, jnp.float32(0), p[:, None])
  return jnp.sqrt(jnp.sum(others**2, axis=-1) + jnp.sum(others, axis=-1) ** 2)


def remember(table: jax.Array, batch: Batch, value: jax.Array) -> jax.Array:
  """Writes what a batch says of its samples into a table of latest values.

  A sample that occurs several times, in one picture or in several, gets the mean by its shares;
  scattering sums, not values, keeps the result the same on every device.

  Args:
    table: f32[N].
    batch: n pictures of M samples each; those of weight 0 are passed over.
    value: f32[n,M], of each sample in each picture.

  Returns:
    f32[N].
  """
  share = batch.part_share * (batch.weight > 0).astype(jnp.float32)[:, None]
  index, share = batch.part_index.ravel(), share.ravel()
  nothing = jnp.zeros_like(table)
  total = nothing.at[index].add(share * value.ravel())
  seen = nothing.at[index].add(share)
  return jnp.where(seen > 0, total / jnp.where(seen > 0, seen, jnp.float32(1)), table)


class Means(NamedTuple):
  """Running averages from 0 of the mean losses of batches, each for the samples that were in them.

  The batch loss score (BLS) of Zhou et al., CVPR 2026: no loss of a single sample is needed.
  """

  total: jax.Array  # f32[N]
  share: jax.Array  # f32[N]  of the average that was seen, 1 - 0.9^k after k batches


def no_means(count: int) -> Means:
  """The averages of N samples before anybody is seen."""
  return Means(*(jnp.zeros(count, jnp.float32) for _ in range(2)))


def remember_mean(means: Means, batch: Batch, loss: jax.Array) -> Means:
  """Writes a batch's mean loss to everybody in it.

  Args:
    means: before.
    batch: n pictures; those of weight 0 are passed over.
    loss: f32[n].

  Returns:
    The averages after: 0.9 of what they were and 0.1 of the mean.
  """
  real = (batch.weight > 0).astype(jnp.float32)
  mean = jnp.sum(real * loss) / jnp.maximum(jnp.sum(real), 1)
  value = jnp.broadcast_to(mean, batch.part_share.shape)
  now = remember(jnp.full_like(means.total, jnp.nan), batch, value)
  was_in = ~jnp.isnan(now)
  total = jnp.where(was_in, 0.9 * means.total + 0.1 * now, means.total)
  return Means(total, jnp.where(was_in, 0.9 * means.share + 0.1, means.share))


def batch_means(means: Means) -> jax.Array:
  """The batch loss score of everybody: the average, over the share of it that was seen.

  The original, whose first epoch sees everybody, does not divide: after 1 batch of a loss of 2 and
  after 7 of it the score would be 0.2 and 1.04, and tell how often a sample was seen.

  Args:
    means: of `remember_mean`.

  Returns:
    f32[N]; who was not seen has the largest score of those who were, 0 if nobody was.
  """
  seen = means.share > 0
  score = means.total / jnp.where(seen, means.share, jnp.float32(1))
  return jnp.where(seen, score, jnp.max(jnp.where(seen, score, jnp.float32(0))))
