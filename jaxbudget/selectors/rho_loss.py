"""RHO-Loss: the samples that are not learnt yet, but can be.

Mindermann et al., `Prioritized Training on Points that are Learnable, Worth Learning, and not
yet Learnt <https://arxiv.org/abs/2206.07137>`_, 2022.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.parts import part_index
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Need, Needed, Selector, Spec

HALVES = ((0, 2), (1, 2))


@functools.cache
def _select_top(size: int):
  """`select`: the s of K candidates whose loss is most above the irreducible one."""

  def select(irreducible, key, batch, forward):
    del key
    loss = forward(batch).loss
    excess = loss - jnp.sum(batch.part_share * irreducible[batch.part_index], axis=1)
    # The plan is in random order, so that the first of equals is a random one.
    top = jnp.argsort(-excess, stable=True)[:size]
    return irreducible, jax.tree.map(lambda x: x[top], batch), {'scored': jnp.int32(loss.shape[0])}

  return select


def crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Losses of all samples by that model which was not trained on them.

  Args:
    first: f32[N], losses by the model of the first half of the data.
    second: f32[N], by that of the second half.

  Returns:
    f32[N].
  """
  loss = np.array(second, np.float32)
  other = part_index(len(loss), HALVES[1])
  loss[other] = np.asarray(first, np.float32)[other]
  return loss


def rho_loss(
  spec: Spec, budget: Budget | float, first: Needed = None, second: Needed = None
) -> Selector:
  """Of each K = floor(N/rows) candidates, the s of largest loss above the irreducible loss.

  The irreducible loss of a sample is that of a model which has not seen it: two runs, each on
  half of the data, score each other's half (as the original does where there is no hold-out).
  Candidates are scored in eval mode; the original's default is train mode.

  Args:
    spec: sizes of the run.
    budget: B of back-propagated samples; scoring takes N forward passes an epoch besides.
    first: f32[N], losses of all samples by a model trained on the first half of the data.
    second: f32[N], by one trained on the second half.

  Returns:
    A selector.

  Raises:
    ValueError: no full batch fits, or a compute budget that the first two runs use up.
  """
  budget = ledger.left_of(spec, budget)
  count, size = spec.num_examples, spec.batch_size
  share = budget.fraction
  if budget.unit == 'compute':  # N forward passes an epoch to score, the rest to train
    price = budget.scoring / 3
    share = budget.fraction - price
    if share <= 0:
      raise ValueError(
        f"budget_unit='compute' is impossible for rho_loss at budget={budget}: scoring all samples "
        f'in each epoch alone costs {float(price):.4f} of full training'
      )
  facts = plain_facts(spec, spec.epochs, ledger.share(count, share))
  candidates = count // facts.rows
  facts = facts._replace(
    candidates=candidates,
    planned=facts.planned._replace(scored=facts.epochs * facts.rows * candidates),
    row_cost=facts.row_cost._replace(scored=candidates),
    uniform_on_ties=first is None or bool(np.ptp(crossed(first, second)) == 0),
  )

  def init(key):
    del key
    if first is None or second is None:
      raise ValueError('rho_loss cannot start without the irreducible losses of both halves')
    return jnp.asarray(crossed(first, second), jnp.float32)

  def plan(irreducible, key, epoch):
    del epoch
    index = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    return irreducible, as_plan(index, facts.rows, candidates, count // candidates)

  return Selector(facts, init, plan, select=_select_top(size))


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  del options
  return tuple(
    Need(name, 'loss', part=half) for name, half in zip(('first', 'second'), HALVES, strict=True)
  )


rho_loss.needs = _needs
