"""Equal compute: what a method gains over uniform sampling that costs the same.

The baseline is `unif_sgd` at all its budgets, with `sgd` as its budget 1, joined by straight
lines in (cost, accuracy). Costs are forward equivalents with selection charged, in units of
a full run (fidelity.md 6). Accuracy is concave in cost, so the chord lies below the true
curve: it flatters the method, never the baseline. How much shows in `curvature`, the change
if a monotone cubic through the same points (PCHIP) replaced the chord.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, comparability, layout, render, statistics
from jaxbudget.lab.report.layout import SAME_COST
from jaxbudget.lab.report.load import Workdir

_COLUMNS = [
  'cell_id', *cells.SETTING, *cells.SCALE, 'batch_size', 'fidelity', 'method', 'rule', 'variant',
  'selector', 'budget', 'cost', 'accuracy',
  'state', 'reason', 'overridden', 'baseline', 'at', *statistics.Paired._fields, 'curvature',
  'floor', 'same_budget', 'same_budget_se', 'p_holm', 'verdict',
]  # fmt: skip


class Bracket(NamedTuple):
  """Where a cost lies among the baseline's: between points `left` and `right`."""

  left: int
  right: int
  weight: float  # of the right one


def bracket(cost: float, knots: Sequence[float]) -> Bracket | None:
  """Finds the baseline points between which a cost lies.

  Args:
    cost: to look up.
    knots: costs of the baseline's points, rising.

  Returns:
    The neighbours and the weight of the right one; the same point twice if it costs the same
    (to 1 %); None outside the range, for nothing is extrapolated.
  """
  knots = np.asarray(knots, np.float64)
  if not knots.size or math.isnan(cost):
    return None
  nearest = int(np.argmin(np.abs(knots - cost)))
  if abs(knots[nearest] - cost) <= SAME_COST * cost:
    return Bracket(nearest, nearest, 0.0)
  right = int(np.searchsorted(knots, cost))
  if right in (0, knots.size):
    return None
  return Bracket(right - 1, right, float((cost - knots[right - 1]) / np.diff(knots)[right - 1]))


def equal_compute(workdir: Workdir, allow: Sequence[str] = ()) -> pd.DataFrame:
  """Compares every cell with the baseline at the same cost, paired by seed.

  For each seed the baseline is interpolated between that seed's own runs, so the spread of
  the paired differences already holds the uncertainty of the interpolation.

  Args:
    workdir: a loaded workdir.
    allow: fields of the comparability lock to override.

  Returns:
    One row per cell that is not baseline. `state` is empty, or says why there is no number
    (`missing`, `outside`, `refused`), with a `reason`. `baseline` is the interpolated
    accuracy, `at` names its points; the fields of `statistics.Paired`; `curvature` and the
    test-set `floor` in points; `same_budget` is the difference at equal B instead; `p_holm`
    and `verdict` are over all rows.

  Raises:
    ValueError: an unknown field in `allow`.
  """
  allow = comparability.check_allowed(allow, workdir)
  lock = comparability.lock_values(workdir)
  frame = workdir.cells.copy()
  frame['expected'] = frame['cost'].fillna(frame['planned_cost'])
  is_baseline = frame['rule'].eq('unif_sgd') | (frame['rule'].eq('sgd') & frame['budget'].eq(1))
  baseline = frame[is_baseline]
  done = _seeds(workdir.runs)
  knots = _finder(baseline, done, lock)
  others = frame[~is_baseline & ~frame['is_scoring'].astype(bool)].to_dict('records')
  rows = [_compare(cell, knots(cell), done, lock, allow) for cell in others]
  table = pd.DataFrame(rows, columns=_COLUMNS)
  tests = [statistics.Paired(*row) for row in table[list(statistics.Paired._fields)].to_numpy()]
  table['p_holm'] = statistics.holm(table['p'].astype(float))
  table['verdict'] = statistics.verdicts(tests)
  return table


class Seed(NamedTuple):
  """A finished run of a cell."""

  run_id: str
  cost: float
  accuracy: float


