"""Selective Backprop against a plain-Python reading of fidelity.md 2.6, and its options."""

import collections
import functools

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import ledger, schedules
from jaxbudget.selectors.measuring import percentile
from jaxbudget.selectors.selective_backprop import (
  selective_backprop,
  stationary_acceptance,
)
from jaxbudget.types import Batch, Outputs, Spec


def make_spec(num_examples=21, batch_size=4, epochs=5):
  return Spec(num_examples, batch_size, 3, epochs, (2, 1, 1), parts=2)


def make_batch(index, view):
  """Examples whose image says who they are and in which epoch they were augmented."""
  label = (index % 3).astype(jnp.int32)
  first = 0.25 + 0.25 * view + 0.001 * index[0].astype(jnp.float32)  # another one for each batch
  share = jnp.tile(jnp.stack([first, 1 - first]), (index.shape[0], 1))
  part_label = jnp.stack([label, (label + 1) % 3], axis=1)
  return Batch(
    index=index,
    image=(index.astype(jnp.float32) + 1000 * view)[:, None, None, None] * jnp.ones((1, 2, 1, 1)),
    label=label,
    target=jnp.einsum('nm,nmc->nc', share, jax.nn.one_hot(part_label, 3)),
    weight=jnp.ones(index.shape[0], jnp.float32),
    part_index=jnp.stack([index, index], axis=1),
    part_label=part_label,
    part_share=share,
  )


def run_selector(selector, losses, epochs, on_forward=lambda: None):
  """Yields (epoch, key, candidate ids, chosen batch, state, scored) for every row."""

  @jax.jit
  def row(state, key, index, table, view):
    def forward(batch):
      on_forward()
      return Outputs(jnp.zeros((batch.index.shape[0], 3)), table[batch.index])

    return selector.select(state, key, make_batch(index, view), forward)

  root, make_plan = jax.random.key(0), jax.jit(selector.plan)
  state = selector.init(root)
  for epoch in range(epochs):
    epoch_key = jax.random.fold_in(root, epoch)
    state, plan = make_plan(state, epoch_key, jnp.int32(epoch))
    indices = np.asarray(plan.index)
    for r in range(int(plan.rows)):
      key = jax.random.fold_in(epoch_key, r)
      index = indices[r]
      state, batch, info = row(state, key, index, losses[epoch], jnp.float32(epoch))
      yield epoch, key, np.asarray(index), batch, state, int(info['scored'])


class Reference:
  """Selective Backprop one sample at a time: lists, deques and fidelity.md 2.6."""

  def __init__(self, b, batch_size, history, prime, tail):
    self.b, self.batch_size, self.prime, self.tail = b, batch_size, prime, tail
    self.history = collections.deque(maxlen=history)
    self.queue = collections.deque()

  def row(self, epoch, samples, losses, uniforms, last):
    """Returns (accepted ids, [(id, epoch of augmentation)] to train on)."""
    if epoch == 0 and self.prime:
      accepted = list(samples)
    else:
      self.history.extend(losses)
      accepted = []
      for sample, loss, u in zip(samples, losses, uniforms, strict=True):
        below = sum(h < loss for h in self.history)
        quantile = np.float32(below) / np.float32(len(self.history))
        if u < np.power(quantile, np.float32(self.b)):
          accepted.append(sample)
    self.queue.extend((sample, epoch) for sample in accepted)
    if len(self.queue) >= self.batch_size:
      return accepted, [self.queue.popleft() for _ in range(self.batch_size)]
    if last and self.tail == 'flush':
      chosen = list(self.queue)
      self.queue.clear()
      return accepted, chosen
    return accepted, []


