"""What cells did epoch by epoch, the mean over their seeds."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxbudget.lab.report import load
from jaxbudget.lab.report.load import Workdir


class Course(NamedTuple):
  """A figure of a cell epoch by epoch; NaN where there is none.

  Attributes:
    epoch: f64[E], those that any run has reached.
    mean: f64[E], over seeds.
    std: f64[E], their standard deviation (ddof=1).
  """

  epoch: np.ndarray
  mean: np.ndarray
  std: np.ndarray


def by_epoch(workdir: Workdir, cell_id: str) -> dict[str, Course]:
  """The course of a cell's figures, by their names in `load.load_epochs`, and of its `cost`.

  Cost is all that was spent until then, with what the run is charged for those that it needs.
  """
  runs = []
  for run in workdir.runs[workdir.runs['cell_id'] == cell_id].itertuples():
    rows = load.load_epochs(workdir, run.run_id)
    for row in rows:
      spent = row.get('cost_forward_equivalents', math.nan) + run.scoring_forward_equivalents
      row['cost'] = spent / run.full_cost
    runs.append({row['epoch']: row for row in rows})
  epochs = sorted(set().union(*runs))
  names = dict.fromkeys(name for rows in runs for row in rows.values() for name in row)
  found = {}
  for name in names:
    values = np.array([[rows.get(e, {}).get(name, math.nan) for e in epochs] for rows in runs])
    known = np.isfinite(values)
    count = known.sum(axis=0)
    with np.errstate(divide='ignore', invalid='ignore'):  # NaN where there is nothing
      mean = np.where(known, values, 0).sum(axis=0) / count
      squares = (np.where(known, values - mean, 0) ** 2).sum(axis=0)
      std = np.where(count > 1, np.sqrt(squares / (count - 1)), math.nan)
    found[name] = Course(np.array(epochs), mean, std)
  return found


def curve(part: dict[str, Course], x: str, value: str) -> dict[str, Any]:
  """Mean and spread over seeds of one cell; nothing where there is nothing."""
  if value not in part or x not in part:
    return {}
  at, own = part[x].mean, part[value]
  shown = np.isfinite(at) & np.isfinite(own.mean)
  if not shown.any():
    return {}
  at, mean, std = at[shown], own.mean[shown], own.std[shown]
  spread = {'low': mean - std, 'high': mean + std} if np.isfinite(std).any() else {}
  return {'x': at, 'y': mean} | spread
