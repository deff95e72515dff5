"""The conformance kit fails for what is broken, and says why."""

import functools
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from toy_methods import held_out, loss_scan, spendthrift

from jaxbudget import ledger
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.testing import SPEC, Unsound, check_selector, data
from jaxbudget.types import Cost, Plan, Selector

N = SPEC.num_examples
TRACES = itertools.count(1)


def remembering(spec, budget, **hooks) -> Selector:
  """unif_sgd with a state to spoil: f32[N], the times each sample was seen."""
  plain = unif_sgd(spec, budget)
  parts = {
    'init': lambda key: jnp.zeros(N, jnp.float32),
    'plan': lambda state, key, epoch: (state, plain.plan((), key, epoch)[1]),
    'update': _count,
  }
  return plain._replace(**{**parts, **hooks})


def scanning(spec, budget, scan, on_host=False):
  """unif_sgd with whole numbers for a state, and a look at all samples before its second epoch."""
  kept = lambda state, batch, outputs: state
  init = lambda key: jnp.zeros(N, jnp.int32)
  selector = remembering(spec, budget, init=init, update=kept, scan=scan)
  look = selector.facts.scan._replace(every=3, first=1, on_host=on_host)
  return selector._replace(facts=selector.facts._replace(scan=look))


def _count(state, batch, outputs):
  del outputs
  return state.at[batch.index].add(jnp.float32(1))


def _score_twice(state, key, batch, forward):
  del key
  forward(batch._replace(image=forward(batch).loss[0] + batch.image))
  return state, batch, {'scored': jnp.int32(8)}


def _score_really_twice(state, key, batch, forward):
  del key
  other = forward(batch._replace(image=batch.image + forward(batch).loss[0]))
  return state, batch._replace(weight=batch.weight + 0 * other.loss), {'scored': jnp.int32(8)}


def with_facts(factory, **facts):
  def make(spec, budget):
    selector = factory(spec, budget)
    return selector._replace(facts=selector.facts._replace(**facts))

  return make


@functools.cache
def _look_first():
  def select(state, key, batch, forward):
    del key
    loss = lambda: forward(batch).loss[0]
    zero = 0 * jax.lax.cond(state[1], loss, lambda: jnp.float32(0))
    scored = jnp.where(state[1], batch.index.shape[0], 0)
    return state, batch._replace(weight=batch.weight + zero), {'scored': scored}

  return select


def looking_first(spec, budget, *, scoring=None):
  """Looks at each batch of the first two epochs, and trains on it whatever it sees."""
  looks = 2 * spec.num_examples
  plain = unif_sgd(spec, ledger.Budget(ledger.trainable(spec, budget, looks, 'it') / Fraction(N)))
  facts, size = plain.facts, spec.batch_size
  planned = facts.planned._replace(scored=2 * facts.rows * size)
  facts = facts._replace(planned=planned, row_cost=Cost(size, size, size), scoring=scoring)

  def plan(state, key, epoch):
    return (state[0], epoch < 2), plain.plan((), key, epoch)[1]

  return Selector(facts, lambda key: (jnp.int32(0), jnp.array(True)), plan, select=_look_first())


@functools.cache
def _first():
  def select(state, key, batch, forward):
    del key, forward
    return state, jax.tree.map(lambda x: x[:8], batch), {'scored': jnp.int32(0)}

  return select


def taking_the_first(spec, budget):
  """Trains on the first 8 of each 16 candidates, there or not."""
  plain = unif_sgd(spec, ledger.as_budget(1))
  half = Cost(0, 96, 96)
  facts = plain.facts._replace(rows=3, candidates=16, planned=half, row_cost=Cost(0, 8, 8))

  def plan(state, key, epoch):
    index, weight, _ = plain.plan((), key, epoch)[1]
    return state, Plan(index.reshape(3, 16), weight.reshape(3, 16), jnp.int32(3))

  return plain._replace(facts=facts, plan=plan, select=_first())


def with_plan(change, **facts):
  """unif_sgd whose plans are changed."""

  def make(spec, budget):
    selector = unif_sgd(spec, budget)

    def plan(state, key, epoch):
      state, plan = selector.plan(state, key, epoch)
      return state, change(plan, epoch)

    return selector._replace(plan=plan, facts=selector.facts._replace(**facts))

  return make


def drifting(spec, budget):
  return remembering(spec, budget, update=lambda s, b, o: s.astype(jnp.bfloat16))


def growing(spec, budget):
  return remembering(spec, budget, update=lambda s, b, o: (s, s))


def recompiling(spec, budget):
  share = float(budget.fraction)
  return remembering(spec, budget, update=lambda s, b, o: s + share)


def uncounted(spec, budget):
  selector = remembering(spec, budget, select=_score_really_twice)
  facts = selector.facts
  planned = facts.planned._replace(scored=facts.planned.trained)
  return selector._replace(facts=facts._replace(row_cost=Cost(8, 8, 8), planned=planned))


@functools.cache
def _wrapped():
  return lambda state, key, batch, forward: (state, batch, {'scored': jnp.int32(0)})


def wrapped(spec, budget):
  return remembering(spec, budget, select=_wrapped())


EPOCHS = []


def _ask_the_host(plan, epoch):
  """Shifts a plan by how often it was asked, which the state does not know."""
  del epoch
  seen = lambda: (EPOCHS.append(1), np.int32(len(EPOCHS)))[1]
  shift = io_callback(seen, jax.ShapeDtypeStruct((), jnp.int32), ordered=True)
  return plan._replace(index=(plan.index + shift) % N)