def _seeds(runs: pd.DataFrame) -> dict[str, dict[float | None, Seed]]:
  """cell_id -> seed -> its finished run, in rising order: plain values, for there are thousands."""
  done = cells.first_of_each_seed(runs[runs['status'] == 'done']).sort_values('seed')
  columns = ('cell_id', 'seed', 'run_id', 'cost', 'final_accuracy')
  found: dict[str, dict[float | None, Seed]] = {}
  for cell_id, seed, *rest in done[list(columns)].itertuples(index=False):
    found.setdefault(cell_id, {})[None if math.isnan(seed) else seed] = Seed(*rest)
  return found


def _finder(baseline: pd.DataFrame, done, lock) -> Callable[[dict], list[dict]]:
  """Gives what finds a cell's knots: the baseline's points nearest in setting, one per budget.

  They are of one variant, for a line joins only points that differ in their budget alone, and stand
  by rising cost. Cells of a variant share them: in a sweep of thousands each is found once.
  """
  setting = (*cells.SETTING, *cells.SCALE, 'batch_size')
  columns = [baseline[name].to_numpy() for name in setting]

  @functools.cache
  def nearest(values: tuple, variant: str) -> pd.DataFrame:
    differs = np.stack([c != value for c, value in zip(columns, values, strict=True)], axis=1)
    unlike = [tuple(row) for row in differs.tolist()]
    least = min(unlike)
    found = baseline[[row == least for row in unlike]]
    same = found['variant'] == variant
    return found[same] if same.any() else found

  @functools.cache
  def line(values: tuple, variant: str, order: tuple[int, ...]) -> list[dict]:
    found = nearest(values, variant).iloc[list(order)]
    found = found[found['variant'] == found['variant'].iloc[0]]  # differ in budget alone
    # unif_sgd at budget 1 would be sgd: either stands for it.
    return found.drop_duplicates('budget').sort_values('expected').to_dict('records')

  def knots(cell: dict) -> list[dict]:
    if baseline.empty:
      return []
    near = tuple(cell[name] for name in setting), cell['variant']
    own = _run_ids(done, cell['cell_id'])
    faults = [
      (name not in done, len(comparability.differing(lock, own + _run_ids(done, name))))
      for name in nearest(*near)['cell_id']
    ]
    return line(*near, tuple(sorted(range(len(faults)), key=faults.__getitem__)))

  return knots


def _run_ids(done, cell_id: str) -> list[str]:
  return [run.run_id for run in done.get(cell_id, {}).values()]


def _compare(cell: dict, knots: list[dict], done, lock, allow) -> dict:
  """One row of `equal_compute`."""
  row = {name: cell[name] for name in _COLUMNS if name in cell}
  row |= {'accuracy': cell['mean'], 'state': '', 'reason': '', 'overridden': ''}
  row |= statistics.paired([])._asdict()
  row['floor'] = statistics.noise_floor(cell['mean'], cell['num_test'])
  if not cell['done']:
    return row | {'state': 'missing', 'reason': cells.state(cell)}
  if not knots:
    return row | {'state': 'missing', 'reason': 'no unif_sgd in the plan'}
  place = bracket(cell['cost'], [knot['expected'] for knot in knots])
  if place is None:
    low, high = knots[0]['expected'], knots[-1]['expected']
    reason = f'the baseline costs {render.span(low, high, ".3g")}, and nothing is extrapolated'
    return row | {'state': 'outside', 'reason': reason}
  pair = [knots[i] for i in sorted({place.left, place.right})]
  absent = [_point(knot, ' at ') for knot in pair if not knot['done']]
  if absent:
    return row | {'state': 'missing', 'reason': f'{" and ".join(absent)} has not finished'}
  used = [run for c in (cell, *pair) for run in _run_ids(done, c['cell_id'])]
  refused, row['overridden'] = comparability.refusal(comparability.differing(lock, used), allow)
  if refused:
    return row | {'state': 'refused', 'reason': refused}
  own = done[cell['cell_id']]
  curve = _interpolated(own, done[pair[0]['cell_id']], done[pair[-1]['cell_id']])
  difference = {s: own[s].accuracy - at for s, at in curve.items()}
  known = [seed for seed, value in difference.items() if not math.isnan(value)]
  if not known:
    return row | {'state': 'refused', 'reason': 'no seed in common with the baseline'}
  row |= statistics.paired([difference[seed] for seed in known])._asdict()
  row['baseline'] = float(np.mean([curve[seed] for seed in known]))
  row['at'] = ' – '.join(map(_point, pair))
  finished = [knot for knot in knots if knot['done']]
  row['curvature'] = _curvature(cell['cost'], finished, place)
  same = next((knot for knot in finished if knot['budget'] == cell['budget']), None)
  if same:
    other = done[same['cell_id']]
    at_budget = [own[s].accuracy - other[s].accuracy for s in own if s in other]
    at_budget = statistics.paired([d for d in at_budget if not math.isnan(d)])
    row |= {'same_budget': at_budget.mean, 'same_budget_se': at_budget.se}
  return row


