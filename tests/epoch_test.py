"""The training epoch: what a step computes, what is counted, where it stops."""

import collections
import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from selectors_common_test import PATHS, make

from jaxbudget import engine, epoch, ledger, rows, scan
from jaxbudget.evaluation import Evaluation, evaluate, forward_batch
from jaxbudget.losses import cross_entropy
from jaxbudget.selectors import make_selector
from jaxbudget.step import make_step
from jaxbudget.types import Facts, Model, Plan, Seen, Selector, Spec, blank_batch, plain_batch

ROWS = np.arange(16).reshape(2, 8)


def fixed(weight, **hooks):
  """A selector whose plan is two rows of given weights."""

  def plan(state, key, e):
    del key, e
    index = jnp.zeros((6, 8), jnp.int32).at[:2].set(jnp.array(ROWS))
    return state, Plan(index, jnp.zeros((6, 8)).at[:2].set(jnp.array(weight)), jnp.int32(2))

  facts = Facts(1, 2, 8, ledger.Cost(0, 16, 16), ledger.Cost(8, 8, 8))
  return Selector(facts, lambda key: jnp.zeros(3), plan, **hooks)


def by_hand(params, weights, learning_rate=0.1):
  """Two SGD steps in NumPy-like plain JAX: momentum .9, coupled weight decay 1e-4."""
  velocity = jax.tree.map(jnp.zeros_like, params)
  losses = []
  for row, weight in enumerate(weights):
    key = epoch.derive(jax.random.key(0), 'augment', 0, row)
    batch = plain_batch(toys.data(), jnp.array(ROWS[row]), jnp.array(weight, jnp.float32), 3)
    batch = toys.AUGMENT.train(key, batch)

    def objective(params, batch=batch, weight=weight):
      logits, _ = toys.MODEL.apply(params, {'steps': 0}, batch.image, train=True)
      log_p = jax.nn.log_softmax(logits)[jnp.arange(8), batch.label]
      return -(jnp.array(weight) * log_p).sum() / float(np.count_nonzero(weight))

    loss, gradient = jax.value_and_grad(objective)(params)
    velocity = jax.tree.map(lambda v, g, w: 0.9 * v + g + 1e-4 * w, velocity, gradient, params)
    params = jax.tree.map(lambda w, v: w - learning_rate * v, params, velocity)
    losses.append(loss)
  return params, losses


def test_two_steps_equal_sgd_by_hand_with_importance_weights():
  weight = np.array([[1, 2, 0.5, 1, 0, 1, 1, 3], [1] * 8], np.float32)
  selector = fixed(weight)
  program, state = toys.start(selector, 1.0)
  expected, losses = by_hand(jax.tree.map(jnp.copy, state.params), weight)
  state, progress = toys.run_epoch(program, selector, state, 0)
  chex.assert_trees_all_close(state.params, expected, rtol=1e-5)
  np.testing.assert_allclose(progress.metrics.loss[:2], losses, rtol=1e-5)
  assert int(state.model_state['steps']) == 2
  np.testing.assert_array_equal(state.times_trained[:16], (weight > 0).ravel())
  np.testing.assert_array_equal(progress.metrics.examples[:2], [7, 8])


def test_weigh_sees_losses_without_gradient_and_scales_the_step():
  keep = fixed(np.ones((2, 8)), weigh=lambda state, loss, weight: weight * loss)
  program, state = toys.start(keep, 1.0)
  params = jax.tree.map(jnp.copy, state.params)
  state, _ = toys.run_epoch(program, keep, state, 0, stop=1)
  key = epoch.derive(jax.random.key(0), 'augment', 0, 0)
  batch = plain_batch(toys.data(), jnp.array(ROWS[0]), jnp.ones(8), 3)
  batch = toys.AUGMENT.train(key, batch)

  def objective(params):
    loss = cross_entropy(toys.MODEL.apply(params, {}, batch.image, False)[0], batch.target)
    return jnp.mean(jax.lax.stop_gradient(loss) * loss)

  gradient = jax.grad(objective)(params)
  expected = jax.tree.map(lambda w, g: w - 0.1 * (g + 1e-4 * w), params, gradient)
  chex.assert_trees_all_close(state.params, expected, rtol=1e-5)


