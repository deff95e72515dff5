"""Selectors made of selectors."""

import jax

from jaxbudget.types import Selector


def warm_up(selector: Selector, opening: Selector, epochs: int) -> Selector:
  """Plans the first epochs by another selector; feedback goes to the main one throughout.

  Args:
    selector: the method proper.
    opening: a method without state and with as many rows (usually `unif_sgd`).
    epochs: epochs planned by `opening`; 0 gives `selector` itself.

  Returns:
    A selector.

  Raises:
    ValueError: negative epochs, or plans of different shape.
  """
  if epochs < 0:
    raise ValueError(f'warmup must be 0 or more epochs, got {epochs}')
  if (selector.facts.rows, selector.facts.candidates) != (
    opening.facts.rows,
    opening.facts.candidates,
  ):
    raise ValueError('warm_up needs two selectors with the same rows and candidates')
  if epochs == 0:
    return selector

  def plan(state, key, epoch):
    return jax.lax.cond(
      epoch < epochs,
      lambda: (state, opening.plan((), key, epoch)[1]),
      lambda: selector.plan(state, key, epoch),
    )

  return selector._replace(plan=plan)
