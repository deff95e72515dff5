"""Subsets that are chosen anew every few epochs, of what the model then says of all samples."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.selectors.wrappers import warm_up
from jaxbudget.types import Scan, Seen, Selector, Spec

FEATURES = ('bias', 'last_layer')  # what of the last layer gradients are taken by
_BYTES = 2**30


class Subset(NamedTuple):
  """The subset of now; the shapes are those of every budget."""

  order: jax.Array  # i32[N]  all samples, the subset in front
  weight: jax.Array  # f32[N]  of each sample, where it is in the subset


class Chosen(NamedTuple):
  """What a method has chosen."""

  index: np.ndarray  # i[m]  distinct, m <= samples
  weight: np.ndarray  # f32[m]


# (random numbers, what the scan saw, samples to choose) -> what is chosen
Choose = Callable[[np.random.Generator, Seen, int], Chosen]


def normalise(state: Subset, loss: jax.Array, weight: jax.Array) -> jax.Array:
  """Scales the weights of a batch so that its loss, sum(w l) / #(w > 0), is sum(w l) / sum(w)."""
  del state, loss
  count = jnp.sum((weight > 0).astype(jnp.float32))
  total = jnp.sum(weight)
  return weight * (count / jnp.where(total > 0, total, 1))


def reselecting(
  spec: Spec,
  budget: Budget | float,
  choose: Choose,
  *,
  period: int,
  warmup: int,
  features: bool,
  pool: np.ndarray | None = None,
  whole: bool = False,
) -> Selector:
  """A method that chooses floor(N*B) samples anew every `period` epochs.

  Where it chooses less, random samples of weight 1 make up for it, and before the first choice
  the subset is random. Under `compute` the looks at all samples are paid for by smaller
  subsets.

  Args:
    spec: sizes of the run.
    budget: B.
    choose: the samples and their weights; runs on the host.
    period: R, epochs between two choices.
    warmup: epochs of fresh uniform subsets before the first choice.
    features: `choose` wants the penultimate activations.
    pool: i32[n], rising, who may be trained on; None: everybody.
    whole: choose full batches only, of which nobody is left over.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if period < 1:
    raise ValueError(f'period must be at least 1 epoch, got {period}')
  looks = max(0, -(-(spec.epochs - warmup) // period))
  samples = ledger.share(spec.num_examples, _after_looks(spec, budget, looks))
  pool = np.arange(spec.num_examples, dtype=np.int32) if pool is None else pool
  if samples > len(pool):
    raise ValueError(
      f'{samples} samples cannot be kept: {spec.num_examples - len(pool)} of '
      f'{spec.num_examples} are held out'
    )
  facts = plain_facts(spec, spec.epochs, samples)
  samples = facts.rows * spec.batch_size if whole else samples
  facts = facts._replace(
    planned=facts.planned._replace(scored=looks * spec.num_examples),
    scan=Scan(period, warmup, ('logits', 'features') if features else ('logits',), on_host=True),
    uniform_on_ties=False,
    asks=('probabilities',),
  )
  padded = spec.num_examples // facts.candidates

  def lay_out(key, index):
    return as_plan(shuffle(key, index), facts.rows, facts.candidates, padded)

  def init(key):
    others = np.setdiff1d(np.arange(spec.num_examples, dtype=np.int32), pool)
    order = jnp.concatenate([shuffle(key, jnp.asarray(pool)), jnp.asarray(others)])
    return Subset(order, jnp.ones(spec.num_examples, jnp.float32))

  def plan(state, key, epoch):
    del epoch
    plan = lay_out(key, state.order[:samples])
    return state, plan._replace(weight=plan.weight * state.weight[plan.index])

  def plan_fresh(state, key, epoch):
    del epoch
    return state, lay_out(key, jnp.asarray(pool))

  def scan(state, key, seen):
    del state
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    _check_finite(seen)
    return _subset(random, choose(random, seen, samples), samples, pool, spec.num_examples)

  fresh = Selector(facts, init, plan_fresh)
  return warm_up(Selector(facts, init, plan, scan=scan), fresh, warmup)


def _after_looks(spec: Spec, budget: Budget | float, looks: int) -> Budget:
  """What is left to train with, after all looks at all samples."""
  budget = ledger.left_of(spec, budget)
  share = Fraction(looks, 3 * spec.epochs)
  if budget.unit != 'compute':
    return budget
  if budget.fraction <= share:
    raise ValueError(
      f"budget_unit='compute' is impossible at budget={budget}: looking at all samples {looks} "
      f'times alone costs {float(share):.4f} of full training; raise period or the budget'
    )
  return dataclasses.replace(budget, fraction=budget.fraction - share)


def _subset(
  random: np.random.Generator, chosen: Chosen, samples: int, pool: np.ndarray, total: int
) -> Subset:
  """The state after a choice."""
  weight = np.ones(total, np.float32)
  weight[chosen.index] = chosen.weight
  inside = np.zeros(total, bool)
  inside[chosen.index] = True
  others = random.permutation(pool[~inside[pool]])
  inside[others[: samples - len(chosen.index)]] = True
  # In the order of the data, so that a subset of everything is trained on as by `sgd`.
  order = np.concatenate([np.flatnonzero(inside), np.flatnonzero(~inside)])
  return Subset(order.astype(np.int32), weight)


def _check_finite(seen: Seen) -> None:
  """Refuses to choose by what is no number: a greedy search for the largest might not end."""
  for kind in ('logits', 'features'):
    values = getattr(seen, kind)
    bad = 0 if values is None else len(values) - np.isfinite(values).all(axis=-1).sum()
    if bad:
      raise ValueError(
        f'the {kind} of {bad} of {len(values)} samples are not finite: training has diverged'
      )


def check_limit(memory_gib: float) -> None:
  """Refuses a limit that is none.

  Raises:
    ValueError: it is not positive.
  """
  if not memory_gib > 0:
    raise ValueError(f'memory_gib must be positive, got {memory_gib}')


def refuse_memory(method: str, what: str, size: int, limit_gib: float) -> None:
  """Refuses what would not fit.

  Args:
    method: its name.
    what: would be held.
    size: bytes.
    limit_gib: the most that is allowed.

  Raises:
    ValueError: it is too much.
  """
  if size > limit_gib * _BYTES:
    raise ValueError(
      f'{method}: {what} would take {size / _BYTES:.1f} GiB, more than '
      f'selector_options.memory_gib={limit_gib:g}'
    )
