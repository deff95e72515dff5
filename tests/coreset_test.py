"""Fixed subsets and core-sets, fidelity.md 2.8 and 2.9."""

import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import ledger
from jaxbudget import options as options_lib
from jaxbudget.parts import part_index
from jaxbudget.scoring.choices import CHOICES
from jaxbudget.scoring.quotas import held_out_recall
from jaxbudget.scoring.table import SCORES, Setting, score_of
from jaxbudget.selectors import make_selector
from jaxbudget.selectors.coreset import QUOTAS
from jaxbudget.selectors.coreset import coreset as coreset_factory
from jaxbudget.selectors.dynamics import dynamics_sgd
from jaxbudget.selectors.subset import random_subset
from jaxbudget.types import Spec, keep_weights, no_feedback, take_all

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
  facts = make_selector(name, SPEC, budget).facts._replace(uniform_on_ties=True, asks=())
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


def test_coreset_can_be_initialised_within_a_program():
  init = coreset_factory(SPEC, 0.3, np.arange(40) % 7).init
  key = jax.random.key(1)
  np.testing.assert_array_equal(jax.jit(init)(key), init(key))


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


LONG = SPEC.__class__(40, 4, 3, epochs=100, image_shape=(2, 2, 1))  # 5 early epochs at least


@functools.cache
def left(seed=0):
  """What a scoring run on `LONG` could leave."""
  rng = np.random.default_rng(seed)
  p = rng.random((2, 100, 40))
  record = np.stack([p[0], 1 - p[0], p[0] - 0.5, p[1]]).astype(np.float16)
  return {
    'scores': record,
    'logits': rng.normal(size=(40, 3)).astype(np.float32),
    'features': rng.normal(size=(40, 2)).astype(np.float32),
    'gradient_norm': rng.random(40).astype(np.float32),
    'label': np.arange(40) % 3,
  }


def kept(budget=0.3, seed=0, found=None, **options):
  order = coreset_factory(LONG, budget, found or left(), **options).init(jax.random.key(seed))
  assert order.dtype == jnp.int32 and sorted(np.asarray(order)) == list(range(40))
  return np.asarray(order)[: int(40 * budget)]


def needs(**options):
  defaults = {name: option.default for name, option in options_lib.of(coreset_factory).items()}
  return coreset_factory.needs({**defaults, **options})


@pytest.mark.parametrize('score', SCORES)
def test_every_score_goes_with_every_choice_and_quota(score):
  """And takes no more than it says that it needs."""
  for choice in CHOICES:
    taken = needs(score=score, choice=choice)[0].taken
    found = {key: value for key, value in left().items() if key in taken}
    assert len(kept(found=found, score=score, choice=choice)) == 12
  label = left()['label']
  quota = np.bincount(label[kept(score=score, quota='proportional')], minlength=3)
  assert quota.tolist() == [4, 4, 4]


@pytest.mark.parametrize('score', [name for name in SCORES if name != 'none'])
def test_the_highest_scores_are_kept(score):
  early = int(round(100 * SCORES[score].early))
  values = score_of(score, left(), Setting(jax.random.key(0), 12, early, 10))
  assert values.shape == (40,) and values.dtype == np.float32
  cut = np.sort(values)[-12]
  found = kept(score=score)
  assert (values[found] >= cut).all() and set(np.flatnonzero(values > cut)) <= set(found)


def test_early_scores_look_at_the_start_of_a_longer_run():
  late = {**left(), 'scores': left()['scores'].copy()}
  late['scores'][:, 20:] = left(1)['scores'][:, 20:]
  for score in ('dual', 'el2n_training'):
    assert set(kept(score=score, scoring=1.0)) == set(kept(score=score, found=late, scoring=1.0))
  assert set(kept(score='dyn_unc')) != set(kept(score='dyn_unc', found=late))


def test_the_scores_of_several_runs_are_averaged():
  runs = [{**left(), 'gradient_norm': np.float32(np.eye(40)[i] * (i + 1))} for i in range(3)]
  assert set(kept(found=tuple(runs), score='grand', runs=3)) >= {0, 1, 2}
  # In the mean sample 2 leads, whatever one run says alone.
  assert kept(0.1, found=tuple(runs), score='grand', runs=3)[0] == 2


def test_all_samples_are_kept_at_the_full_budget():
  for choice in CHOICES:
    assert set(kept(1.0, choice=choice)) == set(range(40))


