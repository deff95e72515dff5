"""KAKURENBO: samples that are known well stay hidden for an epoch.

Nguyen et al., `KAKURENBO: Adaptively Hiding Samples in Deep Neural Network Training
<https://arxiv.org/abs/2310.10102>`_, 2023.
"""

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors import refreshing
from jaxbudget.selectors.sgd import plain_facts
from jaxbudget.types import Cost, Selector, Spec

_FALL = ((0.0, 1.0), (0.3, 0.8), (0.6, 0.6), (0.8, 0.4))  # share of the run, of the fraction


class Known(NamedTuple):
  """How samples were when last seen, trained on or looked at."""

  loss: jax.Array  # f32[N]; inf: never seen
  sure: jax.Array  # bool[N]  classified right, with confidence


@functools.cache
def _note(confidence: float):
  """Takes note of a batch: everybody's own loss, and whether the model was right and sure."""

  def note(known, batch, outputs):
    loss = scores.remember(known.loss, batch, scores.own_loss(outputs, batch.part_label))
    p = jax.nn.softmax(outputs.logits, axis=-1)
    sure = jnp.argmax(p, axis=-1).astype(jnp.int32)[:, None] == batch.part_label
    sure = sure & (jnp.max(p, axis=-1) >= confidence)[:, None]
    share = scores.remember(known.sure.astype(jnp.float32), batch, sure.astype(jnp.float32))
    return Known(loss, share > 0.5)

  return note


def hidden(key: jax.Array, known: Known, most: jax.Array, exact: bool) -> jax.Array:
  """Who is hidden: the samples of lowest loss, of those the sure ones.

  Args:
    key: for the order of equal losses.
    known: the samples.
    most: i32[], how many of the lowest losses there are to choose from.
    exact: hide all of them, sure or not, seen or not.

  Returns:
    bool[N].
  """
  count = known.loss.shape[0]
  order = jnp.lexsort((jax.random.bits(key, (count,), jnp.uint32), known.loss))
  lowest = jnp.zeros(count, bool).at[order].set(jnp.arange(count, dtype=jnp.int32) < most)
  return lowest if exact else lowest & known.sure & jnp.isfinite(known.loss)


def kakurenbo(
  spec: Spec,
  budget: Budget | float,
  *,
  fraction: float = 0.3,
  confidence: float = 0.7,
  exact: bool = True,
  scale: bool = False,
) -> Selector:
  """Hides the samples of lowest loss for an epoch, at whose end they are looked at again.

  As published (`exact=False`, budget 1): of the lowest `fraction` of the losses those are hidden
  that were classified right and with confidence; the fraction falls to 0.8, 0.6 and 0.4 of itself
  at 0.3, 0.6 and 0.8 of the run. With `exact` floor(N*B) samples are trained on in every epoch
  and all others hidden, sure or not. Confidence is the largest probability of a sample (the
  released scripts take it over the batch), and hidden samples are seen in eval mode.

  Args:
    spec: sizes of the run.
    budget: B.
    fraction: of the samples that may be hidden; not used if `exact`.
    confidence: to be sure; not used if `exact`.
    exact: train on floor(N*B) samples an epoch; under `compute` on fewer, which pay for the looks.
    scale: scale weights by 1/(1 - fraction hidden at most), as the original scales its rate.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the looks
      alone use up.
  """
  if not 0 <= fraction < 1 or not 0 <= confidence:
    raise ValueError(f'fraction={fraction} must be in [0, 1), confidence={confidence} 0 or more')
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'kakurenbo with exact=False decides itself how much it trains on: budget must be 1, got '
      f'{as_budget(budget)}'
    )
  facts = _facts(spec, budget, exact)._replace(asks=('probabilities', 'confidence'))
  count, size = spec.num_examples, spec.batch_size
  trained = facts.planned.trained // facts.epochs  # samples of an exact epoch
  # One place more than there are rows in a full epoch for each kind of row that is not full.
  padded = count // size + (0 if exact else 2)
  starts, shares = milestones(fraction, spec.epochs)
  select, update = refreshing.hooks(_note(float(confidence)), _note(float(confidence)))

  def init(key):
    del key
    known = Known(jnp.full(count, jnp.inf, jnp.float32), jnp.zeros(count, bool))
    return refreshing.Rows(known, jnp.int32(0), jnp.int32(0))

  def plan(state, key, epoch):
    tie_key, order_key = jax.random.split(key)
    if exact:
      limit, some = jnp.float32(1 - trained / count), jnp.int32(count - trained)
    else:
      stage = jnp.sum(jnp.array(starts, jnp.int32) <= epoch, dtype=jnp.int32)
      limit = jnp.array([float(share) for share in shares], jnp.float32)[stage]
      some = jnp.array([math.floor(share * count) for share in shares], jnp.int32)[stage]
    away = hidden(tie_key, state.noted, some, exact)
    order = shuffle(order_key, jnp.arange(count, dtype=jnp.int32))
    order = order[jnp.argsort(away[order], stable=True)]
    stay = count - jnp.sum(away, dtype=jnp.int32)
    more = (count - stay) // size if exact else -(-(count - stay) // size)
    more = jnp.where(epoch < spec.epochs - 1, more, 0)  # after the last epoch nobody asks
    looked = jnp.roll(order, -stay), count - stay, more
    weight = 1 / (1 - limit) if scale else 1.0
    return refreshing.lay_out(state.noted, order, stay, *looked, (padded, size), weight)

  return Selector(facts, init, plan, select=select, update=update, partial=not exact)


