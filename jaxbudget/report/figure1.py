"""Figure 1 (a)-(d) of the paper: the original, digitised, and ours beside it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxbudget.report import cells, paper, statistics
from jaxbudget.report.load import Workdir
from jaxbudget.report.style import Drawing

_GROUPS = {  # the paper's group -> our selector, colour, marker
  'Random': ('random_subset', '#E69F00', 'X'),
  'Core-set': ('coreset', '#009E73', '<'),
  'unif-SGD': ('unif_sgd', '#000000', 'o'),
}
_ABLATIONS = {  # the paper's series -> schedule, smoothing, average, augmentation; its label
  'SLR_noeps_noavg': (('step', False, False, 'standard'), 'step, no ε, no average'),
  'LLR_noeps_noavg': (('linear', False, False, 'standard'), 'linear, no ε, no average'),
  'LLR_noeps_avg': (('linear', False, True, 'standard'), 'linear, no ε'),
  'LLR_eps_avg': (('linear', True, True, 'standard'), 'linear (p_sgd)'),
  'LLR_eps_avg_ricap': (('linear', True, True, 'ricap'), 'linear, RICAP'),
}


def draw(workdir: Workdir) -> Iterator[Drawing]:
  """Draws the panels that the workdir has runs for.

  Args:
    workdir: a loaded workdir.

  Yields:
    One drawing per panel, the digitised original left, ours right.
  """
  runs = workdir.runs[workdir.runs['status'] == 'done']
  for panel, printed in paper.figure1().groupby('panel'):
    ours = _of_dataset(runs, printed['dataset'].iloc[0])
    is_accuracy = printed['metric'].iloc[0] == 'accuracy_percent'
    points = _subset_points(ours) if is_accuracy else _entropy_points(ours)
    if points is None:
      continue
    figure = Figure(figsize=(7.2, 3.5), layout='constrained')
    left, right = figure.subplots(1, 2)
    (_draw_subsets if is_accuracy else _draw_entropy)(left, _printed_points(printed))
    (_draw_subsets if is_accuracy else _draw_entropy)(right, points)
    dataset, where = printed['dataset'].iloc[0], ', '.join(sorted(set(ours['dataset'])))
    left.set_title(f'paper, {dataset} (digitised)')
    right.set_title(f'ours, {where}')
    what = 'fixed subsets against fresh ones' if is_accuracy else 'how evenly p_sgd samples'
    caption = (
      'Accuracy by share of the data per epoch, step schedule; dashed: all data. Error bars: '
      '95 % interval over seeds (ours), reading error (paper).'
      if is_accuracy
      else 'H(c), entropy of sample counts in nats, at budget 0.3; dashed: ln N, perfectly even.'
    )
    yield Drawing(f'figure1{panel}', f'Figure 1 ({panel}): {what}', caption, figure)


def _of_dataset(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
  """The paper's data set if it was run, else what a rehearsal ran instead."""
  own = runs[runs['dataset'].map(paper.canonical) == paper.canonical(dataset)]
  official = runs['dataset'].map(paper.canonical).isin(['cifar10', 'cifar100'])
  return own if len(own) or official.any() else runs


def _printed_points(printed: pd.DataFrame) -> pd.DataFrame:
  table = printed.assign(
    low=printed['value'] - printed['uncertainty'], high=printed['value'] + printed['uncertainty']
  )
  if table['metric'].iloc[0] == 'accuracy_percent':
    return table.assign(budget=pd.to_numeric(table['series']))
  return table.assign(limit=np.log(50_000))


def _subset_points(runs: pd.DataFrame) -> pd.DataFrame | None:
  """Our accuracies for panels (a) and (b), or None without any fixed subset."""
  runs = runs[(runs['schedule'] == 'step') & (runs['augment'] == 'standard')]
  names = {selector: group for group, (selector, *_) in _GROUPS.items()} | {'sgd': 'SGD'}
  if not runs['selector'].isin(['random_subset', 'coreset']).any():
    return None
  rows = []
  for (selector, budget), part in runs.groupby(['selector', 'budget']):
    plain = part[part['method'].isin(set(part['selector']))]
    if selector in names and len(plain):
      rows.append({'group': names[selector], 'budget': budget, **_summary(plain, 'final_accuracy')})
  return pd.DataFrame(rows)


def _entropy_points(runs: pd.DataFrame) -> pd.DataFrame | None:
  """Our H(c) for panels (c) and (d), or None without any ablation."""
  runs = runs[(runs['selector'] == 'p_sgd') & np.isclose(runs['budget'].astype(float), 0.3)]
  options = [
    (r.schedule, r.options.get('smoothing', True), r.options.get('average', True), r.augment)
    for r in runs.itertuples()
  ]
  keys = pd.Series([str(o) for o in options], index=runs.index, dtype=object)
  rows = []
  for series, (wanted, _) in _ABLATIONS.items():
    part = runs[keys == str(wanted)]
    if len(part):
      limit = np.log(part['num_train'].iloc[0])
      rows.append({'series': series, 'limit': limit, **_summary(part, 'entropy_nats')})
  ablated = [row for row in rows if 'noeps' in row['series']]
  return pd.DataFrame(rows) if ablated else None


def _summary(part: pd.DataFrame, column: str) -> dict[str, float]:
  found = statistics.paired(cells.first_of_each_seed(part)[column])
  return {'value': found.mean, 'low': found.low, 'high': found.high}


def _draw_subsets(ax: Axes, points: pd.DataFrame) -> None:
  full = points[points['group'] == 'SGD']
  for group, (_, colour, marker) in _GROUPS.items():
    own = points[points['group'] == group].sort_values('budget')
    if len(own):
      ax.errorbar(100 * own['budget'], own['value'], _errors(own), label=group, color=colour,
                  marker=marker, capsize=2, elinewidth=0.8)  # fmt: skip
  for value in full['value']:
    ax.axhline(value, color='black', linestyle='--', lw=1, label='SGD, all data')
  ax.set(xlabel='share of the data per epoch (%)', ylabel='test accuracy (%)')
  ax.legend()


def _draw_entropy(ax: Axes, points: pd.DataFrame) -> None:
  names = [series for series in _ABLATIONS if series in set(points['series'])]
  points = points.set_index('series').loc[names]
  ax.errorbar(points['value'], range(len(points)), xerr=_errors(points), color='#0072B2',
              marker='s', linestyle='', capsize=2)  # fmt: skip
  limit = points['limit'].iloc[0]
  ax.axvline(limit, color='black', linestyle='--', lw=1)
  ax.set(yticks=range(len(points)), xlabel='H(c) (nats)', ylim=(len(points) - 0.5, -0.5))
  ax.set_yticklabels([_ABLATIONS[name][1] for name in names])


def _errors(points: pd.DataFrame) -> np.ndarray:
  errors = np.array([points['value'] - points['low'], points['high'] - points['value']])
  return np.nan_to_num(np.maximum(errors, 0))