@pytest.mark.parametrize(
  ('b', 'tail', 'prime', 'num_examples', 'batch_size', 'history'),
  [
    (1.0, 'carry', True, 61, 6, 17),
    (1.0, 'flush', True, 61, 6, 17),
    (7 / 3, 'carry', False, 70, 7, 1024),
    (7 / 3, 'flush', False, 33, 8, 8),
    (0.0, 'carry', True, 23, 5, 9),
    (19.0, 'flush', True, 64, 8, 64),
  ],
)
def test_equals_the_reference(b, tail, prime, num_examples, batch_size, history):
  spec = make_spec(num_examples, batch_size)
  epochs = 3
  losses = jax.random.gamma(jax.random.key(5), 2.0, (epochs, num_examples))
  losses = jnp.round(losses, 1)  # with ties, which the strict comparison must respect
  selector = selective_backprop(spec, 0.4, b=b, tail=tail, prime=prime, history=history)
  assert selector.partial == (tail == 'flush')
  reference = Reference(b, batch_size, history, prime, tail)
  rows = num_examples // batch_size
  accepted_before, trained, partial = 0, 0, 0

  for n, (epoch, key, index, batch, state, scored) in enumerate(
    run_selector(selector, losses, epochs)
  ):
    uniforms = np.asarray(jax.random.uniform(key, (batch_size,)))
    last = n % rows == rows - 1
    accepted, chosen = reference.row(epoch, index, np.asarray(losses[epoch])[index], uniforms, last)

    live = np.asarray(batch.weight) > 0
    assert live.sum() == len(chosen)
    assert np.all(live[: len(chosen)])  # examples of weight > 0 come first
    views = np.asarray(batch.image)[live, 0, 0, 0]
    assert list(zip(np.asarray(batch.index)[live], views, strict=True)) == [
      (sample, sample + 1000 * view) for sample, view in chosen
    ]
    np.testing.assert_array_equal(np.asarray(batch.part_index)[live, 0], [i for i, _ in chosen])
    accepted_before = 0 if n % rows == 0 else accepted_before
    assert int(state.accepted) == accepted_before + len(accepted)
    assert int(state.queue.length) == len(reference.queue) < batch_size
    known = np.asarray(state.history)[np.isfinite(state.history)]
    np.testing.assert_array_equal(known, np.asarray(reference.history, np.float32))
    assert scored == batch_size
    accepted_before = int(state.accepted)
    trained += len(chosen)
    partial += 0 < len(chosen) < batch_size

  assert n + 1 == epochs * rows
  assert trained > 0
  assert partial > 0 or tail == 'carry' or b == 0


def test_priming_trains_on_every_batch_as_it_comes():
  spec = make_spec()
  losses = jnp.ones((2, spec.num_examples))
  rows = run_selector(selective_backprop(spec, 0.3, history=8), losses, epochs=1)
  for _, _, index, batch, state, scored in rows:
    np.testing.assert_array_equal(batch.index, index)
    assert np.all(np.asarray(batch.weight) == 1)
    assert int(state.filled) == 0
    assert scored == spec.batch_size


def test_budget_one_accepts_everything_even_with_equal_losses():
  spec = make_spec()
  losses = jnp.ones((3, spec.num_examples))
  for options in ({}, {'rate': 'exact'}, {'prime': False, 'tail': 'flush'}):
    selector = selective_backprop(spec, 1.0, history=8, **options)
    for _, _, index, batch, _, _ in run_selector(selector, losses, epochs=3):
      assert np.all(np.asarray(batch.weight) == 1)
      assert sorted(np.asarray(batch.index)) == sorted(index)


