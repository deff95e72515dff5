"""Figure of recipes: networks and ways to train them on one axis of floating-point operations."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, layout, reading, statistics
from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.style import numbered_styles, set_aside
from jaxbudget.paths import file_name

_LINE = (*cells.SETTING, *cells.SCALE, 'batch_size', 'method')  # whose points differ in budget


def by_flops(workdir: Workdir) -> Iterator[Drawing]:
  """Accuracy against operations, for each data set on which several networks were trained.

  Args:
    workdir: a loaded workdir.

  Yields:
    Drawings, in the order of the plan.
  """
  runs = workdir.runs.assign(spent=spent(workdir.runs))
  known = runs['status'].eq('done') & runs['spent'].gt(0) & runs['final_accuracy'].notna()
  compared = runs[known & ~runs['is_scoring'].astype(bool)]
  caption = (
    'Accuracy of the last epoch against all floating-point operations of training and selection, '
    'runs that come first included and evaluation left out; a backward pass counts as two forward '
    'ones. Bars: 95% intervals over seeds.'
  )
  for dataset, frame in compared.groupby('dataset', sort=False):
    if frame['model'].nunique() > 1:
      name = layout.plain(dataset)
      draw = functools.partial(_picture, frame, name)
      title = f'Accuracy against operations: {name}'
      yield Drawing(file_name(f'flops_{name}'), title, caption, draw)


def spent(runs: pd.DataFrame) -> pd.Series:
  """Operations of training and selection, of each run.

  Args:
    runs: `Workdir.runs`.

  Returns:
    TFLOP; NaN where they are not known.
  """
  passes = runs['forward_equivalents'] + runs['forward_evaluated'].fillna(0)
  forward = runs['flops'].astype(float) / passes.where(passes > 0)
  return forward * runs['cost'] * runs['full_cost'] / 1e12


def _picture(frame: pd.DataFrame, name: str) -> dict[str, Any]:
  """One line for each network, way to train it and method."""
  groups = list(frame.groupby(list(_LINE), sort=False, dropna=False))
  varying = [n for n in _LINE if n == 'model' or frame[n].nunique(dropna=False) > 1]
  drawn = []
  for (_, own), style in zip(groups, numbered_styles(len(groups)), strict=True):
    points = [runs for _, runs in own.groupby('cell_id', sort=False)]
    points.sort(key=lambda runs: runs['spent'].mean())
    means = np.array([runs['final_accuracy'].mean() for runs in points])
    ends = np.array([statistics.mean_interval(runs['final_accuracy']) for runs in points]).T
    label = ' '.join(layout.plain(own[n].iloc[0]) for n in varying if n != 'dataset')
    drawn.append({
      'label': label, 'style': style, 'x': np.array([runs['spent'].mean() for runs in points]),
      'y': means, 'yerr': np.nan_to_num(np.maximum([means - ends[0], ends[1] - means], 0)),
    })  # fmt: skip
  axis = reading.score_axis(frame['score_name'])
  axes = {'xlabel': 'TFLOP', 'ylabel': axis, 'title': name, 'lines': drawn}
  return {'size': [6.2, 3.6], 'grid': [1, 1], 'panels': [axes | set_aside(drawn)]}
