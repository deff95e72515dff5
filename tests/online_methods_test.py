"""Rules of the methods that select while they train, by hand numbers and limiting cases."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbudget import ledger, scores
from jaxbudget.selectors import bsbs, importance, infobatch, loss_side, make_selector
from jaxbudget.selectors import gradient_bound as gb
from jaxbudget.selectors import online_batch_selection as obs
from jaxbudget.selectors import rho_loss as rho
from jaxbudget.selectors.active_bias import History, active_bias, enter, statistic, weigh_by
from jaxbudget.selectors.ordered import hardest
from jaxbudget.selectors.rho_loss import crossed, rho_loss
from jaxbudget.selectors.rs2 import rs2
from jaxbudget.selectors.sgd import sgd, unif_sgd
from jaxbudget.testing import SPEC
from jaxbudget.types import Outputs, Spec, blank_batch

KEY = jax.random.key(0)


def spec(n, s, epochs=6):
  return Spec(n, s, 3, epochs, (1, 1, 1))


def used(selector, epochs, seed=0):
  """Samples of each epoch's plan, and their weights."""
  state, found = selector.init(jax.random.key(seed)), []
  for e in range(epochs):
    state, plan = jax.jit(selector.plan)(
      state, jax.random.fold_in(jax.random.key(seed), e), jnp.int32(e)
    )
    rows = int(plan.rows)
    real = np.asarray(plan.weight)[:rows] > 0
    found.append((np.asarray(plan.index)[:rows][real], np.asarray(plan.weight)[:rows][real]))
  return found


def batch_of(index, classes=3):
  """Plain pictures of samples."""
  index = jnp.asarray(index, jnp.int32)
  blank = blank_batch(spec(16, 4), len(index))
  ones = jnp.ones(len(index), jnp.float32)
  return blank._replace(
    index=index, weight=ones, part_index=index[:, None], part_share=ones[:, None],
    target=jnp.tile(jax.nn.one_hot(0, classes, dtype=jnp.float32), (len(index), 1)),
  )  # fmt: skip


def said(p):
  """Outputs of a model that gives the true class 0 these probabilities."""
  p = np.asarray(p, np.float64)
  rest = (1 - p) / 2
  logits = jnp.asarray(np.log(np.stack([p, rest, rest], 1)), jnp.float32)
  return Outputs(logits, jnp.asarray(-np.log(p), jnp.float32))


# RS2


def test_rs2_sees_everybody_once_before_anybody_twice():
  walk = used(rs2(spec(24, 4), ledger.Budget(ledger.Fraction(1, 3))), 6)
  for cycle in (walk[:3], walk[3:]):
    assert sorted(np.concatenate([index for index, _ in cycle])) == list(range(24))
  assert walk[0][0].tolist() != walk[3][0].tolist()


@given(n=st.sampled_from((9, 24, 31)), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=5)
def test_rs2_never_runs_ahead_of_itself(n, seed):
  for wrap in ('continue', 'reshuffle'):
    counts = np.zeros(n, int)
    for index, _ in used(rs2(spec(n, 4), 0.4 if n >= 10 else 0.5, wrap=wrap), 6, seed):
      counts += np.bincount(index, minlength=n)
      if wrap == 'continue':
        assert counts.max() - counts.min() <= 2  # the rest of one order and the start of the next
      else:
        assert len(set(index.tolist())) == len(index)


def test_rs2_of_everything_is_sgd():
  sizes = spec(16, 4)
  whole = rs2(sizes, 1.0)
  assert whole.facts == sgd(sizes, 1.0).facts and whole.select is sgd(sizes, 1.0).select
  walk = used(whole, 3)
  assert all(sorted(index.tolist()) == list(range(16)) for index, _ in walk)
  assert len({tuple(index.tolist()) for index, _ in walk}) == 3
  assert rs2(sizes, 0.5, replacement=True).facts == unif_sgd(sizes, 0.5).facts


