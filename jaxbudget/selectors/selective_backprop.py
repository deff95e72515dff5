"""Selective Backprop: look at everything, train on the samples of high loss.

Jiang et al., `Accelerating Deep Learning by Focusing on the Biggest Losers
<https://arxiv.org/abs/1910.00762>`_, 2019; the rules are those of fidelity.md 2.6.
"""

import functools
import math
from fractions import Fraction
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import present_first, shuffle
from jaxbudget.selectors import fifo, measuring
from jaxbudget.selectors.fifo import Fifo
from jaxbudget.selectors.measuring import Memory, percentile
from jaxbudget.selectors.selective_backprop_exact import exact_form
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Cost, Selector, Spec

TAILS = ('carry', 'flush')
RATES = ('sampled', 'exact')
LABEL_WEIGHTS = ('own', 'head')


class Head(NamedTuple):
  """The oldest sample of a queue that holds the rejected too, as the released code's does."""

  share: jax.Array  # f32[M]  its label shares
  to_come: jax.Array  # bool[]  the queue is empty: it is the next sample to arrive


class State(NamedTuple):
  """State under `rate='sampled'`."""

  power: jax.Array  # f32[]  b
  memory: Memory | None
  history: jax.Array  # f32[R]  latest losses, newest last; inf where not filled yet
  filled: jax.Array  # i32[]
  queue: Fifo  # accepted examples; fewer than s between rows
  priming: jax.Array  # bool[]  this epoch accepts everything
  rows_left: jax.Array  # i32[]  of the epoch
  considered: jax.Array  # i32[]  candidates since the epoch began
  accepted: jax.Array  # i32[]  of those
  head: Head | None  # under `label_weights='head'`


_MOST_HISTORY = 2**20  # losses, all of which each batch is compared with


def stationary_acceptance(b: float, history: int) -> float:
  """Chance that a sample is accepted when losses do not drift.

  The sample is in the history itself and the comparison is strict, so its percentile is
  uniform on {0, 1/R, ..., (R-1)/R}.

  Args:
    b: selectivity.
    history: R.

  Returns:
    mean over k < R of (k/R)^b, which is 1/(b+1) less about 1/(2R); 1 for b = 0.
  """
  return float(np.mean((np.arange(history) / history) ** b))


def _arrive(head, batch):
  """The head once a batch has arrived."""
  return Head(jnp.where(head.to_come, batch.part_share[0], head.share), jnp.array(False))


def _relabel(batch, share):
  """Gives every example the same label shares (the released code's slip, Q3)."""
  labels = jax.nn.one_hot(batch.part_label, batch.target.shape[1], dtype=jnp.float32)
  return batch._replace(target=jnp.einsum('m,smc->sc', share, labels))


def _behind(head, batch, accepted, waiting, emptied):
  """The head after samples were popped: through the s-th accepted one, which just arrived.

  Args:
    head: before.
    batch: what has just arrived, s examples.
    accepted: bool[s], of them.
    waiting: i32[], accepted examples that were in the queue before.
    emptied: bool[], the queue is flushed if it does not hold s accepted examples.
  """
  size = accepted.shape[0]
  count = waiting + jnp.cumsum(accepted, dtype=jnp.int32)
  popped = count[-1] >= size
  place = jnp.sum(count < size, dtype=jnp.int32) + 1  # in the batch, of the one behind
  share = jnp.where(popped, batch.part_share[jnp.minimum(place, size - 1)], head.share)
  return Head(share, jnp.where(popped, place == size, emptied))


