"""Methods that change the loss of a uniform batch: average top-k and focal loss.

Both see samples uniformly and weigh them by the loss of the very pass that is trained on, so
they save nothing by themselves.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import registry
from jaxbudget.ledger import Budget
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.types import Selector, Spec

FORMS = ('exact', 'naive')


class Threshold(NamedTuple):
  """State of average top-k."""

  level: jax.Array  # f32[]  lambda: losses above it count
  steps: jax.Array  # i32[]  taken


def _above(state, loss, weight):
  """Losses above the level count, divided by all s, not by how many these are."""
  counts = (loss > state.level) & (weight > 0)
  total = jnp.sum((weight > 0).astype(jnp.float32))
  share = jnp.sum(counts.astype(jnp.float32)) / jnp.maximum(total, 1)
  return jnp.where(counts, weight * share, jnp.float32(0))


@functools.cache
def _lower(share: float, step: float, highest: float):
  """`update` of average top-k; the same function object for all budgets."""

  def update(state, batch, outputs):
    real = batch.weight > 0
    count = jnp.maximum(jnp.sum(real.astype(jnp.float32)), 1)
    above = jnp.sum(((outputs.loss > state.level) & real).astype(jnp.float32)) / count
    eta = jnp.float32(step) / jnp.sqrt(state.steps.astype(jnp.float32) + 1)
    level = jnp.clip(state.level - eta * (jnp.float32(share) - above), 0, jnp.float32(highest))
    return Threshold(level, state.steps + 1)

  return update


def average_top_k(
  spec: Spec, budget: Budget | float, *, share: float = 0.5, step: float = 1.0
) -> Selector:
  """Minimises the mean of the k = share*N largest losses.

  Fan et al., `Learning with Average Top-k Loss <https://arxiv.org/abs/1705.08826>`_, 2017:
  min over lambda of (1/N) sum max(0, l - lambda) + (k/N) lambda, by gradient steps of both. At
  rest a share k/N of the losses is above lambda. It begins with all samples (the original
  with the k+1st largest loss of the untrained model, which would cost a pass over all).

  Args:
    spec: sizes of the run.
    budget: B, of uniform samples.
    share: k/N.
    step: size of lambda's first step; it falls with the square root of the steps taken.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 < share <= 1 or not 0 < step < math.inf:
    raise ValueError(f'share={share} must be in (0, 1], step={step} positive')
  plain = unif_sgd(spec, budget)

  def init(key):
    del key
    return Threshold(jnp.float32(0), jnp.int32(0))

  def plan(state, key, epoch):
    return state, plain.plan((), key, epoch)[1]

  update = _lower(float(share), float(step), math.log(spec.num_classes))
  facts = plain.facts._replace(asks=('probabilities',))  # for ln C bounds the level
  return plain._replace(
    facts=facts, init=init, plan=plan, weigh=_above, update=update, report=_level
  )


def _level(state):
  return {'level': state.level}


@functools.cache
def focal_weight(gamma: float, form: str):
  """`weigh` of the focal loss; the same function object for all budgets.

  Args:
    gamma: 0 is plain cross-entropy.
    form: `exact` has the gradient of -(1-p)^gamma ln p, p = e^-loss, which is
      (1-p)^gamma + gamma l p (1-p)^(gamma-1) times that of the loss; `naive` has (1-p)^gamma.

  Returns:
    A selector's `weigh` hook.
  """

  def weigh(state, loss, weight):
    del state
    p = jnp.exp(-loss)
    rest = jnp.maximum(1 - p, jnp.float32(1e-7))  # 0 to a negative power would not be finite
    factor = rest**gamma
    if form == 'exact' and gamma:
      factor = factor + gamma * loss * p * rest ** (gamma - 1)
    # The engine's mean is over positive weights: one that is rounded to 0 must not leave it.
    return weight * jnp.maximum(factor, jnp.float32(1e-30))

  return weigh


def focal(
  spec: Spec,
  budget: Budget | float,
  *,
  gamma: float = 2.0,
  form: Literal['exact', 'naive'] = 'exact',
) -> Selector:
  """Weighs samples down that are classified well already.

  Lin et al., `Focal Loss for Dense Object Detection <https://arxiv.org/abs/1708.02002>`_, 2017.
  With mixed targets p = e^-loss is a convention.

  Args:
    spec: sizes of the run.
    budget: B, of uniform samples.
    gamma: 0 is unif_sgd.
    form: `exact` or `naive`, see `focal_weight`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('form', form, FORMS)
  if not 0 <= gamma < math.inf:
    raise ValueError(f'gamma={gamma} must be 0 or more')
  plain = unif_sgd(spec, budget)
  facts = plain.facts._replace(asks=('probabilities',))
  return plain._replace(facts=facts, weigh=focal_weight(float(gamma), form))
