"""Figure 1 (a)-(d) of the paper: the original, digitised, and ours beside it."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from jaxbudget.lab.paper import printed
from jaxbudget.lab.report import cells, statistics
from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.load import Workdir

_GROUPS = {  # the paper's method -> colour, marker
  'Random': ('#E69F00', 'X'),
  'Core-set': ('#009E73', '<'),
  'unif-SGD': ('#000000', 'o'),
}
_FULL = {'color': '#000000', 'linestyle': '--', 'width': 1}
_SERIES = {  # the paper's series -> what it changes
  'SLR_noeps_noavg': 'step, no ε, no average',
  'LLR_noeps_noavg': 'linear, no ε, no average',
  'LLR_noeps_avg': 'linear, no ε',
  'LLR_eps_avg': 'linear (p_sgd)',
  'LLR_eps_avg_ricap': 'linear, RICAP',
}


def drawings(workdir: Workdir) -> Iterator[Drawing]:
  """The panels that the workdir has runs for.

  Args:
    workdir: a loaded workdir.

  Yields:
    One drawing per panel, the digitised original left, ours right.
  """
  ours = _our_points(workdir)
  for panel, original in printed.figure1().groupby('panel'):
    points = ours[ours['panel'] == panel]
    if points.empty:
      continue
    is_accuracy = original['metric'].iloc[0] == 'accuracy_percent'
    what = 'fixed subsets against fresh ones' if is_accuracy else 'how evenly p_sgd samples'
    caption = (
      'Accuracy by share of the data per epoch, step schedule; dashed: all data. Error bars: '
      '95% interval over seeds (ours), reading error (paper).'
      if is_accuracy
      else 'H(c), entropy of sample counts in nats, at budget 0.3; dashed: ln N, perfectly even.'
    )
    draw = functools.partial(_picture, original, points, _accuracy if is_accuracy else _entropy)
    yield Drawing(f'figure1{panel}', f'Figure 1 ({panel}): {what}', caption, draw)


def _picture(original: pd.DataFrame, points: pd.DataFrame, panel: Callable) -> dict[str, Any]:
  left, right = panel(_printed_points(original)), panel(points)
  left['title'] = f'paper, {original["dataset"].iloc[0]} (digitised)'
  right['title'] = f'ours, {", ".join(dict.fromkeys(points["dataset"]))}'
  if 'yticks' in right:
    right['yticks'] = [''] * len(right['yticks'])
  return {'size': [7.2, 3.2], 'grid': [1, 2], 'panels': [left, right]}


def _printed_points(original: pd.DataFrame) -> pd.DataFrame:
  value, error = original['value'], original['uncertainty']
  table = original.assign(low=value - error, high=value + error)
  if table['metric'].iloc[0] == 'accuracy_percent':
    return table.assign(budget=pd.to_numeric(table['series']))
  return table.assign(limit=np.log(50_000))


def _our_points(workdir: Workdir) -> pd.DataFrame:
  """What the finished runs put in the place of each printed point; `released` comes first."""
  finished = cells.finished(workdir.runs)
  rows = {}
  frame = workdir.cells[workdir.cells['apart'] == '']  # of a cell's seeds, those pooled
  frame = frame.sort_values('fidelity', ascending=False, kind='stable')
  for cell in frame.to_dict('records'):
    for place in cell['paper'] if cell['cell_id'] in finished else ():
      if printed.canonical(place.get('table')) == 'figure1':
        panel, series = str(place.get('panel')), str(place.get('series'))
        column = 'final_accuracy' if panel in 'ab' else 'entropy_nats'
        found = statistics.paired(finished[cell['cell_id']][column])
        point = {
          'panel': panel, 'dataset': cell['dataset'], 'group': str(place.get('method')),
          'series': series, 'budget': cell['budget'], 'limit': np.log(cell['num_train']),
          'value': found.mean, 'low': found.low, 'high': found.high,
        }  # fmt: skip
        rows.setdefault((panel, point['group'], series), point)
  return pd.DataFrame(list(rows.values()), columns=[
    'panel', 'dataset', 'group', 'series', 'budget', 'limit', 'value', 'low', 'high',
  ])  # fmt: skip


def _accuracy(points: pd.DataFrame) -> dict[str, Any]:
  lines = []
  for group, (colour, marker) in _GROUPS.items():
    own = points[points['group'] == group].sort_values('budget')
    if len(own):
      lines.append({
        'x': 100 * own['budget'].to_numpy(), 'y': own['value'].to_numpy(), 'yerr': _errors(own),
        'label': group, 'style': {'color': colour, 'marker': marker},
      })  # fmt: skip
  full = [{'at': value, **_FULL, 'label': 'SGD, all data'}
          for value in points.loc[points['group'] == 'SGD', 'value']]  # fmt: skip
  return {
    'xlabel': 'share of the data per epoch (%)', 'ylabel': 'test accuracy (%)', 'lines': lines,
    'hlines': full,
  }  # fmt: skip


def _entropy(points: pd.DataFrame) -> dict[str, Any]:
  points = points.set_index('series').reindex(list(_SERIES))
  style = {'color': '#0072B2', 'marker': 's', 'linestyle': ''}
  line = {'x': points['value'].to_numpy(), 'y': np.arange(len(points)), 'xerr': _errors(points)}
  return {
    'xlabel': 'H(c) (nats)', 'yticks': list(_SERIES.values()), 'lines': [line | {'style': style}],
    'vlines': [{'at': points['limit'].max(), **_FULL}],
  }  # fmt: skip


def _errors(points: pd.DataFrame) -> np.ndarray:
  errors = np.array([points['value'] - points['low'], points['high'] - points['value']])
  return np.nan_to_num(np.maximum(errors, 0))
