"""The proxy filter: who is kept, how the proxy is trained, and what its work is charged."""

import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxbudget import engine, ledger
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run.flops import model_flops
from jaxbudget.lab.sweep import grid
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.selectors.proxy_filter import proxy_filter
from jaxbudget.testing import check_selector
from jaxbudget.types import Data, plain_batch

KEEP = {'keep': 0.5, 'train_every': 2, 'learning_rate': 0.3, 'weight_decay': 0.01}


def smoothed(model, params, batch):
  logits, _ = model.apply(params, {}, batch.image, train=True)
  target = 0.8 * batch.target + 0.2 / 3
  return optax.softmax_cross_entropy(logits, target)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_the_kept_are_the_hardest_by_a_proxy_trained_as_the_rule_says(mode):
  selector = make_selector('proxy_filter', toys.SPEC, 0.5, {**KEEP, 'mode': mode})
  model = make_model('mlp', 3, (2, 2, 1))
  optimizer = make_optimizer('airbench_sgd', weight_decay=0.01)
  state = selector.init(jax.random.key(0))
  params, opt_state = state.params, optimizer.init(state.params)
  select, total = jax.jit(selector.select, static_argnums=3), 4 * 3
  for step in range(5):
    index = jnp.arange(16 * step, 16 * step + 16, dtype=jnp.int32) % 48
    batch = plain_batch(toys.data(), index, jnp.ones(16), 3)
    batch = batch._replace(image=toys.AUGMENT.test(batch.image))
    state, kept, info = select(state, jax.random.key(step), batch, None)
    top = np.argsort(-np.asarray(smoothed(model, params, batch)), kind='stable')[:8]
    np.testing.assert_array_equal(kept.index, index[top])
    np.testing.assert_array_equal(kept.image, batch.image[top])
    due = step % 2 == 1
    cost = 16 + (2 * 16 if mode == 'train' else 3 * 8) // 2
    assert int(info['scored']) == cost, 'a proxy without a price costs as much as the network'
    if due:
      gradient = jax.grad(lambda p, b: smoothed(model, p, b).mean())(params, kept)
      updates, opt_state = optimizer.update(gradient, opt_state, params)
      done = step / total  # airbench96: .2 to 1 in a tenth of the rows, then to 0
      rate = 0.3 * min(0.2 + 0.8 * done / 0.1, (1 - done) / 0.9)
      params = optax.tree.add_scale(params, jnp.float32(-rate), updates)
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('unit', ledger.BUDGET_UNITS)
@pytest.mark.parametrize('keep', [None, 0.6])
def test_a_proxy_is_charged_by_its_price(unit, keep):
  budget = ledger.Budget(Fraction(1, 2), unit, scoring=Fraction(40, 1024))
  selector = make_selector('proxy_filter', toys.SPEC, budget, {'keep': keep})
  facts = selector.facts
  rows, candidates = 4 * facts.rows, facts.candidates
  assert facts.planned.scored == 40 * candidates * rows * (4 + 2) // (4 * 1024)
  assert facts.planned.trained == 8 * rows and facts.rows * candidates <= 48
  assert candidates == (13 if keep else 48 // facts.rows)
  assert ledger.price(facts.planned, unit) <= ledger.cap(toys.SPEC, budget, facts)
  run = engine.start(toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget)
  spent = 0
  for e in range(4):
    run, progress = engine.run_epoch(run, toys.data(), e, 0.1)
    spent += int(progress.metrics.scored.sum())
    assert int(progress.row) == facts.rows
  assert spent == facts.planned.scored


def test_a_network_that_is_prepared_is_so_with_the_first_row():
  selector = make_selector('proxy_filter', toys.SPEC, 0.5, {'proxy': 'proxy_filter_test:centred'})
  state = selector.init(jax.random.key(0))
  batch = plain_batch(toys.data(), jnp.arange(16, dtype=jnp.int32), jnp.ones(16), 3)
  select = jax.jit(selector.select, static_argnums=3)
  for scale in (1, 3):
    batch = batch._replace(image=batch.image.astype(jnp.float32) * scale)
    state, kept, _ = select(state, jax.random.key(0), batch, None)
    assert float(state.model_state['mean']) == pytest.approx(float(toys.data().image[:16].mean()))
    assert np.isfinite(kept.image).all()


def centred(num_classes, image_shape):
  """A linear network around a mean of the data, which is NaN before."""
  model = make_model('mlp', num_classes, image_shape, hidden=4)
  apply = lambda params, state, x, train, mask=None: (
    model.apply(params, {}, x - state['mean'], train)[0], state
  )  # fmt: skip
  init = lambda key: (model.init(key)[0], {'mean': jnp.float32(jnp.nan)})
  return model._replace(
    init=init, apply=apply, prepare=lambda p, s, images: (p, {'mean': images.mean()})
  )


def test_a_recording_is_trained_on_again_in_its_order(tmp_path):
  budget, options = ledger.as_budget(0.5), {'keep': 0.5, 'record': True}
  selector = make_selector('proxy_filter', toys.SPEC, budget, options)
  first, history = toys.run(selector, budget)
  kept = np.asarray(selector.scores(first.selector))
  assert kept.shape == (4 * 3, 8) and len(set(kept[:3].ravel())) == 24
  np.save(tmp_path / 'scores.npy', kept)
  given = {'proxy': 'recorded', 'recording': str(tmp_path / 'scores.npy')}
  again = make_selector('proxy_filter', toys.SPEC, budget, given)
  plans = [again.plan(again.init(None), None, jnp.int32(e))[1] for e in range(4)]
  np.testing.assert_array_equal(np.concatenate([p.index[:3] for p in plans]), kept)
  state, _ = toys.run(again, budget)
  np.testing.assert_array_equal(state.times_trained, first.times_trained)
  assert again.facts.planned == (0, 96, 96) and history[0].metrics.scored.sum() > 0
  for spec, said in (
    (dataclasses.replace(toys.SPEC, epochs=5), 'does not fit: epochs'),
    (dataclasses.replace(toys.SPEC, batch_size=4), 'does not fit: batch_size'),
    (dataclasses.replace(toys.SPEC, num_examples=40), 'does not fit: samples'),
  ):
    with pytest.raises(ValueError, match=said):
      make_selector('proxy_filter', spec, budget, given)
  with pytest.raises(ValueError, match='budget=0.25 is less than recording'):
    make_selector('proxy_filter', toys.SPEC, 0.25, given)
  with pytest.raises(ValueError, match='has digest'):
    make_selector('proxy_filter', toys.SPEC, budget, given | {'recording_digest': 'abc'})


def test_a_config_prices_the_proxy_by_its_operations():
  options = {'proxy': 'airbench_proxy', 'keep': 0.5}
  common = {'dataset': 'cifar10', 'model': 'airbench96', 'seeds': 1, 'epochs': 45,
            'selector': 'proxy_filter', 'selector_options': options, 'batch_size': 512}  # fmt: skip
  (run,) = grid.make_runs(config_lib.defaults(**common, budget=0.5))
  rho = Fraction(*(round(model_flops(n, run.info, 1)[0]) for n in ('airbench_proxy', 'airbench96')))
  assert float(rho) == pytest.approx(0.0378, rel=2e-3)  # as the published run has it
  assert rho <= run.parts.budget.scoring < rho + Fraction(1, 1024)
  # A row scores twice what it trains on, and trains the proxy on it in every fourth.
  share = float(run.parts.budget.scoring)
  planned, passes = run.planned, 2 * run.planned.trained * 1.5 * share
  assert planned.scored == pytest.approx(passes, rel=1e-3)
  refused = {'score_every': 2}
  with pytest.raises(ValueError, match='proxy_filter scores by a network of its own'):
    grid.make_runs(config_lib.defaults(**common, budget=0.5, **refused))


@pytest.mark.parametrize(('options', 'said'), [
  ({'keep': 0.3}, r'3 rows of 27 candidates are more than the 48 samples of an epoch'),
  ({'keep': 1.5}, r'keep=1.5 is refused: it must be in \(0, 1\]'),
  ({'train_every': 0}, 'train_every=0 is refused: it must be a whole number from 1'),
  ({'proxy': 'airbench_proxi'}, "unknown model 'airbench_proxi'; did you mean 'airbench_proxy'"),
  ({'label_smoothing': 1.0}, r'label_smoothing=1.0 is refused'),
  ({'proxy': 'recorded'}, 'needs selector_options.recording'),
  ({'recording': 'x'}, "recording='x' is only for proxy='recorded'"),
])  # fmt: skip
def test_refusals(options, said):
  with pytest.raises(ValueError, match=said):
    make_selector('proxy_filter', toys.SPEC, 0.5, options)


@pytest.mark.parametrize('mode', ['train', 'eval'])
@pytest.mark.parametrize('there', [44, 20, 2])  # all rows full; all partial; some of nobody
def test_a_recording_holds_whom_it_was_trained_on(tmp_path, mode, there):
  budget, options = ledger.as_budget(0.5), {'keep': 0.5, 'record': True, 'mode': mode}
  selector = make_selector('proxy_filter', toys.SPEC, budget, options)
  data = Data(toys.Gappy(np.asarray(toys.data().image)), toys.data().label)
  data.image.gone = np.arange(there, 48)
  run = engine.start(toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget)
  counts, trained, steps = [np.array(run.state.times_trained)], 0, []
  for e in range(4):
    run, progress = engine.run_epoch(run, data, e, 0.1)
    counts.append(np.array(run.state.times_trained))
    trained += int(progress.metrics.trained.sum())
    steps.append(int((progress.metrics.trained > 0).sum()))
  counts = np.diff(counts, axis=0)
  kept = np.asarray(selector.scores(run.state.selector))
  for own, count in zip(kept.reshape(4, -1), counts, strict=True):
    np.testing.assert_array_equal(np.bincount(own[own >= 0], minlength=48), count)
  assert counts.max() == 1 and not counts[:, there:].any() and (kept < 0).any() == (there < 44)
  np.save(tmp_path / 'scores.npy', kept)
  given = {'proxy': 'recorded', 'recording': str(tmp_path / 'scores.npy')}
  again = make_selector('proxy_filter', toys.SPEC, budget, given)
  assert again.facts.planned == (0, trained, trained) and again.facts.rows == max(steps)
  state, history = toys.run(again, budget)
  np.testing.assert_array_equal(state.times_trained, counts.sum(0))
  assert [int((h.metrics.trained > 0).sum()) for h in history] == steps
  assert sum(int(h.metrics.trained.sum()) for h in history) == trained
  check_selector(proxy_filter, **given)