def rejecting(state, key, batch, forward):
  """Scores everything, keeps nothing in the first row and everything in the second."""
  del key
  outputs = forward(batch)
  keep = (state[0] > 0).astype(jnp.float32)
  state = state.at[0].add(1).at[1].add(outputs.loss.sum())
  return state, batch._replace(weight=batch.weight * keep), {'scored': jnp.int32(8)}


def test_a_row_without_weight_is_a_step_not_taken():
  updates = []
  selector = fixed(
    np.ones((2, 8)),
    select=rejecting,
    update=lambda s, batch, outputs: updates.append(1) or s.at[2].add(1),
  )
  program, state = toys.start(selector, 1.0)
  before = jax.tree.map(jnp.copy, (state.params, state.opt_state, state.model_state))
  state, progress = toys.run_epoch(program, selector, state, 0, stop=1)
  chex.assert_trees_all_equal(before, (state.params, state.opt_state, state.model_state))
  assert float(state.selector[1]) > 0 and float(state.selector[2]) == 0
  assert int(progress.metrics.scored[0]) == 8 and int(progress.metrics.trained[0]) == 0
  root = jax.random.key(0)
  state, progress = epoch.train_rows(
    program, state, toys.data(), toys.rates(state), root, jnp.int32(2)
  )
  assert float(state.selector[2]) == 1 and int(state.model_state['steps']) == 1
  assert int(progress.metrics.trained[1]) == 8


def keep_front(state, key, batch, forward):
  """Keeps as many examples as the state says."""
  del key, forward
  weight = (jnp.arange(8, dtype=jnp.float32) < state[0]).astype(jnp.float32)
  return state, batch._replace(weight=weight), {'scored': jnp.int32(0)}


def test_a_step_runs_on_the_smallest_prefix_that_holds_the_weight():
  selector = fixed(np.ones((2, 8)), select=keep_front, sizes=(2, 4, 8))
  for kept, size in ((1, 2), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)):
    program, state = toys.start(selector, 1.0)
    state = state.replace(selector=jnp.array([kept, 0, 0], jnp.float32))
    state, progress = toys.run_epoch(program, selector, state, 0)
    np.testing.assert_array_equal(progress.metrics.trained[:2], [size, size])
    np.testing.assert_array_equal(progress.metrics.examples[:2], [kept, kept])
    assert int(state.times_trained.sum()) == 2 * kept


def test_runs_side_by_side_step_as_each_alone():
  selector = fixed(np.ones((2, 8)), select=keep_front, sizes=(2, 4, 8))
  program, state = toys.start(selector, 1.0)
  step = make_step(selector, toys.MODEL, program.optimizer, toys.AUGMENT)
  batch = plain_batch(toys.data(), jnp.array(ROWS[0]), jnp.ones(8), 3)

  def run(kept):
    own = state.replace(selector=jnp.full(3, kept))
    return step(own, batch, jnp.float32(0.1), jax.random.key(0))

  kept = jnp.array([0.0, 1.0, 3.0, 8.0])
  together = jax.jit(jax.vmap(run))(kept)
  np.testing.assert_array_equal(together[1].trained, [0, 2, 4, 8])
  alone = jax.tree.map(lambda *found: jnp.stack(found), *map(jax.jit(run), kept))
  chex.assert_trees_all_close(together, alone, rtol=1e-5)