def test_rs2_walks_through_each_class_by_itself():
  label = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [12, 8, 4]))
  for wrap in ('continue', 'reshuffle'):
    walk = used(rs2(spec(24, 4), 0.5, label, balanced=True, wrap=wrap), 4)
    for first, second in (walk[:2], walk[2:]):  # N = 2 N B: everybody once in two epochs
      assert sorted([*first[0], *second[0]]) == list(range(24))
      assert np.bincount(label[first[0]]).tolist() == [6, 4, 2]  # round(B n_c)
    assert set(walk[0][0]) not in (set(walk[2][0]), set(walk[3][0])), 'a new permutation'
  fresh = used(rs2(spec(24, 4), 0.5, label, balanced=True, replacement=True), 2)
  assert set(fresh[0][0]) & set(fresh[1][0]), 'epochs know nothing of each other'
  assert all(np.bincount(label[i]).tolist() == [6, 4, 2] for i, _ in fresh)
  assert all(len(set(i.tolist())) == 12 for i, _ in fresh)
  # 9 of 24: quotas 4.5, 3, 1.5 of 8 that are trained on: a walk of 12 by 4 ends in a window.
  walk = used(rs2(spec(24, 4), 0.4, label, balanced=True), 6)
  assert {tuple(np.bincount(label[i])) for i, _ in walk} == {(4, 3, 1)}
  counts = np.bincount(np.concatenate([i for i, _ in walk]), minlength=24)
  for c, seen in ((0, {2}), (1, {2, 3}), (2, {1, 2})):  # 24 of 12, 18 of 8, 6 of 4
    assert set(counts[label == c]) == seen
  with pytest.raises(ValueError, match='cannot start without the labels'):
    rs2(spec(24, 4), 0.5, balanced=True).init(KEY)


# InfoBatch


def test_infobatch_by_hand():
  loss = jnp.array([1.0, 2, 3, 6], jnp.float32)  # mean 3: easy are 1 and 2
  index, weight, _ = infobatch.keep(KEY, loss, jnp.int32(3))
  kept = dict(zip(np.asarray(index)[:3].tolist(), np.asarray(weight)[:3].tolist(), strict=True))
  assert {2, 3} < set(kept) and kept[2] == kept[3] == 1 and sum(kept.values()) == 4
  # No room for all hard ones and a tenth of the easy: both are thinned out, the sum stays N.
  loss = jnp.array([0.0] * 5 + [10.0] * 15, jnp.float32)
  index, weight, _ = infobatch.keep(KEY, loss, jnp.int32(10))
  chosen, weights = np.asarray(index)[:10], np.asarray(weight)[:10]
  assert (chosen < 5).sum() == 1 and weights.sum() == pytest.approx(20)


def test_who_was_never_seen_is_not_easy():
  loss = jnp.array([4.0, 5.0, 6.0, jnp.inf, jnp.inf, jnp.inf], jnp.float32)  # of many classes
  assert np.asarray(infobatch.easy_ones(loss)).tolist() == [True, *5 * [False]]
  index, weight, _ = infobatch.keep(KEY, loss, jnp.int32(5))
  kept = dict(zip(np.asarray(index)[:5].tolist(), np.asarray(weight)[:5].tolist(), strict=True))
  assert kept.pop(0) == 1 and set(kept.values()) == {1.25}  # 4 of 5 who are not easy
  assert not np.asarray(infobatch.easy_ones(jnp.full(4, jnp.inf))).any()
  selector = infobatch.infobatch(spec(16, 4), 0.5)
  weight = jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(0))[1].weight
  assert set(np.unique(weight).tolist()) == {0.0, 1.0}  # a uniform epoch


def test_who_was_in_no_batch_does_not_raise_the_mean():
  selector = infobatch.infobatch(spec(16, 4), 0.5, batch_score=True)
  state = selector.init(KEY)
  for members, loss in ((range(4), 4.0), (range(4, 8), 5.2), (range(8, 12), 6.0)):  # mean 5.07
    state = jax.jit(selector.update)(state, batch_of(members), said([math.exp(-loss)] * 4))
  plan = jax.jit(selector.plan)(state, KEY, jnp.int32(1))[1]
  weight = {int(i): float(w) for i, w in zip(plan.index.ravel(), plan.weight.ravel(), strict=True)}
  easy = {weight[i] for i in range(4) if weight.get(i, 0) > 0}
  hard = {weight[i] for i in range(4, 16) if weight.get(i, 0) > 0}
  assert len(hard) == 1 and easy and not easy & hard  # 0 to 3 alone lie below it


def test_infobatch_weights_are_unbiased():
  loss = np.array([1, 2, 3, 6, 2, 2, 9, 1], np.float32)
  total = np.zeros(8)
  keep = jax.jit(infobatch.keep)
  for s in range(400):
    index, weight, _ = keep(jax.random.key(s), jnp.asarray(loss), jnp.int32(5))
    np.add.at(total, np.asarray(index)[:5], np.asarray(weight)[:5])
  np.testing.assert_allclose(total / 400, 1, atol=0.25)  # 5 sigma of the rarest


