"""Online batch selection: samples drawn by the rank of their latest loss.

Loshchilov and Hutter, `Online Batch Selection for Faster Training of Neural Networks
<https://arxiv.org/abs/1511.06343>`_, 2015.
"""

import math
from fractions import Fraction
from typing import Literal

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Scan, Selector, Spec

_UNSEEN = 1e10  # the loss of a sample that was never seen: the hardest


def _remember(state, batch, outputs):
  return scores.remember(state, batch, scores.own_loss(outputs, batch.part_label))


def _refresh(state, key, seen):
  del state, key
  return seen.loss


def rank_weights(loss: jax.Array, pressure: jax.Array, key: jax.Array) -> jax.Array:
  """Selection weights that fall by a constant factor from rank to rank.

  Args:
    loss: f32[N]; rank 0 is the largest, equal ones come in random order.
    pressure: f32[], s_e >= 1: how much likelier the first is than the last, (N-1)/N-th power.
    key: for the order of equal losses.

  Returns:
    f32[N], s_e^(-rank/N).
  """
  count = loss.shape[0]
  order = jnp.lexsort((jax.random.bits(key, loss.shape, jnp.uint32), -loss))
  rank = jnp.zeros(count, jnp.float32).at[order].set(jnp.arange(count, dtype=jnp.float32))
  return jnp.exp(-jnp.log(pressure) * rank / jnp.float32(count))


def _looks(spec, every):
  """How often all samples are measured, every so many epochs."""
  return len(range(every, spec.epochs, every))


def _epochs_between(spec, budget, refresh):
  """The fewest epochs that train on N/refresh samples; under `compute` of what looks leave."""
  budget = ledger.left_of(spec, budget)
  price = Fraction(1, 3 * spec.epochs) if budget.unit == 'compute' else 0  # of a look, in B
  every = math.ceil(1 / (refresh * budget.fraction))
  while every * (budget.fraction - price * _looks(spec, every)) * refresh < 1:
    every += 1  # 1 + 1/(3B) times at most: looks every k epochs cost no more than 1/(3k)
  return every


def online_batch_selection(
  spec: Spec,
  budget: Budget | float,
  *,
  pressure: float = 100.0,
  final_pressure: float = 1.01,
  refresh: float = 0.5,
  weights: Literal['none', 'inverse'] = 'none',
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) draws an epoch with replacement, likelier the higher the loss ranks.

  A sample of rank i (0: the largest loss) has weight s_e^(-i/N); the pressure s_e goes from
  `pressure` to `final_pressure` in equal factors an epoch. The first epoch is uniform. Ranks
  are those at the beginning of an epoch (the original sorts anew after every 100 samples).

  Args:
    spec: sizes of the run.
    budget: B.
    pressure: s_e of the first epoch; 1 is uniform sampling with replacement.
    final_pressure: s_e that the last epoch comes near to.
    refresh: all losses are measured anew, in eval mode, between two epochs, whenever N/refresh
      more samples were trained on (the original: train mode, and as the last batches of an
      epoch); 0 is never.
    weights: `inverse` makes the mean loss unbiased, see `table.weighted`.
    mix: share of the ranks in the chances; the rest is uniform.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 1 <= pressure < math.inf or not 1 <= final_pressure < math.inf:
    raise ValueError(f'pressure={pressure}, final_pressure={final_pressure} must be 1 or more')
  if not 0 <= refresh < math.inf:
    raise ValueError(f'refresh={refresh} must be 0 (never) or more')
  table.check(weights, mix)
  every = _epochs_between(spec, budget, ledger.exact(refresh)) if refresh else 0
  scans = _looks(spec, every) if every else 0
  scored = scans * spec.num_examples
  samples = ledger.trainable(spec, budget, scored, 'online_batch_selection')
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(
    scan=Scan(every, first=every) if scans else Scan(),
    planned=facts.planned._replace(scored=scored),
    distinct=False,
  )
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    return jnp.full(spec.num_examples, _UNSEEN, jnp.float32)

  def plan(loss, key, epoch):
    tie_key, draw_key = jax.random.split(key)
    done = epoch.astype(jnp.float32) / jnp.float32(spec.epochs)
    now = jnp.float32(pressure) * jnp.float32(final_pressure / pressure) ** done
    everyone = jnp.arange(spec.num_examples, dtype=jnp.int32)
    value = rank_weights(loss, now, tie_key)
    ranked, weight = table.weighted(draw_key, value, samples, weights, True, mix)
    index = jnp.where(epoch == 0, shuffle(draw_key, everyone)[:samples], ranked)
    if weight is not None:
      weight = jnp.where(epoch == 0, jnp.float32(1), weight)
    return loss, as_plan(index, facts.rows, facts.candidates, padded, weight)

  return Selector(facts, init, plan, update=_remember, scan=_refresh)
