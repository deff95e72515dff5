"""Local to global: a few classes first, more of them in every stage.

Cheng et al., `Local to Global Learning: Gradually Adding Classes for Training Deep Neural
Networks <https://openaccess.thecvf.com/content_CVPR_2019>`_, 2019.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.curriculum import paced_plan
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Need, Needed, Selector, Spec

JOINS = ('random', 'alike')


class State(NamedTuple):
  """The order in which samples join."""

  order: jax.Array  # i32[N]  by group of classes, at random within
  seen: jax.Array  # i32[g]  samples in the first groups


def by_likeness(key: jax.Array, logits: jax.Array, labels: jax.Array, each: int) -> jax.Array:
  """Groups of classes: a random one, then those most like the classes that are known by then.

  Like is a class whose samples a net is surest to tell by the known classes: whose softmax over
  these has the least mean entropy. The rule of CurML (https://github.com/THUMNLab/CurML), which
  asks the net of each stage.

  Args:
    key: for the first group.
    logits: f32[N,C], of a net that was trained on all classes.
    labels: i32[N].
    each: classes in a group; the last one has what is left.

  Returns:
    i32[C], the group of each class.
  """
  classes = logits.shape[1]
  order = shuffle(key, jnp.arange(classes, dtype=jnp.int32))
  stages = -(-classes // each)
  group = jnp.full(classes, stages, jnp.int32).at[order[:each]].set(0)
  size = jnp.zeros(classes, jnp.float32).at[labels].add(1)
  for now in range(1, stages):
    known = group < stages
    p = jax.nn.softmax(jnp.where(known, logits, -jnp.inf), axis=-1)
    entropy = jnp.sum(jax.scipy.special.entr(p), axis=-1)
    mean = jnp.zeros(classes, jnp.float32).at[labels].add(entropy) / jnp.maximum(size, 1)
    nearest = jnp.argsort(jnp.where(known, jnp.inf, mean)[order], stable=True)  # ties at random
    group = group.at[order[nearest[:each]]].min(now)
  return group


def local_to_global(
  spec: Spec,
  budget: Budget | float,
  labels: Needed = None,
  logits: Needed = None,
  *,
  groups: int = 5,
  join: Literal['random', 'alike'] = 'random',
  exact: bool = True,
) -> Selector:
  """Trains in stages of equal length, each on more classes, which join in random order.

  The network has all its outputs from the start, and neither the learning rate nor the weights
  are set back between stages (the original grows the head, restarts the schedule, and goes on
  from the weights of best test accuracy).

  Args:
    spec: sizes of the run.
    budget: B.
    labels: i32[N].
    logits: f32[N,C], of a run on everything, for classes that join `alike`.
    groups: g, stages; fewer if there are not enough classes or epochs.
    join: the order of the classes: `random`, or `alike`, see `by_likeness`.
    exact: floor(N*B) samples an epoch, batches drawn independently of each other; False: every
      sample of the stage's classes once an epoch, budget 1.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the run for
      `alike` uses up.
  """
  if groups < 1:
    raise ValueError(f'groups={groups} must be 1 or more')
  registry.check('join', join, JOINS)
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'local_to_global with exact=False trains on all samples of its classes: budget must be 1, '
      f'got {as_budget(budget)}'
    )
  count, size = spec.num_examples, spec.batch_size
  each = -(-spec.num_classes // min(groups, spec.epochs))  # classes in a group
  stages = -(-spec.num_classes // each)
  # What the run of `alike` has cost is gone; without `exact` there is no training on fewer.
  left = ledger.trainable(spec, budget, 0, 'local_to_global')
  if not exact and left < count:
    raise ValueError(
      f"exact=False is refused with join={join!r} under budget_unit='compute': the run that comes "
      'first has a share of the budget, and this trains on all samples; allowed is exact=True, '
      "join='random', or budget_unit='backward'"
    )
  facts = plain_facts(spec, spec.epochs, left)
  facts = facts._replace(distinct=not exact, asks=('probabilities',))  # there are classes
  if not exact:
    share = Fraction(sum(stage(e, spec.epochs, stages) + 1 for e in range(spec.epochs)))
    mean = round(facts.planned.trained * share / (stages * spec.epochs))
    planned = facts.planned._replace(trained=mean, backward=mean)
    facts = facts._replace(planned=planned, cost='expected')

  def init(key):
    if labels is None or (join == 'alike' and logits is None):
      more = ' and logits' if join == 'alike' else ''
      raise ValueError(f'local_to_global cannot start without the labels{more}')
    class_key, tie_key = jax.random.split(key)
    label = jnp.asarray(labels, jnp.int32)
    if join == 'alike':
      group = by_likeness(class_key, jnp.asarray(logits, jnp.float32), label, each)[label]
    else:
      every = jnp.arange(spec.num_classes, dtype=jnp.int32)
      place = jnp.zeros_like(every).at[shuffle(class_key, every)].set(every)
      group = (place // each)[label]
    order = jnp.lexsort((jax.random.bits(tie_key, (count,), jnp.uint32), group))
    joined = jnp.zeros(stages, jnp.int32).at[group].add(1)
    return State(order.astype(jnp.int32), jnp.cumsum(joined, dtype=jnp.int32))

  def plan(state, key, epoch):
    seen = jnp.maximum(state.seen[stage(epoch, spec.epochs, stages)], size)
    padded = count // size
    if exact:
      rows = jnp.full(facts.rows, seen, jnp.int32)
      return state, paced_plan(key, state.order, rows, facts, padded)
    order = shuffle(key, state.order)
    place = jnp.zeros_like(order).at[state.order].set(jnp.arange(count, dtype=jnp.int32))
    front = jnp.argsort(place[order] >= seen, stable=True)
    planned = as_plan(order[front], facts.rows, size, padded)
    rows = seen // size
    real = jnp.arange(padded, dtype=jnp.int32)[:, None] < rows
    return state, planned._replace(weight=jnp.where(real, planned.weight, 0), rows=rows)

  return Selector(facts, init, plan)


def stage(epoch, epochs: int, stages: int):
  """The stage of an epoch, from 0; of an int or i32[]."""
  return epoch * stages // epochs


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  return (LABELS, Need('logits', 'logits')) if options['join'] == 'alike' else (LABELS,)


local_to_global.needs = _needs