def test_infobatch_takes_shares_as_they_are_written():
  # In float32 0.87 of 301,377 and 0.7 of 5,991,867 were one off.
  start = np.array([0, 301_000, 5_991_000, 2**31 - 1000], np.int64)
  count = (start[:, None] + np.arange(1000)).ravel().astype(np.int32)
  for share in (Fraction(7, 10), Fraction(87, 100), Fraction(2, 3), Fraction(9999, 10_000)):
    exact = count.astype(object) * share.numerator // share.denominator
    found = infobatch.share_of(jnp.asarray(count), share)
    np.testing.assert_array_equal(np.asarray(found), exact.astype(np.int32))
  # 0.29 of 100 epochs are 29, though 0.29 * 100 < 29 in binary.
  selector = infobatch.infobatch(spec(8, 2, epochs=100), 1.0, exact=False, delta=0.29)
  plan = jax.jit(selector.plan)
  loss = jnp.array([0, 0, 0, 0, 1, 1, 1, 1], jnp.float32)
  used = [int((plan(loss, KEY, jnp.int32(e))[1].weight > 0).sum()) for e in (28, 29)]
  assert used == [6, 8]


def test_infobatch_as_published():
  selector = infobatch.infobatch(spec(8, 2, epochs=4), 1.0, exact=False, delta=0.5)
  loss = jnp.array([1, 1, 1, 1, 5, 5, 5, 5], jnp.float32)
  _, plan = jax.jit(selector.plan)(loss, KEY, jnp.int32(0))
  weight = np.asarray(plan.weight[: int(plan.rows)])
  assert int(plan.rows) == 3 and weight.sum() == 8 and sorted(set(weight.ravel())) == [1, 2]
  _, plan = jax.jit(selector.plan)(loss, KEY, jnp.int32(2))  # the last epochs see everybody
  assert int(plan.rows) == 4 and np.asarray(plan.weight)[:4].tolist() == [[1, 1]] * 4
  _, plan = jax.jit(selector.plan)(jnp.full(8, 3, jnp.float32), KEY, jnp.int32(0))  # nobody is easy
  assert sorted(np.asarray(plan.index)[:4].ravel()) == list(range(8))
  nobody = infobatch.infobatch(spec(8, 2, epochs=4), 1.0, exact=False, ratio=0.0, delta=0.5)
  _, plan = jax.jit(nobody.plan)(
    jnp.array([1, 1, 1, 1, 5, 5, 5, 5], jnp.float32), KEY, jnp.int32(0)
  )
  assert np.asarray(plan.weight)[:4].tolist() == [[1, 1]] * 4  # r = 0: sgd
  assert sorted(np.asarray(plan.index)[:4].ravel()) == list(range(8))
  with pytest.raises(ValueError, match='budget must be 1, got 0.5'):
    infobatch.infobatch(spec(8, 2), 0.5, exact=False)


# Online batch selection


def test_ranks_by_hand():
  loss = jnp.array([2.0, 9.0, 1.0, 4.0], jnp.float32)
  weight = np.asarray(obs.rank_weights(loss, jnp.float32(16), KEY), np.float64)
  np.testing.assert_allclose(weight / weight.sum(), [2 / 15, 8 / 15, 1 / 15, 4 / 15], rtol=1e-5)
  for pressure, share, received in ((100, 0.1, 0.373), (100, 0.5, 0.909), (1e8, 0.1, 0.8415)):
    weight = np.asarray(
      obs.rank_weights(jnp.arange(10_000, dtype=jnp.float32), jnp.float32(pressure), KEY),
      np.float64,
    )
    hardest = np.sort(weight)[::-1][: int(10_000 * share)].sum() / weight.sum()
    assert hardest == pytest.approx(received, abs=1e-3)


def test_draws_are_the_fewer_samples_the_higher_the_pressure(monkeypatch):
  n, found, plain = 10_000, [], obs.rank_weights
  loss = jnp.arange(n, dtype=jnp.float32)
  for pressure, distinct in ((1.0, 0.632), (100.0, 0.450), (1e8, 0.19)):
    weight = np.asarray(plain(loss, jnp.float32(pressure), KEY), np.float64)
    expected = -np.expm1(n * np.log1p(-weight / weight.sum())).mean()
    assert expected == pytest.approx(distinct, abs=5e-3)
    selector = obs.online_batch_selection(
      spec(n, 100), 1.0, pressure=pressure, final_pressure=pressure, refresh=0.0
    )
    _, plan = jax.jit(selector.plan)(loss, KEY, jnp.int32(1))
    assert len(np.unique(plan.index)) / n == pytest.approx(expected, abs=0.02)  # 4 sigma
    if pressure == 1:
      np.testing.assert_array_equal(weight, 1)  # unif_sgd with replacement

  def told(loss, now, key):
    jax.debug.callback(lambda now: found.append(float(now)), now)
    return plain(loss, now, key)

  monkeypatch.setattr(obs, 'rank_weights', told)
  selector = obs.online_batch_selection(spec(n, 100, epochs=50), 1.0)
  for e in (0, 25, 49):
    jax.block_until_ready(jax.jit(selector.plan)(loss, KEY, jnp.int32(e)))
    jax.effects_barrier()
  np.testing.assert_allclose(found, [100, 10.05, 1.107], rtol=1e-3)


