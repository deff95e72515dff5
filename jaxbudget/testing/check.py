"""Is a method sound? `check_selector(my_factory)` says so, or names what is wrong.

A test of your own is one line:

  def test_my_method():
    jaxbudget.testing.check_selector(my_factory, temperature=2.0)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxbudget import ledger
from jaxbudget import options as options_lib
from jaxbudget.testing import absent, hooks, runs, weights
from jaxbudget.testing.toy import SPEC
from jaxbudget.types import Selector


class Unsound(AssertionError):  # noqa: N818
  """A method breaks its contract; every broken rule is a line of the message."""


def check_selector(
  factory: Callable[..., Selector],
  *,
  budgets: tuple[float, float] = (0.5, 0.75),
  needed: Mapping[str, Any] | None = None,
  **options: Any,
) -> None:
  """Puts a method through its contract, on 48 tiny images and a linear model.

  Plans are in range and of R row slots, what is declared in `Facts` holds (cost, `asks`,
  `distinct`, `uniform_on_ties`, the cost of a row, the rows of a schedule), the cap is never passed
  in either unit of budget, and no more is planned than is left by the runs that come first,
  `scored` counts the calls of `forward`, weights are finite and from 0 on, not all of them 0, and
  losses are finite, the state keeps its structure and dtypes, jit changes nothing, budgets and
  seeds share one program, the same seed gives the same bits, also from a checkpoint, what it was
  trained on can be recorded and replayed, samples whose images are not there are taken last, and
  nothing is moved to or from the device inside an epoch.

  Args:
    factory: `(spec, budget, **needed, **options) -> Selector`.
    budgets: two that the method allows.
    needed: arrays for its parameters annotated `Needed`, of `SPEC.num_examples` samples.
    **options: of the method.

  Raises:
    Unsound: with every rule that is broken, and where.
  """

  def make(budget):
    return factory(SPEC, ledger.as_budget(budget), **(needed or {}), **options)

  before = _before(factory, options)
  selector = make(budgets[0])
  # What runs cannot be judged while the hooks do not even fit together.
  faults = list(hooks.declared(selector))
  if not faults:
    faults = [*weights.begun(selector), *hooks.fitting(selector)]
    faults += hooks.sharing(selector, make(budgets[1]))
  if not faults:
    charged = _charged(make, budgets[1])
    faults = [*absent.taken(selector), *_dear(make, budgets[1], before)]
    faults += runs.kept(selector, budgets[0], charged)
  if faults:
    name = getattr(factory, '__qualname__', repr(factory))
    raise Unsound('\n'.join([f'{name} is not sound:', *(f'- {fault}' for fault in faults)]))


def _charged(make, budget) -> tuple[Selector, ledger.Budget] | None:
  """The method under a compute budget.

  None if it scores nothing, takes no such budget, or plans for more than there is.
  """
  budget = ledger.as_budget(budget, 'compute')
  try:
    selector = make(budget)
  except ValueError:
    return None
  fits = ledger.price(selector.facts.planned, budget.unit) <= ledger.cap(
    SPEC, budget, selector.facts
  )
  return (selector, budget) if selector.facts.planned.scored and fits else None


def _before(factory, options) -> int:
  """Forward equivalents, a tenth of full training, of runs that come first; 0 if none is needed."""
  of = getattr(factory, 'needs', lambda options: ())
  defaults = {name: option.default for name, option in options_lib.of(factory).items()}
  needs_runs = any(need.runs for need in of({**defaults, **options}))
  return 3 * SPEC.epochs * SPEC.num_examples // 10 if needs_runs else 0


def _dear(make, budget, before: int) -> Iterator[str]:
  """Plans under a compute budget that are more than there is, with and without runs before."""
  for spent in sorted({0, before}):
    charged = ledger.as_budget(budget, 'compute', spent)
    try:
      facts = make(charged).facts
    except ValueError:  # it takes no such budget
      continue
    try:
      ledger.check_planned(SPEC, charged, facts, 'this method')
    except ValueError as e:
      told = f', after {spent} that the runs before it have cost' if spent else ''
      yield f'{e}{told}: heed `ledger.trainable` or `Budget.looks`, or refuse the budget'
