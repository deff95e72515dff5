"""Draws of samples against their laws: enumerated, exact in fixed point, and by statistics."""

import bisect
import collections
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbudget import sampling

DRAWS = 20_000
KEYS = [jax.random.split(jax.random.key(seed), DRAWS) for seed in range(2)]


@functools.partial(jax.jit, static_argnums=(2, 3))  # few shapes: each takes seconds to compile
def draw_all(keys, weight, samples, replacement):
  """A draw for each key: i32[DRAWS, samples]."""
  return jax.vmap(lambda key: sampling.draw(key, weight, samples, replacement))(keys)


def enumerate_sets(p, n):
  """P(set) under successive sampling without replacement, by brute force."""
  law = {}
  for order in itertools.permutations(range(len(p)), n):
    probability, left = 1.0, 1.0
    for i in order:
      probability *= p[i] / left
      left -= p[i]
    law[frozenset(order)] = law.get(frozenset(order), 0) + probability
  return law


@pytest.mark.parametrize('n', [2, 3])
def test_law_without_replacement_is_successive_sampling(n):
  weight = np.random.RandomState(n).rand(5).astype(np.float32) + 0.05
  sample = np.asarray(draw_all(KEYS[0], jnp.array(weight), n, False))
  assert all(len(set(row)) == n for row in sample.tolist())
  law = enumerate_sets(weight / weight.sum(), n)
  sets = collections.Counter(map(frozenset, sample.tolist()))
  for key, probability in law.items():
    error = math.sqrt(probability * (1 - probability) / DRAWS)
    assert abs(sets[key] / DRAWS - probability) < 4.5 * error
  # The order carries nothing: every drawn sample is first equally often, given the set.
  top = int(np.argmax(weight))
  chosen = (sample == top).any(1)
  first = (sample[:, 0] == top)[chosen].mean()
  assert abs(first - 1 / n) < 4.5 * math.sqrt((1 / n) * (1 - 1 / n) / chosen.sum())


def test_law_with_replacement_is_independent():
  weight = np.array([1, 0, 2, 5, 2], np.float32)
  first, second = np.asarray(draw_all(KEYS[1], jnp.array(weight), 2, True)).T
  pairs = np.bincount(5 * first + second, minlength=25).reshape(5, 5) / DRAWS
  exact = np.outer(weight, weight) / 100
  assert (abs(pairs - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / DRAWS)).all()


def test_zero_weights_come_last_and_all_zero_means_uniform():
  drawn = draw_all(KEYS[0], jnp.array([0.0, 1.0, 0.0, 3.0, 0.0]), 2, False)
  assert all({1, 3} == set(row) for row in drawn.tolist())
  drawn = draw_all(KEYS[0], jnp.array([0.0, 1.0, 0.0, 0.0, 0.0]), 2, False)
  assert all({1} < set(row) for row in drawn.tolist())  # infeasible: filled up
  for replacement in (False, True):
    drawn = draw_all(KEYS[0], jnp.zeros(5), 2, replacement)
    share = np.bincount(np.asarray(drawn).ravel(), minlength=5) / (2 * DRAWS)
    np.testing.assert_allclose(share, 0.2, atol=0.02)


def test_what_is_not_finite_weighs_as_much_as_the_heaviest():
  weight = np.array([1, 4, 2, 4, 3], np.float32)
  spoilt = np.array([1, np.nan, 2, 4, 3], np.float32)
  for replacement in (False, True):
    found = [draw_all(KEYS[0], jnp.array(w), 2, replacement) for w in (weight, spoilt)]
    np.testing.assert_array_equal(*found)
  spoilt[1] = np.inf
  np.testing.assert_array_equal(*(sampling.inclusion(jnp.array(w), 2) for w in (weight, spoilt)))
  nothing = sampling.inclusion(jnp.full(5, jnp.nan), 2)
  np.testing.assert_allclose(nothing, 0.4, rtol=1e-6)


def test_shuffle_is_uniform_over_orders():
  keys = jax.random.split(jax.random.key(2), 12_000)
  shuffle = jax.jit(jax.vmap(lambda k: sampling.shuffle(k, jnp.arange(4, dtype=jnp.int32))))
  orders = np.asarray(shuffle(keys))
  code = orders @ np.array([64, 16, 4, 1])
  _, count = np.unique(code, return_counts=True)
  assert count.size == 24
  chi2 = ((count - 500) ** 2 / 500).sum()
  assert chi2 < 52  # 23 degrees of freedom, p < 0.001


def shares(weight):
  """What each sample has of the total, from the cumulative table; and the total."""
  table = np.asarray(jax.jit(sampling.cumulative)(jnp.asarray(weight)))
  return np.diff(table, prepend=np.uint64(0)), table[-1]


def test_law_with_replacement_at_ten_million_samples():
  # Every sample's share, enumerated. In float32 sums a sixth of them had none at all.
  rng = np.random.default_rng(0)
  weight = rng.random(10**7).astype(np.float32) ** 4
  weight[::9] = 0
  weight[[4, 5]] = 3e4, 1e-40  # as much as a hundredth of the others together; next to nothing
  share, total = shares(weight)
  assert 2**61 - weight.size <= total < 2**62 + weight.size
  exact = weight / weight.sum(dtype=np.float64)
  assert ((share > 0) == (weight > 0)).all()
  error = np.abs(share / total - exact)
  assert (error <= (1 + weight.size * exact) * (1 + 1e-3) / total).all()
  common = exact > 1e-3 / weight.size
  assert (error[common] / exact[common]).max() < 1e-8


@settings(deadline=None, max_examples=40)
@given(
  st.lists(st.floats(0, 2.0**127, width=32), min_size=5, max_size=5).filter(any),
  st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3),
)
def test_points_lie_where_whole_numbers_say(weight, points):
  weight = np.array(weight, np.float32)
  table = np.asarray(_cumulative(weight)).tolist()
  # The first point of each sample and the last of the one before, and any others.
  edges = [-(-c * 2**64 // table[-1]) for c in table[:-1] if c < table[-1]]
  points = [*points, 0, 2**64 - 1, *edges, *(edge - 1 for edge in edges if edge)]
  points = [*points, *[0] * (16 - len(points))]
  words = np.array([[p >> 32 for p in points], [p & 2**32 - 1 for p in points]], np.uint32)
  found = np.asarray(_at_points(weight, words)).tolist()
  assert found == [bisect.bisect_right(table, p * table[-1] >> 64) for p in points]
  assert all(weight[found] > 0)


_cumulative = jax.jit(sampling.cumulative)
_at_points = jax.jit(lambda weight, words: sampling.at_points(sampling.cumulative(weight), words))


def test_fixed_point_is_exact_where_it_can_be():
  for weight in ([1, 2, 4, 1], [3e38, 1e38], [2**-149] * 3, [1, 0, 2**-30], [5]):
    share, total = shares(np.array(weight, np.float32))
    exact = np.array(weight, np.float32).astype(np.longdouble)
    np.testing.assert_array_equal(share * exact.sum(), exact * np.longdouble(total))