def test_ranks_refresh_at_their_cost():
  facts = obs.online_batch_selection(spec(100, 10, epochs=50), 0.5).facts
  assert (facts.scan.every, facts.planned.scored) == (4, 12 * 100)  # 2/B epochs; epochs 4 to 48
  assert facts.planned.scored / facts.planned.trained == pytest.approx(0.48)
  assert obs.online_batch_selection(spec(100, 10), 0.5, refresh=0.0).facts.scan.every == 0


def test_ranks_refresh_by_what_the_looks_leave_to_train_on():
  sizes = Spec(50_000, 100, 10, 200, (1, 1, 1))
  for refresh, expected in ((0.5, 24), (3.0, 7)):
    budget = ledger.Budget(Fraction(1, 10), 'compute')
    facts = obs.online_batch_selection(sizes, budget, refresh=refresh).facts
    every = facts.scan.every
    assert every == expected and facts.scan.first == every
    share = lambda k: Fraction(1, 10) - Fraction(len(range(k, 200, k)), 600)
    assert every * share(every) * Fraction(refresh) >= 1  # N/refresh samples between two looks
    assert (every - 1) * share(every - 1) * Fraction(refresh) < 1
    assert facts.planned.scored == len(range(every, 200, every)) * 50_000
  assert obs.online_batch_selection(sizes, 0.1).facts.scan.every == 20  # looks cost nothing


# Gradient bound


def test_bounds_by_hand():
  outputs = said([0.7])._replace(logits=jnp.log(jnp.array([[0.7, 0.2, 0.1]], jnp.float32)))
  bound = scores.gradient_bound(outputs, jax.nn.one_hot(jnp.array([0]), 3, dtype=jnp.float32))
  assert float(bound[0]) == pytest.approx(0.3742, abs=1e-4)
  assert float(gb.variance_gain(jnp.array([3.0, 1.0]))) == pytest.approx(1.1180, abs=1e-4)
  assert float(gb.variance_gain(jnp.zeros(4))) == float(gb.variance_gain(jnp.ones(4))) == 1
  g = np.array([3.0, 1.0, 2.0, 2.0])
  theirs = 1 / math.sqrt(1 - ((g / g.sum() - 0.25) ** 2).sum() / ((g / g.sum()) ** 2).sum())
  assert float(gb.variance_gain(jnp.asarray(g, jnp.float32))) == pytest.approx(theirs, rel=1e-5)


def test_importance_weights_are_unbiased():
  bound = jnp.array([0.3, 0.1], jnp.float32)
  chosen, weight = gb.importance(KEY, bound, 4000)
  chosen, weight = np.asarray(chosen), np.asarray(weight)
  assert abs((chosen == 0).mean() - 0.75) < 0.03
  np.testing.assert_allclose(np.unique(weight), [2 / 3, 2], rtol=1e-5)
  for i in (0, 1):  # E[w 1_i] is 1/K for everybody
    assert weight[chosen == i].sum() / 4000 == pytest.approx(0.5, abs=0.03)


def test_a_power_of_the_weights_keeps_the_sum_of_bounds():
  bound = jnp.array([0.3, 0.1], jnp.float32)
  for power in (0.5, 0.0, -1.0):
    chosen, weight = gb.importance(KEY, bound, 40, power)
    g = np.asarray(bound)[np.asarray(chosen)]
    w = 0.2 / g  # 2/3 and 2
    raised = w**power
    np.testing.assert_allclose(weight, raised * (w @ g) / (raised @ g), rtol=1e-5)
    assert float(weight @ g) == pytest.approx(w @ g, rel=1e-5)
  assert len(np.unique(gb.importance(KEY, bound, 40, 0.0)[1])) == 1
  select = gb.gradient_bound(spec(32, 4), 0.5, threshold=0.0, smoothing=1e6).select
  forward = lambda batch: said(np.linspace(0.1, 0.9, 12))
  state = gb.State(jnp.float32(1), jnp.float32(0), jnp.array(False))
  state, batch, _ = select(state, KEY, batch_of(range(12)), forward)
  np.testing.assert_allclose(batch.weight, 1, rtol=1e-5)  # c -> inf: uniform
  assert float(state.tau) == pytest.approx(1, rel=1e-5)


def test_candidates_may_be_distinct():
  selector = gb.gradient_bound(spec(13, 4), 1.0, ratio=3.0, distinct=True)
  _, plan = jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(0))
  rows = np.sort(plan.index[: int(plan.rows)], axis=1)
  assert rows.shape == (3, 12) and (np.diff(rows, axis=1) > 0).all()