def _point(knot: dict, joint: str = ' ') -> str:
  return f'{knot["method"]}{joint}{layout.plain(knot["budget"])}'


def _interpolated(own: dict, left: dict, right: dict) -> dict[float | None, float]:
  """The baseline at a cell's cost, of the seeds that have all three runs."""
  found = {}
  for seed in (seed for seed in own if seed in left and seed in right):
    low, high = left[seed], right[seed]
    span = high.cost - low.cost
    weight = (own[seed].cost - low.cost) / span if span else 0.0
    found[seed] = low.accuracy + weight * (high.accuracy - low.accuracy)
  return found


def _curvature(cost: float, knots: list[dict], place: Bracket) -> float:
  """What PCHIP through the mean baseline adds to the chord; NaN below three points."""
  if place.left == place.right:
    return 0.0
  x, y = (np.array([knot[name] for knot in knots]) for name in ('cost', 'mean'))
  if len(x) < 3 or (np.diff(x) <= 0).any():
    return math.nan
  return pchip(x, y, cost) - float(np.interp(cost, x, y))


def pchip(x: np.ndarray, y: np.ndarray, at: float) -> float:
  """A cubic through points that is monotone where they are.

  Fritsch and Butland, "A Method for Constructing Local Monotone Piecewise Cubic Interpolants",
  with the ends of Moler's `pchip`: what `scipy.interpolate.PchipInterpolator` computes, which takes
  half a second to import.

  Args:
    x: rising, three or more.
    y: as many.
    at: between the first and the last x.

  Returns:
    The value there.
  """
  h, slope = np.diff(x), np.diff(y) / np.diff(x)
  rises = np.zeros(len(x))
  same = np.sign(slope[1:]) * np.sign(slope[:-1]) > 0
  one, two = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
  a, b = (np.where(same, part, 1.0) for part in (slope[:-1], slope[1:]))
  rises[1:-1] = np.where(same, (one + two) / (one / a + two / b), 0.0)
  for end, next_one in ((0, 1), (-1, -2)):
    first, second = h[end], h[next_one]
    rise = ((2 * first + second) * slope[end] - first * slope[next_one]) / (first + second)
    if np.sign(rise) != np.sign(slope[end]):
      rise = 0.0
    elif np.sign(slope[end]) != np.sign(slope[next_one]):
      rise = math.copysign(min(abs(rise), 3 * abs(slope[end])), rise)
    rises[end] = rise
  k = min(int(np.searchsorted(x, at, 'right')) - 1, len(h) - 1)
  t = (at - x[k]) / h[k]
  left = (1 + 2 * t) * y[k] + t * h[k] * rises[k]
  right = (3 - 2 * t) * y[k + 1] - (1 - t) * h[k] * rises[k + 1]
  return float((1 - t) ** 2 * left + t**2 * right)


def band(scores: pd.DataFrame, costs: pd.DataFrame, grid: np.ndarray) -> pd.DataFrame:
  """A frontier with its confidence band, interpolated seed by seed.

  Args:
    scores: accuracy, seeds x points.
    costs: the same of costs.
    grid: costs to evaluate at.

  Returns:
    `cost`, `mean`, `low`, `high` (95%), with NaN bounds for a single seed.
  """
  lines = [
    np.interp(grid, cost, score)
    for score, cost in zip(scores.to_numpy(), costs.to_numpy(), strict=True)
  ]
  columns = np.array(lines).T
  low, high = zip(*map(statistics.mean_interval, columns), strict=True)
  return pd.DataFrame({'cost': grid, 'mean': columns.mean(axis=1), 'low': low, 'high': high})
