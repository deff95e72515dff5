"""Subsets that are trained on throughout, and random ones."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Key, Selector, Spec


def fixed_subset(spec: Spec, budget: Budget | float, init: Callable[[Key], jax.Array]) -> Selector:
  """Trains on one subset of floor(N*B) samples throughout.

  The state is i32[N], all samples with the subset in front, so that its shape, and with it
  the compiled row program, is that of every budget.

  Args:
    spec: sizes of the run.
    budget: B.
    init: `key -> i32[N]`, all samples with the subset in front.

  Returns:
    A selector.

  Raises:
    ValueError: the budget leaves no full batch.
  """
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  padded = spec.num_examples // facts.candidates

  def plan(order, key, epoch):
    del epoch
    index = shuffle(key, order[:samples])
    return order, as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan)


def random_subset(spec: Spec, budget: Budget | float) -> Selector:
  """One uniform subset of floor(N*B) samples, drawn before the run (fidelity.md 2.8).

  The subsets of equal seeds are nested: a larger budget adds samples.

  Args:
    spec: sizes of the run.
    budget: B, the share of samples kept.

  Returns:
    A selector.

  Raises:
    ValueError: the budget leaves no full batch.
  """

  def init(key):
    return shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))

  return fixed_subset(spec, budget, init)
