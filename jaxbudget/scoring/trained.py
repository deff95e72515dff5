"""Scores by a trained model: its predictions, in eval mode on plain images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import feeding
from jaxbudget.losses import cross_entropy
from jaxbudget.types import Data, Model


def least_confidence(logits: jax.Array) -> jax.Array:
  """1 - max p.

  Coleman et al., `Selection via Proxy <https://arxiv.org/abs/1906.11829>`_, 2020.

  Args:
    logits: f32[N,C].

  Returns:
    f32[N].
  """
  return 1 - jnp.max(jax.nn.softmax(logits, axis=-1), axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
  """Entropy of the predicted distribution, nats; p = 0 adds nothing.

  Args:
    logits: f32[N,C].

  Returns:
    f32[N].
  """
  return jnp.sum(jax.scipy.special.entr(jax.nn.softmax(logits, axis=-1)), axis=-1)


def margin(logits: jax.Array) -> jax.Array:
  """How close the two likeliest classes are: p(2) - p(1), at most 0.

  Args:
    logits: f32[N,C].

  Returns:
    f32[N].
  """
  best = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), 2)[0]
  return best[:, 1] - best[:, 0]


def el2n(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Norm of the error vector, ||p - onehot(y)||.

  Paul et al., `Deep Learning on a Data Diet <https://arxiv.org/abs/2107.07075>`_, 2021.

  Args:
    logits: f32[N,C].
    label: i32[N].

  Returns:
    f32[N].
  """
  return jnp.linalg.norm(error(logits, label), axis=-1)


def grand_last_layer(
  logits: jax.Array, label: jax.Array, features: jax.Array, bias: bool = True
) -> jax.Array:
  """Norm of the cross-entropy's gradient with respect to the last layer, weights and bias.

  Args:
    logits: f32[N,C].
    label: i32[N].
    features: f32[N,D], what the last layer is given.
    bias: whether it has one.

  Returns:
    f32[N].
  """
  return el2n(logits, label) * jnp.sqrt(int(bias) + jnp.sum(features**2, axis=-1))


def error(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Errors p - onehot(y), the gradient of cross-entropy with respect to the logits: f32[N,C]."""
  onehot = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
  return jax.nn.softmax(logits, axis=-1) - onehot


def gradient_norms(
  model: Model,
  transform: Callable[[jax.Array], jax.Array],
  params: Any,
  model_state: Any,
  data: Data,
  batch_size: int,
  *,
  chunk: int = 8,
  between: Callable[[], None] = lambda: None,
) -> np.ndarray:
  """GraNd: the norm of each sample's gradient with respect to all parameters.

  Paul et al., `Deep Learning on a Data Diet <https://arxiv.org/abs/2107.07075>`_, 2021. At
  initialisation it does not beat random subsets (Kirsch, `Does 'Deep Learning on a Data Diet'
  reproduce? <https://arxiv.org/abs/2303.14753>`_, 2023). Costs a forward and a backward pass a
  sample.

  Args:
    model: the network.
    transform: `Augment.test`.
    params: of the model.
    model_state: of the model.
    data: the split, N samples.
    batch_size: samples in a call to the device; the last one is padded.
    chunk: samples whose gradients are held at a time.
    between: called between calls to the device; what it raises ends the pass.

  Returns:
    f32[N].
  """
  total, found = data.label.shape[0], []
  static = model, transform, batch_size, chunk
  with feeding.batches(data, batch_size) as feed:
    for number in range(-(-total // batch_size)):
      between()
      own = feed.at(number, number + 1)[0]
      found.append(np.asarray(_norms(*static, params, model_state, own, jnp.int32(number))))
      del own
  return np.concatenate(found)[:total]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _norms(model, transform, size, chunk, params, model_state, data, number):
  """Norms of a batch of `size` samples, the last sample repeated as padding."""
  index = number * size + jnp.arange(size, dtype=jnp.int32)
  index = jnp.minimum(index, data.label.shape[0] - 1)

  def norm(example):
    def loss(params):
      logits, _ = model.apply(params, model_state, transform(example[0][None]), train=False)
      target = jax.nn.one_hot(example[1][None], logits.shape[-1], dtype=jnp.float32)
      return cross_entropy(logits, target)[0]

    leaves = jax.tree.leaves(jax.grad(loss)(params))
    return jnp.sqrt(sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in leaves))

  image = feeding.fetch(data.image, number, index)
  return jax.lax.map(norm, (image, data.label[index]), batch_size=chunk)
