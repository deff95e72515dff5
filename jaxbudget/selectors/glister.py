"""GLISTER: the samples whose gradients lower the loss on held-out ones most.

Killamsetty et al., `GLISTER <https://arxiv.org/abs/2012.10630>`_, 2021, its online form.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import gradients, registry
from jaxbudget.ledger import Budget
from jaxbudget.parts import part_index
from jaxbudget.scoring import trained
from jaxbudget.selectors.reselect import FEATURES, Chosen, reselecting
from jaxbudget.types import Key, Selector, Spec

SEARCHES = ('stochastic', 'greedy', 'rounds')


class HeldOut(NamedTuple):
  """The samples whose loss is to fall, with the last layer as it is."""

  logits: jax.Array  # f32[m,K]
  target: jax.Array  # f32[m,K]  one-hot
  right: jax.Array  # f32[m,q]  [1, features], features, or 1 where the bias alone counts


def direction(held_out: HeldOut) -> jax.Array:
  """Mean gradient of the held-out loss with respect to the last layer: f32[K,q]."""
  error = jax.nn.softmax(held_out.logits, axis=-1) - held_out.target
  return jnp.matmul(error.T, held_out.right, precision='highest') / len(error)


def after_steps(held_out: HeldOut, gradient: jax.Array, rate: float) -> HeldOut:
  """The held-out logits after a step of the last layer along a gradient f32[K,q]."""
  moved = jnp.matmul(held_out.right, gradient.T, precision='highest')
  return held_out._replace(logits=held_out.logits - rate * moved)


@functools.partial(jax.jit, static_argnums=(4, 5))
def greedy(
  train: gradients.Factored,
  held_out: HeldOut,
  rate: float,
  key: Key,
  count: int,
  among: int | None = None,
) -> jax.Array:
  """Adds the sample whose gradient lies most along the held-out one, and steps along it.

  Args:
    train: gradients of n samples with respect to the last layer.
    held_out: where the loss is to fall.
    rate: eta of the steps; 0 gives the samples of the largest inner products.
    key: a typed key, for the candidates.
    count: k <= n, samples to choose.
    among: random candidates (with replacement) to choose each from; None: all that are left.

  Returns:
    i32[k], in the order chosen.
  """
  n = len(train.left)

  def add(t, carry):
    pool, held_out = carry  # those chosen lie at the end of the pool
    if among is None:
      place = jnp.arange(n, dtype=jnp.int32)
    else:
      place = jax.random.randint(jax.random.fold_in(key, t), (among,), 0, n - t)
    with jax.default_matmul_precision('highest'):  # the largest of many that are nearly equal
      gain = gradients.along(gradients.take(train, pool[place]), direction(held_out))
    best = place[jnp.argmax(jnp.where(place < n - t, gain, -jnp.inf))]
    found, last = pool[best], pool[n - t - 1]
    pool = pool.at[best].set(last).at[n - t - 1].set(found)
    step = jnp.outer(train.left[found], train.right[found])
    return pool, after_steps(held_out, step, rate)

  pool, _ = jax.lax.fori_loop(0, count, add, (jnp.arange(n, dtype=jnp.int32), held_out))
  return pool[::-1][:count]


def greedy_in_rounds(
  train: gradients.Factored, held_out: HeldOut, rate: float, count: int, rounds: int = 15
) -> np.ndarray:
  """Adds many samples at a time: one look at the held-out gradient for each round.

  Args:
    train: gradients of n samples with respect to the last layer.
    held_out: where the loss is to fall.
    rate: eta of the steps.
    count: k <= n, samples to choose.
    rounds: as equal as they can be.

  Returns:
    i32[k], in the order chosen.
  """
  chosen = np.zeros(0, np.int32)
  for size in np.diff(np.linspace(0, count, min(rounds, count) + 1).astype(int)):
    gain = np.array(gradients.along(train, np.asarray(direction(held_out))))
    gain[chosen] = -np.inf
    new = np.argsort(-gain, kind='stable')[:size].astype(np.int32)
    step = gradients.total(gradients.take(train, new), np.ones(size, np.float32))
    held_out = after_steps(held_out, step, rate)
    chosen = np.append(chosen, new)
  return chosen


def glister(
  spec: Spec,
  budget: Budget | float,
  *,
  search: Literal['stochastic', 'greedy', 'rounds'] = 'stochastic',
  features: Literal['bias', 'last_layer'] = 'bias',
  rate: float = 0.05,
  held_out: int = 10,
  period: int = 20,
  warmup: int = 0,
) -> Selector:
  """floor(N*B) samples whose gradients lower a held-out loss most, chosen every few epochs.

  One part of the data is held out and never trained on; it is the same in all runs.

  Args:
    spec: sizes of the run.
    budget: B.
    search: `stochastic`: each sample is the best of int(n/k ln 100) random ones; `greedy`: of
      all that are left; `rounds`: 15 rounds, each of the best k/15.
    features: gradients with respect to the `bias` of the last layer (also of one that has none:
      those by the outputs), or all of the `last_layer`.
    rate: eta of the steps that are looked ahead, that of training.
    held_out: 1/held_out of the data is held out.
    period: R, epochs between two choices.
    warmup: epochs of fresh uniform subsets before the first choice.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or more samples are to be kept
      than are not held out.
  """
  registry.check('search', search, SEARCHES)
  registry.check('features', features, FEATURES)
  if held_out < 2:
    raise ValueError(f'held_out must be at least 2, got {held_out}')
  if not 0 <= rate < float('inf'):
    raise ValueError(f'rate must not be negative, got {rate}')
  out = part_index(spec.num_examples, (0, held_out))
  pool = np.setdiff1d(np.arange(spec.num_examples, dtype=np.int32), out)

  def choose(random, seen, samples):
    error = np.asarray(trained.error(seen.logits, seen.label))
    activations = seen.features if features == 'last_layer' else None
    all_of = gradients.last_layer(error, activations, seen.head_bias)
    anybody = random.permutation(pool)  # equal ones fall to anybody
    train = gradients.take(all_of, anybody)
    target = np.eye(spec.num_classes, dtype=np.float32)[seen.label[out]]
    ahead = HeldOut(np.asarray(seen.logits)[out], target, all_of.right[out])
    if search == 'rounds':
      chosen = greedy_in_rounds(train, ahead, rate, samples)
    else:
      key = jax.random.key(random.integers(2**31))
      among = max(1, int(len(pool) / samples * np.log(100))) if search == 'stochastic' else None
      chosen = np.asarray(greedy(train, ahead, rate, key, samples, among))
    return Chosen(anybody[chosen], np.ones(len(chosen), np.float32))

  return reselecting(
    spec,
    budget,
    choose,
    period=period,
    warmup=warmup,
    features=features == 'last_layer',
    pool=pool,
  )
