"""Importance sampling of classes.

Gopal, `Adaptive Sampling for SGD by Exploiting Side Information
<https://proceedings.mlr.press/v48/gopal16.html>`_, 2016.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Need, Needed, Selector, Spec

_DECAY = 0.9  # of the running averages; debiased
_LEAST = 0.1  # of its share among the samples, for every class


class State(NamedTuple):
  """Who is of which class, and what gradients each class had."""

  label: jax.Array  # i32[N]
  square: jax.Array  # f32[C]  running sum of mean squared bounds
  seen: jax.Array  # f32[C]  sum of its weights


def enter(state: State, batch, outputs) -> State:
  """Takes note of a batch: the mean squared gradient bound of each class that is in it."""
  square = scores.own_bound(outputs, batch.part_label) ** 2
  share = batch.part_share * (batch.weight > 0).astype(jnp.float32)[:, None]
  nothing = jnp.zeros_like(state.square)
  label, share = batch.part_label.ravel(), share.ravel()
  count = nothing.at[label].add(share)
  there = count > 0
  mean = nothing.at[label].add(share * square.ravel()) / jnp.where(there, count, 1)
  move = jnp.where(there, jnp.float32(1 - _DECAY), 0)
  kept = jnp.where(there, jnp.float32(_DECAY), 1)
  return state._replace(square=kept * state.square + move * mean, seen=kept * state.seen + move)


def class_shares(size: jax.Array, square: jax.Array) -> jax.Array:
  """How likely each class is to be drawn: p_c ~ n_c sqrt(mean ||g||^2), the least variance.

  Args:
    size: f32[C], samples of each class.
    square: f32[C], mean squared norm of their gradients.

  Returns:
    f32[C], of sum 1; no class has less than a tenth of its share among the samples.
  """
  part = size / jnp.sum(size)
  share = part * jnp.sqrt(square)
  total = jnp.sum(share)
  share = jnp.where(total > 0, share / jnp.where(total > 0, total, 1), part)
  # Those above the floor share what is left by their shares: the first k in order of gradients are
  # at the floor, for the least k that leaves the next one above it.
  large = jnp.where(part > 0, share / jnp.where(part > 0, part, 1), jnp.inf)
  order = jnp.argsort(large)
  floors = jnp.float32(_LEAST) * part[order]
  rest = jnp.cumsum(share[order][::-1])[::-1]
  scale = (1 - (jnp.cumsum(floors) - floors)) / jnp.where(rest > 0, rest, jnp.float32(1))
  scale = scale[jnp.argmax(scale * large[order] >= jnp.float32(_LEAST))]
  return jnp.maximum(scale * share, jnp.float32(_LEAST) * part)


def class_sampling(
  spec: Spec,
  budget: Budget | float,
  labels: Needed = None,
  *,
  weights: Literal['none', 'inverse'] = 'inverse',
  replacement: bool = False,
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) samples an epoch, classes of large gradients more often, uniform within a class.

  Args:
    spec: sizes of the run.
    budget: B.
    labels: i32[N].
    weights: `inverse` makes the mean loss unbiased, or `none`.
    replacement: draw with replacement; without, the draw is systematic if weights are inverse.
    mix: lam, the share of chances that goes by the gradients; 1 - lam is uniform.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  table.check(weights, mix)
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  asks = ('probabilities', 'gradient_norm')
  facts = facts._replace(distinct=not replacement, asks=asks)
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    if labels is None:
      raise ValueError('class_sampling cannot start without the labels')
    blank = jnp.zeros(spec.num_classes, jnp.float32)
    return State(jnp.asarray(labels, jnp.int32), blank, blank.copy())

  def plan(state, key, epoch):
    del epoch
    seen = state.seen > 0
    square = state.square / jnp.where(seen, state.seen, 1)
    square = jnp.where(seen, square, jnp.max(square))
    square = jnp.where(jnp.any(seen), square, jnp.ones_like(square))
    size = jnp.zeros(spec.num_classes, jnp.float32).at[state.label].add(1)
    value = (class_shares(size, square) / jnp.maximum(size, 1))[state.label]
    index, weight = table.weighted(key, value, samples, weights, replacement, mix)
    return state, as_plan(index, facts.rows, facts.candidates, padded, weight)

  return Selector(facts, init, plan, update=enter, report=_report)


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  del options
  return (LABELS,)


class_sampling.needs = _needs


def _report(state):
  square = state.square / jnp.where(state.seen > 0, state.seen, 1)
  return {'largest_class_bound': jnp.sqrt(jnp.max(square))}
