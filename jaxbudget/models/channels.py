"""Sums over all but channels, as BatchNorm and its gradient need them.

XLA gives a column of up to 4,096 numbers to one block of a GPU for 128 channels, so that the late
stages of a network, where pictures are small and channels many, keep four of 132 processors busy;
and it ends each longer sum by a launch of its own (docs/performance.md). So on a GPU sums are taken
in two steps, over parts of pictures and over these, and what is summed together ends together.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

FEW = 256  # numbers to a channel that are summed at once


def moments(x: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
  """Means of values and of squares.

  Args:
    x: f32[n,h,w,c].
    mask: bool[n,1,1,1], the pictures that count; None is all.

  Returns:
    f32[c] of each.
  """
  count = jnp.float32(math.prod(x.shape[:3]))
  if mask is not None:
    count = jnp.sum(mask, dtype=jnp.float32) * math.prod(x.shape[1:3])
  counted = lambda of: of if mask is None else jnp.where(mask, of, 0)
  values = lax.stop_gradient(x)
  sums = totals(counted(values), counted(values * values))
  # In this order a gradient adds up as it does where each is summed by itself: to the same bits.
  mean = _as_sum(counted(x), sums[0]) / count
  return mean, _as_sum(counted(x * x), sums[1]) / count


@jax.custom_vjp
def affine(x: jax.Array, factor: jax.Array, summand: jax.Array) -> jax.Array:
  """Multiplies and shifts each channel.

  Args:
    x: f32[n,h,w,c].
    factor: f32[c].
    summand: f32[c].

  Returns:
    f32[n,h,w,c].
  """
  return x * factor[None, None, None] + summand[None, None, None]


def totals(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Sums over all but channels.

  Args:
    *arrays: f32[n,h,w,c].

  Returns:
    f32[c] of each.
  """
  if math.prod(arrays[0].shape[:3]) <= FEW:
    return _at_once(*arrays)
  return lax.platform_dependent(*arrays, cuda=_by_parts, rocm=_by_parts, default=_at_once)


@jax.custom_vjp
def _as_sum(x, total):
  """A sum over all but channels, known as that of x."""
  del x
  return total


def _as_sum_backward(shape, cotangent):
  return jnp.broadcast_to(cotangent, shape), jnp.zeros_like(cotangent)


def _affine_backward(kept, cotangent):
  x, factor = kept
  return cotangent * factor[None, None, None], *totals(cotangent * x, cotangent)


_as_sum.defvjp(lambda x, total: (total, x.shape), _as_sum_backward)
affine.defvjp(lambda x, *rest: (affine(x, *rest), (x, rest[0])), _affine_backward)


def _at_once(*arrays):
  return tuple(jnp.sum(x, (0, 1, 2)) for x in arrays)


def _by_parts(*arrays):
  shape = arrays[0].shape
  parts = _parts(*shape[:3])
  sums = [jnp.sum(x.reshape(parts, -1, shape[3]), 1) for x in arrays]
  # One sum of pairs, started from -0: XLA would make one of two sums of single numbers.
  start = [jnp.float32(-0.0)] * len(sums)
  return tuple(
    lax.reduce(sums, start, lambda a, b: [x + y for x, y in zip(a, b, strict=True)], (0,))
  )


@functools.cache
def _parts(n, height, width):
  """Into how many parts of pictures n pictures are split: the longer of both steps is shortest."""
  splits = [k for k in range(1, height + 1) if height % k == 0]
  return n * min(splits, key=lambda k: max(n * k, height // k * width))
