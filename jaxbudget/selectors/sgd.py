"""Methods that look at samples without asking how important they are.

`sgd` sees everything, `scan_sgd` everything for fewer epochs, `unif_sgd` a fresh uniform
subset every epoch (fidelity.md 2.1-2.3). All three share one row program.
"""

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.types import Cost, Facts, Plan, Selector, Spec


def as_plan(
  index: jax.Array,
  rows: int,
  candidates: int,
  padded_rows: int,
  weight: jax.Array | None = None,
) -> Plan:
  """Lays out the first rows*candidates indices as a plan.

  Args:
    index: i32[n], n >= rows*candidates.
    rows: rows that exist.
    candidates: K.
    padded_rows: R >= rows.
    weight: f32[n], of each; None is 1.

  Returns:
    A plan of R rows; those that do not exist have weight 0.
  """
  if weight is None:
    weight = jnp.ones(rows * candidates, jnp.float32)
  used = index[: rows * candidates].reshape(rows, candidates).astype(jnp.int32)
  pad = ((0, padded_rows - rows), (0, 0))
  return Plan(
    index=jnp.pad(used, pad),
    weight=jnp.pad(weight[: rows * candidates].reshape(rows, candidates), pad),
    rows=jnp.int32(rows),
  )


def plain_facts(spec: Spec, epochs: int, samples: int) -> Facts:
  """Facts of a method that trains on every row of its plan.

  Args:
    spec: sizes of the run.
    epochs: epochs to run.
    samples: drawn in each epoch; the incomplete last batch is dropped.

  Returns:
    The facts; forward and backward of rows*s samples an epoch.

  Raises:
    ValueError: no epoch or no full batch fits.
  """
  s = spec.batch_size
  rows = ledger.rows_of(samples, spec)
  if epochs < 1:
    raise ValueError(f'budget leaves no epoch to run: {spec.epochs} full epochs give {epochs}')
  if rows < 1:
    raise ValueError(
      f'no batch fits: {samples} samples an epoch (of {spec.num_examples}) '
      f'are fewer than batch_size={s}'
    )
  total = epochs * rows * s
  return Facts(epochs, rows, s, Cost(0, total, total), Cost(0, s, s))


def shuffled_rows(spec: Spec, facts: Facts) -> Selector:
  """Every epoch: shuffle all samples, train on the first rows*s of them.

  Args:
    spec: sizes of the run.
    facts: of the method; its rows are trained on as they are planned.

  Returns:
    A selector without state.
  """

  def init(key):
    del key
    return ()

  def plan(state, key, epoch):
    del epoch
    index = shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    padded = spec.num_examples // facts.candidates
    return state, as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan)


def sgd(spec: Spec, budget: Budget | float = 1.0) -> Selector:
  """All samples every epoch, in random order (fidelity.md 2.1).

  Args:
    spec: sizes of the run.
    budget: must be 1.

  Returns:
    A selector.

  Raises:
    ValueError: a budget below 1.
  """
  if as_budget(budget).fraction != 1:
    raise ValueError(
      f"selector 'sgd' sees everything: budget must be 1, got {budget} "
      "(for fewer epochs use 'scan_sgd', for fewer samples 'unif_sgd')"
    )
  return shuffled_rows(spec, plain_facts(spec, spec.epochs, spec.num_examples))


def scan_sgd(spec: Spec, budget: Budget | float) -> Selector:
  """SGD for floor(T*B) epochs with the schedule compressed to them (fidelity.md 2.2).

  Args:
    spec: sizes of the run.
    budget: B.

  Returns:
    A selector.

  Raises:
    ValueError: the budget leaves no epoch.
  """
  epochs = ledger.share(spec.epochs, budget)
  return shuffled_rows(spec, plain_facts(spec, epochs, spec.num_examples))


def unif_sgd(spec: Spec, budget: Budget | float) -> Selector:
  """floor(N*B) samples, uniform without replacement, drawn anew each epoch (fidelity.md 2.3).

  Args:
    spec: sizes of the run.
    budget: B.

  Returns:
    A selector.

  Raises:
    ValueError: the budget leaves no full batch.
  """
  samples = ledger.share(spec.num_examples, budget)
  return shuffled_rows(spec, plain_facts(spec, spec.epochs, samples))