def test_a_row_that_does_not_score_trains_on_any_of_its_distinct_candidates():
  selector = gb.gradient_bound(spec(12, 3), 1.0, ratio=3.0, distinct=True)
  plan = jax.jit(
    jax.vmap(lambda key: selector.plan(selector.init(KEY), key, jnp.int32(0))[1].index)
  )
  first = np.asarray(plan(jax.random.split(KEY, 500)))[:, : selector.facts.rows, :3]
  share = np.bincount(first.ravel(), minlength=12) / first.size
  np.testing.assert_allclose(share, 1 / 12, atol=0.015)  # 5 sigma
  with jax.debug_key_reuse(True):
    selector.plan(selector.init(KEY), KEY, jnp.int32(0))


def test_where_all_bounds_are_equal_nothing_is_ever_scored():
  selector = gb.gradient_bound(spec(32, 4), 0.5)
  state = selector.init(KEY)
  select, update = jax.jit(selector.select, static_argnums=3), jax.jit(selector.update)
  forward = lambda batch: said([0.5] * 12)
  for _ in range(30):
    state, batch, info = select(state, KEY, batch_of(range(12)), forward)
    assert int(info['scored']) == 0 and len(batch.index) == 4
    state = update(state, batch, said([0.5] * 4))
  assert float(state.tau) < 1.0 + 1e-6 < float(state.threshold)


# Active bias


def test_history_merges_batches_in_any_order():
  state = History(*(jnp.zeros(4, jnp.float32) for _ in range(3)), jnp.array(False))
  for p in (0.2, 0.4, 0.9):
    state = enter(state, batch_of([1]), said([p]))
  assert float(state.mean[1]) == pytest.approx(0.5, abs=1e-6)
  assert float(state.square[1] / 3) == pytest.approx(0.08667, abs=1e-5)
  spread = statistic(state, 'spv')
  assert float(spread[1]) == pytest.approx(2 * 0.3007, abs=1e-3)  # the unseen count as much
  both = enter(state, batch_of([2, 2]), said([0.3, 0.7]))
  one = enter(enter(state, batch_of([2]), said([0.7])), batch_of([2]), said([0.3]))
  np.testing.assert_allclose(both.square, one.square, atol=1e-6)
  nearly = np.full(4, np.nextafter(np.float32(2), np.float32(0)))  # shares that sum to an ulp less
  twice = both._replace(seen=jnp.asarray(nearly), square=jnp.full(4, 0.08))
  np.testing.assert_allclose(statistic(twice, 'spv'), 2 * math.sqrt(0.04 + 0.04**2), rtol=1e-5)


def test_weights_have_mean_one_and_say_nothing_of_the_unseen():
  blank = History(*(jnp.zeros(16, jnp.float32) for _ in range(3)), jnp.array(False))
  batch = batch_of(range(4))
  for kind in ('sd', 'se', 'spv', 'stc'):
    _, weighed, _ = weigh_by(kind)(blank, KEY, batch, None)
    np.testing.assert_array_equal(weighed.weight, np.ones(4))
    state = enter(
      enter(blank, batch, said([0.2, 0.4, 0.6, 0.9])), batch, said([0.3, 0.3, 0.8, 0.9])
    )
    _, weighed, _ = weigh_by(kind)(state, KEY, batch, None)
    assert float(weighed.weight.mean()) == pytest.approx(1, rel=1e-5)
    assert len(set(np.round(np.asarray(weighed.weight), 4))) > 2


def test_a_warmup_weighs_nothing():
  selector = active_bias(spec(16, 4), 0.5, form='wd', warmup=2)
  batch, plan, weighed = batch_of(range(4)), jax.jit(selector.plan), []
  state = selector.update(selector.init(KEY), batch, said([0.2, 0.4, 0.6, 0.9]))
  for e in range(4):
    state, _ = plan(state, KEY, jnp.int32(e))
    weighed.append(np.asarray(selector.select(state, KEY, batch, None)[1].weight).std() > 0.1)
  assert weighed == [False, False, True, True]


def test_inverse_weights_make_up_for_the_draw():
  selector = active_bias(spec(40, 4), 0.5, form='isd')
  state = selector.init(KEY)
  state = enter(state, batch_of(range(16)), said(np.linspace(0.1, 0.9, 16)))
  state = state._replace(seen=jnp.ones(40), mean=jnp.linspace(0.1, 0.9, 40, dtype=jnp.float32))
  total = np.zeros(40)
  plan_of = jax.jit(selector.plan)
  for s in range(300):
    _, plan = plan_of(state, jax.random.key(s), jnp.int32(3))
    np.add.at(total, np.asarray(plan.index)[:5].ravel(), np.asarray(plan.weight)[:5].ravel())
  np.testing.assert_allclose(total / 300, 0.5, atol=0.25)