def test_classes_with_more_errors_keep_more_under_the_quota_drop():
  label, rng = left()['label'], np.random.default_rng(5)
  wrong = (label == 2) | (rng.random(40) < 0.2)
  said = np.eye(3, dtype=np.float32)[np.where(wrong, (label + 1) % 3, label)]
  # Each model is right on its own half, whatever it says of the other.
  halves = [said.copy(), said.copy()]
  for logits, part in zip(halves, ((0, 2), (1, 2)), strict=True):
    own = part_index(40, part)
    logits[own] = np.eye(3)[label[own]]
  recall = held_out_recall(*halves, label)
  np.testing.assert_allclose(recall, [1 - wrong[label == c].mean() for c in range(3)])
  order = coreset_factory(
    LONG, 0.3, left(), *halves, score='none', choice='random', quota='drop'
  ).init(jax.random.key(0))
  counts = np.bincount(label[np.asarray(order)[:12]], minlength=3)
  assert counts[2] == max(counts) > 6


def test_what_a_coreset_needs():
  (run,) = needs()
  assert (run.selector, run.budget, run.schedule, run.count) == ('dynamics_sgd', 1.0, 'step', 1)
  assert set(run.taken) == {'scores', 'label'}
  (run,) = needs(score='el2n', proxy='resnet8')
  assert (run.budget, run.schedule, run.count) == (0.1, 'constant', 10)
  (two,) = needs(score='el2n', runs=2, scoring=0.25, scoring_schedule='cosine')
  assert (two.budget, two.schedule, two.count) == (0.25, 'cosine', 2)
  assert set(run.taken) == {'logits', 'label'} and ('model', 'resnet8') in run.settings
  (run,) = needs(score='el2n', choice='strata', scoring=1.0)
  assert set(run.taken) == {'scores', 'logits', 'label'} and run.budget == 1.0
  none, *halves = needs(score='none', choice='random', quota='drop')
  assert none.runs == 0
  assert [half.part for half in halves] == [(0, 2), (1, 2)]


def test_own_scores_take_the_choices_that_need_no_more():
  own = np.arange(40, dtype=np.float32)
  order = coreset_factory(LONG, 0.3, own, choice='middle').init(jax.random.key(0))
  assert set(np.asarray(order)[:12]) == set(range(14, 26))
  for options, message in (
    ({'choice': 'strata'}, 'choice=strata needs scores of a scoring run'),
    ({'quota': 'proportional'}, 'needs the labels'),
  ):
    with pytest.raises(ValueError, match=message):
      coreset_factory(LONG, 0.3, own, **options).init(jax.random.key(0))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'choice': 'stratum'}, "did you mean 'strata'"),
    ({'quota': 'equal'}, "unknown quota 'equal'"),
    ({'cutoff': 0.1}, 'cutoff=0.1 is of choice=strata and graph, not of choice=top'),
    ({'scoring': 1.5}, r'scoring must be a share of the full run in \(0, 1\]'),
    ({'runs': 0}, 'runs must be at least 1'),
    ({'window': 1}, 'window must be at least 2'),
    ({'choice': 'strata', 'bins': 0}, 'bins must be at least 1'),
    ({'choice': 'strata', 'cutoff': 0.8}, r'cutoff=0.8 must be in \[0, 0.7\]'),
    ({'choice': 'offset', 'offset': 0.8}, r'offset=0.8 must be in \[0, 0.7\]'),
    ({'choice': 'graph', 'neighbours': 0}, 'neighbours must be at least 1'),
    ({'choice': 'beta', 'concentration': 0.0}, 'concentration must be positive'),
    ({'proxy': 'resnet19'}, "proxy='resnet19' is refused: unknown model"),
    ({'scoring_schedule': 'cosin'}, "scoring_schedule='cosin' is refused: .*did you mean 'cosine'"),
    ({'score': 'dual', 'window': 20}, 'at 15 of 100: raise the epochs or lower `window`'),
    ({'score': 'el2n', 'scoring': 0.001}, 'at 0 of 100: raise `scoring` or raise the epochs'),
  ],
)
def test_options_that_do_not_fit_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    coreset_factory(LONG, 0.3, **options)


def test_the_scoring_run_is_sgd_that_takes_notes():
  """The same plan, facts and costs; nothing but the state is added."""
  sgd, scoring = make_selector('sgd', SPEC, 1.0), dynamics_sgd(SPEC)
  key = jax.random.key(4)
  assert scoring.facts == sgd.facts._replace(asks=('probabilities',))
  state = scoring.init(key)
  np.testing.assert_array_equal(scoring.plan(state, key, 0)[1].index, sgd.plan((), key, 0)[1].index)
  assert dynamics_sgd(SPEC).update is scoring.update  # one program for all runs
  assert scoring.scores(state).shape == (4, 5, 40)
  short = dynamics_sgd(SPEC, 0.4)
  assert short.facts == make_selector('scan_sgd', SPEC, 0.4).facts._replace(asks=scoring.facts.asks)
  assert short.scores(short.init(key)).shape == (4, 2, 40)


def test_the_options_name_every_score_and_choice():
  options = options_lib.of(coreset_factory)
  for key, table in (('score', SCORES), ('choice', CHOICES), ('quota', QUOTAS)):
    assert set(typing.get_args(options[key].annotation)) == set(table)
