"""Robust approximate importance sampling, with one feature.

Johnson and Guestrin, `Training Deep Models Faster with Robust, Approximate Importance Sampling
<https://papers.nips.cc/paper/7957>`_, 2018. There is no public code: derived from the paper.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Selector, Spec

FEATURES = ('last', 'mean', 'constant')
_DECAY = 0.9  # of the records; debiased


class State(NamedTuple):
  """Gradient bounds of the samples, and what was learned of how far they can be trusted."""

  last: jax.Array  # f32[N]  bound when last trained on; -1: never
  mean: jax.Array  # f32[N]  running mean of the bounds
  records: jax.Array  # f32[4]  averages of w v, w s, w v^2/s, and the sum of their weights


def feature_of(state: State, feature: str) -> jax.Array:
  """The feature s of every sample; who was never trained on has the largest of the others."""
  if feature == 'constant':
    return jnp.ones_like(state.last)
  known = state.last >= 0
  value = state.last if feature == 'last' else state.mean
  most = jnp.max(jnp.where(known, value, jnp.float32(0)))
  value = jnp.where(known, value, jnp.where(most > 0, most, jnp.float32(1)))
  return jnp.maximum(value, jnp.float32(1e-6))


def fit(records: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The uncertainty set that holds the records: norms near c*s, with a variance of d*s.

  Args:
    records: f32[4], see `State`.

  Returns:
    (c, d), f32[] each: c = mean(w v)/mean(w s), d = mean(w (c s - v)^2/s).
  """
  v, s, square = records[:3] / jnp.where(records[3] > 0, records[3], 1)
  c = jnp.where(s > 0, v / jnp.where(s > 0, s, 1), jnp.float32(1))
  return c, jnp.maximum(square - c * v, 0)


def robust(feature: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
  """The choice of least variance in the worst case: <c,s> + k <d,s>, k = sqrt(N / sum <d,s>).

  Args:
    feature: f32[N].
    c: f32[].
    d: f32[].

  Returns:
    f32[N], in proportion to the chances.
  """
  total = d * jnp.sum(feature)
  count = jnp.float32(feature.shape[0])
  k = jnp.where(total > 0, jnp.sqrt(count / jnp.where(total > 0, total, 1)), jnp.float32(0))
  return c * feature + k * d * feature


@functools.cache
def _enter(feature: str):
  """`update`; the same function object for all budgets."""

  def update(state, batch, outputs):
    bound = scores.own_bound(outputs, batch.part_label)
    s = feature_of(state, feature)[batch.part_index]
    w = batch.part_share * batch.weight[:, None]
    count = jnp.maximum(jnp.sum((batch.weight > 0).astype(jnp.float32)), 1)
    now = jnp.stack([jnp.sum(w * x) for x in (bound, s, bound**2 / s)]) / count
    records = _DECAY * state.records + (1 - _DECAY) * jnp.append(now, jnp.float32(1))
    last = scores.remember(state.last, batch, bound)
    now = scores.remember(jnp.full_like(last, -1), batch, bound)
    mean = jnp.where(state.last >= 0, 0.5 * (state.mean + now), now)
    return State(last, jnp.where(now >= 0, mean, state.mean), records)

  return update


def rais(
  spec: Spec,
  budget: Budget | float,
  *,
  feature: Literal['last', 'mean', 'constant'] = 'last',
  replacement: bool = True,
  mix: float = 0.5,
) -> Selector:
  """floor(N*B) samples an epoch, drawn by predicted gradient norms, weighed by the inverse.

  With one feature, prediction and doubt are in the same proportion, so that the chances go with
  the feature. The learning rate is not scaled by the gain in variance (a selector cannot).

  Args:
    spec: sizes of the run.
    budget: B.
    feature: `last`, the bound ||softmax - target||_2 when last trained on; `mean`, its running
      mean (half of it is the last); `constant` is uniform.
    replacement: draw with replacement; without, the draw is systematic.
    mix: lam, the share of chances that goes by the feature; 1 - lam is uniform, so that no weight
      is above 1/(1 - lam).

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('feature', feature, FEATURES)
  table.check('inverse', mix)
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(distinct=not replacement, asks=('gradient_norm',))
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    never = jnp.full(spec.num_examples, -1, jnp.float32)
    return State(never, jnp.zeros_like(never), jnp.zeros(4, jnp.float32))

  def plan(state, key, epoch):
    del epoch
    value = robust(feature_of(state, feature), *fit(state.records))
    index, weight = table.weighted(key, value, samples, 'inverse', replacement, mix)
    return state, as_plan(index, facts.rows, facts.candidates, padded, weight)

  return Selector(facts, init, plan, update=_enter(feature), report=_report)


def _report(state):
  c, d = fit(state.records)
  return {'c': c, 'd': d}