def counting_model(calls):
  """The toy model, telling the host of every sample that passes through it."""

  def apply(params, model_state, image, train, mask=None):
    samples = image.shape[0] if mask is None else jnp.count_nonzero(mask)
    kind = 'trained' if train else 'scored'
    jax.debug.callback(lambda n: calls.update({kind: int(n)}), samples)
    return toys.MODEL.apply(params, model_state, image, train, mask)

  return Model(toys.MODEL.init, apply)


@pytest.mark.parametrize('variant', PATHS)
def test_books_equal_the_calls_of_the_model(variant):
  calls = collections.Counter()
  selector, budget = make(variant)
  program, state = toys.start(selector, budget, model=counting_model(calls))
  booked = collections.Counter()
  for e in range(min(3, selector.facts.epochs)):
    state, progress = toys.run_epoch(program, selector, state, e)
    booked['scored'] += int(progress.metrics.scored.sum())
    booked['trained'] += int(progress.metrics.trained.sum())
  jax.effects_barrier()
  assert +booked == +calls


CAPPED = {
  'unif_sgd': {},
  'p_sgd': {},
  'selective_backprop': {'history': 16},
  'ordered_sgd': {'backward': 'compact'},
}


@given(st.sampled_from(sorted(CAPPED)), st.integers(20, 100), st.sampled_from(ledger.BUDGET_UNITS))
@settings(deadline=None, max_examples=15)
def test_no_run_passes_its_cap(name, percent, unit):
  spec = Spec(48, 6, 3, epochs=5, image_shape=(2, 2, 1))
  budget = ledger.as_budget(percent / 100, unit)
  try:
    selector = make_selector(name, spec, budget, CAPPED[name])
  except ValueError as refused:
    assert 'budget' in str(refused) or 'batch' in str(refused) or 'epoch' in str(refused)
    return
  state, history = toys.run(selector, budget, spec)
  del state
  scored = sum(int(p.metrics.scored.sum()) for p in history)
  trained = sum(int(p.metrics.trained.sum()) for p in history)
  spent = ledger.price(ledger.Cost(scored, trained, trained), unit)
  cap = ledger.cap(spec, budget, selector.facts)
  assert spent <= cap
  assert ledger.realised_budget(ledger.Cost(scored, trained, trained), spec, unit) <= max(
    percent / 100, cap / (spec.epochs * spec.num_examples)
  )


def test_a_run_stops_in_the_middle_of_an_epoch_when_its_cap_is_reached():
  selector = make_selector('unif_sgd', toys.SPEC, 1.0)
  facts = selector.facts._replace(cap=3 * 8 + 7)  # three steps and a bit
  program, state = toys.start(selector._replace(facts=facts), 1.0)
  state, progress = toys.run_epoch(program, selector, state, 0)
  assert int(progress.row) == 3
  np.testing.assert_array_equal(progress.metrics.trained, [8, 8, 8, 0, 0, 0])
  state, progress = toys.run_epoch(program, selector, state, 1)
  assert int(progress.row) == 0


def test_evaluation_counts_every_example_once():
  params, model_state = toys.MODEL.init(jax.random.key(3))
  split = toys.data(45)
  logits, _ = toys.MODEL.apply(params, model_state, toys.AUGMENT.test(split.image), train=False)
  hits = int((logits.argmax(-1) == split.label).sum())
  by_class = np.bincount(np.asarray(split.label)[logits.argmax(-1) == split.label], minlength=3)
  loss, losses = float(cross_entropy(logits, jax.nn.one_hot(split.label, 3)).sum()), {}
  for size, cuts in ((45, [0, 1]), (10, [0, 5]), (10, [0, 1, 1, 4, 5]), (7, [0, 7]), (64, [0, 1])):
    sums = Evaluation.blank(3)
    for start, stop in zip(cuts, cuts[1:], strict=False):
      place = jnp.int32(start), jnp.int32(stop)
      fixed = toys.MODEL, toys.AUGMENT.test, size, params, model_state, split
      sums = evaluate(*fixed, sums, *place)
    assert int(sums.correct) == hits
    np.testing.assert_array_equal(sums.by_class, by_class)
    assert float(sums.loss) == pytest.approx(loss, rel=1e-5)
    losses.setdefault(size, set()).add(float(sums.loss))
  assert all(len(bits) == 1 for bits in losses.values()), 'cuts must not change a bit'


