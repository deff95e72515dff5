"""Figure 1 (a)-(d) of the paper: the original, digitised, and ours beside it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxbudget.lab.paper import printed
from jaxbudget.lab.report import cells, statistics
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.style import Drawing, words

_GROUPS = {  # the paper's method -> colour, marker
  'Random': ('#E69F00', 'X'),
  'Core-set': ('#009E73', '<'),
  'unif-SGD': ('#000000', 'o'),
}
_SERIES = {  # the paper's series -> what it changes
  'SLR_noeps_noavg': 'step, no ε, no average',
  'LLR_noeps_noavg': 'linear, no ε, no average',
  'LLR_noeps_avg': 'linear, no ε',
  'LLR_eps_avg': 'linear (p_sgd)',
  'LLR_eps_avg_ricap': 'linear, RICAP',
}


def draw(workdir: Workdir) -> Iterator[Drawing]:
  """Draws the panels that the workdir has runs for.

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
    draw_points = _draw_accuracy if is_accuracy else _draw_entropy
    figure = Figure(figsize=(7.2, 3.5), layout='constrained')
    left, right = figure.subplots(1, 2)
    draw_points(left, _printed_points(original))
    draw_points(right, points)
    left.set_title(f'paper, {original["dataset"].iloc[0]} (digitised)')
    right.set_title(words(f'ours, {", ".join(dict.fromkeys(points["dataset"]))}'))
    if not is_accuracy:
      right.set_yticklabels([])
    what = 'fixed subsets against fresh ones' if is_accuracy else 'how evenly p_sgd samples'
    caption = (
      'Accuracy by share of the data per epoch, step schedule; dashed: all data. Error bars: '
      '95% interval over seeds (ours), reading error (paper).'
      if is_accuracy
      else 'H(c), entropy of sample counts in nats, at budget 0.3; dashed: ln N, perfectly even.'
    )
    yield Drawing(f'figure1{panel}', f'Figure 1 ({panel}): {what}', caption, figure)


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


def _draw_accuracy(ax: Axes, points: pd.DataFrame) -> None:
  full = points[points['group'] == 'SGD']
  for group, (colour, marker) in _GROUPS.items():
    own = points[points['group'] == group].sort_values('budget')
    if len(own):
      ax.errorbar(100 * own['budget'], own['value'], _errors(own), label=group, color=colour,
                  marker=marker, capsize=2, elinewidth=0.8)  # fmt: skip
  for value in full['value']:
    ax.axhline(value, color='black', linestyle='--', lw=1, label='SGD, all data')
  ax.set(xlabel='share of the data per epoch (%)', ylabel='test accuracy (%)')
  ax.legend()


def _draw_entropy(ax: Axes, points: pd.DataFrame) -> None:
  names = list(_SERIES)
  points = points.set_index('series').reindex(names)
  ax.errorbar(points['value'], range(len(points)), xerr=_errors(points), color='#0072B2',
              marker='s', linestyle='', capsize=2)  # fmt: skip
  limit = points['limit'].max()
  ax.axvline(limit, color='black', linestyle='--', lw=1)
  ax.set(yticks=range(len(points)), xlabel='H(c) (nats)', ylim=(len(points) - 0.5, -0.5))
  ax.set_yticklabels([_SERIES[name] for name in names])


def _errors(points: pd.DataFrame) -> np.ndarray:
  errors = np.array([points['value'] - points['low'], points['high'] - points['value']])
  return np.nan_to_num(np.maximum(errors, 0))
