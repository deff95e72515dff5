"""Methods of choosing training samples, by name.

>>> from jaxbudget import Spec, selectors
>>> spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
>>> selectors.make_selector('p_sgd', spec, budget=0.3).facts.rows
117
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxbudget import registry
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.selectors import (
  coreset,
  importance,
  ordered,
  replay,
  selective_backprop,
  sgd,
)
from jaxbudget.types import Need, Selector, Spec

SELECTORS: dict[str, Callable[..., Selector]] = {
  'sgd': sgd.sgd,
  'scan_sgd': sgd.scan_sgd,
  'unif_sgd': sgd.unif_sgd,
  'p_sgd': importance.p_sgd,
  'c_sgd': importance.c_sgd,
  'selective_backprop': selective_backprop.selective_backprop,
  'ordered_sgd': ordered.ordered_sgd,
  'random_subset': coreset.random_subset,
  'coreset': coreset.coreset,
  'forgetting_sgd': coreset.forgetting_sgd,
  'replay': replay.replay,
}


def keyword_options(factory: Callable) -> dict[str, Any]:
  """The options of a factory (its keyword-only parameters) with their defaults."""
  parameters = inspect.signature(factory).parameters.values()
  return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def needs(name: str, options: Mapping[str, Any]) -> tuple[Need, ...]:
  """What must exist before a run of a method can start.

  Args:
    name: a key of `SELECTORS`.
    options: all options of the method.

  Returns:
    What its factory says under `needs`; nothing if it says nothing.
  """
  say = getattr(SELECTORS[name], 'needs', None)
  return say(options) if say else ()


def make_selector(
  name: str,
  spec: Spec,
  budget: Budget | float,
  options: Mapping[str, Any] | None = None,
  needed: Mapping[str, Any] | None = None,
) -> Selector:
  """Builds a method by name.

  Args:
    name: a key of `SELECTORS`.
    spec: sizes of the run.
    budget: a `Budget`, or B in (0, 1] of back-propagated samples.
    options: keyword options of the method.
    needed: what the method needs, by the name of the parameter; without it a selector can be
      planned, but not started.

  Returns:
    A selector.

  Raises:
    ValueError: unknown name or option, or values the method refuses.
  """
  registry.check('selector', name, SELECTORS)
  known = keyword_options(SELECTORS[name])
  for option in options or {}:
    registry.check(f'option of {name}', option, known)
  return SELECTORS[name](spec, as_budget(budget), **(needed or {}), **(options or {}))