@hypothesis.given(
  known=st.lists(st.integers(0, 6), min_size=1, max_size=13),
  loss=st.lists(st.integers(0, 6), min_size=4, max_size=4),
)
@hypothesis.settings(deadline=None, max_examples=25)
def test_percentile_is_strict_and_over_the_filled_part(known, loss):
  pool = jnp.array([np.inf] * (13 - len(known)) + known, jnp.float32)
  got = percentile(pool, jnp.int32(len(known)), jnp.array(loss, jnp.float32))
  want = [np.mean([k < x for k in known]) for x in loss]
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_acceptance_rate_and_spending_under_stationary_losses():
  # Statistics only: 200 epochs of 10 batches of 128, one program for all b.
  spec = Spec(1300, 128, 2, 200, (1, 1, 1))
  bs = {0.5: 1, 0.2: 4, 0.05: 19}
  program = selective_backprop(spec, 0.3)

  @jax.jit
  def simulate(state, root):
    def epoch(state, number):
      key = jax.random.fold_in(root, number)
      state, plan = program.plan(state, key, number)

      def row(state, r):
        select_key, loss_key = jax.random.split(jax.random.fold_in(key, r))
        index = plan.index[r]
        zeros = jnp.zeros((128, 2))
        batch = Batch(
          index, zeros[:, :1, None, None], index, zeros, plan.weight[r],
          index[:, None], index[:, None], zeros[:, :1],
        )  # fmt: skip
        forward = lambda batch: Outputs(zeros, jax.random.exponential(loss_key, (128,)))
        state, batch, info = program.select(state, select_key, batch, forward)
        return state, (jnp.sum(batch.weight > 0), info['scored'])

      state, (trained, scored) = jax.lax.scan(row, state, jnp.arange(10))
      return state, (state.accepted, trained.sum(), scored.sum())

    return jax.lax.scan(epoch, state, jnp.arange(spec.epochs, dtype=jnp.int32))

  for budget, b in bs.items():
    selector = selective_backprop(spec, budget)
    assert float(selector.init(jax.random.key(0)).power) == pytest.approx(b)
    state, (accepted, trained, scored) = simulate(
      selector.init(jax.random.key(0)), jax.random.key(17)
    )
    accepted = np.asarray(accepted)
    assert accepted[0] == 1280
    a = np.mean((np.arange(1024) / 1024) ** b)
    assert a == stationary_acceptance(b, 1024)
    assert a == pytest.approx(1 / (b + 1) - 1 / 2048, abs=1e-5)
    n = 199 * 1280
    error = np.sqrt(a * (1 - a) / n)
    assert abs(accepted[1:].sum() / n - a) < 3 * error

    assert trained.sum() + state.queue.length == accepted.sum()
    spent = int(trained.sum()) / (spec.epochs * spec.num_examples)
    expected = (1280 / 1300) * (1 + 199 * a) / 200
    assert abs(spent - expected) < (3 * error * n + 128) / (spec.epochs * spec.num_examples)
    assert abs(selector.facts.planned.trained - int(trained.sum())) < 3 * error * n + 128
    assert int(scored.sum()) == selector.facts.planned.scored
    assert int(trained.sum()) <= selector.facts.cap


class ReleasedQueue:
  """The queue of the released code: the rejected stay until a later accepted one is popped."""

  def __init__(self, size, tail):
    self.size, self.tail, self.queue = size, tail, collections.deque()

  def row(self, accepted, share, last):
    """The label shares that the step of a row trains with; None if it takes no step."""
    self.queue.extend((flag, share) for flag in accepted)
    (_, head), left = self.queue[0], self.size
    if sum(flag for flag, _ in self.queue) >= self.size:
      while left:
        left -= self.queue.popleft()[0]
      return head
    if last and self.tail == 'flush':
      any_left = any(flag for flag, _ in self.queue)
      self.queue.clear()
      return head if any_left else None
    return None


def relabelled(batch, share):
  return np.einsum('m,smc->sc', share, np.eye(3)[np.asarray(batch.part_label)])


@pytest.mark.parametrize('tail', ['carry', 'flush'])
def test_label_weights_of_the_head_are_those_of_the_released_queue(tail):
  spec = make_spec(num_examples=60, batch_size=5)
  losses = jax.random.uniform(jax.random.key(3), (4, spec.num_examples))
  options = {'history': 16, 'tail': tail, 'b': 3.0}
  own = selective_backprop(spec, 0.4, **options)
  head = selective_backprop(spec, 0.4, label_weights='head', **options)
  reference, queue = Reference(3.0, 5, 16, True, tail), ReleasedQueue(5, tail)
  not_first, steps, rows = 0, 0, spec.num_examples // 5
  for n, ((*_, plain, _, _), (epoch, key, index, batch, _, _)) in enumerate(
    zip(run_selector(own, losses, 4), run_selector(head, losses, 4), strict=True)
  ):
    chex.assert_trees_all_equal(plain._replace(target=batch.target), batch)
    last = n % rows == rows - 1
    uniforms = np.asarray(jax.random.uniform(key, (5,)))
    accepted, _ = reference.row(epoch, index, np.asarray(losses[epoch])[index], uniforms, last)
    share = make_batch(jnp.asarray(index), jnp.float32(epoch)).part_share[0]
    share = queue.row(np.isin(index, accepted), np.asarray(share), last)
    live = np.asarray(batch.weight) > 0
    assert live.any() == (share is not None)
    if live.any():
      np.testing.assert_allclose(batch.target, relabelled(batch, share), rtol=1e-5)
      steps += 1
      not_first += not np.allclose(share, batch.part_share[0])
  assert not_first > steps / 20  # a rejected sample of an earlier batch stood before the first