@pytest.mark.parametrize(
  'size, batch_size, shape, bound, chosen',
  [
    (10_000, 128, (32, 32, 3), 250, 250),  # CIFAR: what it always was
    (26_032, 128, (32, 32, 3), 250, 250),
    (10_000, 128, (32, 32, 3), 0, 256),
    (12, 4, (224, 224, 3), 250, 5),
    (12, 128, (224, 224, 3), 250, 12),  # no more than there are
    (5_000, 32, (224, 224, 3), 250, 32),  # no more than training takes
    (5_000, 8, (4096, 4096, 1), 250, 8),
    (3, 1, (4096, 4096, 1), 0, 1),
    (360, 32, (8, 8, 1), 360, 360),
    (10**6, 128, (8, 8, 1), 0, 4096),
    (7, 128, (1, 1, 1), 1, 1),
  ],
)
def test_an_evaluation_batch_fits_the_split_and_the_memory(size, batch_size, shape, bound, chosen):
  spec = Spec(size, batch_size, 10, 1, shape)
  assert forward_batch(size, spec, bound) == chosen


def test_the_state_is_donated():
  selector = make_selector('p_sgd', toys.SPEC, 0.5)
  program, state = toys.start(selector, 0.5)
  old = state.params['w']
  toys.run_epoch(program, selector, state, 0)
  assert old.is_deleted()


def test_what_a_state_is_made_of_is_not_donated_with_it():
  label = jnp.arange(48, dtype=jnp.int32) % 3  # of the caller: needed by the method
  weights = toys.MODEL.init(jax.random.key(0))  # trained before
  model = toys.MODEL._replace(init=lambda key: weights)
  table = jnp.ones(48, jnp.float32)  # of the method's own
  plain = make_selector('unif_sgd', toys.SPEC, 0.5)
  selector = plain._replace(
    init=lambda key: {'label': label, 'table': table, 'again': table},  # one array twice
    plan=lambda state, key, e: (state, plain.plan((), key, e)[1]),
  )
  found = []
  for _ in range(2):
    program, state = toys.start(selector, 0.5, model=model)
    found.append(toys.run_epoch(program, selector, state, 0)[0])
  chex.assert_trees_all_equal(*found)
  assert not any(array.is_deleted() for array in (label, table, *jax.tree.leaves(weights)))


def test_what_a_program_does_not_use_is_no_part_of_it():
  selector = fixed(np.ones((2, 8)))
  of = [selector._replace(scores=lambda state, b=b: b * state) for b in (1, 2)]  # for each budget
  steps = [make_step(one, toys.MODEL, toys.make_optimizer(), toys.AUGMENT) for one in of]
  assert steps[0] is steps[1]


def test_a_plan_of_other_row_slots_is_refused_with_the_state_left_alone():
  selector = fixed(np.ones((2, 8)))

  def short(state, key, e):
    state, plan = selector.plan(state, key, e)
    return state, plan._replace(index=plan.index[:2], weight=plan.weight[:2])

  _, state = toys.start(selector, 1.0)
  with pytest.raises(ValueError, match='the plan has 2 row slots, but the state was made for 6'):
    epoch.begin_epoch(selector._replace(plan=short), state, 0, jax.random.key(0))
  assert not state.selector.is_deleted()


