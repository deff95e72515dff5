"""Ordered SGD: gradients by hand, the schedule of q, compact against dense."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget.losses import cross_entropy
from jaxbudget.selectors.ordered import hardest, ordered_sgd
from jaxbudget.testing import runs, toy
from jaxbudget.types import Data, Outputs, Spec, plain_batch, take_all

SPEC = Spec(64, 16, 3, 10, (1, 1, 4))


def make_batch(seed=0, size=16):
  image_key, label_key = jax.random.split(jax.random.key(seed))
  data = Data(
    jax.random.normal(image_key, (64, 1, 1, 4)), jax.random.randint(label_key, (64,), 0, 3)
  )
  return plain_batch(data, jnp.arange(size, dtype=jnp.int32) * 3, jnp.ones(size), 3)


def linear_model(params, batch):
  logits = jnp.dot(batch.image[:, 0, 0, :], params)
  return Outputs(logits, cross_entropy(logits, batch.target))


def step_gradient(selector, state, params, batch):
  """Gradient of the engine's loss, sum(w*l) / count(w>0)."""

  def weighted_loss(params):
    outputs = linear_model(params, batch)
    weight = selector.weigh(state, jax.lax.stop_gradient(outputs.loss), batch.weight)
    return jnp.sum(weight * outputs.loss) / jnp.sum(weight > 0, dtype=jnp.float32)

  return jax.grad(weighted_loss)(params)


def after_accuracy(selector, state, correct, seen=SPEC.num_examples):
  state = state._replace(correct=jnp.int32(correct), seen=jnp.int32(seen))
  return selector.plan(state, jax.random.key(0), jnp.int32(1))[0]


@pytest.mark.parametrize('q', [16, 8, 4, 2, 1])
def test_gradient_is_that_of_the_mean_over_the_q_largest_losses(q):
  batch = make_batch()
  params = jax.random.normal(jax.random.key(1), (4, 3))
  losses = np.asarray(linear_model(params, batch).loss)
  largest = np.sort(np.argsort(losses)[-q:])

  def by_hand(params):
    return jnp.mean(linear_model(params, jax.tree.map(lambda x: x[largest], batch)).loss)

  want = jax.grad(by_hand)(params)
  for backward in ('dense', 'compact'):
    selector = ordered_sgd(SPEC, 0.5, backward=backward)
    state = selector.init(jax.random.key(0))._replace(q=jnp.int32(q))
    examples = batch
    if selector.select is not take_all:
      forward = lambda batch: linear_model(params, batch)
      _, examples, info = selector.select(state, jax.random.key(0), batch, forward)
      assert int(info['scored']) == (16 if q < 16 else 0)
      live = np.asarray(examples.weight) > 0
      assert np.all(live[:q])  # the smallest listed size that holds them is q
      assert live.sum() == q
      assert q in selector.sizes
      assert sorted(np.asarray(examples.index)[live]) == sorted(np.asarray(batch.index)[largest])
      examples = jax.tree.map(lambda x: x[:q], examples)
    got = step_gradient(selector, state, params, examples)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)


@hypothesis.given(losses=st.lists(st.integers(0, 3), min_size=1, max_size=12), q=st.integers(1, 12))
@hypothesis.settings(deadline=None, max_examples=30)
def test_exactly_q_are_kept_and_ties_go_to_the_first(losses, q):
  n = len(losses)
  got = hardest(jnp.array(losses, jnp.float32), jnp.ones(n), jnp.int32(q))
  order = sorted(range(n), key=lambda i: (-losses[i], i))
  want = np.zeros(n, bool)
  want[order[:q]] = True
  np.testing.assert_array_equal(got, want)


def test_padding_is_never_among_the_hardest():
  loss = jnp.array([5.0, 1.0, 9.0, 3.0])
  weight = jnp.array([1.0, 1.0, 0.0, 1.0])
  np.testing.assert_array_equal(hardest(loss, weight, jnp.int32(2)), [True, False, False, True])
  state = ordered_sgd(SPEC, 1.0).init(jax.random.key(0))._replace(q=jnp.int32(4))
  np.testing.assert_array_equal(ordered_sgd(SPEC, 1.0).weigh(state, loss, weight), weight)