def test_two_forms_are_p_sgd_and_c_sgd():
  rng = np.random.default_rng(0)
  for form, name in (('sd', 'p_sgd'), ('stc', 'c_sgd')):
    own, other = (
      make_selector(method, spec(16, 4), 0.5, options)
      for method, options in (('active_bias', {'form': form}), (name, {}))
    )
    states = own.init(KEY), other.init(KEY)
    for _ in range(3):
      batch, outputs = batch_of(rng.permutation(16)), said(rng.uniform(0.05, 0.95, 16))
      states = (
        jax.jit(own.update)(states[0], batch, outputs),
        jax.jit(other.update)(states[1], batch, outputs),
      )
    value = np.asarray(statistic(states[0], form))
    rule = {'p_sgd': importance.p_weights, 'c_sgd': importance.c_weights}[name]
    expected = np.asarray(rule(states[1]))
    np.testing.assert_allclose(value / value.sum(), expected / expected.sum(), rtol=1e-4)
    plans = [
      np.asarray(selector.plan(state, KEY, jnp.int32(3))[1].index[:2])
      for selector, state in ((own, states[0]), (other, states[1]))
    ]
    np.testing.assert_array_equal(*plans)


# RHO-Loss


def test_without_an_irreducible_loss_rho_is_selective_backprop_that_knows_no_mercy():
  nothing = np.zeros(32, np.float32)
  rho = rho_loss(spec(32, 4), 0.25, nothing, nothing)
  sb = make_selector('selective_backprop', spec(32, 4), 0.25, {'rate': 'exact', 'b': 1e5})
  assert rho.facts.candidates == sb.facts.candidates == 16
  for seed in range(5):
    losses = jnp.asarray(np.random.default_rng(seed).permutation(16), jnp.float32)
    told = lambda batch, losses=losses: Outputs(jnp.zeros((16, 3)), losses)
    kept = [
      {*np.asarray(s.select(s.init(KEY), KEY, batch_of(range(16)), told)[1].index).tolist()}
      for s in (rho, sb)
    ]
    assert kept[0] == kept[1] == {*np.argsort(losses)[-4:].tolist()}


def test_rho_takes_the_excess_over_the_irreducible_loss():
  first, second = np.zeros(32, np.float32), np.zeros(32, np.float32)
  second[0] = first[0] = 100.0  # noise: nobody learns it
  selector = rho_loss(spec(32, 4), 0.25, first, second)
  assert selector.facts.candidates == 16 and selector.facts.planned.scored == 6 * 32
  state = selector.init(KEY)
  losses = jnp.arange(16, dtype=jnp.float32).at[0].set(50.0)
  _, batch, info = selector.select(
    state, KEY, batch_of(range(16)), lambda b: Outputs(jnp.zeros((16, 3)), losses)
  )
  assert sorted(np.asarray(batch.index).tolist()) == [12, 13, 14, 15] and int(info['scored']) == 16
  one = rho_loss(spec(20, 1), 0.1, np.zeros(20, np.float32), np.zeros(20, np.float32))
  losses = jnp.asarray(np.random.default_rng(0).permutation(10), jnp.float32)
  told = lambda b: Outputs(jnp.zeros((10, 3)), losses)
  assert one.facts.candidates == 10  # one in ten: the largest
  _, batch, _ = one.select(one.init(KEY), KEY, batch_of(range(10)), told)
  assert np.asarray(batch.index).tolist() == [int(losses.argmax())]
  # What is known is all there is: all alike, the first of a shuffled row are taken.
  alike = rho_loss(spec(20, 1), 0.1, *2 * [np.concatenate([losses, losses])])
  shuffled = np.random.default_rng(1).permutation(10)
  told = lambda b: Outputs(jnp.zeros((10, 3)), losses[b.index])
  _, batch, _ = alike.select(alike.init(KEY), KEY, batch_of(shuffled), told)
  assert np.asarray(batch.index).tolist() == [shuffled[0]] != [int(losses.argmax())]
  with pytest.raises(ValueError, match='cannot start'):
    rho_loss(spec(32, 4), 0.25).init(KEY)


def rho_chosen(state, key=KEY, **options):
  """Whom RHO takes of 16 candidates: the losses rise, the bounds fall."""
  known = np.zeros(32, np.float32)
  known[12:16] = -100.0
  known[:4] = 20.0
  selector = rho_loss(spec(32, 4), 0.25, known, known, **options)
  state = selector.init(KEY)._replace(**state)
  p = jnp.linspace(0.1, 0.9, 16, dtype=jnp.float32)  # of the true class
  rest = jnp.log((1 - p) / 2)
  told = lambda batch: Outputs(jnp.stack([jnp.log(p), rest, rest], 1), jnp.arange(16.0))
  _, batch, info = selector.select(state, key, batch_of(range(16)), told)
  return sorted(np.asarray(batch.index).tolist()), int(info['scored'])


