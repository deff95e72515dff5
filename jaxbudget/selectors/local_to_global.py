"""Local to global: a few classes first, more of them in every stage.

Cheng et al., `Local to Global Learning: Gradually Adding Classes for Training Deep Neural
Networks <https://openaccess.thecvf.com/content_CVPR_2019>`_, 2019.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.curriculum import paced_plan
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Need, Needed, Selector, Spec


class State(NamedTuple):
  """The order in which samples join."""

  order: jax.Array  # i32[N]  by group of classes, at random within
  seen: jax.Array  # i32[g]  samples in the first groups


def local_to_global(
  spec: Spec,
  budget: Budget | float,
  labels: Needed = None,
  *,
  groups: int = 5,
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
    groups: g, stages; fewer if there are not enough classes or epochs.
    exact: floor(N*B) samples an epoch, batches drawn independently of each other; False: every
      sample of the stage's classes once an epoch, budget 1.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if groups < 1:
    raise ValueError(f'groups={groups} must be 1 or more')
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'local_to_global with exact=False trains on all samples of its classes: budget must be 1, '
      f'got {as_budget(budget)}'
    )
  count, size = spec.num_examples, spec.batch_size
  each = -(-spec.num_classes // min(groups, spec.epochs))  # classes in a group
  stages = -(-spec.num_classes // each)
  facts = plain_facts(spec, spec.epochs, ledger.share(count, budget))
  facts = facts._replace(distinct=not exact, asks=('probabilities',))  # there are classes
  if not exact:
    share = Fraction(sum(stage(e, spec.epochs, stages) + 1 for e in range(spec.epochs)))
    mean = round(facts.planned.trained * share / (stages * spec.epochs))
    planned = facts.planned._replace(trained=mean, backward=mean)
    facts = facts._replace(planned=planned, cost='expected')

  def init(key):
    if labels is None:
      raise ValueError('local_to_global cannot start without the labels')
    class_key, tie_key = jax.random.split(key)
    classes = shuffle(class_key, jnp.arange(spec.num_classes, dtype=jnp.int32))
    place = jnp.zeros_like(classes).at[classes].set(jnp.arange(spec.num_classes, dtype=jnp.int32))
    group = (place // each)[jnp.asarray(labels, jnp.int32)]
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
  del options
  return (LABELS,)


local_to_global.needs = _needs
