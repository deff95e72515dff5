"""Many methods at one compute budget: everything is charged, and what is dear scores less often."""

import collections
import functools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from jaxbudget import data, factories, ledger
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import grid, inputs

_MOST = 10**6  # runs to share what comes first, while it is not known how many there are
# Refusals that scoring less often does not heal.
_HOPELESS = ('would change nothing', 'the runs that come first alone')
_STEP = Fraction(1, 20)  # in which the smallest budget of a method is looked for


class Fitted(NamedTuple):
  """A grid, and what did not fit into it.

  Attributes:
    cells: for the key `grid`.
    left_out: a sentence for each method and budget that did not fit.
  """

  cells: tuple[dict[str, Any], ...]
  left_out: tuple[str, ...]


def fit(
  methods: Sequence[str], budgets: Sequence[float], seeds: int, common: Mapping[str, Any]
) -> Fitted:
  """Lays out methods at budgets of compute, every pass charged, runs that come first as well.

  A method at whose budget its own forward passes would take more than half scores in every k-th
  epoch only, with the smallest k that leaves half for training. Fewer epochs, with the schedule
  compressed, heal nothing that this does not: T/k epochs pass over the data as often as every
  k-th of T epochs does, and train on no more. What is left out then is so for the runs that
  come first. Those would be cheaper with fewer epochs, but say less: a core-set has the option
  `scoring` for that, and a method without one is named with the budget that it takes.

  Args:
    methods: names of methods; options are their defaults.
    budgets: B of each.
    seeds: runs of a cell, which share what comes first.
    common: values of all cells, dataset and epochs among them.

  Returns:
    The cells, and what had to be left out.
  """
  before = {name: _needed(name, common) for name in methods}
  wanted = [(name, b) for b in budgets for name in methods]
  cell_of = functools.cache(lambda name, b, shared: _cell(name, b, shared, common))
  while True:  # who is left out shares nothing
    sharing = collections.Counter()
    for name, _ in wanted:
      sharing.update(dict.fromkeys(before[name], seeds))
    shared = {name: min((sharing[i] for i in before[name]), default=1) for name in methods}
    found = {(n, b): cell_of(n, b, max(1, shared[n])) for n, b in wanted}
    fitting = [pair for pair in wanted if found[pair]]
    if fitting == wanted:
      break
    wanted = fitting
  out = [(n, b) for b in budgets for n in methods if (n, b) not in wanted]
  told = [_smallest(n, b, max(1, shared[n] or seeds), common) for n, b in out]
  return Fitted(tuple(found[pair] for pair in wanted), tuple(told))


def _plan(values: Mapping[str, Any], common: Mapping[str, Any]) -> Run:
  """The run of a cell, the last of the plan."""
  config = config_lib.defaults(**{**common, 'seeds': 1, 'grid': (dict(values),)})
  options = common.get('dataset_options', {})
  return grid.make_runs(config, _data(common['dataset'], tuple(sorted(options.items()))))[-1]


@functools.cache
def _data(dataset: str, options: tuple) -> dict[Any, data.Dataset]:
  """What must be read of people's own data to plan, once for all plans."""
  config = config_lib.defaults(dataset=dataset, dataset_options=dict(options), batch_size=1)
  return inputs.plan_runs(config)[0]


def _needed(name: str, common) -> tuple[str, ...]:
  """Ids of the runs that a method needs, which are those of every budget."""
  runs = _plan({'selector': name, 'budget': 0.75, 'shared_by': _MOST}, common).needs
  return tuple(run.run_id for run in runs)


def _slower(name: str, epochs: int) -> Iterator[dict[str, Any]]:
  """What makes a method look less often, by and by."""
  yield {}
  options = factories.find('selector', name).options
  own = [key for key in ('every', 'period') if key in options]  # it looks at everybody
  for k in range(2, epochs + 1):
    yield {'selector_options': {own[0]: k}} if own else {'score_every': k}


def _cell(name: str, budget: float, shared_by: int, common) -> dict[str, Any] | None:
  """The cell of a method, None if there is none that leaves half for training."""
  cell = {'selector': name, 'budget': float(budget), 'budget_unit': 'compute'}
  cell |= {'shared_by': shared_by} if shared_by > 1 else {}
  for less in _slower(name, common['epochs']):
    try:
      run = _plan(cell | less, common)
    except ValueError as e:
      if any(said in str(e) for said in _HOPELESS):
        return None
      continue
    parts = run.parts
    own = ledger.cap(parts.spec, parts.budget, parts.selector.facts)
    if 2 * run.planned.scored <= own:
      return cell | less
  return None


def _smallest(name: str, budget: float, shared_by: int, common) -> str:
  """Says that a method does not fit, and where it would."""
  larger = ledger.exact(budget)
  while (larger := (larger // _STEP + 1) * _STEP) <= 1:
    if _cell(name, float(larger), shared_by, common):
      return f'{name} does not fit into a compute budget of {budget:g}: it takes {float(larger):g}'
  return f'{name} does not fit into any compute budget'
