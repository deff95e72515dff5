"""SeTa: a window over groups of equal loss slides from easy to hard.

Zhou et al., `Scale Efficient Training for Large Datasets
<https://arxiv.org/abs/2503.13385>`_, 2025.
"""

import math

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import plain_facts
from jaxbudget.types import Plan, Selector, Spec

_LLOYD = 20  # steps of k-means


def _remember(state, batch, outputs):
  return scores.remember(state, batch, scores.own_loss(outputs, batch.part_label))


def _remember_batch(state, batch, outputs):
  return scores.remember_mean(state, batch, outputs.loss)


def grouped(loss: jax.Array, groups: int) -> jax.Array:
  """Groups samples by their loss: k-means in one dimension, from quantiles.

  Args:
    loss: f32[N], finite.
    groups: G.

  Returns:
    i32[N], 0 for the group of lowest losses.
  """
  count = loss.shape[0]
  rising = jnp.sort(loss)
  starts = [(2 * g + 1) * count // (2 * groups) for g in range(groups)]
  centre = rising[jnp.array(starts)]

  def edges(centre):
    return (centre[1:] + centre[:-1]) / 2

  def lloyd(_, centre):
    group = jnp.searchsorted(edges(centre), rising)
    total = jnp.zeros(groups, jnp.float32).at[group].add(rising)
    size = jnp.zeros(groups, jnp.float32).at[group].add(1)
    return jnp.where(size > 0, total / jnp.maximum(size, 1), centre)

  centre = jax.lax.fori_loop(0, _LLOYD, lloyd, centre)
  return jnp.searchsorted(edges(centre), loss).astype(jnp.int32)


def window(epoch: jax.Array, groups: int, share: float) -> tuple[jax.Array, jax.Array]:
  """The groups that an epoch sees.

  Args:
    epoch: i32[].
    groups: G.
    share: w; the window holds round(G w) groups, one at least.

  Returns:
    (first, behind the last), i32[] each; in epoch 0 all.
  """
  size = max(1, round(groups * share))
  first = jnp.where(epoch > 0, epoch % (groups - size + 1), 0)
  return first, jnp.where(epoch > 0, first + size, groups)


def seta(
  spec: Spec,
  budget: Budget | float,
  *,
  ratio: float = 0.1,
  groups: int = 5,
  share: float = 0.9,
  delta: float = 0.875,
  exact: bool = True,
  batch_score: bool = False,
) -> Selector:
  """A random part of the samples, of these the groups of loss that a sliding window shows.

  With `exact` floor(N*B) samples are trained on in every epoch: the window thinned out at random,
  or filled up from the next harder groups, then the easier.

  Args:
    spec: sizes of the run.
    budget: B; 1 if not `exact`.
    ratio: rho, share of the samples that is left out at random first; not used if `exact`.
    groups: G.
    share: w, of the groups in the window.
    delta: share of the epochs that have a window; the last ones take a random part.
    exact: train on floor(N*B) samples an epoch.
    batch_score: score samples by the mean losses of their batches (BLS), see
      `scores.batch_means`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 <= ratio < 1 or not 0 < share <= 1 or not 0 <= delta <= 1:
    raise ValueError(
      f'ratio={ratio} must be in [0, 1), share={share} in (0, 1], delta={delta} in [0, 1]'
    )
  if not 1 <= groups <= spec.num_examples:
    raise ValueError(f'groups={groups} must be 1 to {spec.num_examples}')
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'seta with exact=False decides itself how much it trains on: budget must be 1, got '
      f'{as_budget(budget)}'
    )
  count, size = spec.num_examples, spec.batch_size
  part = count if exact else ledger.share(count, 1 - ledger.exact(ratio))
  samples = ledger.share(count, budget) if exact else part
  facts = plain_facts(spec, spec.epochs, samples)
  if not exact:
    most = spec.epochs * part
    planned = facts.planned._replace(trained=most, backward=most)
    rows = -(-part // size)
    facts = facts._replace(rows=rows, planned=planned, cost='bound', cap=most + size)
  last = math.floor(ledger.as_written(delta) * spec.epochs)
  padded = max(count // size, facts.rows)

  def init(key):
    del key
    return scores.no_means(count) if batch_score else jnp.full(count, jnp.inf, jnp.float32)

  def plan(state, key, epoch):
    loss = scores.batch_means(state) if batch_score else state
    known = jnp.isfinite(loss)
    most = jnp.max(jnp.where(known, loss, jnp.float32(0)))
    group = grouped(jnp.where(known, loss, most), groups)
    first, behind = window(epoch, groups, share)
    # 0 in the window; behind it by how far, before it further than anything behind.
    apart = jnp.where(group < first, groups + first - group, jnp.maximum(group - behind + 1, 0))
    apart = jnp.where(epoch < last, apart, 0)
    order = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    chosen = jnp.arange(count, dtype=jnp.int32) < part
    rank = jnp.where(chosen, apart[order], 3 * groups)
    order = order[jnp.argsort(rank, stable=True)]
    used = jnp.int32(facts.rows * size) if exact else jnp.sum(rank == 0, dtype=jnp.int32)
    room = padded * size
    index = jnp.pad(order, (0, max(0, room - count)))[:room]
    mix_key = jax.random.fold_in(key, 1)
    index = _shuffled_front(mix_key, index, used)
    weight = (jnp.arange(room, dtype=jnp.int32) < used).astype(jnp.float32)
    shape = padded, size
    return state, Plan(index.reshape(shape), weight.reshape(shape), -(-used // size))

  update = _remember_batch if batch_score else _remember
  return Selector(facts, init, plan, update=update, partial=not exact)


def _shuffled_front(key, index, used):
  """The first `used` in random order: the window's members must not all come first."""
  word = jax.random.bits(key, index.shape, jnp.uint32)
  behind = jnp.arange(index.shape[0], dtype=jnp.int32) >= used
  return index[jnp.lexsort((word, behind))]
