"""Importance sampling by an upper bound of the gradient norm, where it pays.

Katharopoulos and Fleuret, `Not All Samples Are Created Equal: Deep Learning with Importance
Sampling <https://arxiv.org/abs/1803.00942>`_, 2018.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.sampling import distinct_rows, draw, present_first
from jaxbudget.scores import gradient_bound as bound_of
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Batch, Selector, Spec

_DECAY = 0.9  # of the average of tau; not debiased


class State(NamedTuple):
  """Whether importance sampling pays at present."""

  tau: jax.Array  # f32[]  running average
  threshold: jax.Array  # f32[]  tau beyond which it pays
  active: jax.Array  # bool[]  the row under way scored its candidates


def variance_gain(bound: jax.Array, weight: jax.Array | None = None) -> jax.Array:
  """tau, by what factor more uniform samples would do as well: rms over mean of the bounds.

  Args:
    bound: f32[n].
    weight: f32[n]; examples of weight 0 are left out. None is all.

  Returns:
    f32[], at least 1; 1 where all are equal, or all are 0.
  """
  if weight is not None:
    bound = jnp.where(weight > 0, bound, jnp.float32(0))
  mean = _share(weight) * jnp.mean(bound)
  rms = jnp.sqrt(_share(weight) * jnp.mean(bound**2))
  return jnp.where(mean > 0, rms / jnp.where(mean > 0, mean, jnp.float32(1)), jnp.float32(1))


def _share(weight: jax.Array | None) -> float | jax.Array:
  """What a mean over all is to be multiplied by, to be one over those of positive weight."""
  if weight is None:
    return 1.0
  return weight.shape[0] / jnp.maximum(jnp.sum((weight > 0).astype(jnp.float32)), 1)


def importance(
  key: jax.Array, bound: jax.Array, size: int, power: float = 1.0
) -> tuple[jax.Array, jax.Array]:
  """Draws with probability proportional to the bound, and makes the mean unbiased.

  Args:
    key: a typed key.
    bound: f32[K]; all 0 means uniform.
    size: s, draws with replacement.
    power: k, the power of the weights w, which are then scaled so that sum(w bound) stays: 1 is
      unbiased, 0 weighs all alike, less leans towards the largest loss.

  Returns:
    (positions i32[s]; weights f32[s], for k = 1 mean(bound)/bound of those drawn).
  """
  bound = jnp.where(jnp.any(bound > 0), bound, jnp.ones_like(bound))
  chosen = draw(key, bound, size, replacement=True)
  weight = jnp.mean(bound) / bound[chosen]
  if power == 1:
    return chosen, weight
  raised = weight**power
  scale = jnp.sum(weight * bound[chosen]) / jnp.sum(raised * bound[chosen])
  return chosen, raised * scale


@functools.cache
def _hooks(size: int, smoothing: float, power: float):
  """`select` and `update`; the same function objects for all budgets."""

  def select(state, key, batch, forward):
    count = batch.index.shape[0]

    def ranked() -> tuple[State, Batch, jax.Array]:
      real = batch.weight > 0
      bound = bound_of(forward(batch), batch.target) + smoothing
      tau = _DECAY * state.tau + (1 - _DECAY) * variance_gain(bound, batch.weight)
      bound = jnp.where(real & jnp.any(bound > 0, where=real), bound, real.astype(jnp.float32))
      chosen, weight = importance(key, bound, size, power)
      picked = jax.tree.map(lambda x: x[chosen], batch)
      after = state._replace(tau=jnp.where(jnp.any(real), tau, state.tau), active=jnp.array(True))
      weight = picked.weight * weight * _share(batch.weight)
      return after, picked._replace(weight=weight), jnp.int32(count)

    def first() -> tuple[State, Batch, jax.Array]:
      taken = present_first(batch.weight)[:size]
      return (
        state._replace(active=jnp.array(False)),
        jax.tree.map(lambda x: x[taken], batch),
        jnp.int32(0),
      )

    state, batch, scored = jax.lax.cond(state.tau > state.threshold, ranked, first)
    return state, batch, {'scored': scored}

  def update(state, batch, outputs):
    gain = variance_gain(bound_of(outputs, batch.target) + smoothing, batch.weight)
    tau = _DECAY * state.tau + (1 - _DECAY) * gain
    return state._replace(tau=jnp.where(state.active, state.tau, tau))

  return select, update


def _samples(spec, budget, candidates):
  """Samples an epoch; under `compute` so many that every row could score its candidates."""
  budget = ledger.left_of(spec, budget)
  if budget.unit == 'backward':
    return ledger.share(spec.num_examples, budget)
  looks = budget.looks(range(spec.epochs)) / spec.epochs
  row = candidates * looks + 3 * spec.batch_size
  rows = math.floor(3 * budget.fraction * spec.num_examples / row)
  return rows * spec.batch_size


def _report(state):
  return {'tau': state.tau}


def gradient_bound(
  spec: Spec,
  budget: Budget | float,
  *,
  ratio: float = 3.0,
  threshold: float | None = None,
  smoothing: float = 0.0,
  power: float = 1.0,
  distinct: bool = False,
) -> Selector:
  """Draws each batch from K = ratio*s uniform candidates by the bound of their gradient norms.

  A row scores its candidates only if that pays: if the running average of tau, by how much the
  variance falls, is above the threshold. Otherwise it trains on the first s of them, and tau is
  measured on the pass that was trained on (train mode). Weights make the gradient unbiased.

  Args:
    spec: sizes of the run.
    budget: B of back-propagated samples; rows that score cost K more. Under `compute` there are
      so few rows that all could score.
    ratio: K/s.
    threshold: of tau; None is (K + 3s)/(3s), where the gain pays for the scoring. 0 always
      scores.
    smoothing: added to every bound (at most 1.42), for chances, weights and tau; large is uniform.
    power: power of the weights, see `importance`: 1 makes the gradient unbiased, the authors'
      biased form has 0.5.
    distinct: the candidates of a row are distinct samples; else they are drawn with replacement, as
      published.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  most = spec.num_examples / spec.batch_size
  if not 1 <= ratio <= most:
    raise ValueError(f'ratio={ratio} must be 1 to {most:g}, which is all samples')
  if threshold is not None and not 0 <= threshold < math.inf:
    raise ValueError(f'threshold={threshold} must be 0 or more, or None')
  if not 0 <= smoothing < math.inf or not -math.inf < power <= 1:
    raise ValueError(f'smoothing={smoothing} must be 0 or more, power={power} at most 1')
  size = spec.batch_size
  candidates = math.floor(ledger.exact(ratio) * size)
  facts = plain_facts(spec, spec.epochs, _samples(spec, budget, candidates))
  scored = facts.epochs * facts.rows * candidates
  facts = facts._replace(
    candidates=candidates,
    planned=facts.planned._replace(scored=scored),
    row_cost=facts.row_cost._replace(scored=candidates),
    cost='exact' if threshold == 0 else 'bound',
    distinct=False,
    asks=('gradient_norm',),
  )
  limit = (candidates + 3 * size) / (3 * size) if threshold is None else threshold
  padded = max(1, spec.num_examples // candidates, facts.rows)

  def init(key):
    del key
    # An average that begins at 0; a threshold of 0 is passed from the first row on.
    return State(jnp.float32(1e-6 if limit == 0 else 0), jnp.float32(limit), jnp.array(False))

  def plan(state, key, epoch):
    del epoch
    count = spec.num_examples
    if distinct:
      draw_key, order_key = jax.random.split(key)
      index = distinct_rows(draw_key, jnp.full(facts.rows, count, jnp.int32), candidates)
      # A row that does not score trains on its first: they must be any of its candidates.
      word = jax.random.bits(order_key, index.shape, jnp.uint32)
      index = jnp.take_along_axis(index, jnp.argsort(word, axis=1), axis=1).ravel()
    else:
      index = jax.random.randint(key, (facts.rows * candidates,), 0, count, jnp.int32)
    return state, as_plan(index, facts.rows, candidates, padded)

  select, update = _hooks(size, float(smoothing), float(power))
  return Selector(facts, init, plan, select=select, update=update, report=_report)
