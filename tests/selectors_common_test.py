"""Conformance: what every selector must hold, whatever it selects."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget import engine, epoch, factories, ledger, registry
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.testing import check_selector, hooks, runs

VARIANTS = {
  **{name: (name, {}) for name in registry.names('selector')},
  'p_sgd_latest': ('p_sgd', {'average': False, 'smoothing': False}),
  'p_sgd_replacement': ('p_sgd', {'replacement': True}),
  'c_sgd_warm': ('c_sgd', {'warmup': 2, 'unseen': 'code'}),
  'sb_flush': ('selective_backprop', {'tail': 'flush', 'history': 16}),
  'sb_exact': ('selective_backprop', {'rate': 'exact', 'history': 16}),
  'sb_stale': ('selective_backprop', {'staleness': 2, 'history': 16}),
  'ordered_compact': ('ordered_sgd', {'backward': 'compact'}),
  'rs2_reshuffle': ('rs2', {'wrap': 'reshuffle'}),
  'infobatch_original': ('infobatch', {'exact': False}),
  'gradient_bound_always': ('gradient_bound', {'threshold': 0.0}),
  'active_bias_isd': ('active_bias', {'form': 'isd'}),
  'active_bias_wpv': ('active_bias', {'form': 'wpv'}),
  'kakurenbo_original': ('kakurenbo', {'exact': False, 'confidence': 0.0, 'fraction': 0.5}),
  'seta_original': ('seta', {'exact': False}),
  'rbf_original': ('repeat_before_forgetting', {'exact': False}),
  'local_to_global_original': ('local_to_global', {'exact': False}),
  'auto_assist_queue': ('auto_assist', {'exact': False}),
  'auto_assist_earned': ('auto_assist', {'label': 'misclassified', 'trusted': False}),
  'bsbs_re_enter': ('bsbs', {'re_enter': 0.5}),
  'gradient_bound_biased': (
    'gradient_bound',
    {'threshold': 0.0, 'power': 0.5, 'smoothing': 0.1, 'distinct': True},
  ),
  'gradient_norm_features': ('gradient_norm', {'table_of': 'features'}),
  'rho_bound': ('rho_loss', {'score': 'bound', 'temperature': 0.25, 'until': 0.5}),
  'rs2_balanced': ('rs2', {'balanced': True}),
}

# One for each way through the engine: plain rows, steps not taken, padding, sizes, weights.
PATHS = ('p_sgd', 'sb_flush', 'sb_stale', 'ordered_sgd', 'ordered_compact')
OTHERS = tuple(variant for variant in VARIANTS if variant not in PATHS)


def whole(variant):
  """Whether a variant decides itself how much of everything it trains on."""
  name, options = VARIANTS[variant]
  return name in ('sgd', 'dynamics_sgd') or (
    options.get('exact') is False and name != 'auto_assist'  # a queue ends where its budget does
  )


def options_of(variant, n=toys.SPEC.num_examples):
  name, options = VARIANTS[variant]
  if name == 'replay':
    return {'recording': toys.recording(n)}
  return {'history': 16, **options} if name == 'selective_backprop' else options


def make(variant, budget=0.5):
  name, options = VARIANTS[variant][0], options_of(variant)
  budget = 1.0 if whole(variant) else budget
  return make_selector(name, toys.SPEC, budget, options, toys.needed(name, options)), budget


@pytest.mark.parametrize(
  'variant',
  [
    v if v in PATHS or v in registry.names('selector') else pytest.param(v, marks=pytest.mark.long)
    for v in VARIANTS
  ],
)
def test_every_method_keeps_its_contract(variant, monkeypatch):
  if variant not in PATHS:  # dear for every method: see the two tests below
    monkeypatch.setattr(hooks, 'jit_faults', lambda selector: iter(()))
    monkeypatch.setattr(runs, '_ties', lambda begin, epochs: iter(()))
  name, options = VARIANTS[variant][0], options_of(variant)
  budgets = (1.0, 1.0) if whole(variant) else (0.5, 0.75)
  factory = factories.find('selector', name).factory
  check_selector(factory, budgets=budgets, needed=toys.needed(name, options), **options)


@pytest.mark.long
@pytest.mark.parametrize('variant', OTHERS)
def test_jit_changes_nothing(variant):
  found = list(hooks.jit_faults(make(variant)[0]))
  if variant == 'dpp':  # eigenvectors of equal eigenvalues turn on the last bit of the kernel
    found = [fault for fault in found if not fault.startswith('plan gives another plan')]
  assert found == []


@pytest.mark.long
@pytest.mark.parametrize('variant', OTHERS)
def test_ties_are_broken_evenly(variant):
  selector, budget = make(variant)
  parts = toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget
  if selector.facts.uniform_on_ties:
    begin = functools.partial(engine.start, *parts)
    assert list(runs._ties(begin, selector.facts.epochs)) == []


@functools.cache
def trained(variant):
  selector, budget = make(variant)
  return selector, budget, *toys.run(selector, budget)


@pytest.mark.parametrize('variant', PATHS)
def test_counts_add_up(variant):
  _, _, state, history = trained(variant)
  examples = sum(int(p.metrics.examples.sum()) for p in history)
  counted = int(state.times_trained.sum())
  assert counted == examples if 'ordered' not in variant else counted <= examples
  entropy = ledger.entropy_nats(np.asarray(state.times_trained))
  np.testing.assert_allclose(history[-1].entropy, entropy, rtol=1e-5)


@pytest.mark.parametrize('variant', PATHS)
def test_cutting_an_epoch_into_calls_changes_nothing(variant):
  selector, budget, whole, _ = trained(variant)
  program, state = toys.start(selector, budget)
  root = jax.random.key(0)
  for e in range(selector.facts.epochs):
    state = epoch.begin_epoch(selector, state, e, root)
    for stop in (1, 2, 100):
      state, _ = epoch.train_rows(
        program, state, toys.data(), toys.rates(state), root, jnp.int32(stop)
      )
  chex.assert_trees_all_equal(whole, state)


@pytest.mark.parametrize('variant', ['p_sgd', 'sb_flush', 'ordered_compact'])
def test_one_trace_for_all_epochs_budgets_and_seeds(variant):
  traced = chex.assert_max_traces(epoch.train_rows.__wrapped__, n=1)
  train_rows = jax.jit(traced, static_argnums=0, donate_argnums=1)
  for seed, wanted in ((0, 0.5), (1, 0.75)):
    selector, budget = make(variant, wanted)
    program, state = toys.start(selector, budget, seed=seed)
    for e in range(min(2, selector.facts.epochs)):
      state, _ = toys.run_epoch(program, selector, state, e, seed, train_rows)
  chex.clear_trace_counter()
