"""RCAP: losses, class quotas and draws, by hand and by their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget.selectors import rcap
from jaxbudget.selectors.importance import Importance

LABEL = np.repeat([0, 1, 2], [24, 16, 8])


def test_losses_are_the_latest_and_log_c_at_most():
  seen = jnp.array([0.0, 1, 1, 2])
  total = jnp.array([0.0, 0.5, 1.0, 0.4])  # 1 - p(y), times the shares seen
  found = rcap.losses(Importance(total, seen), 4)
  np.testing.assert_allclose(found, [np.log(4), np.log(2), np.log(4), -np.log(0.8)], rtol=1e-6)


def test_q_is_a_softmax_over_the_class():
  loss = np.random.default_rng(0).random(48).astype('f4') * 3
  for temperature in (1 / 3, 3):
    q = np.exp(rcap.log_q(loss, LABEL, 4, temperature))  # class 3 is empty
    for c in range(3):
      own = np.exp(loss[LABEL == c] / temperature)
      np.testing.assert_allclose(q[LABEL == c], own / own.sum(), rtol=1e-5)


@pytest.mark.parametrize(
  ('share', 'size', 'samples', 'expected'),
  [
    ((1, 1, 2), (100, 100, 100), 40, (10, 10, 20)),
    ((1, 1, 2), (100, 100, 5), 40, (18, 18, 5)),  # 17.5 each: 15 that the third lacks
    ((1, 1, 8), (4, 100, 5), 40, (4, 31, 5)),  # a class that fills up only in the second round
    ((1, 0, 1), (30, 30, 30), 20, (10, 0, 10)),
    ((1, 2, 3), (5, 5, 5), 15, (5, 5, 5)),
    ((1, 1, 1), (30, 30, 0), 20, (10, 10, 0)),
  ],
)
def test_quotas_by_hand(share, size, samples, expected):
  found = rcap.quotas(jnp.array(share, jnp.float32), jnp.array(size, jnp.float32), samples)
  assert tuple(np.asarray(found)) == expected


def test_draws_fill_the_quotas_by_q():
  chances = rcap.log_q(np.linspace(0, 3, 48).astype('f4'), LABEL, 3, 1.0)
  quota = jnp.array([1, 5, 0])
  draw = jax.jit(rcap.draw_in_classes)
  drawn = np.stack([draw(jax.random.key(s), chances, LABEL, quota) for s in range(500)])
  for c in range(3):
    assert (drawn[:, LABEL == c].sum(1) == quota[c]).all()
  q = np.exp(chances)[:24]
  assert np.abs(drawn[:, :24].mean(0) - q).max() < 4.5 * np.sqrt(q.max() / 500)


SELECTOR = rcap.rcap(toys.SPEC, 0.5, LABEL)  # 24 samples, 3 rows of 8
PLAN = jax.jit(SELECTOR.plan)


def draws(state, epochs=40):
  """How often each sample is planned."""
  counts = np.zeros(48, int)
  for e in range(epochs):
    state, plan = PLAN(state, jax.random.key(e), 0)
    np.add.at(counts, np.asarray(plan.index)[:3].ravel(), 1)
  return counts


def test_equal_losses_of_equal_classes_are_stratified_uniform_sampling():
  label = jnp.arange(48, dtype=jnp.int32) % 3
  state = SELECTOR.init(jax.random.key(0))._replace(label=label)
  after, plan = PLAN(state, jax.random.key(1), 0)
  used = np.asarray(plan.index)[:3].ravel()
  assert np.bincount(np.asarray(label)[used]).tolist() == [8, 8, 8]
  np.testing.assert_allclose(after.mass, 0.5)
  assert np.abs(draws(state) - 20).max() < 4.5 * np.sqrt(40 * 0.25)


def test_classes_get_by_size_and_by_the_q_mass_drawn_last():
  """s_c = sqrt(L_c N_c / N): 10.01, 8.17 and 5.78 of 24 samples at first."""
  state, plan = PLAN(SELECTOR.init(jax.random.key(0)), jax.random.key(1), 0)
  quota = np.array([11, 9, 6])
  np.testing.assert_allclose(state.mass, quota / [24, 16, 8], rtol=1e-5)
  used = np.asarray(plan.index)[:3].ravel()
  assert (np.bincount(LABEL[used]) <= quota).all() and len(set(used)) == 24
  share = np.sqrt(quota / 48)  # q is uniform: L_c N_c is what was drawn
  state, _ = PLAN(state, jax.random.key(2), 0)
  expected = np.ceil(24 * share / share.sum())
  assert expected.tolist() != quota.tolist()
  np.testing.assert_allclose(state.mass, expected / [24, 16, 8], rtol=1e-5)


def test_hard_samples_of_a_class_come_more_often():
  difficulty = jnp.linspace(0, 1, 48)[::-1]
  state = SELECTOR.init(jax.random.key(0))
  state = state._replace(importance=Importance(difficulty, jnp.ones(48)))
  counts = draws(state)
  for c in range(3):
    own = np.flatnonzero(LABEL == c)
    half = len(own) // 2
    assert counts[own[:half]].sum() > counts[own[half:]].sum()


def test_feedback_is_that_of_the_latest_importance():
  update = rcap.rcap(toys.SPEC, 0.25).update
  assert update is SELECTOR.update  # one program for all budgets


def test_rcap_refuses():
  with pytest.raises(ValueError, match='temperature must be positive'):
    rcap.rcap(toys.SPEC, 0.5, temperature=0)
  with pytest.raises(ValueError, match='cannot start without the labels'):
    rcap.rcap(toys.SPEC, 0.5).init(jax.random.key(0))
