"""InfoBatch: unbiased pruning of the samples of low loss.

Qin et al., `InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning
<https://arxiv.org/abs/2303.04947>`_, 2024.
"""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import plain_facts
from jaxbudget.types import Plan, Selector, Spec

_LEAST = 10  # one in so many of the easy samples is kept at least in an exact epoch


def _remember(state, batch, outputs):
  return scores.remember(state, batch, scores.own_loss(outputs, batch.part_label))


def _remember_batch(state, batch, outputs):
  return scores.remember_mean(state, batch, outputs.loss)


def keep(key, loss: jax.Array, samples: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Chooses `samples` samples: all that are hard if there is room, and easy ones at random.

  Easy is a loss strictly below the mean of the known. What stands for several weighs as many, so
  that the weights add up to N. If the hard ones leave less room than for a tenth of the easy, that
  tenth is kept, and the hard ones are thinned out too.

  Args:
    key: a typed key.
    loss: f32[N], as last seen; inf: never.
    samples: i32[], how many to keep.

  Returns:
    (index i32[N], those kept in front, in random order; weight f32[N] of each; how many i32[]).
  """
  count = loss.shape[0]
  order = shuffle(key, jnp.arange(count, dtype=jnp.int32))
  easy = easy_ones(loss)[order]
  easies = jnp.sum(easy, dtype=jnp.int32)
  hards = count - easies
  least = (easies + (_LEAST - 1)) // _LEAST
  kept_easy = jnp.maximum(samples - hards, jnp.minimum(least, samples))
  kept_hard = samples - kept_easy
  place = jnp.where(easy, jnp.cumsum(easy, dtype=jnp.int32), jnp.cumsum(~easy, dtype=jnp.int32))
  kept = place <= jnp.where(easy, kept_easy, kept_hard)
  each = jnp.where(easy, _over(easies, kept_easy), _over(hards, kept_hard))
  front = jnp.argsort(~kept, stable=True)
  return order[front], each[front], samples


def easy_ones(loss: jax.Array) -> jax.Array:
  """Who is easy: bool[N] of losses f32[N], of which inf is never seen, and so not known to be.

  The original begins with a loss of 3 and an epoch that sees everybody. At a budget the unseen
  would pass for easy wherever losses begin above that, as with a hundred classes.
  """
  known = jnp.isfinite(loss)
  mean = jnp.sum(jnp.where(known, loss, 0)) / jnp.maximum(jnp.sum(known), 1).astype(jnp.float32)
  return known & (loss < mean)


def share_of(count: jax.Array, share: Fraction) -> jax.Array:
  """floor(count * share), exactly.

  Args:
    count: i32[].
    share: in [0, 1], of a denominator below 2^31.

  Returns:
    i32[].
  """
  with jax.enable_x64(True):
    whole = count.astype(jnp.int64) * share.numerator // share.denominator
    return whole.astype(jnp.int32)


def _over(a, b):
  return a.astype(jnp.float32) / jnp.maximum(b, 1).astype(jnp.float32)


def infobatch(
  spec: Spec,
  budget: Budget | float,
  *,
  ratio: float = 0.5,
  delta: float = 0.875,
  exact: bool = True,
  batch_score: bool = False,
  normalise: bool = True,
) -> Selector:
  """Leaves out a share of the samples whose loss is below the mean, and weighs the others up.

  As published (`exact=False`, budget 1): every epoch keeps all hard samples and
  floor((1 - ratio) * easy) of the easy ones, at weight 1/(1 - ratio), until the last epochs, which
  see everybody; what it saves is less than `ratio` and shows in the cost. With `exact` it trains
  on floor(N*B) samples in each epoch, so that it can be compared at a budget: `ratio` follows
  from the budget and there are no last epochs.

  Args:
    spec: sizes of the run.
    budget: B.
    ratio: of the easy samples that are left out; not used if `exact`.
    delta: share of the epochs that prune; not used if `exact`.
    exact: train on floor(N*B) samples an epoch.
    batch_score: score samples by the mean losses of their batches (BLS), see
      `scores.batch_means`.
    normalise: scale the weights of an exact epoch to mean 1; without, they are N/n as those of
      the original, a learning rate ten times as high at B = 0.1.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 <= ratio < 1 or not 0 <= delta <= 1:
    raise ValueError(f'ratio={ratio} must be in [0, 1), delta={delta} in [0, 1]')
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'infobatch with exact=False decides itself how much it trains on: budget must be 1, got '
      f'{as_budget(budget)}'
    )
  count, size = spec.num_examples, spec.batch_size
  samples = ledger.share(count, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  if not exact:
    rows = -(-count // size)  # the last batch is trained on, if incomplete
    planned = facts.planned._replace(trained=spec.epochs * count, backward=spec.epochs * count)
    facts = facts._replace(rows=rows, planned=planned, cost='bound', cap=spec.epochs * count + size)
  padded = max(count // size, facts.rows)
  last = math.floor(ledger.as_written(delta) * spec.epochs)

  def init(key):
    del key
    return scores.no_means(count) if batch_score else jnp.full(count, jnp.inf, jnp.float32)

  def exact_plan(loss, key, epoch):
    del epoch
    index, weight, _ = keep(key, loss, jnp.int32(samples))
    scale = jnp.float32(samples / count if normalise else 1)
    return index, weight * scale, jnp.int32(facts.rows * size)

  def original_plan(loss, key, epoch):
    easy = easy_ones(loss)
    pruned = jnp.where(epoch < last, jnp.sum(easy, dtype=jnp.int32), 0)
    kept = share_of(pruned, 1 - ledger.as_written(ratio))
    order = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    out = easy[order] & (epoch < last)
    stays = ~out | (jnp.cumsum(out, dtype=jnp.int32) <= kept)
    weight = jnp.where(out, jnp.float32(1 / (1 - ratio)), jnp.float32(1))
    front = jnp.argsort(~stays, stable=True)
    return order[front], weight[front], jnp.sum(stays, dtype=jnp.int32)

  def plan(state, key, epoch):
    loss = jnp.where(state.share > 0, scores.batch_means(state), jnp.inf) if batch_score else state
    index, weight, used = (exact_plan if exact else original_plan)(loss, key, epoch)
    room = padded * size
    index, weight = (jnp.pad(x, (0, max(0, room - count)))[:room] for x in (index, weight))
    weight = jnp.where(jnp.arange(room, dtype=jnp.int32) < used, weight, jnp.float32(0))
    shape = padded, size
    return state, Plan(index.reshape(shape), weight.reshape(shape), -(-used // size))

  update = _remember_batch if batch_score else _remember
  return Selector(facts, init, plan, update=update, partial=not exact)
