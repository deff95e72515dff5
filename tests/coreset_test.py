"""Fixed subsets, forgetting events and core-set scores, fidelity.md 2.8 and 2.9."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import ledger
from jaxbudget.selectors import make_selector
from jaxbudget.selectors.coreset import (
  Forgetting,
  count_events,
  forgetting_scores,
  forgetting_sgd,
  kcenter_order,
  random_subset,
  score_of,
)
from jaxbudget.selectors.coreset import (
  coreset as coreset_factory,
)
from jaxbudget.types import (
  Batch,
  Outputs,
  Spec,
  blank_batch,
  keep_weights,
  no_feedback,
  take_all,
)

SPEC = Spec(num_examples=40, batch_size=4, num_classes=3, epochs=5, image_shape=(2, 2, 1))


def plans(selector, seed=0, epochs=3):
  """Samples used in each epoch, by the rows that exist."""
  state = selector.init(jax.random.key(seed))
  used = []
  for epoch in range(epochs):
    state, plan = selector.plan(state, jax.random.fold_in(jax.random.key(9), epoch), epoch)
    assert plan.index.shape == (10, 4) and int(plan.rows) == selector.facts.rows
    np.testing.assert_array_equal(
      plan.weight, np.repeat(np.arange(10) < plan.rows, 4).reshape(10, 4)
    )
    used.append(np.asarray(plan.index[: int(plan.rows)]).ravel())
  return used


def test_random_subset_stays_and_is_shuffled():
  first, second, third = plans(random_subset(SPEC, 0.3))  # 12 samples, 3 rows
  assert set(first) == set(second) == set(third) and len(set(first)) == 12
  assert not np.array_equal(first, second) and not np.array_equal(second, third)


def test_random_subset_drops_the_tail_of_a_shuffle():
  used = plans(random_subset(SPEC, 0.35), epochs=20)  # 14 samples, 3 rows of 4
  assert all(len(set(u)) == 12 for u in used)
  assert len(set(np.concatenate(used))) == 14


def test_random_subsets_differ_by_seed_and_are_nested_by_budget():
  small, large = random_subset(SPEC, 0.3), random_subset(SPEC, 0.5)
  assert set(plans(small, seed=1)[0]) != set(plans(small, seed=2)[0])
  assert set(plans(small, seed=1)[0]) < set(plans(large, seed=1)[0])


def test_random_subset_is_uniform():
  keys = jax.random.split(jax.random.key(3), 2000)
  orders = jax.vmap(random_subset(SPEC, 0.3).init)(keys)
  chosen = np.bincount(np.asarray(orders[:, :12]).ravel(), minlength=40)
  expected = 2000 * 0.3
  assert np.abs(chosen - expected).max() < 4.5 * np.sqrt(expected * 0.7)


@pytest.mark.parametrize('name', ['random_subset', 'coreset'])
@pytest.mark.parametrize('budget', [0.2, 0.3, 0.5, 0.7])
def test_facts_are_those_of_unif_sgd(name, budget):
  facts = make_selector(name, SPEC, budget).facts
  facts = facts._replace(uniform_on_ties=True, asks=())
  assert facts == make_selector('unif_sgd', SPEC, budget).facts


def test_state_shape_does_not_depend_on_the_budget():
  scores = np.zeros(40)
  for budget in (0.2, 0.7):
    for selector in (random_subset(SPEC, budget), coreset_factory(SPEC, budget, scores)):
      state = selector.init(jax.random.key(0))
      assert state.shape == (40,) and state.dtype == jnp.int32
      hooks = selector.select, selector.weigh, selector.update
      assert hooks == (take_all, keep_weights, no_feedback)


def test_coreset_keeps_the_highest_scores():
  scores = np.random.default_rng(0).permutation(40).astype(np.float32)
  scores[7] = np.inf
  used = set(plans(coreset_factory(SPEC, 0.3, scores))[0])
  assert used == set(np.argsort(-scores)[:12])
  assert 7 in used


def test_coreset_breaks_ties_at_random_by_seed():
  scores = np.zeros(40)
  scores[:6] = 5  # six are sure, six of 34 are drawn
  chosen = [set(plans(coreset_factory(SPEC, 0.3, scores), seed)[0]) for seed in range(20)]
  assert all(set(range(6)) < c for c in chosen)
  assert len(set(map(frozenset, chosen))) > 1
  assert set(plans(coreset_factory(SPEC, 0.3, scores), 3)[0]) == chosen[3]
  assert len(set().union(*chosen)) > 30


@pytest.mark.parametrize(
  ('options', 'scores', 'message'),
  [
    ({'score': 'forgeting'}, None, "did you mean 'forgetting'"),
    ({}, np.zeros(39), '40 numbers'),
    ({}, np.full(40, np.nan), '40 NaN'),
  ],
)
def test_coreset_refuses(options, scores, message):
  with pytest.raises(ValueError, match=message):
    coreset_factory(SPEC, 0.3, scores, **options)


def test_coreset_is_charged_for_its_scores():
  full = 3 * SPEC.epochs * SPEC.num_examples
  with pytest.raises(ValueError, match='the runs that come first alone cost 1.0000'):
    coreset_factory(SPEC, ledger.as_budget(0.3, 'compute', spent=full))
  half = coreset_factory(SPEC, ledger.as_budget(0.75, 'compute', spent=full // 4))
  assert half.facts == coreset_factory(SPEC, 0.5).facts


def test_coreset_without_scores_can_be_planned_but_not_started():
  selector = coreset_factory(SPEC, 0.3)
  assert selector.facts.rows == 3
  with pytest.raises(ValueError, match='cannot start without the scores'):
    selector.init(jax.random.key(0))


def presentation(samples, predicted, label=1, weight=None):
  """A batch of samples of one class, and outputs that predict the given classes."""
  n = len(samples)
  batch: Batch = blank_batch(SPEC, n)._replace(
    index=jnp.array(samples, jnp.int32),
    label=jnp.full(n, label, jnp.int32),
    weight=jnp.ones(n) if weight is None else jnp.array(weight, jnp.float32),
  )
  logits = jax.nn.one_hot(jnp.array(predicted), SPEC.num_classes) * 3
  return batch, Outputs(logits, jnp.zeros(n))


def test_forgetting_events_hand_traced():
  """Presentations of five samples: o correct, x wrong.

  0: x o x o x   forgotten twice
  1: o o o o o   never
  2: x x x x x   never learned: infinitely often
  3: x x o o o   learned late, never forgotten
  4: o - x - o   seen in every other epoch: forgotten once
  """
  traces = ['xoxox', 'ooooo', 'xxxxx', 'xxooo', 'o-x-o']
  selector = forgetting_sgd(SPEC)
  state = selector.init(jax.random.key(0))
  for epoch in range(5):
    seen = [i for i, trace in enumerate(traces) if trace[epoch] != '-']
    predicted = [1 if traces[i][epoch] == 'o' else 2 for i in seen]
    # Two rows of an epoch: the order among samples must not matter.
    for part in (seen[:2], seen[2:]):
      state = selector.update(state, *presentation(part, [predicted[seen.index(i)] for i in part]))
  scores = np.asarray(selector.scores(state))
  np.testing.assert_array_equal(scores[:5], [2, 0, np.inf, 0, 1])
  assert np.isinf(scores[5:]).all()  # never presented


def test_padding_is_no_presentation():
  zeros = jnp.zeros(40, bool)
  state = Forgetting(zeros, zeros, jnp.zeros(40, jnp.int32))
  state = count_events(state, *presentation([0, 3], [1, 1]))
  after = count_events(state, *presentation([0, 3], [2, 2], weight=[1, 0]))
  assert np.asarray(after.events)[[0, 3]].tolist() == [1, 0]
  assert bool(after.correct[3]) and not bool(after.correct[0])
  assert forgetting_scores(after)[3] == 0


def test_forgetting_sgd_is_sgd():
  """The same plan, facts and costs; nothing but the state is added."""
  sgd, scoring = make_selector('sgd', SPEC, 1.0), forgetting_sgd(SPEC)
  key = jax.random.key(4)
  assert scoring.facts._replace(asks=()) == sgd.facts
  np.testing.assert_array_equal(
    scoring.plan(scoring.init(key), key, 0)[1].index, sgd.plan((), key, 0)[1].index
  )
  assert forgetting_sgd(SPEC).update is scoring.update  # one program for all runs
  with pytest.raises(ValueError, match='budget must be 1'):
    forgetting_sgd(SPEC, 0.5)


def brute_force_kcenter(features, initial, samples):
  """Farthest-first traversal with all pairwise distances."""
  centres = list(initial)
  pairwise = np.linalg.norm(features[:, None] - features[None], axis=-1)
  while len(centres) < samples:
    nearest = pairwise[:, centres].min(axis=1)
    nearest[centres] = -1
    centres.append(int(nearest.argmax()))
  return centres


def test_kcenter_against_brute_force_on_50_points():
  features = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
  for initial, samples in itertools.product((1, 5), (12, 50)):
    order = np.asarray(kcenter_order(features, jax.random.key(0), samples, initial))
    assert order.tolist() == brute_force_kcenter(features, order[:initial], samples)


def test_kcenter_stops_between_calls_that_change_nothing(monkeypatch):
  features = jax.random.normal(jax.random.key(3), (40, 3))
  whole = np.asarray(kcenter_order(features, jax.random.key(0), 30, 2))
  monkeypatch.setattr(sys.modules['jaxbudget.selectors.coreset'], '_READ', 7 * features.nbytes)
  asked = []
  order = kcenter_order(features, jax.random.key(0), 30, 2, between=lambda: asked.append(0))
  np.testing.assert_array_equal(order, whole)
  assert len(asked) == 5


def test_kcenter_is_nested_and_survives_duplicates():
  features = jnp.repeat(jnp.arange(5.0), 4)[:, None] * jnp.ones((1, 2))
  key = jax.random.key(2)
  short, whole = (np.asarray(kcenter_order(features, key, n, 1)) for n in (5, 20))
  assert short.tolist() == whole[:5].tolist()
  assert len(set(whole)) == 20
  assert sorted(np.asarray(features)[short, 0]) == [0, 1, 2, 3, 4]  # one of each place first


def test_kcenter_starts_at_random():
  features = jnp.zeros((50, 2))
  starts = [np.asarray(kcenter_order(features, jax.random.key(s), 8, 8)) for s in range(2)]
  assert len(set(starts[0])) == 8 and set(starts[0]) != set(starts[1])


@pytest.mark.parametrize('score', ['least_confidence', 'entropy', 'kcenter'])
def test_scores_of_what_a_model_said(score):
  found = np.random.default_rng(2).random((11, 3)).astype(np.float32)
  scores = np.asarray(score_of(score, jnp.asarray(found), jax.random.key(5), 6))
  p = np.exp(found) / np.exp(found).sum(1, keepdims=True)
  if score == 'least_confidence':
    np.testing.assert_allclose(scores, 1 - p.max(1), rtol=1e-5)
  elif score == 'entropy':
    np.testing.assert_allclose(scores, -(p * np.log(p)).sum(1), rtol=1e-5)
  else:
    order = kcenter_order(jnp.asarray(found), jax.random.key(5), 6)
    assert np.argsort(-scores)[:6].tolist() == np.asarray(order).tolist()
    assert (scores > 0).sum() == 6