def milestones(fraction: float, epochs: int) -> tuple[list[int], list[Fraction]]:
  """When the share that may be hidden changes, in whole epochs.

  Compared as a share of the run, an epoch would come late: compiled, 60/200 is less than 0.3.

  Args:
    fraction: of the samples that may be hidden at first.
    epochs: T.

  Returns:
    (the epochs from which on another share holds; the shares: of epoch 0, then of those).
  """
  starts = [max(1, math.ceil(ledger.exact(at) * epochs)) for at, _ in _FALL]
  falls = [ledger.exact(fraction) * ledger.exact(fall) for _, fall in _FALL]
  return starts, [Fraction(0), *falls]


def _facts(spec, budget, exact):
  count, size, epochs = spec.num_examples, spec.batch_size, spec.epochs
  scoring = _looks_in(epochs)
  if not exact:
    facts = plain_facts(spec, epochs, count)
    most = epochs * count
    # Everything is trained on or looked at; a last row that is not full costs no more than s.
    return facts._replace(
      rows=count // size + 2,
      looking=count // size + 2 - facts.rows,
      planned=Cost(0, most, most),
      row_cost=facts.row_cost._replace(scored=size),
      scoring=scoring,
      cost='bound',
      cap=most + size,
      uniform_on_ties=False,  # a model that cannot tell is right about one class
    )
  samples = ledger.share(count, _left(spec, budget))
  facts = plain_facts(spec, epochs, samples)
  trained = facts.rows * size
  looks = (count - trained) // size
  return facts._replace(
    rows=facts.rows + looks,
    looking=looks,
    planned=facts.planned._replace(scored=len(scoring) * looks * size),
    row_cost=facts.row_cost._replace(scored=size),
    scoring=scoring,
  )


def _looks_in(epochs):
  """The epochs that end with looks: after the last one nobody asks."""
  return range(epochs - 1)


def _left(spec, budget):
  """The share to train on: under `compute` 3nT + q(N - n) = 3NTB, with q forwards for all looks."""
  budget = ledger.left_of(spec, budget)
  if budget.unit != 'compute':
    return budget.fraction
  price = budget.looks(_looks_in(spec.epochs)) / spec.epochs
  share = (3 * budget.fraction - price) / (3 - price)
  if share <= 0:
    raise ValueError(
      f"budget_unit='compute' is impossible for kakurenbo at budget={budget}: to look at all "
      f'samples after every epoch but the last alone costs {float(price / 3):.4f} of full training'
    )
  return share