def test_the_head_may_be_a_rejected_sample():
  # The smallest case: batches a, b, c of two; accepted are a0, b0, c0, c1. The second step
  # trains c0 and c1 with the label shares of b, whose rejected b1 is still in the queue.
  spec = make_spec(num_examples=6, batch_size=2)
  selector = selective_backprop(spec, 0.5, b=1e-7, history=4, prime=False, label_weights='head')

  @jax.jit
  def row(state, batch, losses):
    forward = lambda batch: Outputs(jnp.zeros((2, 3)), losses)
    return selector.select(state, jax.random.key(0), batch, forward)[:2]

  state, chosen, shares = selector.init(jax.random.key(0)), [], []
  for n, losses in enumerate([[2.0, 1.0], [2.0, 1.0], [3.0, 4.0]]):
    batch = make_batch(jnp.array([2 * n, 2 * n + 1], jnp.int32), jnp.float32(0))
    state, trained = row(state, batch, jnp.array(losses))
    shares.append(np.asarray(batch.part_share)[0])
    chosen.append(trained)
  assert not np.any(chosen[0].weight)
  assert chosen[1].index.tolist() == [0, 2] and chosen[2].index.tolist() == [4, 5]
  np.testing.assert_allclose(chosen[1].target, relabelled(chosen[1], shares[0]), rtol=1e-6)
  np.testing.assert_allclose(chosen[2].target, relabelled(chosen[2], shares[1]), rtol=1e-6)


def test_the_rate_may_run_a_row_ahead():
  spec = make_spec(num_examples=21, batch_size=4, epochs=6)
  facts = selective_backprop(spec, 0.5, history=8, lr_ahead=True).facts
  assert facts.lr_ahead == 1 and selective_backprop(spec, 0.5, history=8).facts.lr_ahead == 0
  for name in ('step', 'linear'):
    schedule = schedules.make_schedule(name, 6, 5, 0.1, 1e-6)
    plain, ahead = (schedules.by_epoch(schedule, 6, 5, 8, n) for n in (0, facts.lr_ahead))
    plain, ahead = (np.concatenate([rates(e)[:5] for e in range(6)]) for rates in (plain, ahead))
    # After the m-th batch, counted from 1, the code takes entry min(m, last).
    np.testing.assert_array_equal(ahead, [plain[min(m, 29)] for m in range(1, 31)])
    assert np.isclose(plain, ahead).sum() == (28 if name == 'step' else 1)


def test_exact_rate_trains_as_often_as_unif_sgd():
  spec = Spec(50_000, 128, 10, 200, (32, 32, 3))
  for budget in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0):
    facts = selective_backprop(spec, budget, rate='exact').facts
    rows = int(50_000 * budget) // 128
    assert facts.rows == rows
    assert facts.candidates == 50_000 // rows
    assert facts.planned.trained == facts.planned.backward == 200 * rows * 128
    assert facts.cap is None
  assert selective_backprop(spec, 0.3, rate='exact').facts.candidates == 427


def test_exact_rate_follows_plackett_luce():
  # Successive draws with weights percentile^b, enumerated: 4 candidates, 2 chosen.
  spec = make_spec(num_examples=4, batch_size=2)
  selector = selective_backprop(spec, 0.5, b=2.0, rate='exact', history=2)
  assert selector.facts.candidates == 4
  loss = jnp.array([0.3, 0.1, 0.9, 0.5])
  weights = np.array([1, 0, 3, 2]) ** 2.0
  want = np.zeros(4)
  for i in range(4):
    for j in range(4):
      if i != j:
        p = weights[i] / weights.sum() * weights[j] / (weights.sum() - weights[i])
        want[[i, j]] += p

  @jax.jit
  @jax.vmap
  def chosen(key):
    batch = make_batch(jnp.arange(4, dtype=jnp.int32), jnp.float32(0))
    forward = lambda batch: Outputs(jnp.zeros((4, 3)), loss)
    _, batch, _ = selector.select(selector.init(key), key, batch, forward)
    return batch.index

  draws = 20_000
  index = np.asarray(chosen(jax.random.split(jax.random.key(1), draws)))
  assert np.all(index[:, 0] != index[:, 1])
  got = np.bincount(index.ravel(), minlength=4) / draws
  assert got[1] == 0
  np.testing.assert_allclose(got, want, atol=3 * 0.5 / np.sqrt(draws))


