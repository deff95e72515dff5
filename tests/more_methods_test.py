"""Rules of curricula, dynamic pruning, tables with inverse weights and diverse batches, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from online_methods_test import KEY, batch_of, said, spec, used

from jaxbudget import ledger, sampling, schedules, scores
from jaxbudget.ledger import Budget
from jaxbudget.selectors import (
  auto_assist,
  class_sampling,
  curriculum,
  dpp,
  gradient_bound,
  gradient_norm,
  kakurenbo,
  local_to_global,
  make_selector,
  poisson_disk,
  rais,
  self_paced,
  seta,
  table,
)
from jaxbudget.selectors import repeat_before_forgetting as rbf
from jaxbudget.testing import SPEC, absent
from jaxbudget.types import Outputs, Seen

DRAWS = 2000
SHARES = jax.jit(class_sampling.class_shares)


def many(function, *arguments):
  """What a function makes of many keys: one program."""
  keys = jax.random.split(KEY, DRAWS)
  return jax.device_get(jax.jit(jax.vmap(lambda k: function(k, *arguments)))(keys))


# Samples that are not there: weight 0, as a missing file has


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('rho_loss', {'score': 'loss'}),
    ('rho_loss', {'score': 'bound', 'temperature': 0.25}),
    ('selective_backprop', {'rate': 'exact'}),
    ('gradient_bound', {'threshold': 0.0}),
    ('gradient_bound', {}),
    ('auto_assist', {}),
    ('proxy_filter', {'mode': 'eval'}),
  ],
)
def test_who_is_not_there_is_taken_last(name, options):
  selector = make_selector(name, SPEC, 0.5, options)
  assert list(absent.taken(selector)) == []
  count = selector.facts.candidates
  state, _ = selector.plan(selector.init(KEY), KEY, jnp.int32(0))
  nobody = batch_of(range(count))._replace(
    weight=jnp.zeros(count), image=jnp.ones((count, *SPEC.image_shape))
  )
  state, chosen, _ = selector.select(state, KEY, nobody, lambda batch: said(count * [0.5]))
  assert not np.asarray(chosen.weight).any()  # and nothing is NaN
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state) if x.dtype == jnp.float32)


def test_who_is_not_there_moves_no_threshold():
  loss, weight = jnp.array([9.0, 1, 2, 3, 9, 9]), jnp.array([0.0, 1, 1, 1, 0, 0])
  there = loss[1:4]
  for share in (0.3, 0.5, 1.0):
    assert self_paced.quantile(loss, share, weight) == self_paced.quantile(there, share)
  assert float(gradient_bound.variance_gain(loss, weight)) == pytest.approx(
    float(gradient_bound.variance_gain(there)), rel=1e-6
  )
  selector = make_selector('gradient_bound', SPEC, 0.5, {'threshold': 0.0})
  p, gone = np.linspace(0.1, 0.9, 24), np.arange(24) < 12
  state, chosen, _ = selector.select(
    selector.init(KEY), KEY, batch_of(range(24))._replace(weight=jnp.float32(~gone)),
    lambda batch: said(p),
  )  # fmt: skip
  bound = np.asarray(scores.gradient_bound(said(p), batch_of(range(24)).target))
  expected = bound[12:].mean() / bound[np.asarray(chosen.index)]
  np.testing.assert_allclose(chosen.weight, expected, rtol=1e-4)
  selector = make_selector('auto_assist', SPEC, 0.5, {'exact': False, 'base': 1.0})
  batch = batch_of(range(8))._replace(image=jnp.zeros((8, *SPEC.image_shape)))
  batch = batch._replace(weight=jnp.float32(jnp.arange(8) < 3))
  state, *_ = selector.select(selector.init(KEY), KEY, batch, None)
  assert int(state.queue.length) == 3


# Draws of known chance


def test_chances_are_capped_and_the_rest_is_shared():
  chance = np.asarray(sampling.inclusion(jnp.array([8.0, 1, 1, 2], jnp.float32), 2))
  np.testing.assert_allclose(chance, [1, 0.25, 0.25, 0.5], rtol=1e-5)
  np.testing.assert_allclose(sampling.inclusion(jnp.zeros(4), 2), 0.5)
  chance = np.asarray(sampling.inclusion(jnp.array([100.0, 10, 1, 1, 1], jnp.float32), 4))
  np.testing.assert_allclose(chance, [1, 1, 2 / 3, 2 / 3, 2 / 3], rtol=1e-5)


def test_chances_are_capped_to_the_last():
  rng = np.random.default_rng(0)
  hard = rng.random(2000) < 0.3
  value = np.where(hard, rng.uniform(0.5, 1.4, 2000), 10 ** rng.uniform(-6, -1, 2000))
  value = np.maximum(value / value.max(), 1e-6)  # as published, with the floor
  for samples in (1000, 1800, 1990, 1999, 2000):
    chance = np.asarray(sampling.inclusion(jnp.asarray(value, jnp.float32), samples), np.float64)
    full = np.zeros(2000, bool)
    while True:
      exact = np.where(full, 1, value * (samples - full.sum()) / max(value[~full].sum(), 1e-300))
      if not (exact[~full] > 1).any():
        break
      full |= exact >= 1
    np.testing.assert_allclose(chance, exact, rtol=2e-3)
    assert chance.sum() == pytest.approx(samples, rel=1e-5) and chance.max() == 1
  index, weight = table.weighted(KEY, jnp.asarray(value, jnp.float32), 2000, 'inverse')
  assert sorted(index.tolist()) == list(range(2000)) and (np.asarray(weight) == 1).all()


@pytest.mark.parametrize('replacement', [True, False])
def test_weights_make_up_for_the_chances(replacement):
  value = jnp.array([9.0, 1, 2, 3, 0, 1, 1, 3], jnp.float32)
  index, weight = many(lambda k: table.weighted(k, value, 4, 'inverse', replacement, 0.5))
  total = np.zeros(8)
  np.add.at(total, index, weight)
  np.testing.assert_allclose(total / DRAWS, 4 / 8, atol=0.05)  # E[sum w x] is (n/N) sum x
  assert weight.max() <= 2 + 1e-5  # 1/(1 - lam)
  if not replacement:
    assert (np.diff(np.sort(index, 1), axis=1) > 0).all()
    chance = np.asarray(sampling.inclusion(table.mixed(value, 0.5), 4))
    assert chance[0] == 1 and chance.sum() == pytest.approx(4, rel=1e-5)
    np.testing.assert_allclose(np.bincount(index.ravel(), minlength=8) / DRAWS, chance, atol=0.05)


def test_equal_values_and_no_mixing_weigh_nothing():
  value = jnp.array([9.0, 1, 2, 3], jnp.float32)
  for constant, mix in ((jnp.full(4, 3.0), 1.0), (value, 0.0)):
    for replacement in (True, False):
      drawn = jax.jit(lambda k, v, r=replacement, m=mix: table.weighted(k, v, 2, 'inverse', r, m))
      _, weight = drawn(KEY, constant)
      np.testing.assert_allclose(weight, 1, rtol=1e-5)
  p = value / value.sum()
  assert float((p * (jnp.mean(value) / value)).sum()) == pytest.approx(1)
  assert table.weighted(KEY, value, 2)[1] is None


@pytest.mark.parametrize('name', ['p_sgd', 'c_sgd', 'active_bias', 'online_batch_selection'])
def test_every_sampler_by_a_table_can_weigh_by_the_inverse(name):
  for replacement in {'online_batch_selection': (None,)}.get(name, (False, True)):
    options = {'weights': 'inverse', 'mix': 0.5}
    if replacement is not None:
      options['replacement'] = replacement
    if name == 'active_bias':
      options['form'] = 'sd'
    selector = make_selector(name, spec(16, 4), 0.5, options)
    state = selector.init(KEY)
    state = jax.jit(selector.update)(state, batch_of(range(16)), said(np.linspace(0.05, 0.95, 16)))
    _, plan = jax.jit(selector.plan)(state, KEY, jnp.int32(3))
    weight = np.asarray(plan.weight)[:2]
    assert weight.std() > 0.01 and weight.max() <= 2 + 1e-4
    if not replacement and name != 'online_batch_selection':
      assert len(set(np.asarray(plan.index)[:2].ravel().tolist())) == 8
      assert selector.facts.distinct
  for options in ({'weights': 'invers'}, {'mix': 1.5}):
    with pytest.raises(ValueError, match=next(iter(options))):
      make_selector(name, SPEC, 0.5, options)


# Curricula


def test_rows_are_distinct_and_uniform():
  rows = many(lambda k: sampling.distinct_rows(k, jnp.array([3, 5], jnp.int32), 3))
  assert (np.diff(np.sort(rows, -1), axis=-1) > 0).all()
  assert (np.sort(rows[:, 0], -1) == np.arange(3)).all() and rows[:, 1].max() == 4
  share = np.bincount(rows[:, 1].ravel(), minlength=5) / DRAWS
  np.testing.assert_allclose(share, 3 / 5, atol=0.06)


def test_paces_by_hand():
  row = jnp.array([0, 99, 100, 200, 300, 400, 500, 600], jnp.int32)
  found = curriculum.pace('fixed_exponential', row, 0.04, (100,), 1.9)
  expected = [0.04, 0.04, 0.076, 0.1444, 0.27436, 0.521284, 0.990440, 1]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  lengths = (100, 400, 30, 80, 300, 250)
  ends = jnp.array([100, 101, 500, 501, 1160, 1161], jnp.int32)
  found = curriculum.pace('varied_exponential', ends, 0.0878, lengths, 1.5)
  np.testing.assert_allclose(found, [0.0878 * 1.5**k for k in (0, 1, 1, 2, 5)] + [1], rtol=1e-4)
  found = curriculum.pace('single_step', jnp.array([0, 10, 11], jnp.int32), 0.28, (10,), 1.0)
  np.testing.assert_allclose(found, [0.28, 0.28, 1])
  z = np.array([0, 0.25, 0.5, 1, 1.5])
  wu = {
    'linear': 0.2 + 0.8 * z, 'quadratic': 0.2 + 0.8 * z**2, 'root': 0.2 + 0.8 * z**0.5,
    'step': 0.2 + np.floor(z), 'exponential': 0.2 + 0.8 * np.expm1(10 * z) / np.expm1(10),
    'logarithmic': 0.2 + 0.8 * (1 + 0.1 * np.log(z + np.exp(-10))),
  }  # fmt: skip
  assert set(curriculum.DEFAULTS) == {*wu, 'fixed_exponential', 'varied_exponential', 'single_step'}
  for pacing, share in wu.items():
    found = curriculum.pace(pacing, jnp.asarray(20 * z, jnp.int32), 0.2, (20,), 1.0)
    np.testing.assert_allclose(found, np.minimum(share, 1), rtol=1e-4, err_msg=pacing)


def test_everything_is_seen_from_the_very_row_on():
  for length in (41, 47, 160):  # 41 * float32(1/41) is less than 1
    row = jnp.array([length - 1, length, length + 1], jnp.int32)
    for pacing in ('linear', 'quadratic', 'root', 'step', 'exponential', 'logarithmic'):
      found = jax.jit(lambda row, p=pacing, n=length: curriculum.pace(p, row, 0.2, (n,), 1.0))(row)
      assert found[0] < 1 and (found[1:] == 1).all(), (pacing, length)


def test_classes_may_be_more_than_samples():
  label = jnp.array([90, 90, 90, 90, 55, 55, 55, 55], jnp.int32)
  order = curriculum.easiest_first(KEY, jnp.arange(8, dtype=jnp.float32), label, False)
  assert sorted(order[:2].tolist()) == [0, 4] and sorted(order[2:4].tolist()) == [1, 5]


def test_prefixes_are_balanced_and_easiest_first():
  rng = np.random.default_rng(0)
  loss, label = rng.permutation(40).astype(np.float32), np.arange(40) % 4
  order = curriculum.easiest_first(KEY, jnp.asarray(loss), jnp.asarray(label), False)
  order = np.asarray(order)
  assert sorted(order) == list(range(40))
  for count in range(1, 41):
    sizes = np.bincount(label[order[:count]], minlength=4)
    assert sizes.max() - sizes.min() <= 1
  for c in range(4):
    assert (np.diff(loss[order[label[order] == c]]) > 0).all()
  unequal = np.repeat([0, 1], [30, 10])
  order = np.asarray(curriculum.easiest_first(KEY, jnp.asarray(loss), jnp.asarray(unequal), True))
  assert [np.sum(unequal[order[:count]] == 0) for count in (4, 20, 40)] == [3, 15, 30]
  first = order[unequal[order] == 0]
  assert (np.diff(loss[first]) < 0).all()  # anti: hardest first
  order = np.asarray(curriculum.easiest_first(KEY, jnp.asarray(loss), None, False))
  np.testing.assert_array_equal(loss[order], np.arange(40))


def test_every_row_draws_from_its_prefix():
  loss, label = np.arange(64, dtype=np.float32), np.zeros(64, np.int32)
  selector = curriculum.curriculum(
    spec(64, 4), 0.5, loss, label, pacing='linear', start=0.1, lengths=(0.5,)
  )
  for e, (index, _) in enumerate(used(selector, 6)):
    for r, row in enumerate(index.reshape(8, 4)):
      share = min(1, 0.1 + 0.9 * (8 * e + r) / 24)
      assert row.max() < max(4, math.ceil(64 * share - 1e-4)) and len(set(row.tolist())) == 4
  whole = curriculum.curriculum(spec(64, 4), 0.5, loss, label, start=1.0)
  reached = np.concatenate([index for index, _ in used(whole, 6)])
  assert reached.max() > 60 and len(set(reached.tolist())) > 55  # a = 1: uniform rows
  shuffled = curriculum.curriculum(spec(64, 4), 0.5, order='random')
  assert sorted(np.asarray(shuffled.init(KEY)).tolist()) == list(range(64))


def test_a_whole_number_of_samples_is_not_rounded_up():
  for share, count in ((0.09, 450), (0.18, 900), (0.36, 1800), (0.0901, 451), (1.0, 5000)):
    assert int(curriculum.samples_of(5000, jnp.float32(share))) == count
  assert int(curriculum.samples_of(1_281_167, jnp.float32(0.5))) == 640_584


def test_classes_join_in_stages():
  label = np.arange(40) % 4
  for exact in (True, False):
    selector = local_to_global.local_to_global(
      _classes(40, 4, 4), 0.5 if exact else 1.0,
      label, groups=2, exact=exact,
    )  # fmt: skip
    walk = used(selector, 6)
    early, late = walk[0][0], walk[5][0]
    assert len(set(label[early])) == 2 and set(label[late]) == {0, 1, 2, 3}
    assert len(early) == 20 and len(late) == (20 if exact else 40)
    if not exact:
      assert sorted(late.tolist()) == list(range(40)) and len(set(early.tolist())) == 20
  assert selector.facts.planned.trained == 3 * 20 + 3 * 40


def test_classes_that_join_alike_pay_for_the_run_that_tells_them():
  sizes, options = _classes(240, 8, 4), {'join': 'alike'}
  full = 3 * sizes.epochs * 240
  for share, spent in ((0.5, full // 4), (0.5, 0), (1.0, full // 4)):
    budget = ledger.Budget(share, 'compute', spent)
    facts = make_selector('local_to_global', sizes, budget, options).facts
    assert facts.rows == (share - spent / full) * 240 // 8
    assert facts.planned.forward_equivalents <= ledger.cap(sizes, budget, facts)
  budget = ledger.Budget(0.2, 'compute', full // 4)
  with pytest.raises(ValueError, match='the runs that come first alone cost 0.25'):
    make_selector('local_to_global', sizes, budget, options)
  budget, options = ledger.Budget(1.0, 'compute', full // 4), {'join': 'alike', 'exact': False}
  with pytest.raises(ValueError, match="exact=False is refused with join='alike'"):
    make_selector('local_to_global', sizes, budget, options)


def test_classes_join_that_are_told_by_the_known():
  label = np.repeat(np.arange(5), 2)
  logits = np.zeros((10, 5), np.float32)
  sure = {0: 4.0, 1: 4.0, 2: 2.0, 3: 1.0, 4: 3.0}  # of its samples, that they are of class 0
  for c, logit in sure.items():
    logits[label == c, 0] = logit
  key = next(
    k for k in map(jax.random.key, range(50))
    if {0, 1} == {*np.asarray(sampling.shuffle(k, jnp.arange(5, dtype=jnp.int32)))[:2].tolist()}
  )  # fmt: skip
  group = local_to_global.by_likeness(key, jnp.asarray(logits), jnp.asarray(label), 2)
  assert group.tolist() == [0, 0, 1, 2, 1]  # 4 and 2 are surest told by 0 and 1, 3 is left
  selector = local_to_global.local_to_global(
    _classes(10, 1, 5), 1.0, label, logits, groups=3, join='alike'
  )
  state = selector.init(KEY)
  assert state.seen.tolist() == [4, 8, 10] and sorted(state.order.tolist()) == list(range(10))
  with pytest.raises(ValueError, match='without the labels and logits'):
    local_to_global.local_to_global(_classes(10, 1, 5), 1.0, label, join='alike').init(KEY)


def _classes(n, s, c, epochs=6):
  from jaxbudget.types import Spec

  return Spec(n, s, c, epochs, (1, 1, 1))


# Dynamic pruning


def test_only_those_known_well_are_hidden():
  loss = jnp.array([1.0, 2, 3, 4], jnp.float32)
  known = kakurenbo.Known(loss, jnp.array([True, False, True, True]))
  hide = lambda known, exact: np.asarray(kakurenbo.hidden(KEY, known, jnp.int32(2), exact)).tolist()
  assert hide(known, False) == [True, False, False, False]
  assert hide(known, True) == [True, True, False, False]
  assert hide(known._replace(loss=jnp.full(4, jnp.inf)), False) == [False] * 4
  blank = kakurenbo.Known(jnp.full(16, jnp.inf), jnp.zeros(16, bool))
  note = kakurenbo._note(0.7)
  after = note(blank, batch_of([3, 4, 5]), said([0.8, 0.6, 0.1]))
  assert np.asarray(after.sure).nonzero()[0].tolist() == [3]
  np.testing.assert_allclose(after.loss[3:6], -np.log([0.8, 0.6, 0.1]), rtol=1e-5)
  selector = kakurenbo.kakurenbo(spec(16, 4), 1.0, exact=False, confidence=1.1)
  state = selector.init(KEY)._replace(noted=kakurenbo.Known(jnp.arange(16.0), jnp.zeros(16, bool)))
  _, plan = jax.jit(selector.plan)(state, KEY, jnp.int32(3))  # nobody is ever sure: sgd
  assert int(plan.rows) == 4 and sorted(np.asarray(plan.index)[:4].ravel()) == list(range(16))


@pytest.mark.parametrize('epochs', [200, 55, 47])
def test_fewer_are_hidden_from_the_very_epoch_on(epochs):
  selector = kakurenbo.kakurenbo(spec(90, 1, epochs), 1.0, exact=False)
  noted = kakurenbo.Known(jnp.arange(90, dtype=jnp.float32), jnp.ones(90, bool))
  state = selector.init(KEY)._replace(noted=noted)
  stay = jax.jit(lambda epoch: selector.plan(state, KEY, epoch)[0].first)
  falls = {0: 27, 3: 21, 6: 16, 8: 10}  # by tenths of the run: of 0.3 * 90 samples, rounded down
  for tenths in (3, 6, 8):
    late = -(-tenths * epochs // 10)
    before = falls[max(t for t in falls if t < tenths)]
    assert [90 - int(stay(jnp.int32(e))) for e in (late - 1, late)] == [before, falls[tenths]]
  assert [90 - int(stay(jnp.int32(e))) for e in (0, 1)] == [0, 27]


def test_hidden_samples_are_looked_at_behind_the_trained():
  selector = kakurenbo.kakurenbo(spec(16, 4), 0.5)
  facts = selector.facts
  assert (facts.rows, facts.planned.trained, facts.planned.scored) == (4, 6 * 8, 5 * 8)
  noted = kakurenbo.Known(jnp.arange(16, dtype=jnp.float32), jnp.zeros(16, bool))
  state, plan = jax.jit(selector.plan)(selector.init(KEY)._replace(noted=noted), KEY, jnp.int32(2))
  rows = np.asarray(plan.index)
  assert (int(plan.rows), int(state.first)) == (4, 2)
  assert sorted(rows[:2].ravel()) == list(range(8, 16)) and sorted(rows[2:].ravel()) == list(
    range(8)
  )
  forward = lambda batch: said([0.5] * 4)
  for r in range(4):
    state, batch, info = selector.select(state, KEY, batch_of(rows[r]), forward)
    assert int(info['scored']) == (4 if r >= 2 else 0)
    assert bool((batch.weight > 0).any()) == (r < 2)
  np.testing.assert_allclose(state.noted.loss[:8], math.log(2), rtol=1e-5)
  np.testing.assert_array_equal(state.noted.loss[8:], np.arange(8, 16))
  _, plan = jax.jit(selector.plan)(state, KEY, jnp.int32(5))
  assert int(plan.rows) == 2  # after the last epoch nobody asks


@pytest.mark.parametrize('name', ['kakurenbo', 'repeat_before_forgetting'])
@pytest.mark.parametrize('budget', [Budget(0.3, 'backward'), Budget(0.4, 'compute'), None])
def test_the_last_step_has_the_last_rate_where_rows_look(name, budget):
  sizes = spec(203, 10, 5)
  exact = budget is not None
  facts = make_selector(name, sizes, budget or 1.0, {'exact': exact}).facts
  rates = schedules.make_table('linear', facts, sizes, 0.1, 1e-6)
  first, last = rates(0), rates(facts.epochs - 1)
  assert facts.looking > 0 and first.learning_rate[0] == np.float32(0.1)
  assert last.learning_rate[facts.steps - 1] == pytest.approx(1e-6, rel=0.01)
  assert last.progress[facts.steps - 1] == 1
  assert rates(1).step[0] == first.step[facts.steps - 1] + 1


@pytest.mark.parametrize(('name', 'looks'), [('kakurenbo', None), ('repeat_before_forgetting', 10)])
@pytest.mark.parametrize('epochs', [2, 5, 10])
@pytest.mark.parametrize('share', [0.35, 0.4, 0.5, 0.9])
def test_looks_are_paid_for_in_all_epochs_but_the_last(name, looks, epochs, share):
  """What is planned fits, and a row an epoch more would not."""
  sizes, size, count = spec(1000, 10, epochs), 10, 1000
  facts = make_selector(name, sizes, Budget(share, 'compute')).facts

  def cost(rows):
    looked = (count - rows * size) // size if looks is None else looks
    return 3 * epochs * rows * size + (epochs - 1) * looked * size

  cap = 3 * epochs * count * share
  most = count // size - (looks or 0)
  assert facts.planned.forward_equivalents == cost(facts.steps) <= cap
  assert facts.steps == most or cost(facts.steps + 1) > cap


def test_a_window_slides_over_groups_of_loss():
  loss = jnp.array([0.1, 5.2, 0.2, 5.1, 2.0, 2.1], jnp.float32)
  assert np.asarray(seta.grouped(loss, 3)).tolist() == [0, 2, 0, 2, 1, 1]
  assert np.asarray(seta.grouped(jnp.full(6, 2.0), 3)).tolist() in ([0] * 6, [2] * 6)
  walk = [tuple(int(x) for x in seta.window(jnp.int32(e), 5, 0.6)) for e in range(5)]
  assert walk == [(0, 5), (1, 4), (2, 5), (0, 3), (1, 4)]
  assert all(  # W = G has no window
    tuple(int(x) for x in seta.window(jnp.int32(e), 4, 1.0)) == (0, 4) for e in range(4)
  )
  losses = jnp.asarray(np.repeat([0.1, 1.0, 2.0, 3.0], 4), jnp.float32)
  options = {'groups': 4, 'share': 0.5, 'delta': 1.0}
  published = seta.seta(spec(16, 4), 1.0, exact=False, ratio=0.0, **options)
  _, plan = jax.jit(published.plan)(losses, KEY, jnp.int32(1))
  members = np.asarray(plan.index).ravel()[np.asarray(plan.weight).ravel() > 0]
  assert int(plan.rows) == 2 and sorted(members) == list(range(4, 12))
  exact = seta.seta(spec(16, 4), 0.75, **options)  # 12: the window, and the next harder group
  _, plan = jax.jit(exact.plan)(losses, KEY, jnp.int32(1))
  assert sorted(np.asarray(plan.index)[:3].ravel()) == list(range(4, 16))
  everybody = seta.seta(spec(16, 4), 1.0, exact=False, ratio=0.25, groups=1)
  assert [len(index) for index, _ in used(everybody, 3)] == [12] * 3  # G = 1: unif_sgd of (1-rho)N


def test_the_last_epochs_without_a_window_are_a_share_as_it_is_written():
  # 0.57 of 100 epochs are 57, though 0.57 * 100 < 57 in binary.
  losses = jnp.asarray(np.repeat([0.1, 1.0, 2.0, 3.0], 4), jnp.float32)
  selector = seta.seta(
    spec(16, 4, 100), 1.0, exact=False, ratio=0.0, groups=4, share=0.5, delta=0.57
  )
  plan = jax.jit(selector.plan)
  assert [int(plan(losses, KEY, jnp.int32(e))[1].rows) for e in (56, 57)] == [2, 4]


def test_batches_score_their_members():
  batch = batch_of([2, 5, 7])._replace(weight=jnp.array([1.0, 1.0, 0.0]))
  outputs = Outputs(jnp.zeros((3, 3)), jnp.array([1.0, 3.0, 50.0]))
  means = scores.remember_mean(scores.no_means(16), batch, outputs.loss)
  np.testing.assert_allclose(scores.batch_means(means), 2, rtol=1e-5)  # the unseen: the hardest
  means = scores.remember_mean(means, batch, jnp.array([2.0, 6.0, 50.0]))
  np.testing.assert_allclose(means.total[jnp.array([2, 5])], 0.9 * 0.2 + 0.1 * 4, rtol=1e-5)
  assert np.count_nonzero(means.total) == np.count_nonzero(means.share) == 2
  other = batch_of([1, 3])  # seen once, not twice, with the mean of those
  means = scores.remember_mean(means, other, jnp.full(2, 0.58 / 0.19))
  score = np.asarray(scores.batch_means(means))
  np.testing.assert_allclose(score, 0.58 / 0.19, rtol=1e-5)
  assert np.asarray(scores.batch_means(scores.no_means(4))).tolist() == [0] * 4
  # Four that are easy and seen often, four that are hard and seen once, and eight never seen.
  seen = jnp.repeat(jnp.array([0.9, 0.1, 0, 0], jnp.float32), 4)
  known = scores.Means(seen * jnp.repeat(jnp.array([0.1, 1, 0, 0], jnp.float32), 4), seen)
  for name in ('infobatch', 'seta'):
    options = {'infobatch': {'ratio': 0.5}, 'seta': {'ratio': 0.0, 'groups': 2, 'share': 0.5}}
    selector = make_selector(
      name, spec(16, 4), 1.0, {'batch_score': True, 'exact': False, **options[name]}
    )
    state = jax.jit(selector.update)(selector.init(KEY), batch, outputs)
    np.testing.assert_allclose(state.total[jnp.array([2, 5])], 0.2, rtol=1e-5)
    _, plan = jax.jit(selector.plan)(known, KEY, jnp.int32(1))
    members = np.asarray(plan.index).ravel()[np.asarray(plan.weight).ravel() > 0]
    assert set(range(4, 16)) <= set(members) and len(members) == (14 if name == 'infobatch' else 12)


def test_delays_by_hand():
  a, loss = np.array([0.9, 0.8]), np.array([0.5, 1.0])
  fits = {
    'gauss': lambda x: math.sqrt(math.log(2) / (-np.log(a).sum() / ((loss * x) ** 2).sum())),
    'laplace': lambda x: math.log(2) / (-np.log(a).sum() / (loss * x).sum()),
    'linear': lambda x: 0.5 / ((1 - a).sum() / (loss * x).sum()),
    'cosine': lambda x: math.acos(0) / math.pi / (
      np.arccos(2 * a - 1).sum() / (math.pi * (loss * x).sum())
    ),
    'quadratic': lambda x: math.sqrt(0.5 / ((1 - a).sum() / ((loss * x) ** 2).sum())),
  }  # fmt: skip
  assert set(fits) == set(rbf.KERNELS)
  for kernel, fit in fits.items():
    number, squared, _ = rbf._KERNELS[kernel]
    above = float(number(jnp.asarray(a, jnp.float32)).sum())
    sums = [2, a.sum(), above, (loss ** (2 if squared else 1)).sum()]
    found = float(rbf.strength(jnp.asarray(sums, jnp.float32), kernel, 0.5))
    assert found == pytest.approx(0.85 * fit(1 / 0.85), rel=1e-4), kernel
    if kernel == 'gauss':
      assert found / 0.1 == pytest.approx(16.24, abs=0.01)
      memory = rbf.Memory(
        jnp.arange(4), jnp.array([1.0, 1, 7, 7]), jnp.array([0.1, 9.0, 0, 3]),
        jnp.array([0.9, 0.5, -1, 0.05]), jnp.array(sums),
      )  # fmt: skip
      delay = rbf.delays(memory._replace(sums=memory.sums.astype(jnp.float32)), kernel, 0.5)
      np.testing.assert_allclose(delay, [16.24, 1, 6, 7], rtol=1e-3)
  assert float(rbf.strength(jnp.zeros(4), 'gauss', 0.5)) == 0


def test_what_is_recalled_of_a_mixed_sample_is_asked_of_its_mean():
  share = jnp.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]], jnp.float32)
  parts = jnp.array([[1, 2], [1, 2], [3, 4], [3, 4]], jnp.int32)
  batch = batch_of(range(4))._replace(
    part_index=parts, part_share=share, part_label=jnp.array([[0, 1]] * 4, jnp.int32)
  )
  p = np.array([0.51, 0.01, 1 - 1e-9, 0.01])  # of class 0; the others share the rest
  _, learn = rbf._notes('gauss', 0.5)
  memory = rbf.repeat_before_forgetting(spec(16, 4), 0.5).init(KEY).noted
  memory = learn(memory._replace(delay=jnp.full(16, 7.0)), batch, said(p))
  recalled = [0.9 * p[0] + 0.1 * p[1], 0.1 * 0.245 + 0.9 * 0.495, 0.5 * 0.9 + 0.5 * p[3]]
  np.testing.assert_allclose(memory.recall[1:4], recalled, rtol=1e-4)
  assert float(memory.loss[1]) == pytest.approx(-0.9 * math.log(0.51) - 0.1 * math.log(0.01), 1e-4)
  memory = memory._replace(sums=jnp.array([2.0, 1.7, 0.33, 1.25]))
  delay = np.asarray(rbf.delays(memory, 'gauss', 0.5))
  assert delay[1:5].tolist() == [7] * 4 and delay[[0, *range(5, 16)]].tolist() == [6] * 12
  assert set(np.asarray(rbf.delays(memory, 'gauss', 0.2))[1:4].tolist()).isdisjoint({6, 7})


def test_those_due_first_are_repeated_and_some_are_held_out():
  selector = rbf.repeat_before_forgetting(spec(24, 4), 0.5, held_out=0.2)
  facts = selector.facts
  assert (facts.rows, facts.planned.trained, facts.planned.scored) == (4, 6 * 12, 5 * 4)
  state, plan = jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(0))
  rows, held = np.asarray(plan.index), set(np.asarray(state.noted.order)[:4].tolist())
  assert set(rows[3].tolist()) == held and not held & set(rows[:3].ravel().tolist())
  trained = rows[:3].ravel()
  for r in range(3):
    state = jax.jit(selector.update)(state, batch_of(rows[r]), said([0.9] * 4))
  state = state._replace(row=jnp.int32(3))
  state, batch, info = selector.select(state, KEY, batch_of(rows[3]), lambda b: said([0.9] * 4))
  assert int(info['scored']) == 4 and not np.asarray(batch.weight).any()
  _, plan = jax.jit(selector.plan)(state, KEY, jnp.int32(1))
  again = set(np.asarray(plan.index)[:3].ravel().tolist())
  others = set(range(24)) - held - set(trained.tolist())
  assert others <= again  # those who waited come before those just trained on
  published = rbf.repeat_before_forgetting(spec(24, 4), 1.0, held_out=0.2, exact=False)
  state, plan = jax.jit(published.plan)(published.init(KEY), KEY, jnp.int32(0))
  assert int(plan.rows) == 5 + 1  # everybody is due at first


@pytest.mark.parametrize('exact', [True, False])
def test_who_is_due_at_once_comes_in_random_order(exact):
  selector = rbf.repeat_before_forgetting(spec(64, 4), 0.5 if exact else 1.0, exact=exact)
  state, plan = jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(0))
  trained = np.asarray(plan.index)[: int(state.first)].ravel()
  rising = np.mean(np.diff(trained) > 0)
  assert len(trained) == (32 if exact else 56) and 0.2 < rising < 0.8


# Loss side


def test_quantiles_keep_exactly_their_share():
  loss = jnp.asarray(np.random.default_rng(0).permutation(10), jnp.float32)
  for kept in range(1, 11):
    assert int((loss <= self_paced.quantile(loss, kept / 10)).sum()) == kept
  selector = self_paced.self_paced(spec(40, 10), 1.0, start=0.3, until=1.0)
  state = selector.init(KEY)
  weight = np.asarray(selector.weigh(state, loss, jnp.ones(10)))
  assert (weight > 0).sum() == 3 and set(np.asarray(loss)[weight > 0]) == {0, 1, 2}
  # The engine divides by those of positive weight: the sum must be that over all s.
  assert weight.sum() / 3 == pytest.approx(3 / 10)
  plain = self_paced.self_paced(spec(40, 10), 1.0, start=1.0)
  np.testing.assert_array_equal(plain.weigh(state, loss, jnp.ones(10)), 1)
  slow = self_paced.self_paced(spec(40, 10), 1.0, start=0.3, decay=0.9)
  assert int((slow.weigh(state, loss, jnp.ones(10)) > 0).sum()) == 3  # from the first step on
  state = slow.update(state, batch_of(range(10)), Outputs(jnp.zeros((10, 3)), loss))
  assert float(state.level) == 2
  state = slow.update(state, batch_of(range(10)), Outputs(jnp.zeros((10, 3)), loss + 10))
  assert float(state.level) == pytest.approx(0.9 * 2 + 0.1 * 13, rel=1e-5)  # the 4th of 10 by now


@pytest.mark.parametrize(('start', 'until'), [(0.3, 0.39), (0.25, 0.86), (0.5, 2 / 3)])
def test_everybody_counts_from_the_very_step_on(start, until):
  selector = self_paced.self_paced(spec(16, 4), 1.0, start=start, until=until, decay=0.9)
  steps = 300 * np.arange(1, 400)
  end = np.round(until * steps).astype(int)  # whole numbers, but for rounding

  def counts(step, steps):
    state = self_paced.State(jnp.float32(0), step, steps)
    return jnp.all(selector.weigh(state, jnp.array([1.0, 9.0]), jnp.ones(2)) > 0)

  counts = jax.jit(jax.vmap(counts))
  steps, end = jnp.asarray(steps, jnp.int32), jnp.asarray(end, jnp.int32)
  assert counts(end, steps).all() and not counts(end - 1, steps).any()


def test_progress_is_in_whole_percent():
  rng = np.random.default_rng(0)
  steps = rng.integers(2**22, 2**24, 1000)
  step = -(-rng.integers(1, 100, 1000) * steps // 100)  # the first of a percent
  for taken in (step - 1, step):
    state = self_paced.State(
      jnp.float32(0), jnp.asarray(taken, jnp.int32), jnp.asarray(steps, jnp.int32)
    )
    np.testing.assert_array_equal(jax.jit(self_paced.progress)(state), 100 * taken // steps)


def test_mentornet_by_hand():
  loss = jnp.array([0.1, 0.5, 1.0, 3.0], jnp.float32)
  v = lambda form, done: np.asarray(
    self_paced.mentor_weight(form, loss, jnp.float32(0.6), jnp.int32(done))
  )
  assert v('pd', 18).tolist() == [1, 1, 1, 1] and v('pd', 19).tolist() == [1, 1, 0, 0]
  np.testing.assert_allclose(v('pd', 90), [1, 1, 0.6, 0], atol=1e-6)
  assert v('hard', 50).tolist() == [0, 0, 1, 1]
  np.testing.assert_allclose(v('focal', 0), (1 - np.exp(-np.asarray(loss))) ** 2, rtol=1e-5)
  selector = self_paced.mentornet(spec(40, 4), 1.0, share=0.5, drop=0.5, later_drop=0.0)
  state = selector.init(KEY)
  _, batch, info = selector.select(state, KEY, batch_of(range(4)), None)
  assert np.asarray(batch.weight).sum() == 2 and int(info['scored']) == 0
  after = jax.jit(selector.update)(state, batch, Outputs(jnp.zeros((4, 3)), loss))
  assert float(after.level) == pytest.approx(0.25)  # half of the median's lower one, from 0
  late = state._replace(step=jnp.int32(30))
  _, batch, _ = selector.select(late, KEY, batch_of(range(4)), None)
  weight = np.asarray(selector.weigh(late, loss, batch.weight))
  np.testing.assert_allclose(weight, [0.25, 0, 0, 0])  # A = 0.25 with this batch in it; E1
  plain = self_paced.mentornet(spec(40, 4), 1.0, share=1.0, decay=0.0, drop=0.0, later_drop=0.0)
  np.testing.assert_array_equal(plain.weigh(late, loss, jnp.ones(4)), 1)


# A learned selector


def test_the_assistant_by_hand():
  selector = auto_assist.auto_assist(spec(16, 4), 0.5, exact=True)
  state = selector.init(KEY)
  blank = state.assistant._replace(pixels=jnp.zeros(1), classes=jnp.zeros(3))
  batch = batch_of(range(4))._replace(image=jnp.array([1.0, 2, 3, 4]).reshape(4, 1, 1, 1))
  np.testing.assert_allclose(auto_assist.chance(blank, batch, 0.3), 0.65, rtol=1e-6)
  np.testing.assert_allclose(auto_assist.chance(state.assistant, batch, 1.0), 1)
  losses = jnp.array([1.0, 1, 1, 5], jnp.float32)  # mean 2: the last one is hard
  after = auto_assist.learn(
    state._replace(assistant=blank), batch, Outputs(jnp.zeros((4, 3)), losses)
  )
  slope = (0.5 - np.array([0, 0, 0, 1])) / 4  # of the cross-entropy by the logit
  expected = -0.01 * (slope * [1, 2, 3, 4]).sum()
  assert float(after.assistant.pixels[0]) == pytest.approx(expected, rel=1e-4)
  assert float(after.assistant.classes[0]) == pytest.approx(-0.01 * slope.sum(), rel=1e-4)
  assert (float(after.assistant.total), float(after.assistant.count)) == (8, 4)
  everybody = auto_assist.auto_assist(spec(16, 4), 1.0, exact=False, base=1.0)
  state, chosen, info = everybody.select(everybody.init(KEY), KEY, batch, None)
  assert np.asarray(chosen.weight).tolist() == [1] * 4 and int(info['scored']) == 0  # sgd


def test_the_assistant_decays_a_class_by_the_samples_it_has():
  rng = np.random.default_rng(0)
  image, pixels = rng.normal(size=(4, 2)).astype(np.float32), np.array([3.0, -2.0], np.float32)
  classes, label = np.array([50.0, -40.0, 30.0], np.float32), np.array([0, 0, 1, 2])
  batch = batch_of(range(4))._replace(
    image=jnp.asarray(image).reshape(4, 1, 2, 1), weight=jnp.array([1.0, 1, 1, 0]),
    part_label=jnp.asarray(label[:, None], jnp.int32),
  )  # fmt: skip
  state = auto_assist.auto_assist(spec(16, 4), 0.5).init(KEY)
  state = state._replace(
    assistant=state.assistant._replace(pixels=jnp.asarray(pixels), classes=jnp.asarray(classes))
  )
  losses = np.array([1.0, 1.0, 5.0, 9.0])  # of those that are there the third is hard
  after = auto_assist.learn(
    state, batch, Outputs(jnp.zeros((4, 3)), jnp.asarray(losses, jnp.float32))
  )
  slope = 1 / (1 + np.exp(-(image @ pixels + classes[label]))) - (losses > 7 / 3)
  rate, own = 0.01 / 3, classes.astype(np.float64)
  for i in range(3):  # as the source, sample by sample: W by the sum of them, U[y] by each
    own[label[i]] -= rate * (slope[i] + 1e-3 * classes[label[i]])
  np.testing.assert_allclose(after.assistant.classes - classes, own - classes, rtol=2e-2, atol=1e-6)
  assert float(after.assistant.classes[2]) == 30  # nobody is of it
  moved = -rate * (slope[:3] @ image[:3] + 1e-3 * pixels)
  np.testing.assert_allclose(after.assistant.pixels - pixels, moved, rtol=1e-3, atol=1e-6)


def test_the_assistant_by_other_labels_and_trust():
  select = lambda label: auto_assist.auto_assist(spec(16, 4), 0.5, label=label, trusted=False)
  selector = select('misclassified')
  assert selector.facts.asks == ('probabilities', 'confidence')
  state, _ = jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(0))
  blank = state.assistant._replace(pixels=jnp.zeros(1), classes=jnp.array([9.0, 0, 0]))
  state = state._replace(assistant=blank)  # sure that class 0 is hard
  assert float(auto_assist.least(state, 0.3, False)) == 1  # the first epoch accepts everybody
  batch = batch_of(range(4))._replace(image=jnp.zeros((4, 1, 1, 1)))
  outputs = said([0.9, 0.8, 0.7, 0.1])._replace(loss=jnp.array([9.0, 1, 1, 1]))
  after = jax.jit(selector.update)(state, batch, outputs)
  slope = 1 / (1 + math.exp(-9)) - 0.25  # one of the four was not recognised
  assert float(after.assistant.classes[0]) == pytest.approx(9 - 0.01 * (slope + 9e-3), rel=1e-6)
  assert float(after.assistant.right) == pytest.approx(0.05 * 0.25, rel=1e-5)
  later, _ = jax.jit(selector.plan)(after, KEY, jnp.int32(1))
  assert float(auto_assist.least(later, 0.3, False)) == pytest.approx(1 - 0.0125, rel=1e-5)
  known = later._replace(assistant=blank._replace(right=jnp.float32(0.9)))
  assert float(auto_assist.least(known, 0.3, False)) == pytest.approx(0.3)
  assert auto_assist.least(known, 0.3, True) == 0.3
  by_loss = select('loss').update(state, batch, outputs).assistant  # the first is above the mean 3
  np.testing.assert_allclose(by_loss.classes, after.assistant.classes, rtol=1e-6)
  assert float(by_loss.right) == pytest.approx(0.05 * 0.25, rel=1e-5)


# Importance sampling


def test_class_shares_by_hand():
  size, square = jnp.array([90.0, 10.0]), jnp.array([1.0, 9.0])
  share = class_sampling.class_shares(size, square)
  np.testing.assert_allclose(share, [0.75, 0.25], rtol=1e-5)
  np.testing.assert_allclose((size / 100) / share, [1.2, 0.4], rtol=1e-5)
  np.testing.assert_allclose(class_sampling.class_shares(size, jnp.ones(2)), [0.9, 0.1], rtol=1e-5)
  floored = np.asarray(class_sampling.class_shares(size, jnp.array([1.0, 0.0])))
  np.testing.assert_allclose(floored, [0.99, 0.01], rtol=1e-5)
  selector = class_sampling.class_sampling(spec(16, 4), 0.5, np.arange(16) % 2)
  state = selector.init(KEY)
  (index, weight), *_ = used(selector, 1)
  np.testing.assert_allclose(weight, 1, rtol=1e-5)  # nobody seen: unif_sgd
  state = jax.jit(selector.update)(state, batch_of(range(4)), said([0.5] * 4))
  bound = float(scores.gradient_bound(said([0.5]), batch_of([0]).target)[0])
  assert float(state.square[0] / state.seen[0]) == pytest.approx(bound**2, rel=1e-5)


@given(
  st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1e4, width=32)), min_size=2, max_size=12)
)
def test_no_class_falls_below_a_tenth_of_its_part(classes):
  size, square = (np.array(x, np.float64) for x in zip(*classes, strict=True))
  share = np.asarray(SHARES(jnp.asarray(size, jnp.float32), jnp.asarray(square, jnp.float32)))
  part, wanted = size / size.sum(), size * np.sqrt(square)
  assert share.sum() == pytest.approx(1, rel=1e-4)
  assert (share >= 0.1 * part * (1 - 1e-4)).all()
  above = (share > 0.1 * part * 1.001) & (wanted > 0)  # as they would be drawn among themselves
  if wanted.any() and above.any():
    np.testing.assert_allclose(
      share[above] / share[above].sum(), wanted[above] / wanted[above].sum(), rtol=1e-2
    )


def test_own_bounds_are_those_of_the_loss():
  outputs = Outputs(jax.random.normal(KEY, (5, 3)), jnp.zeros(5))
  target = jax.nn.one_hot(jnp.array([0, 1, 2, 0, 1]), 3, dtype=jnp.float32)
  own = scores.own_bound(outputs, jnp.argmax(target, 1)[:, None])[:, 0]
  np.testing.assert_allclose(own, scores.gradient_bound(outputs, target), rtol=1e-5)
  from jaxbudget.losses import cross_entropy

  label = jnp.argmax(target, 1).astype(jnp.int32)
  seen = Seen(cross_entropy(outputs.logits, target), outputs.logits, label=label)
  np.testing.assert_allclose(gradient_norm._refresh(None, None, seen), own, rtol=1e-4)


def test_bounds_of_who_is_known_well_keep_their_digits():
  rest = np.array([1e-2, 2e-5, 1e-6, 1e-9, 1e-15])
  logits = np.log(np.stack([0.7 * rest, 1 - rest, 0.3 * rest], 1)).astype(np.float32)
  p = np.exp(logits.astype(np.float64))
  p /= p.sum(1, keepdims=True)
  right = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2 + (p[:, 0] + p[:, 2]) ** 2)
  label = jnp.ones(5, jnp.int32)
  own = scores.own_bound(Outputs(jnp.asarray(logits), jnp.zeros(5)), label[:, None])
  np.testing.assert_allclose(own[:, 0], right, rtol=1e-5)
  seen = Seen(-jnp.asarray(logits[:, 1]), jnp.asarray(logits), label=label)
  np.testing.assert_allclose(gradient_norm._refresh(None, None, seen), right, rtol=1e-5)


def test_a_table_of_norms_waits_for_the_first_look():
  selector = gradient_norm.gradient_norm(spec(16, 4), 0.5, every=3)
  assert selector.facts.planned.scored == 2 * 16  # before epochs 1 and 4
  (_, weight), *_ = used(selector, 1)
  np.testing.assert_allclose(weight, 1)
  bound = jnp.linspace(0.1, 1.4, 16, dtype=jnp.float32)
  _, plan = jax.jit(selector.plan)(bound, KEY, jnp.int32(2))
  value = np.asarray(bound) + 0.1
  expected = (value.mean() / value)[np.asarray(plan.index)[:2]]
  np.testing.assert_allclose(plan.weight[:2], expected, rtol=1e-4)
  far = gradient_norm.gradient_norm(spec(16, 4), 0.5, smoothing=1e6)
  _, plan = jax.jit(far.plan)(bound, KEY, jnp.int32(2))
  np.testing.assert_allclose(plan.weight[:2], 1, rtol=1e-4)  # c -> inf: uniform


def test_a_table_of_features_stands():
  features = np.zeros((16, 3), np.float32)
  features[8:, 1] = math.sqrt(3)  # lengths 1 and 2, with the 1 of the bias
  selector = gradient_norm.gradient_norm(
    spec(16, 4), 0.5, features, table_of='features', smoothing=0.0
  )
  assert selector.facts.planned.scored == 0 and not selector.facts.uniform_on_ties
  (first, weight), (second, _) = used(selector, 2)
  np.testing.assert_allclose(weight, np.where(first < 8, 1.5, 0.75), rtol=1e-5)  # 1/(N p)
  assert set(np.round(weight, 2)) == {1.5, 0.75} and first.tolist() != second.tolist()
  np.testing.assert_allclose(selector.init(KEY), 1 + (np.arange(16) >= 8), rtol=1e-6)
  found = {'features': features + 1, 'head_bias': False}
  selector = gradient_norm.gradient_norm(spec(16, 4), 0.5, found, table_of='features')
  np.testing.assert_allclose(selector.init(KEY), np.linalg.norm(features + 1, axis=1), rtol=1e-6)
  with pytest.raises(ValueError, match='cannot start without features'):
    gradient_norm.gradient_norm(spec(16, 4), 0.5, table_of='features').init(KEY)


def test_robust_choice_by_hand():
  v, s = jnp.array([1.5, 2.0]), jnp.array([1.0, 2.0])
  records = jnp.array([v.mean(), s.mean(), (v**2 / s).mean(), 1.0])
  c, d = rais.fit(records)
  assert (float(c), float(d)) == pytest.approx((1.1667, 0.08333), abs=1e-4)
  np.testing.assert_allclose(rais.robust(s, c, d), [1.402, 2.805], atol=2e-3)
  np.testing.assert_allclose(rais.robust(s, c, jnp.float32(0)), c * s)  # d = 0: the last norms
  even = rais.rais(spec(16, 4), 0.5, feature='constant')
  state = jax.jit(even.update)(even.init(KEY), batch_of(range(8)), said(np.linspace(0.1, 0.9, 8)))
  _, plan = jax.jit(even.plan)(state, KEY, jnp.int32(1))
  np.testing.assert_allclose(plan.weight[:2], 1, rtol=1e-5)


# Diverse batches


def test_points_that_coincide_are_kept_apart():
  feature = jnp.array([[0.0], [0.0], [1.0], [1.05], [2.0]])
  every = jnp.ones(5, bool)
  take = lambda radius, repels, size: np.asarray(
    poisson_disk.spread(feature, jnp.float32(radius), repels, size)
  ).tolist()
  assert take(0.1, every, 3) == [0, 2, 4] and take(0.0, every, 3) == [0, 1, 2]
  assert take(0.1, every, 4) == [0, 2, 4, 1]  # those turned down fill up
  assert take(0.1, jnp.array([False, True, True, True, True]), 3) == [0, 1, 2]
  label = jnp.array([0, 0, 0, 0, 0, 1], jnp.int32)
  line = jnp.arange(6, dtype=jnp.float32)[:, None]
  assert np.asarray(poisson_disk.mingling(line, label)).tolist() == [0, 0, 0, 1, 1, 4]
  weight = np.asarray(poisson_disk.pool_weights('dense', jnp.array([0, 0, 0, 4]), jnp.int32(0)))
  np.testing.assert_allclose(weight, [1 / 3] * 3 + [1])
  early, late = (
    np.asarray(poisson_disk.pool_weights('anneal', jnp.array([0, 3]), jnp.int32(t)))
    for t in (0, 1000)
  )
  assert early[0] / early[1] == pytest.approx(4)
  assert late[0] / late[1] == pytest.approx(4 * math.exp(-3), rel=1e-4)


def test_a_pool_turns_to_those_of_mingling_three():
  mingling = jnp.array([0, 0, 0, 0, 1, 2, 3, 3, 4], jnp.int32)

  def shares(row, mingling):
    weight = np.asarray(poisson_disk.pool_weights('anneal', mingling, jnp.int32(row)))
    return np.bincount(mingling, weight, 5) / weight.sum()

  np.testing.assert_allclose(shares(0, mingling), [0.4, 0.3, 0.2, 0.1, 0], rtol=1e-5, atol=1e-12)
  for row in (10_000, 200_000, 20_000_000):
    assert shares(row, mingling)[3] > 0.9998
    assert shares(row, mingling[:6])[2] > 0.999  # of those there are
    assert shares(row, mingling[8:])[4] == 1
  selector = poisson_disk.poisson_disk(
    spec(9, 2), 1.0, np.zeros((9, 1), np.float32), np.zeros(9, np.int32), form='anneal', pool=1,
    radius=0.0,
  )  # fmt: skip
  state = selector.init(KEY)._replace(mingling=mingling)
  _, plan = jax.jit(selector.plan)(state, KEY, jnp.int32(50_000))
  assert {tuple(sorted(row)) for row in plan.index.tolist()} == {(6, 7)}


@pytest.mark.parametrize('form', ['plain', 'anneal'])
def test_no_key_of_a_spread_plan_serves_twice(form):
  feature, label = np.arange(32, dtype=np.float32)[:, None], np.arange(32, dtype=np.int32) % 2
  selector = poisson_disk.poisson_disk(spec(32, 4), 0.5, feature, label, form=form)
  state = selector.init(KEY)
  with jax.debug_key_reuse(True):
    jax.jit(selector.plan)(state, jax.random.key(5), jnp.int32(0))


def test_determinants_decide_who_comes_together():
  log_value = jnp.log(jnp.array([1.0, 2, 3], jnp.float32))
  table_ = np.exp(np.asarray(dpp.elementary(log_value, 2)))
  np.testing.assert_allclose(table_[3], [1, 6, 11], rtol=1e-5)
  rng = np.random.default_rng(0)
  half = rng.normal(size=(5, 5)).astype(np.float32)
  for kernel in (half @ half.T + 0.1 * np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32)):
    found = np.sort(many(lambda k, m: dpp.k_dpp(k, m, 2), jnp.asarray(kernel)), 1)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    law = np.array([np.linalg.det(kernel[np.ix_(p, p)]) for p in pairs])
    share = [(found == p).all(1).mean() for p in pairs]
    np.testing.assert_allclose(share, law / law.sum(), atol=0.05)


OPTIONS = {
  'curriculum': ({'pacing': 'linaer'}, "did you mean 'linear'"),
  'kakurenbo': ({'fraction': 1.0}, 'fraction=1.0'),
  'seta': ({'share': 0.0}, 'share=0.0'),
  'self_paced': ({'until': 0.0}, 'until=0.0'),
  'mentornet': ({'drop': 1.0}, 'drop=1.0'),
  'auto_assist': ({'base': 0.0}, 'base=0.0'),
  'gradient_norm': ({'every': 0}, 'every=0'),
  'class_sampling': ({'mix': -0.5}, 'mix=-0.5'),
  'repeat_before_forgetting': ({'recall': 1.0}, 'recall=1.0'),
  'local_to_global': ({'groups': 0}, 'groups=0'),
  'rais': ({'feature': 'first'}, "feature='first' of rais"),
  'poisson_disk': ({'radius': -1.0}, 'radius=-1.0'),
  'dpp': ({'ridge': 0.0}, 'ridge=0.0'),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_bad_options_are_refused_with_the_reason(name):
  options, message = OPTIONS[name]
  with pytest.raises(ValueError, match=message):
    make_selector(name, SPEC, 0.5, options)


def test_what_decides_itself_takes_the_whole_budget():
  for name in ('kakurenbo', 'seta', 'repeat_before_forgetting', 'local_to_global'):
    with pytest.raises(ValueError, match=r'budget must be\s+1, got 0.5'):
      make_selector(name, SPEC, 0.5, {'exact': False})


def test_mixed_pictures_credit_everybody_in_them_by_share():
  parts = jnp.array([[3, 5], [5, 3], [7, 3]], jnp.int32)
  labels = jnp.array([[0, 1], [1, 0], [2, 0]], jnp.int32)
  share = jnp.array([[0.75, 0.25], [0.6, 0.4], [0.5, 0.5]], jnp.float32)
  batch = batch_of([3, 5, 7])._replace(part_index=parts, part_label=labels, part_share=share)
  batch = batch._replace(weight=jnp.array([1.0, 1.0, 0.0]))  # the last one is padding
  logits = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
  outputs = Outputs(jnp.asarray(logits), jnp.array([1.0, 2.0, 9.0]))
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  loss = lambda i, c: -np.log(p[i, c])
  bound = lambda i, c: np.linalg.norm(p[i] - np.eye(3)[c])
  mean = lambda f: [
    (0.75 * f(0, 0) + 0.4 * f(1, 0)) / 1.15,
    (0.25 * f(0, 1) + 0.6 * f(1, 1)) / 0.85,
  ]
  known = kakurenbo.Known(jnp.full(16, jnp.inf), jnp.zeros(16, bool))
  known = kakurenbo._note(0.0)(known, batch, outputs)
  np.testing.assert_allclose(known.loss[jnp.array([3, 5])], mean(loss), rtol=1e-4)
  assert np.isinf(np.asarray(known.loss)).sum() == 14  # padding leaves no trace
  right = mean(lambda i, c: p[i].argmax() == c)
  assert np.asarray(known.sure)[[3, 5]].tolist() == [r > 0.5 for r in right]
  table_ = gradient_norm._remember(jnp.full(16, -1.0), batch, outputs)
  np.testing.assert_allclose(table_[jnp.array([3, 5])], mean(bound), rtol=1e-4)
  selector = class_sampling.class_sampling(spec(16, 4), 0.5, np.arange(16) % 3)
  state = class_sampling.enter(selector.init(KEY), batch, outputs)
  squares = mean(lambda i, c: bound(i, c) ** 2)
  np.testing.assert_allclose(state.square[:2] / state.seen[:2], squares, rtol=1e-4)
  assert float(state.seen[2]) == 0
  assistant = auto_assist.Assistant(jnp.zeros(1), jnp.array([1.0, 2, 4]), *3 * [jnp.float32(0)])
  np.testing.assert_allclose(auto_assist.doubt(assistant, batch), [1.25, 1.6, 2.5], rtol=1e-5)
