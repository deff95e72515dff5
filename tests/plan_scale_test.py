"""Selection at ten million samples: what it needs and how it grows, without running it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbudget import epoch
from jaxbudget.sampling import draw, sort_by
from jaxbudget.selectors import make_selector
from jaxbudget.types import Spec

LARGE = 10_000_000


def compiled_plan(name, num_examples):
  spec = Spec(num_examples, 128, 10, 200, (32, 32, 3))
  selector = make_selector(name, spec, 0.3)
  root = jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(selector.init, root)
  place = jax.ShapeDtypeStruct((), jnp.int32)
  lowered = epoch.plan_program.lower(selector.plan, num_examples // 128, state, place, root)
  return lowered.compile()


def total_bytes(compiled):
  found = compiled.memory_analysis()
  results = found.output_size_in_bytes - found.alias_size_in_bytes
  return found.argument_size_in_bytes + results + found.temp_size_in_bytes


@pytest.mark.parametrize('name', ['unif_sgd', 'p_sgd', 'c_sgd'])
def test_ten_million_samples_are_planned_in_600_megabytes(name):
  assert total_bytes(compiled_plan(name, LARGE)) <= 600e6


def test_memory_and_work_grow_linearly_but_for_the_sort():
  small, large = (compiled_plan('p_sgd', n) for n in (LARGE // 100, LARGE))
  assert total_bytes(large) <= 101 * total_bytes(small)
  flops = [compiled.cost_analysis()['flops'] for compiled in (small, large)]
  assert flops[1] <= 101 * np.log(LARGE) / np.log(LARGE // 100) * flops[0]


@pytest.mark.parametrize('name', ['p_sgd', 'c_sgd'])
def test_importance_takes_at_most_16_bytes_a_sample(name):
  spec = Spec(LARGE, 128, 10, 200, (32, 32, 3))
  state = jax.eval_shape(make_selector(name, spec, 0.3).init, jax.random.key(0))
  assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) <= 16 * LARGE


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), min_size=7, max_size=7))
def test_sort_by_is_a_stable_sort_by_words(words):
  words = np.array(words, np.uint32)
  got = sort_by(jnp.asarray(words), jnp.arange(7, dtype=jnp.int32))
  assert got.dtype == jnp.int32
  np.testing.assert_array_equal(got, np.argsort(words, kind='stable'))


def test_sort_by_carries_indices_up_to_the_largest():
  index = jnp.array([2**31 - 1, 0, 2**30], jnp.int32)
  np.testing.assert_array_equal(
    sort_by(jnp.array([5, 2**32 - 1, 0], jnp.uint32), index), [2**30, 2**31 - 1, 0]
  )


def test_draw_takes_the_largest_clocks_of_either_sign():
  weight = jnp.asarray(np.logspace(-3, 0, 64), jnp.float32)
  key = jax.random.key(3)
  clock = jnp.log(weight / jnp.sum(weight)) + jax.random.gumbel(jax.random.split(key)[0], (64,))
  expected = np.argsort(-np.asarray(clock), kind='stable')[:20]
  assert (clock[expected] > 0).any() and (clock[expected] < 0).any()
  assert set(np.asarray(draw(key, weight, 20)).tolist()) == set(expected.tolist())
