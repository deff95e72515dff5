"""Repeat before forgetting: samples come again when they are about to be forgotten.

Amiri, Miller and Savova, `Repeat before Forgetting: Spaced Repetition for Efficient and Effective
Training of Neural Networks <https://aclanthology.org/D17-1255/>`_, 2017.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors import refreshing
from jaxbudget.selectors.sgd import plain_facts
from jaxbudget.types import Selector, Spec

# By kernel: what a recall a adds up to, whether losses enter squared, and what the fit gives.
_KERNELS = {
  'gauss': (lambda a: -jnp.log(a), True, lambda nu, tau: jnp.sqrt(-math.log(nu) / tau)),
  'laplace': (lambda a: -jnp.log(a), False, lambda nu, tau: -math.log(nu) / tau),
  'linear': (lambda a: 1 - a, False, lambda nu, tau: (1 - nu) / tau),
  'cosine': (
    lambda a: jnp.arccos(2 * a - 1) / math.pi,
    False,
    lambda nu, tau: math.acos(2 * nu - 1) / (math.pi * tau),
  ),
  'quadratic': (lambda a: 1 - a, True, lambda nu, tau: jnp.sqrt((1 - nu) / tau)),
}
KERNELS = tuple(_KERNELS)
_RESTED = -1.0  # in place of a recall: not trained on in this epoch


class Memory(NamedTuple):
  """What is known of the samples in this epoch."""

  order: jax.Array  # i32[N]  those held out first
  delay: jax.Array  # f32[N]  epochs to wait; 1 or less is due
  loss: jax.Array  # f32[N]  as trained on in this epoch, the mean of the pictures it was in
  recall: jax.Array  # f32[N]  likewise, or the sign above
  sums: jax.Array  # f32[4]  held out: how many, their recall; of the good ones numerator, losses


def strength(sums: jax.Array, kernel: str, recall: float) -> jax.Array:
  """S f: a sample of loss l can wait for S f / l epochs.

  Args:
    sums: f32[4], see `Memory`.
    kernel: one of `KERNELS`.
    recall: nu.

  Returns:
    f32[]; 0 where nothing held out was recalled.
  """
  count, total, above, below = sums
  mean = total / jnp.maximum(count, 1)  # S; x = 1/S
  _, squared, fit = _KERNELS[kernel]
  below = below / jnp.maximum(mean, jnp.float32(1e-6)) ** (2 if squared else 1)
  usable = (above > 0) & (below > 0)
  tau = jnp.where(usable, above, 1) / jnp.where(usable, below, 1)
  return jnp.where(usable, mean * fit(recall, tau), jnp.float32(0))


def _recalled(batch, outputs):
  """Recall and loss of the samples of each picture; a recall of 1 counts as 0.9."""
  loss = scores.own_loss(outputs, batch.part_label)
  a = jnp.exp(-loss)
  return jnp.where(a >= 1, jnp.float32(0.9), a), loss


@functools.cache
def _notes(kernel: str, recall: float):
  """How to look at those held out, and how to learn from those trained on."""
  number, squared, _ = _KERNELS[kernel]

  def look(memory, batch, outputs):
    a, loss = _recalled(batch, outputs)
    share = batch.part_share * (batch.weight > 0).astype(jnp.float32)[:, None]
    good = share * (a >= recall).astype(jnp.float32)
    now = (share, share * a, good * number(a), good * loss ** (2 if squared else 1))
    return memory._replace(sums=memory.sums + jnp.stack([jnp.sum(x) for x in now]))

  def learn(memory, batch, outputs):
    a, loss = _recalled(batch, outputs)
    # Whether a sample was recalled is asked of its mean: of a part of it, that would say little.
    return memory._replace(
      loss=scores.remember(memory.loss, batch, loss),
      recall=scores.remember(memory.recall, batch, a),
    )

  return look, learn


def repeat_before_forgetting(
  spec: Spec,
  budget: Budget | float,
  *,
  kernel: Literal['gauss', 'laplace', 'linear', 'cosine', 'quadratic'] = 'gauss',
  recall: float = 0.5,
  held_out: float = 0.1,
  exact: bool = True,
) -> Selector:
  """Samples wait, the longer the lower their loss, and the better others are remembered.

  A random part of the samples is held out: it is never trained on, only looked at after every
  epoch, as augmented, to see how fast the model forgets (the original's example looks at its test
  data). Recall is the probability of the true class, of each sample (the original: of a batch).

  Args:
    spec: sizes of the run.
    budget: B; 1 if not `exact`.
    kernel: how recall fades: `gauss`, `laplace`, `linear`, `cosine` or `quadratic`.
    recall: nu, below which a sample is forgotten.
    held_out: share of the samples, full batches of them.
    exact: train on the floor(N*B) samples that are due first, as far as those not held out go;
      False: on all that are due, in the last epoch on all there are.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the looks
      alone use up.
  """
  registry.check('kernel', kernel, KERNELS)
  if not 0 < recall < 1 or not 0 < held_out <= 0.5:
    raise ValueError(f'recall={recall} must be in (0, 1), held_out={held_out} in (0, 0.5]')
  if not exact and as_budget(budget).fraction != 1:
    raise ValueError(
      'repeat_before_forgetting with exact=False decides itself how much it trains on: budget must '
      f'be 1, got {as_budget(budget)}'
    )
  count, size = spec.num_examples, spec.batch_size
  looks = max(1, round(held_out * count / size))
  pool = count - looks * size  # samples to train on
  facts = _facts(spec, budget, exact, looks, pool)._replace(asks=('probabilities',))
  rows = facts.rows - looks  # of training, at most
  padded = max(count // size, facts.rows)
  select, update = refreshing.hooks(*_notes(kernel, float(recall)))

  def init(key):
    memory = Memory(
      order=shuffle(key, jnp.arange(count, dtype=jnp.int32)),
      delay=jnp.ones(count, jnp.float32),
      loss=jnp.zeros(count, jnp.float32),
      recall=jnp.full(count, _RESTED, jnp.float32),
      sums=jnp.zeros(4, jnp.float32),
    )
    return refreshing.Rows(memory, jnp.int32(0), jnp.int32(0))

  def plan(state, key, epoch):
    memory = state.noted
    waited = delays(memory, kernel, recall)
    waited = jnp.where(epoch == 0, memory.delay, waited)
    tie_key, order_key = jax.random.split(key)
    pool_first = shuffle(tie_key, memory.order[looks * size :])
    wait = waited[pool_first]
    soonest = pool_first[jnp.argsort(wait, stable=True)]
    last = epoch == spec.epochs - 1
    used = jnp.where(last, pool, jnp.sum(wait <= 1, dtype=jnp.int32))
    used = jnp.int32(rows * size) if exact else used
    # New words: the order by which ties were broken is the one that they stand in already.
    word = jax.random.bits(order_key, (pool,), jnp.uint32)
    soonest = soonest[jnp.lexsort((word, jnp.arange(pool, dtype=jnp.int32) >= used))]
    looked = memory.order, looks * size, jnp.where(last, 0, looks)  # after the last nobody asks
    memory = memory._replace(
      delay=waited,
      recall=jnp.full_like(memory.recall, _RESTED),
      sums=jnp.zeros_like(memory.sums),
    )
    return refreshing.lay_out(memory, soonest, used, *looked, (padded, size))

  return Selector(facts, init, plan, select=select, update=update, partial=not exact)


def delays(memory: Memory, kernel: str, recall: float) -> jax.Array:
  """How long everybody waits after an epoch.

  Args:
    memory: at its end.
    kernel: one of `KERNELS`.
    recall: nu.

  Returns:
    f32[N]: max(1, S f/l) for those trained on and recalled, as before for those trained on and
    not recalled, one less for the others.
  """
  wait = strength(memory.sums, kernel, recall) / jnp.maximum(memory.loss, jnp.float32(1e-6))
  fresh = jnp.maximum(wait, 1)
  kept = jnp.where(memory.recall == _RESTED, memory.delay - 1, memory.delay)
  return jnp.where(memory.recall >= recall, fresh, kept)


def _facts(spec, budget, exact, looks, pool):
  size, epochs = spec.batch_size, spec.epochs
  scoring = range(epochs - 1)  # after the last epoch nobody asks
  charged = looks * size * as_budget(budget).looks(scoring)
  samples = ledger.trainable(spec, budget, charged, 'repeat_before_forgetting') if exact else pool
  facts = plain_facts(spec, epochs, min(samples, pool))
  rows = facts.rows if exact else -(-pool // size)
  facts = facts._replace(
    rows=rows + looks,
    looking=looks,
    planned=facts.planned._replace(scored=len(scoring) * looks * size),
    row_cost=facts.row_cost._replace(scored=size),
    scoring=scoring,
  )
  if exact:
    return facts
  most = epochs * pool
  planned = facts.planned._replace(trained=most, backward=most)
  return facts._replace(planned=planned, cost='bound')