def test_rho_ranks_by_other_scores():
  assert rho_chosen({}, score='excess') == ([12, 13, 14, 15], 16)
  assert rho_chosen({}, score='loss') == ([12, 13, 14, 15], 16)
  assert rho_chosen({}, score='bound') == ([0, 1, 2, 3], 16)
  # By what is known already, nothing need be asked.
  assert rho_chosen({}, score='irreducible') == ([12, 13, 14, 15], 0)
  assert rho_loss(spec(32, 4), 0.25, score='irreducible').facts.planned.scored == 0
  for score, needs in (('excess', 2), ('irreducible', 2), ('loss', 0), ('bound', 0)):
    assert len(rho_loss.needs({'score': score})) == needs
    if not needs:
      rho_loss(spec(32, 4), 0.25, score=score).init(KEY)


def test_rho_draws_by_a_softmax_with_replacement():
  value = jnp.array([0.0, 0.25, 0.5, -3.0], jnp.float32)
  found = np.asarray(rho.choose(KEY, value, 20_000, 0.25))
  law = np.exp(np.asarray(value, np.float64) / 0.25)
  share = np.bincount(found, minlength=4) / 20_000
  np.testing.assert_allclose(share, law / law.sum(), atol=0.015)
  assert len(rho_chosen({}, score='excess', temperature=1e3)[0]) == 4


