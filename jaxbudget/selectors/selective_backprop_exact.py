"""Selective Backprop that takes exactly s of each K candidates: no history, no queue.

The form `rate='exact'` of `selective_backprop`, which trains on as many samples in every epoch.
"""

import functools
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.sampling import shuffle
from jaxbudget.selectors import measuring
from jaxbudget.selectors.measuring import Memory, percentile
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Selector, Spec


class State(NamedTuple):
  """What it chooses by."""

  power: jax.Array  # f32[]  b
  memory: Memory | None


@functools.cache
def _select(size: int):
  """`select`: `size` of K candidates, without replacement; the same object for all budgets."""

  def select(state, key, batch, forward):
    memory, loss, scored = measuring.measure(state.memory, batch, forward)
    count, real = loss.shape[0], batch.weight > 0
    pool = jnp.where(real, loss, jnp.nan)
    quantile = percentile(pool, jnp.sum(real, dtype=jnp.int32), loss)
    # Gumbel top-k on log weights. Weight 0 (the lowest loss) is chosen last of all, and at
    # random among ties, so that there is a full batch whatever the losses are.
    impossible = (quantile == 0) & (state.power > 0)
    log_weight = state.power * jnp.log(jnp.maximum(quantile, jnp.float32(0.5 / count)))
    clock = -(log_weight + jax.random.gumbel(key, (count,), jnp.float32))
    order = jnp.lexsort((clock, impossible, ~real))
    chosen = jax.tree.map(lambda x: x[order[:size]], batch)
    return state._replace(memory=memory), chosen, {'scored': scored}

  return select


def _facts(spec, acceptance, staleness):
  facts = plain_facts(spec, spec.epochs, ledger.share(spec.num_examples, acceptance))
  candidates = spec.num_examples // facts.rows
  scoring = range(0, spec.epochs, staleness)
  return facts._replace(
    candidates=candidates,
    planned=facts.planned._replace(scored=len(scoring) * facts.rows * candidates),
    row_cost=facts.row_cost._replace(scored=candidates),
    scoring=scoring,
  )


def exact_form(spec: Spec, acceptance: Fraction, power: float, staleness: int) -> Selector:
  """The method, its options resolved.

  Args:
    spec: sizes of the run.
    acceptance: share of the samples that an epoch trains on.
    power: b.
    staleness: epochs that one scoring pass serves.

  Returns:
    A selector.

  Raises:
    ValueError: no full batch fits.
  """
  facts = _facts(spec, acceptance, staleness)

  def init(key):
    del key
    return State(jnp.float32(power), measuring.memory(spec, staleness))

  def plan(state, key, epoch):
    index = shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    memory, index = measuring.with_losses(state.memory, index, epoch, staleness)
    padded = spec.num_examples // facts.candidates
    return State(state.power, memory), as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan, select=_select(spec.batch_size))
