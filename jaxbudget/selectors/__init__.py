"""Methods of choosing training samples, by name.

>>> from jaxbudget import Spec, selectors
>>> spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
>>> selectors.make_selector('p_sgd', spec, budget=0.3).facts.rows
117
"""

from collections.abc import Mapping
from typing import Any

from jaxbudget import factories
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.types import Need, Selector, Spec


def needs(name: str, options: Mapping[str, Any]) -> tuple[Need, ...]:
  """What must exist before a run of a method can start.

  Args:
    name: as for `make_selector`.
    options: all options of the method.

  Returns:
    What its factory says under `needs`; nothing if it says nothing.
  """
  say = getattr(factories.find('selector', name).factory, 'needs', None)
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
    name: a known method, or `package.module:factory`.
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
  part = factories.find('selector', name)
  filled = part.fill(options or {})
  return part.make(Selector, spec, as_budget(budget), **(needed or {}), **filled)
