"""Equal compute: what a method gains over uniform sampling that costs the same.

The baseline is `unif_sgd` at all its budgets, with `sgd` as its budget 1, joined by straight
lines in (cost, accuracy). Costs are forward equivalents with selection charged, in units of
a full run (fidelity.md 6). Accuracy is concave in cost, so the chord lies below the true
curve: it flatters the method, never the baseline. How much shows in `curvature`, the change
if a monotone cubic through the same points (PCHIP) replaced the chord.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from jaxbudget.lab.report import baselines, cells, comparability, layout, render, statistics
from jaxbudget.lab.report.baselines import run_ids
from jaxbudget.lab.report.interpolation import Bracket, bracket, pchip
from jaxbudget.lab.report.load import Workdir

_COLUMNS = [
  'cell_id', *cells.SETTING, *cells.SCALE, 'batch_size', 'fidelity', 'method', 'rule', 'variant',
  'selector', 'budget', 'cost', 'accuracy',
  'state', 'reason', 'overridden', 'baseline', 'at', *statistics.Paired._fields, 'curvature',
  'floor', 'same_budget', 'same_budget_se', 'p_holm', 'verdict',
]  # fmt: skip


def equal_compute(workdir: Workdir, allow: Sequence[str] = ()) -> pd.DataFrame:
  """Compares every cell with the baseline at the same cost, paired by seed.

  For each seed the baseline is interpolated at that seed's own cost between its own runs, so the
  spread of the paired differences already holds the uncertainty of the interpolation. A seed that
  costs less or more than every point is left out.

  Args:
    workdir: a loaded workdir.
    allow: fields of the comparability lock to override.

  Returns:
    One row per cell that is not baseline. `state` is empty, or says why there is no number
    (`missing`, `outside`, `refused`), with a `reason`; of a comparison `reason` says which seeds
    it lacks. `baseline` is the interpolated accuracy, `at` names its points; it, `accuracy`,
    `cost` and `curvature` are means over the seeds that are paired, or over all of a cell without
    a comparison; the fields of `statistics.Paired`; `curvature` and the test-set `floor` in
    points; `same_budget` is the difference at equal B instead; `p_holm` and `verdict` are over
    all rows.

  Raises:
    ValueError: an unknown field in `allow`.
  """
  allow = comparability.check_allowed(allow, workdir)
  lock = comparability.lock_values(workdir)
  frame = workdir.cells.copy()
  frame['expected'] = frame['cost'].fillna(frame['planned_cost'])
  other = ~workdir.runs['score_name'].isin(('accuracy', ''))  # scores that are no share
  frame['is_share'] = ~frame['cell_id'].isin(workdir.runs.loc[other, 'cell_id'])
  is_baseline = frame['rule'].eq('unif_sgd') | (frame['rule'].eq('sgd') & frame['budget'].eq(1))
  baseline = frame[is_baseline]
  done = baselines.seeds(workdir.runs)
  knots = baselines.finder(baseline, done, lock)
  others = frame[~is_baseline & ~frame['is_scoring'].astype(bool)].to_dict('records')
  rows = [_compare(cell, knots(cell), done, lock, allow) for cell in others]
  table = pd.DataFrame(rows, columns=_COLUMNS)
  tests = [statistics.Paired(*row) for row in table[list(statistics.Paired._fields)].to_numpy()]
  table['p_holm'] = statistics.holm(table['p'].astype(float))
  table['verdict'] = statistics.verdicts(tests)
  return table


def _compare(cell: dict, knots: list[dict], done, lock, allow) -> dict:
  """One row of `equal_compute`."""
  row = {name: cell[name] for name in _COLUMNS if name in cell}
  row |= {'accuracy': cell['mean'], 'state': '', 'reason': '', 'overridden': ''}
  row |= statistics.paired([])._asdict()
  tested = cell['num_test'] if cell['is_share'] else math.nan
  row['floor'] = statistics.noise_floor(cell['mean'], tested)
  if not cell['done']:
    return row | {'state': 'missing', 'reason': cells.state(cell)}
  if not knots:
    return row | {'state': 'missing', 'reason': 'no unif_sgd in the plan'}
  own, costs = done[cell['cell_id']], [knot['expected'] for knot in knots]
  if all(math.isnan(run.cost) for run in own.values()):
    return row | {'state': 'missing', 'reason': 'what it cost is not known'}
  if np.isnan(costs).all():
    return row | {'state': 'missing', 'reason': 'what the baseline cost is not known'}
  places = {seed: bracket(run.cost, costs) for seed, run in own.items()}
  places = {seed: place for seed, place in places.items() if place}
  if not places:
    low, high = knots[0]['expected'], knots[-1]['expected']
    reason = f'the baseline costs {render.span(low, high, ".3g")}, and nothing is extrapolated'
    return row | {'state': 'outside', 'reason': reason}
  absent = [_point(knot, ' at ') for knot in _points(knots, places) if not knot['done']]
  places = {s: p for s, p in places.items() if knots[p.left]['done'] and knots[p.right]['done']}
  if not places:
    return row | {'state': 'missing', 'reason': f'{" and ".join(absent)} has not finished'}
  points = _points(knots, places)
  runs = run_ids(done, cell['cell_id'])
  used = runs + [run for knot in points for run in run_ids(done, knot['cell_id'])]
  refused, row['overridden'] = comparability.refusal(comparability.differing(lock, used), allow)
  if refused:
    return row | {'state': 'refused', 'reason': refused}
  curve = _interpolated(own, places, [done.get(knot['cell_id'], {}) for knot in knots])
  difference = {s: own[s].accuracy - at for s, at in curve.items()}
  known = [seed for seed, value in difference.items() if not math.isnan(value)]
  if not known:
    return row | _unpaired([own[seed].accuracy for seed in places], curve, len(points))
  row |= statistics.paired([difference[seed] for seed in known])._asdict()
  row |= {
    'cost': float(np.mean([own[seed].cost for seed in known])),
    'accuracy': float(np.mean([own[seed].accuracy for seed in known])),
    'baseline': float(np.mean([curve[seed] for seed in known])),
    'at': ' – '.join(map(_point, points)),
  }
  row['floor'] = statistics.noise_floor(row['accuracy'], tested)
  left = f'{len(own) - len(known)} of {len(own)} finished seeds not paired'
  row['reason'] = ', '.join(filter(None, (cells.state(cell), left * (len(known) < len(own)))))
  finished = [knot for knot in knots if knot['done']]
  curvatures = [_curvature(own[seed].cost, finished, places[seed]) for seed in known]
  row['curvature'] = float(np.mean(curvatures))
  same = next((knot for knot in finished if knot['budget'] == cell['budget']), None)
  used = runs + run_ids(done, same['cell_id']) if same else []
  if same and not comparability.refusal(comparability.differing(lock, used), allow)[0]:
    other = done[same['cell_id']]
    at_budget = statistics.paired([own[s].accuracy - other[s].accuracy for s in own if s in other])
    row |= {'same_budget': at_budget.mean, 'same_budget_se': at_budget.se}
  return row


def _points(knots: list[dict], places: dict[float | None, Bracket]) -> list[dict]:
  """The points between which seeds lie, by rising cost."""
  return [knots[i] for i in sorted({i for p in places.values() for i in (p.left, p.right)})]


def _unpaired(scores: list[float], curve: dict[float | None, float], points: int) -> dict[str, str]:
  """Why no seed of a cell could be paired, though its baseline is there and alike."""
  if np.isnan(scores).all():
    return {'state': 'missing', 'reason': 'none of its runs has a score'}
  if curve and np.isnan([*curve.values()]).all():
    return {'state': 'missing', 'reason': 'no run of the baseline has a score'}
  where = 'the baseline' if points == 1 else 'the points of the baseline beside it'
  return {'state': 'missing', 'reason': f'no seed in common with {where}, with a score of each'}


def _point(knot: dict, joint: str = ' ') -> str:
  return f'{knot["method"]}{joint}{layout.plain(knot["budget"])}'


def _interpolated(
  own: dict, places: dict[float | None, Bracket], runs: list[dict]
) -> dict[float | None, float]:
  """The baseline at each seed's cost, of the seeds that have runs at both of their points."""
  found = {}
  for seed, place in places.items():
    low, high = (runs[i].get(seed) for i in (place.left, place.right))
    if low and high:
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