@functools.cache
def _select_sampled(size: int, tail: str, label_weights: str):
  """`select` for `rate='sampled'`; the same function object for all budgets."""

  def select(state, key, batch, forward):
    memory, loss, scored = measuring.measure(state.memory, batch, forward)

    real = batch.weight > 0
    count = jnp.sum(real, dtype=jnp.int32)
    latest = jnp.concatenate([state.history, loss[present_first(batch.weight)]])
    history = jax.lax.dynamic_slice_in_dim(latest, count, state.history.shape[0])
    filled = jnp.minimum(state.filled + count, history.shape[0])
    chance = percentile(history, filled, loss) ** state.power
    accepted = state.priming | (jax.random.uniform(key, (size,), jnp.float32) < chance)
    accepted &= real

    flushed = tail == 'flush' and state.rows_left == 1
    queue, chosen = fifo.exchange(state.queue, batch, accepted, rest=flushed)
    head = state.head
    if label_weights == 'head':
      head = _arrive(head, batch)
      chosen = _relabel(chosen, head.share)
      head = _behind(head, batch, accepted, state.queue.length, flushed)

    state = state._replace(
      memory=memory,
      history=jnp.where(state.priming, state.history, history),
      filled=jnp.where(state.priming, state.filled, filled),
      queue=queue,
      rows_left=state.rows_left - 1,
      considered=state.considered + count,
      accepted=state.accepted + jnp.sum(accepted, dtype=jnp.int32),
      head=head,
    )
    return state, chosen, {'scored': scored}

  return select


def _report(state):
  """Acceptance rate of the epoch so far, and the length of the queue."""
  considered = jnp.maximum(state.considered, 1).astype(jnp.float32)
  return {
    'acceptance_rate': state.accepted.astype(jnp.float32) / considered,
    'queued': state.queue.length,
  }


def _affordable_acceptance(spec, budget, primed, scoring):
  """The acceptance rate that spends 3BTN forward equivalents in expectation.

  Scoring passes cost N in each epoch that scores, primed epochs 3*primed*N, the rest 3aN an epoch.
  """
  fixed = primed + budget.looks(scoring) / 3
  rate = (spec.epochs * budget.fraction - fixed) / max(1, spec.epochs - primed)
  if rate <= 0:
    raise ValueError(
      f"budget_unit='compute' is impossible for selective_backprop at budget={budget}: "
      f'{len(scoring)} scoring epochs{" and a primed one" if primed else ""} of {spec.epochs} '
      f'alone cost {float(fixed / spec.epochs):.4f} of full training; raise the budget or '
      f'staleness{", or set prime=False" if primed else ""}'
    )
  return min(Fraction(1), rate)


def _sampled_facts(spec, budget, acceptance, primed, scoring):
  facts = plain_facts(spec, spec.epochs, spec.num_examples)
  if primed and budget.unit == 'backward':
    later = ledger.share((spec.epochs - 1) * spec.num_examples, budget)
    facts = facts._replace(cap=spec.num_examples + later)
  epoch = facts.rows * spec.batch_size
  trained = round((primed + (spec.epochs - primed) * acceptance) * epoch)
  return facts._replace(
    planned=Cost(len(scoring) * epoch, trained, trained),
    scoring=scoring,
    cost='expected',
    row_cost=facts.row_cost._replace(scored=spec.batch_size),
  )


def _refuse_bad_options(spec, b, history, tail, rate, staleness, label_weights):
  registry.check('tail', tail, TAILS)
  registry.check('rate', rate, RATES)
  registry.check('label_weights', label_weights, LABEL_WEIGHTS)
  if b is not None and not 0 <= b < math.inf:
    raise ValueError(f'b must be 0 or more (0 accepts everything), got {b}')
  if not spec.batch_size <= history <= _MOST_HISTORY:
    raise ValueError(
      f'history must hold a batch of {spec.batch_size} losses and at most {_MOST_HISTORY}, '
      f'got {history}'
    )
  if staleness < 1 or staleness != int(staleness):
    raise ValueError(f'staleness must be 1 (no reuse) or more whole epochs, got {staleness}')


