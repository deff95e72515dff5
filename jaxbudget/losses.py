"""Per-sample losses."""

import chex
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
  """
  chex.assert_equal_shape((logits, target))
  return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def squared_error(output: jax.Array, target: jax.Array) -> jax.Array:
  """Mean over outputs of the squared error of every sample.

  Args:
    output: f32[n,C].
    target: f32[n,C].

  Returns:
    f32[n].
  """
  chex.assert_equal_shape((output, target))
  return jnp.mean((output - target) ** 2, axis=-1)