def test_data_of_another_size_than_the_run_are_refused():
  selector = make_selector('unif_sgd', toys.SPEC, 0.5)
  program, state = toys.start(selector, 0.5)
  run = engine.Engine(program, selector, jax.random.key(0), state)
  said = 'the data have 40 samples, but the run was set up for a Spec of num_examples=48'
  with pytest.raises(ValueError, match=said):
    engine.prepare(run, toys.data(40))
  with pytest.raises(ValueError, match=said):
    engine.train_rows(run, toys.data(40), 0.1)
  seen = Seen(loss=jnp.zeros(40, jnp.float32))
  with pytest.raises(ValueError, match=said):
    scan.apply(selector, state, seen, 0, run.root)
  for label in (np.full(48, 3, np.int32), np.full(48, -1, np.int32)):
    with pytest.raises(ValueError, match=r'labels run from .* they must be in \[0, 3\)'):
      engine.prepare(run, toys.data()._replace(label=jnp.asarray(label)))
  assert engine.prepare(run, toys.data()) is run


def test_a_table_of_another_length_than_the_plan_is_refused():
  whole, short = np.full(6, 0.1, np.float32), np.full(5, 0.1, np.float32)
  assert rows.table(0.1, 6).learning_rate.shape == rows.table(whole, 6).learning_rate.shape == (6,)
  for values, name in ((short, 'learning_rate'), (rows.Row(whole, short), 'momentum')):
    with pytest.raises(ValueError, match=rf'{name} has shape \(5,\), but the plan has 6 row slots'):
      rows.table(values, 6)


def test_rates_that_are_no_numbers_are_refused():
  whole, gap = np.full(6, 0.1, np.float32), np.float32([0.1, 0.1, np.nan, 0.1, np.inf, 0.1])
  for values, said in (
    (None, 'learning_rate is nan at row 0'),
    (gap, 'learning_rate is nan at row 2, of 6 rows 2 are so: it must be finite'),
    (rows.Row(whole, gap), 'momentum is nan at row 2'),
    (lambda row: 0.1, 'learning_rate=<function .* is refused: it must be a number'),
  ):
    with pytest.raises(ValueError, match=said):
      rows.table(values, 6)


@pytest.mark.parametrize('kind', [np.uint8, np.int16])
def test_classes_of_any_whole_type_are_those_of_int32(kind):
  selector, budget = make('sb_flush')  # its queue holds labels
  program, state = toys.start(selector, budget)
  state = epoch.begin_epoch(selector, state, 0, jax.random.key(0))
  split = toys.data()._replace(label=np.asarray(toys.data().label).astype(kind))
  place = jax.random.key(0), jnp.int32(1)
  of = lambda split: jax.eval_shape(
    lambda data: epoch.train_rows(program, state, data, toys.rates(state), *place), split
  )
  chex.assert_trees_all_equal_shapes_and_dtypes(of(split), of(toys.data()))


def test_blank_batch_matches_an_augmented_one():
  batch = plain_batch(toys.data(), jnp.arange(8, dtype=jnp.int32), jnp.ones(8), 3)
  batch = toys.AUGMENT.train(jax.random.key(0), batch)
  chex.assert_trees_all_equal_shapes_and_dtypes(batch, blank_batch(toys.SPEC, 8))


@pytest.mark.parametrize(('size', 'value'), [
  ('batch_size', 0), ('batch_size', 32.0), ('batch_size', '64'), ('epochs', 2.5), ('epochs', True),
  ('num_classes', 0), ('num_examples', -1), ('parts', None), ('image_shape', 6),
  ('image_shape', (2, 2.0, 1)),
])  # fmt: skip
def test_what_is_no_size_is_refused(size, value):
  with pytest.raises(ValueError, match=rf'Spec.{size}=.* is refused: it must be a'):
    dataclasses.replace(toys.SPEC, **{size: value})


def test_sizes_of_any_whole_type_are_those_of_python():
  spec = Spec(np.int64(48), jnp.int32(8), np.uint8(3), 4, [np.int32(2), 2, 1])
  assert spec == toys.SPEC and hash(spec) == hash(toys.SPEC)
  assert type(make_selector('unif_sgd', spec, 0.5).facts.rows) is int