def selective_backprop(
  spec: Spec,
  budget: Budget | float,
  *,
  b: float | None = None,
  history: int = 1024,
  prime: bool = True,
  tail: Literal['carry', 'flush'] = 'carry',
  rate: Literal['sampled', 'exact'] = 'sampled',
  staleness: int = 1,
  label_weights: Literal['own', 'head'] = 'own',
  lr_ahead: bool = False,
) -> Selector:
  """Trains on samples accepted with probability percentile(loss)^b (fidelity.md 2.6).

  Every epoch shuffles all samples and scores each batch of s by a forward pass in eval mode.
  Its losses join the history of the latest R losses; a sample is accepted with chance
  q^b, q the share of the history strictly below its loss. Accepted examples wait in a
  queue, as they were augmented; a step is taken on the first s of them, at most one for
  each batch scored. `rate='exact'` has neither history nor queue and does not prime: of
  each K = floor(N/rows) candidates it takes exactly s, without replacement, with weights
  q^b where q is the percentile among the K. K is a shape: one executable per budget; the K
  are augmented and scored in one pass, so memory grows with 1/B.

  With `staleness=k` only every k-th epoch scores; the epochs between choose by the losses
  measured there and show only samples that have one. Augmentation is fresh all the same.

  Under the unit `compute` a run of T epochs, P of them primed (0 or 1) and
  S = ceil(T/k) scored, costs SN + 3PN + 3(T-P)aN forward equivalents at acceptance rate a;
  setting this to 3BTN gives a = (BT - P - S/3) / (T - P) and b = 1/a - 1.

  Args:
    spec: sizes of the run.
    budget: B.
    b: selectivity; None: 1/B - 1 (or under `compute`, see above). A run with
      smaller b spends faster and is stopped at the cap.
    history: R, losses remembered; at least a batch.
    prime: the first epoch accepts everything and leaves the history empty.
    tail: what becomes of fewer than s examples left at the end of an epoch: `carry` keeps
      them for the next, `flush` trains on them as a partial batch.
    rate: `sampled` or `exact`.
    staleness: k >= 1, epochs that one scoring pass serves.
    label_weights: mixed examples are trained on their `own` targets, or all with the label
      shares of the `head` of the queue, as the released code did. Its queue holds the rejected
      too, until a later accepted example carries them out (fidelity.md Q3).
    lr_ahead: a row has the learning rate of the next one, as in the released code, which
      looks it up after it has counted the batch (fidelity.md D11).

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or a budget that the scoring alone uses up.
  """
  budget = as_budget(budget)
  _refuse_bad_options(spec, b, history, tail, rate, staleness, label_weights)
  exact = rate == 'exact'
  primed = int(prime and not exact)
  scoring = range(0, spec.epochs, staleness)
  acceptance = budget.fraction
  if budget.unit == 'compute':
    acceptance = _affordable_acceptance(spec, budget, primed, scoring)
  b = float(1 / acceptance - 1 if b is None else b)
  if exact:
    selector = exact_form(spec, acceptance, b, staleness)
  else:
    facts = _sampled_facts(spec, budget, stationary_acceptance(b, history), primed, scoring)
    selector = _sampled_form(spec, facts, b, history, primed, staleness, tail, label_weights)
  relabels = label_weights == 'head' and not exact  # by class: a task of numbers has none
  asks = ('probabilities',) if relabels else ()
  return selector._replace(facts=selector.facts._replace(lr_ahead=int(lr_ahead), asks=asks))


def _sampled_form(spec, facts, b, history, primed, staleness, tail, label_weights) -> Selector:
  """The original: a history of losses, and a queue of the accepted."""

  def init(key):
    del key
    head = None
    if label_weights == 'head':
      head = Head(jnp.zeros(spec.parts, jnp.float32), jnp.array(True))
    return State(
      power=jnp.float32(b),
      memory=measuring.memory(spec, staleness),
      history=jnp.full(history, jnp.inf, jnp.float32),
      filled=jnp.int32(0),
      queue=fifo.empty(spec),
      priming=jnp.array(bool(primed)),
      rows_left=jnp.int32(facts.rows),
      considered=jnp.int32(0),
      accepted=jnp.int32(0),
      head=head,
    )

  def plan(state, key, epoch):
    index = shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    memory, index = measuring.with_losses(state.memory, index, epoch, staleness)
    state = state._replace(
      memory=memory,
      priming=epoch < primed,
      rows_left=jnp.int32(facts.rows),
      considered=jnp.int32(0),
      accepted=jnp.int32(0),
    )
    padded = spec.num_examples // facts.candidates
    return state, as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(
    facts=facts,
    init=init,
    plan=plan,
    select=_select_sampled(spec.batch_size, tail, label_weights),
    report=_report,
    partial=tail == 'flush',
  )