@pytest.mark.parametrize('backward', ['dense', 'compact'])
def test_q_walks_through_the_thresholds_and_never_rises(backward):
  spec = Spec(1280, 128, 10, 10, (1, 1, 1))
  selector = ordered_sgd(spec, 1.0, backward=backward)
  state = selector.init(jax.random.key(0))
  state, plan = selector.plan(state, jax.random.key(0), jnp.int32(0))
  assert int(state.q) == 128
  assert plan.index.shape == (10, 128)
  assert sorted(np.asarray(plan.index).ravel()) == list(range(1280))
  # Per mille, since 99.5 percent of 1000 is whole: (right predictions, q afterwards).
  walk = [
    (799, 128), (800, 64), (750, 64), (899, 64), (900, 32), (100, 32), (949, 32), (950, 16),
    (994, 16), (995, 8), (0, 8), (1000, 8),
  ]  # fmt: skip
  for correct, q in walk:
    state = after_accuracy(selector, state, correct, 1000)
    assert int(state.q) == q
    assert int(state.seen) == int(state.correct) == 0
  state = after_accuracy(selector, selector.init(jax.random.key(0)), 960, 1000)
  assert int(state.q) == 16  # straight to the highest threshold met
  assert ordered_sgd(spec, 1.0, backward='compact').sizes == (8, 16, 32, 64, 128)


@pytest.mark.parametrize(
  ('correct', 'seen', 'q'),
  [
    (699_921, 777_690, 4),
    (699_920, 777_690, 8),
    (2_691_924, 3_364_905, 8),
    (2_691_923, 3_364_905, 16),
  ],
)
def test_a_threshold_is_met_to_the_sample_however_many_there_are(correct, seen, q):
  selector = ordered_sgd(SPEC, 1.0)
  state = after_accuracy(selector, selector.init(jax.random.key(0)), correct, seen)
  assert int(state.q) == q


def test_small_batches_keep_at_least_one_sample():
  spec = Spec(64, 4, 3, 10, (1, 1, 4))
  selector = ordered_sgd(spec, 1.0, backward='compact')
  assert selector.sizes == (1, 2, 4)
  assert int(after_accuracy(selector, selector.init(jax.random.key(0)), 64).q) == 1


def test_accuracy_counts_all_samples_of_the_right_pass():
  batch = make_batch()
  params = jax.random.normal(jax.random.key(1), (4, 3))
  outputs = linear_model(params, batch)
  right = int(np.sum(np.argmax(np.asarray(outputs.logits), axis=1) == np.asarray(batch.label)))
  assert 0 < right < 16

  dense = ordered_sgd(SPEC, 1.0)
  for q in (16, 4):
    state = dense.init(jax.random.key(0))._replace(q=jnp.int32(q))
    state = dense.update(dense.update(state, batch, outputs), batch, outputs)
    assert (int(state.correct), int(state.seen)) == (2 * right, 32)

  compact = ordered_sgd(SPEC, 1.0, backward='compact')
  # While q = s the train step makes the accuracy; below, the scoring pass and nothing else.
  state = compact.init(jax.random.key(0))
  state, same, _ = compact.select(state, jax.random.key(0), batch, lambda _: outputs)
  chex.assert_trees_all_equal(same, batch)
  state = compact.update(state, batch, outputs)
  assert (int(state.correct), int(state.seen)) == (right, 16)
  state = compact.init(jax.random.key(0))._replace(q=jnp.int32(4))
  state, small, _ = compact.select(state, jax.random.key(0), batch, lambda _: outputs)
  small = jax.tree.map(lambda x: x[:4], small)
  state = compact.update(state, small, linear_model(params, small))
  assert (int(state.correct), int(state.seen)) == (right, 16)


