"""Biased sampling (BSBS): every epoch the easiest make room for the hardest twice.

Ioannou, Tagaris and Stafylopatis, `Improving the Convergence Speed of Deep Neural Networks with
Biased Sampling`, 2019, and Algorithms 16(2):65, 2023.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, scores
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Selector, Spec


class State(NamedTuple):
  """Losses of the passes that were trained on."""

  latest: jax.Array  # f32[N]; inf: never seen
  average: jax.Array  # f32[N]  running average from 0
  out: jax.Array | None = None  # i32[N]  epochs in a row without the sample, if they are counted


@functools.cache
def _remember(decay: float):
  def update(state, batch, outputs):
    loss = scores.own_loss(outputs, batch.part_label)
    latest = scores.remember(state.latest, batch, loss)
    blank = jnp.full_like(latest, jnp.nan)
    now = scores.remember(blank, batch, loss)
    average = jnp.where(jnp.isnan(now), state.average, decay * state.average + (1 - decay) * now)
    return state._replace(latest=latest, average=average)

  return update


def multiset(key: jax.Array, state: State, moved: int) -> jax.Array:
  """All samples without the k of lowest latest loss, with the k of highest average twice.

  Args:
    key: for the order of equal losses, and of the result.
    state: the losses.
    moved: k.

  Returns:
    i32[N], shuffled.
  """
  count = state.latest.shape[0]
  tie_key, order_key = jax.random.split(key)
  first = shuffle(tie_key, jnp.arange(count, dtype=jnp.int32))
  rising = first[jnp.argsort(state.latest[first], stable=True)]
  hardest = first[jnp.argsort(-state.average[first], stable=True)][:moved]
  return shuffle(order_key, jnp.concatenate([rising[moved:], hardest]))


def returned(state: State, after: int) -> State:
  """Gives those that were left out for long the mean of all latest losses, so that they return.

  Args:
    state: the losses, and how long samples were left out.
    after: epochs.

  Returns:
    The state, in which the loss of who was never seen is as before.
  """
  seen = jnp.isfinite(state.latest)
  total = jnp.sum(jnp.where(seen, state.latest, jnp.float32(0)))
  mean = total / jnp.maximum(jnp.sum(seen), 1).astype(jnp.float32)
  return state._replace(latest=jnp.where(seen & (state.out >= after), mean, state.latest))


def bsbs(
  spec: Spec,
  budget: Budget | float,
  *,
  moved: float = 0.15,
  decay: float = 0.6,
  re_enter: float | None = None,
) -> Selector:
  """floor(N*B) samples an epoch of a multiset in which the hardest come twice, the easiest not.

  Hard is a high running average of the loss, easy a low latest loss. A sample that was dropped
  keeps its loss, and so tends to stay out, unless `re_enter` calls it back.

  Args:
    spec: sizes of the run.
    budget: B.
    moved: share of the samples that is dropped, and as many are doubled.
    decay: of the running average, which begins at 0.
    re_enter: share of the run's epochs, one at least, for which a sample is left out before its
      latest loss counts as the mean of all (the authors' 0.2); None: never.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 <= moved <= 0.5 or not 0 <= decay < 1:
    raise ValueError(f'moved={moved} must be in [0, 0.5], decay={decay} in [0, 1)')
  if re_enter is not None and not 0 < re_enter <= 1:
    raise ValueError(f're_enter={re_enter} must be a share of the run in (0, 1], or None')
  facts = plain_facts(spec, spec.epochs, ledger.share(spec.num_examples, budget))
  some = round(ledger.exact(moved) * spec.num_examples)
  facts = facts._replace(distinct=some == 0)
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    never = jnp.full(spec.num_examples, jnp.inf, jnp.float32)
    out = None if re_enter is None else jnp.zeros(spec.num_examples, jnp.int32)
    return State(never, jnp.zeros(spec.num_examples, jnp.float32), out)

  def plan(state, key, epoch):
    del epoch
    if re_enter is not None:
      state = returned(state, max(1, ledger.share(spec.epochs, re_enter)))
    index = multiset(key, state, some)
    if re_enter is not None:
      state = state._replace(out=(state.out + 1).at[index].set(0))
    return state, as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan, update=_remember(float(decay)))
