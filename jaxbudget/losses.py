"""Per-sample losses."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
  """Cross-entropy of every sample against its class distribution.

  Linear in the target, so mixup and RICAP need no loss of their own.

  Args:
    logits: f32[n,C].
    target: f32[n,C], rows sum to 1.

  Returns:
    f32[n], nats.

  Raises:
    ValueError: there is one class only, whose loss is always 0, or the shapes differ.
  """
  check_width(logits, target)
  if logits.shape[-1] == 1:
    raise ValueError(
      'cross-entropy of C=1 output is always 0, and nothing would be learned: classes must be 2 or '
      'more; numbers to predict want task=regression, in each place that takes a task'
    )
  return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
  """Mean over outputs of the squared error of every sample.

  Args:
    output: f32[n,C].
    target: f32[n,C].

  Returns:
    f32[n].

  Raises:
    ValueError: the shapes differ.
  """
  check_width(output, target)
  return jnp.mean((output - target) ** 2, axis=-1)


def check_width(output: jax.Array, target: jax.Array) -> None:
  """Refuses outputs of another shape than the targets.

  Raises:
    ValueError: naming both.
  """
  if output.shape != target.shape:
    raise ValueError(
      f'the network gives {list(output.shape)}, but the targets are {list(target.shape)}: both '
      'must be [n,C] of the C that is Spec.num_classes'
    )