def test_exact_rate_fills_the_batch_when_no_loss_stands_out():
  spec = make_spec(num_examples=40, batch_size=4)
  losses = jnp.zeros((4, 40))
  selector = selective_backprop(spec, 0.5, rate='exact')
  seen = collections.Counter()
  for _, _, index, batch, _, scored in run_selector(selector, losses, epochs=4):
    ids = np.asarray(batch.index).tolist()
    assert len(set(ids)) == 4
    assert set(ids) <= set(index)
    assert scored == 8
    seen.update(ids)
  assert len(seen) > 30  # ties are broken at random, not by position


@pytest.mark.parametrize('rate', ['sampled', 'exact'])
def test_staleness_skips_forwards_and_counts_them(rate):
  spec = make_spec(num_examples=22, batch_size=4, epochs=7)
  selector = selective_backprop(spec, 0.5, rate=rate, staleness=3, history=8)
  losses = jax.random.uniform(jax.random.key(2), (7, 22))
  forwards, scored, measured = [], collections.Counter(), {}
  counted = functools.partial(jax.debug.callback, lambda: forwards.append(1))
  for epoch, _, index, _, state, spent in run_selector(selector, losses, 7, on_forward=counted):
    scored[epoch] += spent
    if epoch % 3 == 0:
      measured |= {i: losses[epoch][i] for i in index.tolist()}
    # What an epoch chooses by was measured at most two epochs ago, for every candidate.
    known = np.asarray(state.memory.loss)[index]
    np.testing.assert_array_equal(known, [measured[i] for i in index.tolist()])
  jax.effects_barrier()
  rows, candidates = selector.facts.rows, selector.facts.candidates
  assert scored == {e: rows * candidates if e in (0, 3, 6) else 0 for e in range(7)}
  assert len(forwards) == 3 * rows  # the other passes were really skipped
  assert selector.facts.planned.scored == sum(scored.values())


def test_compute_budget_sets_the_acceptance_rate():
  spec = Spec(51_200, 128, 10, 200, (32, 32, 3))
  budget = ledger.as_budget(0.5, 'compute')
  selector = selective_backprop(spec, budget)
  a = (0.5 * 200 - 1 - 200 / 3) / 199
  b = float(selector.init(jax.random.key(0)).power)
  assert b == pytest.approx(1 / a - 1)
  cap = ledger.cap(spec, budget, selector.facts)
  planned = selector.facts.planned.forward_equivalents
  assert planned <= cap
  assert planned == pytest.approx(cap, rel=3e-3)  # 1/2048 of 3N an epoch lies between


@hypothesis.given(
  budget=st.floats(0.05, 1.0),
  staleness=st.integers(1, 6),
  epochs=st.integers(1, 40),
  prime=st.booleans(),
  rate=st.sampled_from(['sampled', 'exact']),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_planned_cost_stays_under_the_compute_cap(budget, staleness, epochs, prime, rate):
  spec = Spec(1000, 10, 3, epochs, (1, 1, 1))
  charged = ledger.as_budget(budget, 'compute')
  primed = prime and rate == 'sampled'
  fixed = primed + -(-epochs // staleness) / 3
  try:
    facts = selective_backprop(spec, charged, staleness=staleness, prime=prime, rate=rate).facts
  except ValueError as refusal:
    tight = epochs * budget - fixed < 1e-6 or 'no batch fits' in str(refusal)
    assert tight, refusal
    return
  assert epochs * budget > fixed
  cap = ledger.cap(spec, charged, facts)
  assert facts.planned.forward_equivalents <= cap + 3  # rounding of one expected sample


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'b': -0.1}, 'b must be 0 or more'),
    ({'b': float('nan')}, 'b must be 0 or more'),
    ({'history': 3}, 'history must hold a batch of 4 losses and at most 1048576, got 3'),
    ({'tail': 'flsh'}, "did you mean 'flush'"),
    ({'rate': 'exactly'}, "did you mean 'exact'"),
    ({'label_weights': 'haed'}, "did you mean 'head'"),
    ({'staleness': 0}, 'staleness must be 1'),
    ({'staleness': 1.5}, 'staleness must be 1'),
    ({'budget': 0.0}, r'budget must be in \(0, 1\]'),
    ({'budget': 1.1}, r'budget must be in \(0, 1\]'),
    ({'budget': 0.01, 'rate': 'exact'}, 'no batch fits'),
  ],
)
def test_refuses_bad_options(options, message):
  options = {'budget': 0.3} | options
  with pytest.raises(ValueError, match=message):
    selective_backprop(make_spec(), **options)


