"""Layers as pure functions of their parameters, nested dicts of arrays."""

import jax
import jax.numpy as jnp

Params = dict[str, jax.Array]


def linear_init(key: jax.Array, inputs: int, outputs: int, deviation: float) -> Params:
  """A kernel f32[inputs,outputs] of normal numbers, and a bias of 0."""
  kernel = deviation * jax.random.normal(key, (inputs, outputs), jnp.float32)
  return {'kernel': kernel, 'bias': jnp.zeros(outputs, jnp.float32)}


def linear(params: Params, x: jax.Array) -> jax.Array:
  """Maps [...,inputs] to [...,outputs]."""
  return x @ params['kernel'] + jnp.expand_dims(params['bias'], range(x.ndim - 1))


def layer_norm_init(size: int) -> Params:
  """A scale of 1 and a bias of 0."""
  return {'scale': jnp.ones(size, jnp.float32), 'bias': jnp.zeros(size, jnp.float32)}


def layer_norm(params: Params, x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """Normalises [...,size] over its last axis (Ba et al., 2016)."""
  mean = jnp.mean(x, -1, keepdims=True)
  variance = jnp.mean((x - mean) ** 2, -1, keepdims=True)
  scale, bias = (jnp.expand_dims(params[k], range(x.ndim - 1)) for k in ('scale', 'bias'))
  return (x - mean) * jax.lax.rsqrt(variance + epsilon) * scale + bias
