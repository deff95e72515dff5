"""Candidates that are scored now and then, or on smaller images, whatever the method."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from online_methods_test import KEY, batch_of, said
from online_methods_test import spec as spec_of

from jaxbudget import data, factories, ledger, registry, selectors
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run import flops
from jaxbudget.lab.sweep import grid
from jaxbudget.selectors.rescored import Scoring, rescored
from jaxbudget.types import Cost, Outputs


def rho(spec, budget=0.5):
  none = np.zeros(spec.num_examples, np.float32)
  return selectors.make_selector('rho_loss', spec, budget, {}, {'first': none, 'second': none})


def saying(logits):
  """A model that says the same of sample i whenever it is asked."""

  def forward(batch):
    own = jnp.asarray(logits, jnp.float32)[batch.index]
    return Outputs(own, -jax.nn.log_softmax(own)[:, 0])

  return forward


def test_between_two_scorings_what_was_said_counts():
  spec = spec_of(16, 4)
  selector = rescored(rho(spec), spec, Scoring(every=2))
  state, _ = selector.plan(selector.init(KEY), KEY, jnp.int32(0))
  first = np.random.default_rng(0).normal(size=(16, 3))
  batch = batch_of(range(8))
  state, chosen, info = selector.select(state, KEY, batch, saying(first))
  loss = np.asarray(saying(first)(batch).loss)
  hardest = set(np.argsort(-loss)[:4])
  assert set(np.asarray(chosen.index).tolist()) == hardest and int(info['scored']) == 8
  np.testing.assert_allclose(state.logits[:8], first[:8], rtol=1e-5)
  state, _ = selector.plan(state, KEY, jnp.int32(1))
  state, chosen, info = selector.select(state, KEY, batch, saying(-first))
  assert set(np.asarray(chosen.index).tolist()) == hardest and int(info['scored']) == 0
  # Of whom nothing was said, all classes are as likely.
  easy = batch_of([0, 1, 2, 3, 12, 13, 14, 15])
  state = state._replace(logits=state.logits.at[:4].set(jnp.array([9.0, 0, 0])))
  _, chosen, _ = selector.select(state, KEY, easy, saying(first))
  assert sorted(np.asarray(chosen.index).tolist()) == [12, 13, 14, 15]
  state, _ = selector.plan(state, KEY, jnp.int32(2))
  _, chosen, info = selector.select(state, KEY, batch, saying(-first))
  expected = np.argsort(-np.asarray(saying(-first)(batch).loss))[:4]
  assert set(np.asarray(chosen.index).tolist()) == set(expected) and int(info['scored']) == 8


def test_rows_that_look_keep_what_is_newer_than_what_was_said():
  spec = spec_of(16, 4)
  selector = rescored(selectors.make_selector('kakurenbo', spec, 0.5), spec, Scoring(every=2))
  plan, select = jax.jit(selector.plan), jax.jit(selector.select, static_argnums=3)
  state, forward = selector.init(KEY), lambda batch: said(4 * [0.6])
  noted = lambda: state.inner.noted.loss
  for e, p in ((0, 0.9), (1, 0.95), (3, 0.8)):  # 0 scores those who are hidden
    before = noted()
    state, planned = plan(state, KEY, jnp.int32(e))
    trained, hidden = np.asarray(planned.index[:2]).ravel(), np.asarray(planned.index[2:4]).ravel()
    for index in planned.index[:4]:
      state, batch, info = select(state, KEY, batch_of(index), forward)
      if bool((batch.weight > 0).any()):
        state = selector.update(state, batch, said(4 * [p]))
      else:
        assert int(info['scored']) == (4 if e == 0 else 0)
    np.testing.assert_allclose(noted()[trained], -math.log(p), rtol=1e-4)
    # Whoever is hidden in epoch 1 was never scored, and in epoch 3 trained on since.
    kept = -math.log(0.6) if e == 0 else before[hidden]
    np.testing.assert_allclose(noted()[hidden], kept, rtol=1e-4)
  assert bool(state.inner.noted.sure.all())


def test_rows_that_look_recall_those_who_are_held_out():
  spec = spec_of(24, 4)
  selector = selectors.make_selector('repeat_before_forgetting', spec, 0.5, {'held_out': 0.2})
  selector = rescored(selector, spec, Scoring(every=2))
  state, forward = selector.init(KEY), lambda batch: said(4 * [0.6])
  for e, scored in ((0, 4), (1, 0)):
    state, planned = jax.jit(selector.plan)(state, KEY, jnp.int32(e))
    state = state._replace(inner=state.inner._replace(row=state.inner.first))
    state, _, info = selector.select(state, KEY, batch_of(planned.index[3]), forward)
    assert int(info['scored']) == scored
    np.testing.assert_allclose(state.inner.noted.sums[:2], [4, 2.4], rtol=1e-4)


def test_epochs_that_score_nothing_do_not_make_those_that_score_cheaper():
  spec, none = spec_of(32, 4), np.zeros(32, np.float32)
  selector = selectors.make_selector(
    'rho_loss', spec, 0.25, {'until': 0.5}, {'first': none, 'second': none}
  )
  facts = rescored(selector, spec, Scoring(every=2)).facts
  assert selector.facts.planned.scored == 3 * 32 and facts.cost == 'exact'
  assert facts.planned.scored == 2 * 32 and facts.scoring == (0, 2)  # of 3 that choose


@pytest.mark.parametrize(
  ('name', 'options', 'every', 'share'),
  [
    ('selective_backprop', {'rate': 'exact', 'staleness': 2}, 1, 0.3),
    ('selective_backprop', {'rate': 'exact'}, 2, 0.3),
    ('selective_backprop', {'rate': 'exact', 'staleness': 2}, 2, 0.3),
    ('selective_backprop', {'rate': 'exact', 'staleness': 2}, 3, 0.3),
    ('rho_loss', {'score': 'loss', 'until': 0.5}, 1, 0.3),
    ('rho_loss', {'score': 'loss', 'until': 0.5}, 2, 0.3),
    ('rho_loss', {'score': 'loss', 'until': 0.25}, 4, 0.3),
    ('kakurenbo', {}, 3, 0.5),
    ('repeat_before_forgetting', {'held_out': 0.3}, 2, 0.5),
    ('gradient_bound', {'threshold': 0.0}, 3, 0.7),
  ],
)
def test_each_epoch_that_scores_is_counted_once_and_the_last_row_is_trained(
  name, options, every, share
):
  scoring, spec = Scoring(every), spec_of(240, 8, 4)
  budget = scoring.of(ledger.as_budget(share, 'compute'))
  selector = selectors.make_selector(name, spec, budget, options)
  selector = rescored(selector, spec, scoring)
  facts = selector.facts
  ledger.check_planned(spec, budget, facts, name)
  assert facts.cost == 'exact'
  # Walked by what its rows cost: as much is left as is planned, so that the last has just enough.
  planned, full = facts.planned.forward_equivalents, 3 * 240 * 4
  tight = ledger.Budget(ledger.Fraction(planned, full), 'compute')
  allowance = ledger.allowance(spec, tight, facts)
  rows = facts.planned.trained // 4 // 8  # that train; others only look
  each = facts.planned.scored // max(1, len(facts.scoring))
  for e in range(4):
    allowance = ledger.asking(allowance, facts.row_in(e))
    scored = each if e in facts.scoring else 0
    looking = (facts.rows - rows) * [Cost(scored // max(1, facts.rows - rows), 0, 0)]
    looking = looking if e < 3 else []  # after the last epoch nobody asks
    training = rows * [Cost(0 if looking else scored // rows, 8, 8)]
    for cost in training + looking:
      assert bool(ledger.affordable(allowance))
      allowance = ledger.spend(allowance, Cost(*map(jnp.int32, cost)))
  assert np.asarray(allowance.left).tolist() == [0, 0]


@pytest.mark.parametrize('price', [1, 300, 512, 1023, 1024])
def test_a_row_of_small_images_asks_for_what_it_may_cost_and_no_more(price):
  spec, scoring = spec_of(64, 8), Scoring(size=4, price=price)
  selector = selectors.make_selector('gradient_bound', spec, 0.5, {'threshold': 0.0})
  scored = selector.facts.row_cost.scored
  owed = np.arange(1024)  # from rows before
  most = int(np.max((owed + scored * price) // 1024))
  assert rescored(selector, spec, scoring).facts.row_cost.scored == most


def test_every_kth_epoch_costs_the_passes_of_a_kth_of_the_epochs():
  """So wherever fewer epochs make a method fit, scoring less often does."""
  found = 0
  for name in registry.names('selector'):
    facts = []
    for epochs in (20, 5):
      spec = spec_of(64, 4, epochs)
      options = {'recording': toys.recording(64)} if name == 'replay' else {}
      given = toys.needed(name, options, 64)
      if name == 'coreset':  # its scoring run has a share of the epochs
        options = {'window': 2}
      budget = 1.0 if name in ('sgd', 'dynamics_sgd', 'replay') else 0.5
      facts.append(selectors.make_selector(name, spec, budget, options, given))
    long, short = facts
    own = [k for k in ('every', 'period') if k in factories.find('selector', name).options]
    if own:
      spec = spec_of(64, 4, 20)
      less = selectors.make_selector(name, spec, 0.5, {own[0]: 4}, given)
    elif long.facts.row_cost.scored:
      less = rescored(long, spec_of(64, 4, 20), Scoring(every=4))
    else:
      continue
    found += 1
    assert less.facts.planned.scored <= max(short.facts.planned.scored, 5 * 64), name
    assert less.facts.epochs == long.facts.epochs, name
  assert found > 8


def test_pictures_of_several_are_credited_by_share():
  spec = spec_of(16, 4)
  selector = rescored(rho(spec), spec, Scoring(every=2))
  share = jnp.tile(jnp.array([[0.75, 0.25]], jnp.float32), (8, 1))
  parts = jnp.stack([jnp.arange(8), (jnp.arange(8) + 1) % 8], 1).astype(jnp.int32)
  batch = batch_of(range(8))._replace(part_index=parts, part_share=share)
  said = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
  forward = lambda b: Outputs(jnp.asarray(said), jnp.zeros(8))
  state, _, _ = selector.select(selector.init(KEY), KEY, batch, forward)
  # Sample i is in picture i by 3/4, in picture i-1 by 1/4.
  np.testing.assert_allclose(state.logits[:8], 0.75 * said + 0.25 * np.roll(said, 1, 0), rtol=1e-4)


def test_small_images_are_charged_by_their_price():
  spec = toys.SPEC
  plain = rho(spec)
  selector = rescored(plain, spec, Scoring(size=1, price=300))
  count = plain.facts.candidates
  assert selector.facts.planned.scored == plain.facts.planned.scored * 300 // 1024
  assert selector.facts.planned.trained == plain.facts.planned.trained
  state, shapes, booked = selector.init(KEY), [], []
  batch = batch_of(range(count))._replace(image=jnp.ones((count, 2, 2, 1)))

  def forward(asked):
    shapes.append(asked.image.shape)
    return Outputs(jnp.zeros((count, 3)), jnp.zeros(count))

  for _ in range(5):
    state, chosen, info = selector.select(state, KEY, batch, forward)
    booked.append(int(info['scored']))
    assert chosen.image.shape[1:] == (2, 2, 1)
  assert set(shapes) == {(count, 1, 1, 1)}
  assert np.cumsum(booked).tolist() == [count * 300 * (r + 1) // 1024 for r in range(5)]
  assert max(booked) <= selector.facts.row_cost.scored


def test_a_run_spends_what_is_planned():
  budget = Scoring(2, 2, 512).of(ledger.Budget(ledger.Fraction(1, 2), 'compute'))
  selector = rescored(rho(toys.SPEC, budget), toys.SPEC, Scoring(2, 2, 512))
  # n = N (1/2 - 1/2/2/3), of it full batches.
  assert selector.facts.planned.trained == 4 * (48 * 5 // 12 // 8 * 8)
  state, history = toys.run(selector, budget)
  scored = [int(p.metrics.scored.sum()) for p in history]
  each = selector.facts.rows * selector.facts.candidates // 2
  assert scored == [each, 0, each, 0] and sum(scored) == selector.facts.planned.scored
  other = Scoring(2, 2, 512).of(ledger.Budget(ledger.Fraction(7, 10), 'compute'))
  again = rescored(rho(toys.SPEC, other), toys.SPEC, Scoring(2, 2, 512))
  for hook in ('select', 'weigh', 'update', 'report', 'scores'):
    assert getattr(selector, hook) is getattr(again, hook)
  assert int(state.times_trained.sum()) == selector.facts.planned.trained


DIGITS = {'dataset': 'digits', 'model': 'resnet8', 'width': 2, 'epochs': 9, 'batch_size': 32}


def planned(**values):
  return grid.make_runs(config_lib.defaults(**{**DIGITS, 'seeds': 1, **values}))


def test_keys_of_the_launcher():
  values = {'selector': 'selective_backprop', 'budget': 0.5, 'budget_unit': 'compute'}
  (plain,) = planned(**values)
  (stale,) = planned(**values, score_every=3)
  (small,) = planned(**values, score_size=4)
  info = data.info('digits')
  part, full = (
    flops.model_flops('resnet8', i, 32, {'width': 2})[0]
    for i in (info.__class__(**{**vars(info), 'image_shape': (4, 4, 1)}), info)
  )
  assert small.parts.scoring.price == math.ceil(1024 * part / full) < 512
  ids = {run.run_id for run in (plain, stale, small)}
  assert len(ids) == 3 and planned(**values, score_every=1)[0].run_id == plain.run_id
  for cheap in (stale, small):  # what scoring does not cost is trained with
    assert cheap.planned.scored < plain.planned.scored / 2
    assert cheap.planned.trained > plain.planned.trained
    assert cheap.planned.forward_equivalents <= 0.5 * 3 * 9 * 1437
  *_, run = planned(selector='rho_loss', budget=0.5, score_every=2)
  assert all(n.cell.score_every == 1 for n in run.needs) and run.parts.scoring.every == 2


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'score_every': 2}, 'score_every=2 would change nothing'),
    ({'score_size': 4}, 'score_size=4 would change nothing'),
    (
      {'score_every': 2, 'selector': 'ordered_sgd', 'selector_options.backward': 'compact'},
      'change nothing of what is planned: this method plans no passes that score candidates',
    ),
    (
      {'selector': 'toy_methods:spendthrift', 'budget_unit': 'compute', 'shared_by': 4},
      "is impossible for selector 'toy_methods:spendthrift' at budget=0.5: it plans to spend 19008",
    ),
    ({'score_every': 0}, 'score_every=0 is refused'),
    ({'score_size': 8}, 'score_size=8 is refused: 0 .as they are. or a height below 8'),
    (
      {'score_size': 4, 'model': 'mlp', 'selector': 'selective_backprop'},
      "model 'mlp' does not take images of 4x4",
    ),
  ],
)
def test_what_does_not_fit_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    planned(**{'selector': 'unif_sgd', 'budget': 0.5} | values)
