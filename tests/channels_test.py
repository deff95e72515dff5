"""Sums over all but channels: the same in one step and in two, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget.models import channels
from jaxbudget.models.channels import affine, totals

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


def normalised(x, scale, bias, multiply, mean):
  first, second = mean(x, x * x)
  factor = scale * jax.lax.rsqrt(second - first**2 + 1e-5)
  return multiply(x, factor, bias - first * factor)


def test_gradients_are_those_of_the_plain_formulas_bit_for_bit():
  x, scale, bias, weight = drawn((24, 4, 4, 6), (6,), (6,), (24, 4, 4, 6))
  count = jnp.float32(24 * 16)

  def plain(x, scale, bias):
    mean = lambda *arrays: [jnp.mean(a, (0, 1, 2)) for a in arrays]
    multiply = lambda x, a, b: x * a[None, None, None] + b[None, None, None]
    return jnp.sum(weight * normalised(x, scale, bias, multiply, mean) ** 2)

  def ours(x, scale, bias):
    mean = lambda *arrays: [one / count for one in totals(*arrays)]
    return jnp.sum(weight * normalised(x, scale, bias, affine, mean) ** 2)

  expected, found = (jax.grad(f, (0, 1, 2))(x, scale, bias) for f in (plain, ours))
  jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_in_two_steps_gradients_are_the_same_but_for_rounding(monkeypatch):
  x, factor, summand = drawn((32, 4, 4, 6), (6,), (6,))

  def loss(x, factor, summand):
    return sum(jnp.sum(one**2) for one in totals(affine(x, factor, summand)))

  arguments = x, factor, summand
  at_once = jax.grad(loss, (0, 1, 2))(*arguments)
  monkeypatch.setattr(channels, '_at_once', channels._by_parts)
  jax.clear_caches()
  by_parts = jax.grad(loss, (0, 1, 2))(*arguments)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), at_once, by_parts)


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