def test_compute_budget_is_divided_exactly():
  def make(spec, budget, **options):
    return selective_backprop(spec, ledger.as_budget(budget, 'compute'), **options)

  # a = .36 - 1/3 = 2/75, of 30 million 800,000 samples an epoch; in floats one less.
  spec = Spec(30_000_000, 10, 3, 10, (1, 1, 1))
  for budget in (0.36, np.float32(0.36)):
    assert make(spec, budget, rate='exact').facts.planned.trained == 10 * 800_000
    assert float(make(spec, budget, prime=False).init(jax.random.key(0)).power) == 36.5
  # 2 of 10 epochs' worth is what scoring and priming cost: nothing is left to choose with.
  spec = Spec(1000, 10, 3, 10, (1, 1, 1))
  with pytest.raises(ValueError, match='impossible'):
    make(spec, 0.2, staleness=4)


def test_compute_budget_too_small_for_scoring_is_refused_unless_room_is_made():
  spec = Spec(50_000, 128, 10, 200, (32, 32, 3))
  least = 1 / 3 + 1 / 200

  def make(budget, **options):
    return selective_backprop(spec, ledger.as_budget(budget, 'compute'), **options)

  with pytest.raises(ValueError, match=r'impossible for selective_backprop at budget=0.3.*0.3383'):
    make(0.3)
  with pytest.raises(ValueError, match='prime=False'):
    make(least)
  make(least + 1e-4)
  make(0.335, prime=False)
  make(0.335, rate='exact', staleness=2)
  make(0.3, staleness=2)
  make(0.1, staleness=5)


def test_all_budgets_share_one_row_program():
  spec = make_spec()
  a = selective_backprop(spec, 0.2, history=8)
  b = selective_backprop(spec, ledger.as_budget(0.9, 'compute'), b=3.0, prime=False, history=8)
  assert a.select is b.select
  key = jax.random.key(0)
  chex.assert_trees_all_equal_shapes_and_dtypes(a.init(key), b.init(key))
  for selector in (a, selective_backprop(spec, 0.5, rate='exact', staleness=2)):

    def epoch(state, selector=selector):
      state, plan = selector.plan(state, key, jnp.int32(1))
      forward = lambda batch: Outputs(jnp.zeros((batch.index.shape[0], 3)), batch.image[:, 0, 0, 0])
      batch = make_batch(plan.index[0], jnp.float32(0))
      return selector.select(state, key, batch, forward)[0]

    state = selector.init(key)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, jax.eval_shape(epoch, state))


def test_who_is_not_there_has_no_place_in_history_queue_or_memory():
  selector = selective_backprop(make_spec(), 1.0, b=0.0, history=8, prime=False, staleness=2)
  plan, select = jax.jit(selector.plan), jax.jit(selector.select, static_argnums=3)
  state, _ = plan(selector.init(jax.random.key(0)), jax.random.key(0), jnp.int32(0))
  forward = lambda batch: Outputs(jnp.zeros((4, 3)), batch.index.astype(jnp.float32))
  for index, weight in (([4, 5, 6, 7], [0, 1, 0, 1]), ([8, 9, 10, 11], [0, 0, 0, 0])):
    batch = make_batch(jnp.array(index, jnp.int32), 0)._replace(weight=jnp.float32(weight))
    state, chosen, _ = select(state, jax.random.key(1), batch, forward)
    assert not np.asarray(chosen.weight).any()
  assert state.history.tolist() == 6 * [np.inf] + [5, 7] and int(state.filled) == 2
  assert int(state.queue.length) == int(state.accepted) == int(state.considered) == 2
  assert np.flatnonzero(np.isfinite(state.memory.loss)).tolist() == [5, 7]


def test_labels_of_another_picture_are_for_tasks_with_classes():
  for rate, asks in (('sampled', ('probabilities',)), ('exact', ())):
    given = {'rate': rate, 'label_weights': 'head'}
    assert selective_backprop(make_spec(), 0.5, **given).facts.asks == asks
  assert selective_backprop(make_spec(), 0.5).facts.asks == ()