def test_compact_runs_no_scoring_pass_while_all_samples_count():
  calls = []

  def forward(batch):
    jax.debug.callback(lambda: calls.append(1))
    return Outputs(jnp.zeros((16, 3)), batch.image[:, 0, 0, 0])

  compact = ordered_sgd(SPEC, 1.0, backward='compact')
  state = compact.init(jax.random.key(0))
  for q, expected in ((16, 0), (8, 1)):
    at = state._replace(q=jnp.int32(q))
    jax.block_until_ready(compact.select(at, jax.random.key(0), make_batch(), forward))
    jax.effects_barrier()
    assert len(calls) == expected


def test_rows_that_rank_pay_by_what_they_do_not_train_on():
  compact = ordered_sgd(toy.SPEC, 0.5, backward='compact', thresholds=(1.0, 2.0))
  assert compact.facts.row_cost == ordered_sgd(toy.SPEC, 0.5).facts.row_cost
  assert list(runs.kept(compact, 0.5)) == []
  cheap = compact.facts.row_cost._replace(trained=4, backward=4)  # less than s + 3s/2
  unsound = compact._replace(facts=compact.facts._replace(row_cost=cheap))
  assert any('scored, facts.row_cost says 0' in fault for fault in runs.kept(unsound, 0.5))


def test_lr_drop_halves_the_gradient_for_good():
  params = jax.random.normal(jax.random.key(1), (4, 3))
  batch = make_batch()
  gradients = {}
  for lr_drop in (False, True):
    selector = ordered_sgd(SPEC, 1.0, lr_drop=lr_drop)
    state = selector.init(jax.random.key(0))
    state = after_accuracy(selector, state, 62)  # 96.9 percent: not yet
    assert float(state.scale) == 1
    state = after_accuracy(selector, state, 64)
    state = after_accuracy(selector, state, 10)
    gradients[lr_drop] = step_gradient(selector, state, params, batch)
  chex.assert_trees_all_close(gradients[True], gradients[False] / 2)


def test_epochs_are_a_whole_share_of_the_budget():
  spec = Spec(50_000, 128, 10, 200, (32, 32, 3))
  assert [ordered_sgd(spec, b).facts.epochs for b in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)] == [
    10, 20, 40, 60, 100, 200,
  ]  # fmt: skip
  assert ordered_sgd(Spec(64, 8, 3, 100, (1, 1, 1)), 0.29).facts.epochs == 29
  facts = ordered_sgd(spec, 0.3).facts
  assert (facts.rows, facts.candidates, facts.cap) == (390, 128, None)
  assert facts.planned.backward == facts.planned.trained == 60 * 390 * 128
  assert facts.planned.scored == 0


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'thresholds': (80, 80, 95)}, 'thresholds must rise strictly'),
    ({'thresholds': (90, 80)}, 'thresholds must rise strictly'),
    ({'thresholds': (0, 80)}, r'percent in \(0, 100\]'),
    ({'thresholds': (80, 101)}, r'percent in \(0, 100\]'),
    ({'thresholds': ()}, r'percent in \(0, 100\]'),
    ({'thresholds': (float('nan'),)}, r'percent in \(0, 100\]'),
    ({'backward': 'compactt'}, "did you mean 'compact'"),
    ({'budget': 1.5}, r'budget must be in \(0, 1\]'),
    ({'budget': 0.05}, 'no epoch'),
  ],
)
def test_refuses_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    ordered_sgd(SPEC, **({'budget': 0.5} | options))


def test_all_budgets_share_one_row_program():
  forward = lambda batch: linear_model(jnp.ones((4, 3)), batch)
  for backward in ('dense', 'compact'):
    a = ordered_sgd(SPEC, 0.3, backward=backward)
    b = ordered_sgd(SPEC, 1.0, backward=backward, thresholds=(50, 60), lr_drop=True)
    assert (a.select, a.weigh, a.update) == (b.select, b.weigh, b.update)
    state = a.init(jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, b.init(jax.random.key(0)))

    def epoch(state, selector=a):
      key, batch = jax.random.key(0), make_batch()
      state, _ = selector.plan(state, key, jnp.int32(1))
      state, batch, _ = selector.select(state, key, batch, forward)
      return selector.update(state, batch, forward(batch))

    chex.assert_trees_all_equal_shapes_and_dtypes(state, jax.eval_shape(epoch, state))