def test_rho_turns_uniform():
  assert rho_chosen({'uniform': jnp.array(True)}, until=0.5) == ([0, 1, 2, 3], 0)
  assert rho_chosen({'uniform': jnp.array(False)}, until=0.5) == ([12, 13, 14, 15], 16)
  selector = rho_loss(spec(32, 4), 0.25, *2 * [np.zeros(32, np.float32)], until=0.5)
  assert selector.facts.planned.scored == 3 * 32  # of 6 epochs
  epochs = [
    jax.jit(selector.plan)(selector.init(KEY), KEY, jnp.int32(e))[0].uniform for e in (0, 2, 3)
  ]
  assert [bool(e) for e in epochs] == [False, False, True]
  # What is not scored is trained on: 0.5 - 3/18 of all under `compute`, where 0.5 - 6/18 was.
  compute = ledger.as_budget(0.5, 'compute')
  rows = [rho_loss(spec(96, 4), compute, until=until).facts.rows for until in (1.0, 0.5)]
  assert rows == [96 // 6 // 4, 96 // 3 // 4]


def test_each_half_is_judged_by_the_other():
  loss = crossed(np.full(10, 1.0), np.full(10, 2.0))
  assert sorted(loss.tolist()) == [1.0] * 5 + [2.0] * 5
  from jaxbudget.parts import part_index

  assert (
    loss[part_index(10, (0, 2))] == 2.0
  ).all()  # the model of the second half judges the first


# BSBS


def test_bsbs_doubles_the_hardest_and_drops_the_easiest():
  state = bsbs.State(jnp.array([1.0, 2, 3, 4]), jnp.array([1.0, 2, 3, 4]))
  assert sorted(np.asarray(bsbs.multiset(KEY, state, 1)).tolist()) == [1, 2, 3, 3]
  assert sorted(np.asarray(bsbs.multiset(KEY, state, 0)).tolist()) == [0, 1, 2, 3]
  selector = bsbs.bsbs(spec(16, 4), 0.5)
  fresh = selector.init(KEY)
  after = jax.jit(selector.update)(fresh, batch_of([3]), said([math.exp(-2)]))
  assert float(after.latest[3]) == pytest.approx(2, rel=1e-5)
  assert float(after.average[3]) == pytest.approx(0.8, rel=1e-5)
  assert np.isinf(np.asarray(after.latest)).sum() == 15


def test_bsbs_calls_those_back_that_were_left_out_for_long():
  latest = jnp.array([1.0, 2, 3, 10, jnp.inf], jnp.float32)
  state = bsbs.State(latest, jnp.array([0.0, 1, 2, 3, 0]), jnp.array([2, 1, 0, 0, 3]))
  assert np.asarray(bsbs.returned(state, 2).latest).tolist() == [4, 2, 3, 10, np.inf]
  # int(0.4 * 6) = 2 epochs: sample 0 stays out twice, then counts as the mean, and 1 goes.
  selector = bsbs.bsbs(spec(5, 1), 1.0, moved=0.2, re_enter=0.4)
  state = state._replace(latest=latest.at[4].set(9.0), out=jnp.zeros(5, jnp.int32))
  left = []
  for e in range(5):
    state, plan = jax.jit(selector.plan)(state, jax.random.key(e), jnp.int32(e))
    left += {*range(5)} - {*np.asarray(plan.index).ravel().tolist()}
    assert int(state.out.max()) == int(state.out[left[-1]])
  assert left == [0, 0, 1, 1, 2] and float(state.latest[0]) == 5


# Loss side


def test_focal_weights_have_the_gradient_of_the_focal_loss():
  for p, exact, naive in ((0.5, 0.5966, 0.25), (0.9, 0.0290, 0.01)):
    loss, one = jnp.array([-math.log(p)], jnp.float32), jnp.ones(1)
    assert float(loss_side.focal_weight(2.0, 'exact')((), loss, one)[0]) == pytest.approx(
      exact, abs=1e-4
    )
    assert float(loss_side.focal_weight(2.0, 'naive')((), loss, one)[0]) == pytest.approx(
      naive, abs=1e-4
    )
  focal = lambda loss: (1 - jnp.exp(-loss)) ** 1.5 * loss
  loss = jnp.array([0.3, 2.0], jnp.float32)
  weight = loss_side.focal_weight(1.5, 'exact')((), loss, jnp.ones(2))
  np.testing.assert_allclose(weight, jax.vmap(jax.grad(focal))(loss), rtol=1e-4)
  np.testing.assert_array_equal(loss_side.focal_weight(0.0, 'exact')((), loss, jnp.ones(2)), 1)


def test_focal_weights_leave_nobody_out_of_the_mean():
  loss, weight = jnp.array([0.0, 1e-9, 0.5, 2.0], jnp.float32), jnp.array([1.0, 1.0, 1.0, 0.0])
  for form in loss_side.FORMS:  # 1e-7 to the eighth is less than float32 holds
    found = np.asarray(loss_side.focal_weight(8.0, form)((), loss, weight))
    assert (found > 0).tolist() == [True, True, True, False]  # padding stays padding
    assert found[:2].max() < 1e-20 < 1e-4 < found[2]


def test_average_top_k_settles_where_its_share_is_above():
  selector = loss_side.average_top_k(spec(1000, 100, epochs=1), 1.0, share=0.2)
  state = selector.init(KEY)
  rng, above = np.random.default_rng(0), []
  for _ in range(400):
    loss = jnp.asarray(rng.random(100), jnp.float32)
    weight = np.asarray(selector.weigh(state, loss, jnp.ones(100)))
    share = (weight > 0).mean()
    assert set(np.round(weight[weight > 0], 5)) <= {np.round(np.float32(share), 5)}
    above.append(share)
    batch = batch_of(range(100))
    state = jax.jit(selector.update)(state, batch, Outputs(jnp.zeros((100, 3)), loss))
  assert above[0] == 1 and np.mean(above[200:]) == pytest.approx(0.2, abs=0.02)


def test_average_top_k_at_the_level_of_a_batch_is_ordered_sgd():
  rng = np.random.default_rng(0)
  loss, ones = jnp.asarray(rng.permutation(12), jnp.float32), jnp.ones(12)
  for q in (1, 5, 11):
    level = jnp.sort(loss)[-(q + 1)]
    weight = loss_side._above(loss_side.Threshold(level, jnp.int32(0)), loss, ones)
    np.testing.assert_array_equal(weight > 0, hardest(loss, ones, jnp.int32(q)))
    # Divided by all s where ordered SGD divides by q.
    row = float((weight * loss).sum()) / int((weight > 0).sum())
    assert row == pytest.approx(q / 12 * np.sort(loss)[-q:].mean(), rel=1e-5)


OPTIONS = {
  'rs2': ({'wrap': 'round'}, "it must be 'continue' or 'reshuffle'"),
  'infobatch': ({'ratio': 1.0}, 'ratio=1.0'),
  'online_batch_selection': ({'pressure': 0.5}, 'pressure=0.5'),
  'gradient_bound': ({'ratio': 0.5}, 'ratio=0.5'),
  'active_bias': ({'form': 'spw'}, "did you mean 'spv'"),
  'bsbs': ({'moved': 0.7}, 'moved=0.7'),
  'rho_loss': ({'until': 0.0}, 'until=0.0'),
  'average_top_k': ({'share': 0.0}, 'share=0.0'),
  'focal': ({'gamma': -1.0}, 'gamma=-1.0'),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_bad_options_are_refused_with_the_reason(name):
  options, message = OPTIONS[name]
  with pytest.raises(ValueError, match=message):
    make_selector(name, SPEC, 0.5, options)
