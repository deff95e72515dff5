"""The conformance kit looks at weights, losses, and the rows that a schedule is made for."""

import jax.numpy as jnp
import pytest
from check_selector_test import remembering

from jaxbudget.sampling import draw
from jaxbudget.selectors.kakurenbo import kakurenbo
from jaxbudget.selectors.sgd import as_plan, unif_sgd
from jaxbudget.testing import SPEC, Unsound, check_selector

N, SIZE = SPEC.num_examples, SPEC.batch_size


def by_loss(spec, budget, **hooks):
  """Draws by the latest losses, as the guide's method does."""
  plain = unif_sgd(spec, budget)
  samples, rows = plain.facts.rows * SIZE, plain.facts.rows

  def plan(state, key, epoch):
    del epoch
    return state, as_plan(draw(key, state + 0.1, samples), rows, SIZE, N // SIZE)

  parts = {'init': lambda key: jnp.ones(N), 'plan': plan, 'update': _latest}
  return plain._replace(**{**parts, **hooks})


def _latest(state, batch, outputs):
  return state.at[batch.index].set(outputs.loss)


def _none(state, loss, weight):
  return weight * 0


def _infinite(state, loss, weight):
  return weight / 0.0


def _nan_where_hard(state, loss, weight):
  return jnp.where(loss > jnp.mean(loss), jnp.nan, weight)


def _negative(state, loss, weight):
  return -weight


def _against_the_easy(state, loss, weight):
  return weight * jnp.where(loss < jnp.mean(loss), -0.1, 1)


def _enormous(state, loss, weight):
  return weight * 3e38


def _none_at_first(seen, loss, weight):
  return jnp.where(jnp.max(seen) < 2, 0, weight)


def _select(change):
  def select(state, key, batch, forward):
    return state, change(batch), {'scored': jnp.int32(0)}

  return select


def _scaled(factor):
  return _select(lambda batch: batch._replace(weight=batch.weight.at[0].multiply(factor)))


_BLINDING = _select(lambda batch: batch._replace(image=batch.image / 0))
_SUBTRACTING, _SPOILING = _scaled(-1), _scaled(jnp.inf)


def _plan_with(factor, first=0):
  """Plans that spoil their first weight from an epoch on."""

  def make(spec, budget):
    selector = by_loss(spec, budget)

    def plan(state, key, epoch):
      state, plan = selector.plan(state, key, epoch)
      own = jnp.where(epoch < first, jnp.float32(1), jnp.float32(factor))
      return state, plan._replace(weight=plan.weight.at[0, 0].multiply(own))

    return selector._replace(plan=plan, partial=True)

  return make


def _hooks(**hooks):
  return lambda spec, budget: by_loss(spec, budget, **hooks)


def _looking(more):
  """kakurenbo, whose epochs end with rows that look, and who errs in their number."""

  def make(spec, budget):
    selector = kakurenbo(spec, budget)
    facts = selector.facts
    return selector._replace(facts=facts._replace(looking=facts.looking + more))

  return make


def _one_more(spec, budget):
  selector = by_loss(spec, budget)
  return selector._replace(facts=selector.facts._replace(rows=selector.facts.rows + 1))


FAULTS = {
  'no weight': (_hooks(weigh=_none), 'weigh leaves no weight at all: 96 samples were trained on'),
  'weights without end': (_hooks(weigh=_infinite), 'weigh gives a weight that is not finite'),
  'some of no number': (_hooks(weigh=_nan_where_hard), 'weigh gives a weight that is not finite'),
  'negative weights': (_hooks(weigh=_negative), 'weigh gives a negative weight'),
  'some negative weights': (_hooks(weigh=_against_the_easy), 'weigh gives a negative weight'),
  'weights too large': (_hooks(weigh=_enormous), 'epoch 0: losses or parameters are not finite'),
  'images of no number': (_hooks(select=_BLINDING), 'or select makes images or targets that are'),
  'negative weights of select': (_hooks(select=_SUBTRACTING), 'select gives a negative weight'),
  'no numbers of select': (_hooks(select=_SPOILING), 'select gives a weight that is not finite'),
  'negative weights of a plan': (_plan_with(-1), 'plan gives a negative weight'),
  'no numbers of a plan': (_plan_with(jnp.inf), 'plan gives a weight that is not finite'),
  'negative weights later': (_plan_with(-1, first=3), 'plan gives a negative weight'),
  'a state of no numbers': (
    _hooks(init=lambda key: jnp.full(N, jnp.nan)), 'init makes state NaN, and plan reads it',
  ),
  'a row too many': (_one_more, 'no epoch has more than 3 rows to train on, .*rows=4 .* say 4: a'),
  'a row that looks too few': (
    _looking(-1), 'no epoch has more than 3 rows to train on, .*rows=6 and .*looking=2 say 4',
  ),
  'steps where rows look': (
    _looking(1), 'epoch 0: row 2 is a step, and only the first 2 .*rows=6, .*looking=4',
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', FAULTS)
def test_a_fault_is_named_with_its_hook(what):
  factory, message = FAULTS[what]
  with pytest.raises(Unsound, match=message):
    check_selector(factory)


def test_who_is_given_bad_weights_is_not_blamed():
  with pytest.raises(Unsound) as raised:
    check_selector(_plan_with(jnp.nan, first=1))
  assert 'plan gives a weight' in str(raised.value)
  assert not any(hook in str(raised.value) for hook in ('weigh gives', 'select gives', 'losses'))


def test_a_weigh_may_leave_whole_rows_without_weight():
  check_selector(lambda spec, budget: remembering(spec, budget, weigh=_none_at_first))


def test_a_state_may_begin_with_inf_and_a_record_with_nan():
  check_selector(_hooks(init=lambda key: jnp.full(N, jnp.inf)))  # never seen

  def recording(spec, budget):
    plain = by_loss(spec, budget)

    def plan(state, key, epoch):
      known, plan = plain.plan(state[0], key, epoch)
      return (known, state[1]), plan

    return plain._replace(
      init=lambda key: (jnp.ones(N), jnp.full(N, jnp.nan)), plan=plan, update=_record
    )

  check_selector(recording)


def _record(state, batch, outputs):
  return _latest(state[0], batch, outputs), _latest(state[1], batch, outputs)
