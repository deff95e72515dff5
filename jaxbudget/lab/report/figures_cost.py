"""Figures of what runs cost: their time, and what they spent against the plan."""

from typing import Any

import numpy as np
import pandas as pd

from jaxbudget.lab.report import layout
from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.style import set_aside
from jaxbudget.paths import file_name

PHASES = (('train', '#0072B2', ''), ('evaluate', '#56B4E9', '///'), ('compile', '#E69F00', '...'),
          ('data', '#8C8C8C', 'xxx'))  # fmt: skip
_BARS = 40  # in one figure


def time(frame: pd.DataFrame, name: str) -> Drawing:
  """Seconds of a run, by what they were spent on.

  Args:
    frame: cells of one setting.
    name: of the setting.

  Returns:
    The drawing.
  """
  caption = 'Wall-clock time of a run, training apart from everything else.'
  timed = frame[frame['seconds_train'].notna()]
  if len(timed) > _BARS:
    caption += f' The {_BARS} slowest of {len(timed)} cells.'
    timed = timed.nlargest(_BARS, 'seconds_train')
  timed = timed.sort_values(['budget', 'method'])

  def picture() -> dict[str, Any]:
    left, bars = np.zeros(len(timed)), []
    for phase, colour, hatch in PHASES:
      seconds = timed[f'seconds_{phase}'].fillna(0).to_numpy()
      bars.append(
        {'values': seconds, 'left': left, 'color': colour, 'hatch': hatch, 'label': phase}
      )
      left = left + seconds
    panel = {
      'xlabel': 'seconds a run (mean over seeds)', 'title': name, 'bars': bars,
      'yticks': [f'{c["method"]} {layout.plain(c["budget"])}' for c in timed.to_dict('records')],
    }  # fmt: skip
    return {'size': [6.2, 0.4 + 0.2 * len(timed)], 'grid': [1, 1], 'panels': [panel]}

  return Drawing(file_name(f'time_{name}'), f'Where the time went: {name}', caption, picture)


def realised(workdir: Workdir, styles) -> Drawing:
  """Cost as spent against cost as planned.

  Args:
    workdir: a loaded workdir, with finished runs.
    styles: of its methods.

  Returns:
    The drawing.
  """

  def picture() -> dict[str, Any]:
    frame = workdir.cells[(workdir.cells['done'] > 0) & (workdir.cells['planned_cost'] > 0)]
    frame = frame.assign(excess=100 * (frame['cost'] / frame['planned_cost'] - 1))
    lines = [
      {
        'x': part['planned_cost'].to_numpy(), 'y': part['excess'].to_numpy(), 'label': rule,
        'style': styles[part['method'].iloc[0]] | {'linestyle': ''},
      }
      for rule, part in frame[frame['excess'].notna()].groupby('rule', sort=False)
    ]  # fmt: skip
    most = np.nan_to_num(frame['excess'].abs().max())
    spread = [min(-1, 1.15 * frame['excess'].min()), max(1, 1.15 * frame['excess'].max())]
    panel = {
      'xlabel': 'planned cost (full runs of SGD = 1)', 'ylabel': 'spent − planned (% of planned)',
      'title': 'Realised against planned budget', 'lines': lines, 'hlines': [{'at': 0}],
      'ylim': [-1, 1] if most < 1 else spread,
    }  # fmt: skip
    panel |= set_aside(lines) if lines else {}
    return {'size': [6.2, 3.0], 'grid': [1, 1], 'panels': [panel]}

  caption = 'Forward equivalents of a cell, mean over seeds; 0 is exactly what the plan said. '
  caption += 'Points of one cost stand side by side.'
  return Drawing('realised', 'Realised against planned budget', caption, picture)
