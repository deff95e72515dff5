"""Sums over all but channels: the same in one step and in two, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget.models import channels
from jaxbudget.models.channels import affine, moments, totals

SHAPES = [(128, 4, 4, 6), (8, 16, 16, 3), (3, 21, 7, 2), (17, 1, 19, 2)]


def drawn(*shapes):
  rng = np.random.RandomState(0)
  return [jnp.asarray(rng.normal(1, 2, shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize('shape', SHAPES)
def test_two_steps_sum_what_one_does(shape):
  both = drawn(shape, shape)
  for one, two, x in zip(channels._at_once(*both), channels._by_parts(*both), both, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5)
    np.testing.assert_allclose(two, np.sum(np.asarray(x, np.float64), (0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
  ('sides', 'parts'),
  [
    ((128, 32, 32), 256),
    ((128, 4, 4), 128),
    ((8, 16, 16), 32),
    ((128, 84, 84), 896),
    ((5, 7, 1), 5),
  ],
)
def test_neither_step_is_longer_than_it_must_be(sides, parts):
  assert channels._parts(*sides) == parts
  longest = lambda count: max(count, np.prod(sides) // count)
  splits = [sides[0] * k for k in range(1, sides[1] + 1) if sides[1] % k == 0]
  assert longest(parts) == min(map(longest, splits))


def plain(x, mask, scale, bias):
  """BatchNorm by JAX's own means and products."""
  mean = jnp.mean(x, (0, 1, 2), where=mask)
  var = jnp.maximum(0.0, jnp.mean(x * x, (0, 1, 2), where=mask) - mean**2)
  factor = scale * jax.lax.rsqrt(var + 1e-5)
  summand = bias - mean * factor
  return x * factor[None, None, None] + summand[None, None, None]


def ours(x, mask, scale, bias):
  mean, of_squares = moments(x, mask)
  factor = scale * jax.lax.rsqrt(jnp.maximum(0.0, of_squares - mean**2) + 1e-5)
  return affine(x, factor, bias - mean * factor)


def gradients(norm, mask, *arguments):
  """Of weighted squares, by all arguments."""
  (weight,) = drawn(arguments[0].shape)
  loss = lambda x, scale, bias: jnp.sum(weight * norm(x, mask, scale, bias) ** 2)
  return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(*arguments)


@pytest.mark.parametrize('mask', [None, [True, False, True] * 8], ids=['all', 'some'])
@pytest.mark.parametrize('side', [4, 2])
def test_on_a_cpu_gradients_are_those_of_the_plain_formulas_bit_for_bit(mask, side):
  mask = None if mask is None else jnp.array(mask)[:, None, None, None]
  x, scale, bias = drawn((24, side, side, 6), (6,), (6,))
  expected, found = (gradients(norm, mask, x, scale, bias) for norm in (plain, ours))
  jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_in_two_steps_gradients_are_the_same_but_for_rounding(monkeypatch):
  arguments = drawn((32, 4, 4, 6), (6,), (6,))
  expected = gradients(plain, None, *arguments)
  monkeypatch.setattr(channels, '_at_once', channels._by_parts)
  found = gradients(ours, None, *arguments)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), expected, found)
  assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True))


def sums_in(text):
  return text.count('stablehlo.reduce(')


def test_a_gpu_takes_two_steps_and_ends_them_together():
  long, short = (jax.ShapeDtypeStruct((n, 4, 4, 6), jnp.float32) for n in (32, 16))
  lowered = lambda x, platform: (
    jax.jit(lambda x: totals(x, x * x)).trace(x).lower(lowering_platforms=(platform,)).as_text()
  )
  # Two sums of parts and one of pairs; else one of each.
  assert [sums_in(lowered(long, p)) for p in ('cuda', 'rocm', 'cpu', 'tpu')] == [3, 3, 2, 2]
  assert sums_in(lowered(short, 'cuda')) == 2


def test_ghosts_are_summed_side_by_side():
  (x,) = drawn((4, 32, 4, 4, 3))
  expected = [channels._by_parts(one)[0] for one in x]
  np.testing.assert_allclose(jax.vmap(channels._by_parts)(x)[0], expected, rtol=1e-6)
  np.testing.assert_allclose(jax.vmap(totals)(x)[0], expected, rtol=1e-5)
