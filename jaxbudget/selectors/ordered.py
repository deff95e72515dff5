"""Ordered SGD: the gradient of the q largest losses of each batch.

Kawaguchi and Lu, `Ordered SGD: A New Stochastic Optimization Framework for Empirical Risk
Minimization <https://arxiv.org/abs/1907.04371>`_, 2020; the rules are those of
fidelity.md 2.7.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Outputs, Selector, Spec

BACKWARDS = ('dense', 'compact')


class State(NamedTuple):
  """How many samples of a batch count, and the running accuracy that decides it."""

  q: jax.Array  # i32[]  largest losses that count; never rises
  scale: jax.Array  # f32[]  weight of those; below 1 only after `lr_drop`
  correct: jax.Array  # i32[]  right predictions since the epoch began
  seen: jax.Array  # i32[]  predictions since the epoch began


def hardest(loss: jax.Array, weight: jax.Array, q: jax.Array) -> jax.Array:
  """Marks the q largest losses; of equal ones the first in the batch.

  Args:
    loss: f32[n].
    weight: f32[n]; examples of weight 0 come last.
    q: i32[].

  Returns:
    bool[n], true exactly min(q, n) times.
  """
  order = _descending(loss, weight)
  rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
  return rank < q


def _descending(loss, weight):
  return jnp.argsort(jnp.where(weight > 0, -loss, jnp.inf), stable=True).astype(jnp.int32)


def _planner(spec, rows, thresholds, levels, lr_drop):
  """Makes `plan`: q by the accuracy of the epoch that ended, then all samples, shuffled."""

  def plan(state, key, epoch):
    del epoch
    reached = _reached(state, thresholds)
    dropped = (reached == len(thresholds)) & lr_drop
    state = State(
      q=jnp.minimum(state.q, jnp.array(levels, jnp.int32)[reached]),
      scale=jnp.where(dropped, jnp.float32(0.5), state.scale),
      correct=jnp.int32(0),
      seen=jnp.int32(0),
    )
    index = shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    return state, as_plan(index, rows, spec.batch_size, spec.num_examples // spec.batch_size)

  return plan


def _reached(state, thresholds):
  """How many thresholds the running accuracy has reached; none before the first epoch."""
  with jax.enable_x64(True):  # float32 takes 699,921 of 777,690 for less than 90 percent
    correct, seen = (n.astype(jnp.float64) for n in (state.correct, jnp.maximum(state.seen, 1)))
    accuracy = 100 * correct / seen
    return jnp.sum(accuracy >= jnp.array(thresholds, jnp.float64), dtype=jnp.int32)


def _count(state, batch, outputs: Outputs, counted):
  """Adds a batch to the running accuracy if `counted`; right is the main label of a picture."""
  real = (batch.weight > 0) & counted
  correct = real & scores.same_class(outputs.logits, batch.target)
  return state._replace(
    correct=state.correct + jnp.sum(correct, dtype=jnp.int32),
    seen=state.seen + jnp.sum(real, dtype=jnp.int32),
  )


def _weigh(state, loss, weight):
  return jnp.where(hardest(loss, weight, state.q), weight * state.scale, jnp.float32(0))


def _update_dense(state, batch, outputs):
  return _count(state, batch, outputs, True)


@functools.cache
def _compact_hooks(size: int):
  """`select` and `update` of the compact form; the same function objects for all budgets."""

  def select(state, key, batch, forward):
    del key

    def rank(state):
      outputs = forward(batch)
      order = _descending(outputs.loss, batch.weight)
      ranked = jax.tree.map(lambda x: x[order], batch)
      kept = jnp.arange(size, dtype=jnp.int32) < state.q
      weight = jnp.where(kept, ranked.weight * state.scale, jnp.float32(0))
      state = _count(state, batch, outputs, True)
      return state, ranked._replace(weight=weight), jnp.int32(size)

    # While all samples count there is nothing to rank: the batch is trained on directly.
    state, batch, scored = jax.lax.cond(
      state.q < size, rank, lambda state: (state, batch, jnp.int32(0)), state
    )
    return state, batch, {'scored': scored}

  def update(state, batch, outputs):
    return _count(state, batch, outputs, state.q == size)

  return select, update


def _report(state):
  return {'q': state.q}


def _refuse_bad_options(thresholds, backward):
  registry.check('backward', backward, BACKWARDS)
  if not thresholds or not all(0 < t <= 100 for t in thresholds):
    raise ValueError(f'thresholds must be percent in (0, 100], got {thresholds}')
  if any(a >= b for a, b in zip(thresholds, thresholds[1:], strict=False)):
    raise ValueError(f'thresholds must rise strictly, got {thresholds}')


def ordered_sgd(
  spec: Spec,
  budget: Budget | float,
  *,
  thresholds: tuple[float, ...] = (80, 90, 95, 99.5),
  backward: Literal['dense', 'compact'] = 'dense',
  lr_drop: bool = False,
) -> Selector:
  """Minimises the mean of the q largest losses of each batch, for floor(T*B) epochs.

  q starts at s and is s/2, s/4, s/8, s/16 (at least 1) once the running training accuracy
  of an epoch has reached the thresholds; it never rises (fidelity.md 2.7).

  `dense` is the original: one train-mode pass of all s samples, whose own losses rank them
  and whose predictions make the accuracy; BatchNorm sees all s. It saves no compute.
  `compact` does the same while q = s. Below that a scoring pass (eval mode: BatchNorm uses
  its running averages and leaves them alone) ranks the s samples and makes the accuracy;
  then only the q hardest pass the train step. BatchNorm there normalises by the statistics
  of these q alone, and the running averages follow hard samples only, so the ranking, the
  gradient and the evaluated model all differ from `dense`; they agree when BatchNorm is
  frozen. A batch costs s + 3q instead of 3s, by count: on a card that waits for launches, as
  an H100 does at s = 128, it takes as long (docs/performance.md). The saving is not turned into
  more epochs under the unit `compute`: the schedule is part of the method, and how soon q falls
  is not known beforehand. For the same reason the planned cost of both forms is the dense one,
  which `compact` can only undercut, in the run and in each row. So it plans no scoring, and
  `score_every` and `score_size` refuse it: the first epoch below q = s could recall nothing, and
  what was said in an earlier one is not the accuracy that q goes by.

  Args:
    spec: sizes of the run.
    budget: B.
    thresholds: rising accuracies in percent; the j-th gives q = s / 2^j.
    backward: `dense` or `compact`.
    lr_drop: halve the gradient for good once the last threshold is reached, upstream's side
      effect on the learning rate. As a weight in the loss, since the rate follows the
      schedule: weight decay and earlier momentum are not halved.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or a budget that leaves no epoch.
  """
  thresholds = tuple(thresholds)
  budget = as_budget(budget)
  _refuse_bad_options(thresholds, backward)
  size = spec.batch_size
  facts = plain_facts(spec, ledger.share(spec.epochs, budget), spec.num_examples)
  facts = facts._replace(asks=('confidence',))
  levels = tuple(max(1, size >> j) for j in range(len(thresholds) + 1))
  plan = _planner(spec, facts.rows, thresholds, levels, lr_drop)

  def init(key):
    del key
    return State(jnp.int32(size), jnp.float32(1), jnp.int32(0), jnp.int32(0))

  if backward == 'dense':
    return Selector(facts, init, plan, weigh=_weigh, update=_update_dense, report=_report)
  select, update = _compact_hooks(size)
  # The dearest row stays a dense one, of 3s: one that ranks costs s + 3q, and q is s/2 at most.
  # With s scored in `row_cost` too, 4s, a dense last row that just fits the cap would not start.
  facts = facts._replace(cost='bound')
  sizes = tuple(sorted(set(levels)))
  return Selector(facts, init, plan, select=select, update=update, report=_report, sizes=sizes)