def _luck_of_the_trace(plan, epoch):
  """Shifts a plan by another number whenever it is traced, as a draw of NumPy mostly does."""
  del epoch
  return plan._replace(index=(plan.index + next(TRACES)) % N)


def _always_the_same(plan, epoch):
  del epoch
  rows, size = plan.index.shape
  return plan._replace(index=jnp.arange(rows * size, dtype=jnp.int32).reshape(rows, size))


def _padded(plan, epoch):
  del epoch
  return plan._replace(weight=plan.weight.at[:, 0].set(0))


def _idle_later(plan, epoch):
  weight = plan.weight.at[0].multiply(jnp.where(epoch == 2, 0.0, 1.0))
  return plan._replace(weight=weight)


def _of_this_budget(plan, epoch):
  del epoch
  return plan._replace(index=plan.index[:3], weight=plan.weight[:3])


BROKEN = {
  'a state that changes its dtype': (drifting, 'update makes state bfloat16.48., init made it'),
  'a state that changes its structure': (growing, 'update changes the structure of the state'),
  'a closure that recompiles': (recompiling, 'update is another function.*closes over share'),
  'an index out of range': (
    with_plan(lambda plan, e: plan._replace(index=plan.index + 40)), r'to 8\d, out of .0, N',
  ),
  'an uncounted forward pass': (uncounted, r'add up to (\d+), but .* samples passed forward'),
  'a row dearer than it says': (
    with_facts(unif_sgd, row_cost=Cost(0, 4, 4)), 'a row spends 8 trained, .* says 4 at most',
  ),
  'a plan dearer than it says': (
    with_facts(unif_sgd, planned=Cost(0, 8, 8)), 'were spent, facts.planned says 24 and that this',
  ),
  'a memory outside of the state': (with_plan(_ask_the_host), 'the same key gives another plan'),
  'chance outside of the key': (with_plan(_luck_of_the_trace), 'under jit than without'),
  'a wrapped identity': (wrapped, 'select does nothing: use types.take_all'),
  'a sample that comes twice': (
    with_plan(lambda plan, e: plan._replace(index=plan.index * 0)), 'a sample comes twice',
  ),
  'a favourite': (with_plan(_always_the_same), 'where all samples look alike sample'),
  'padding that BatchNorm would see': (with_plan(_padded), 'say partial=True'),
  'a hook that is missing': (
    lambda spec, budget: unif_sgd(spec, budget)._replace(update=None), 'update is None',
  ),
  'rows that are not there': (
    with_plan(lambda plan, e: plan._replace(rows=plan.rows + 9)), 'plan.rows=12: facts.rows=3',
  ),
  'logits that it does not ask for': (
    lambda spec, budget: remembering(spec, budget, update=lambda s, b, o: s + o.logits.max()),
    r'name it in facts.asks, of probabilities, confidence, gradient_norm .AttributeError',
  ),
  'a wish that no task knows': (with_facts(unif_sgd, asks=('age',)), "facts.asks names 'age'"),
  'row slots that follow the budget': (
    with_plan(_of_this_budget), 'a plan has 3 row slots, and must have R=6',
  ),
  'a scan that changes a dtype': (
    lambda spec, budget: scanning(spec, budget, lambda s, k, seen: (seen.loss * 100)),
    'scan makes state float32.48., init made it int32.48.',
  ),
  'a scan of the host that changes a dtype': (
    lambda spec, budget: scanning(spec, budget, lambda s, k, seen: seen.loss, on_host=True),
    'scan makes state float32.48., init made it int32.48.',
  ),
  'a row that is no step': (
    with_plan(_idle_later, uniform_on_ties=False), 'epoch 2: a row of the plan has no weight',
  ),
  'a last row that scores nothing and is asked for more': (
    looking_first, "budget_unit='compute': .* were spent, facts.planned says .* this is exact",
  ),
  'a plan that forgets what scoring costs': (
    uncounted, 'impossible for this method at budget=0.75: it plans .* at most 432 are allowed',
  ),
  'a plan that forgets the runs before it': (
    spendthrift, "at most 375 are allowed, after 57 that the runs before it have cost",
  ),
  'candidates that are not there': (
    taking_the_first, 'select takes candidates of weight 0, whose images are not there, before',
  ),
  'sizes that cannot be hashed': (
    lambda spec, budget: unif_sgd(spec, budget)._replace(sizes=[4, 8]), 'must be a tuple',
  ),
  'sizes that fall': (
    lambda spec, budget: unif_sgd(spec, budget)._replace(sizes=(8, 4)), 'must rise',
  ),
  'sizes that end too soon': (
    lambda spec, budget: unif_sgd(spec, budget)._replace(sizes=(1, 2)), 'end below the 8 examples',
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', BROKEN)
def test_what_is_broken_is_named(what):
  factory, message = BROKEN[what]
  with pytest.raises(Unsound, match=message):
    check_selector(factory)


def test_options_and_needs_are_handed_on():
  check_selector(looking_first, scoring=range(2))
  check_selector(loss_scan, every=3)
  loss = np.arange(N, dtype=np.float32)
  with pytest.raises(Unsound, match='held_out is not sound:\n- facts.uniform_on_ties'):
    check_selector(held_out, needed={'first': loss, 'second': loss})


def test_the_data_are_of_no_trace_that_asks_for_them_first():
  jax.make_jaxpr(lambda: data(7).label)()
  assert np.asarray(data(7).label).shape == (7,)
