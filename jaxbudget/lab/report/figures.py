"""The figures of a report, each for one setting (data, augmentation, schedule), as plain data."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, courses, figures_cost, layout, load, reading, statistics
from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.frontier import band
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.style import method_styles, set_aside, shades
from jaxbudget.paths import file_name

COST = 'cost (full runs of SGD = 1, selection charged)'
_LINES = 14  # in a figure, if its cells can be parted by what else differs
_TELLING = (
  ('selector_acceptance_rate', 'acceptance rate', 'accepted share of candidates'),
  ('selector_q', 'q', 'q (losses in the mean)'),
)


def frontiers(workdir: Workdir) -> Iterator[Drawing]:
  """Accuracy against cost, a figure for each setting with something to compare.

  Args:
    workdir: a loaded workdir.

  Yields:
    Drawings, in the order of the plan.
  """
  styles, finished = method_styles(workdir.cells), cells.finished(workdir.runs)
  caption = (
    'Accuracy of the last epoch against everything spent on it. Bars and the band around '
    'unif_sgd: 95% intervals over seeds (t below 10 seeds, BCa bootstrap from 10 up). A line '
    'joins points that differ in their budget alone; points of one cost stand side by side, '
    'unif_sgd where it belongs.'
  )
  for name, frame in settings(workdir):
    axis = _score_axis(workdir, frame)
    known = frame['cost'].notna() & frame['mean'].notna()
    compared = frame[known & ~frame['is_scoring'].astype(bool)]
    if not compared.empty:
      draw = functools.partial(_frontier, compared, finished, styles, name, axis)
      yield Drawing(file_name(f'frontier_{name}'), f'Accuracy against cost: {name}', caption, draw)


def training(workdir: Workdir) -> Iterator[Drawing]:
  """What happened in training: costs as planned and as spent, curves, selectors, time.

  Args:
    workdir: a loaded workdir.

  Yields:
    Drawings: first one of each setting, then the second of each.
  """
  styles = method_styles(workdir.cells)
  if (workdir.cells['done'] > 0).any():
    yield figures_cost.realised(workdir, styles)
  by_epoch = functools.lru_cache(maxsize=64)(functools.partial(courses.by_epoch, workdir))
  begun = workdir.runs[workdir.runs['has_metrics'].astype(bool)].drop_duplicates('cell_id')
  begun = dict(zip(begun['cell_id'], begun['run_id'], strict=True))  # a run of each such cell
  groups = [
    (
      *_curves(workdir, frame, begun, by_epoch, name, styles),
      *_internals(workdir, frame, begun, by_epoch, name),
      *([figures_cost.time(frame, name)] if frame['seconds_train'].notna().any() else []),
    )
    for name, frame in settings(workdir)
  ]
  for places in itertools.zip_longest(*groups):
    yield from filter(None, places)


def settings(workdir: Workdir) -> Iterator[tuple[str, pd.DataFrame]]:
  """Cells that may share a figure, with a name for them that says where settings differ."""
  frame = workdir.cells
  varying = [n for n in cells.SETTING if frame[n].nunique(dropna=False) > 1]
  scales = [n for n in cells.SCALE if frame[n].nunique(dropna=False) > 1]
  keys = [*cells.SETTING, *cells.SCALE]  # an axis of costs has one unit
  for _, part in frame.groupby(keys, sort=False, dropna=False):
    first = part.iloc[0]
    words = [layout.plain(first[n]) for n in varying or ['dataset', 'augment', 'schedule']]
    name = ', '.join([*words, *(f'{n}={layout.plain(first[n])}' for n in scales)])
    if part['method'].nunique() <= _LINES or part['variant'].nunique() == 1:
      yield name, part
    else:  # too many lines for one figure
      for variant, own in part.groupby(part['variant'].map(_apart), sort=False):
        yield ', '.join(filter(None, (name, variant))), own


# What only says how dear choosing is: such cells stand beside the baseline.
_PRICES = ('score_every', 'score_size', 'shared_by')


def _apart(variant: str) -> str:
  """What of a variant keeps cells out of each other's figures."""
  return ' '.join(word for word in variant.split() if word.partition('=')[0] not in _PRICES)


def _frontier(frame: pd.DataFrame, finished: dict, styles: dict, name, axis) -> dict[str, Any]:
  """One line for each method; the baseline, closed by sgd, with its band."""
  full = frame[frame['rule'].eq('sgd')]
  lines = frame.assign(baseline=frame['rule'].eq('unif_sgd')).drop_duplicates('method')
  lines = lines.sort_values('baseline', ascending=False, kind='stable')
  drawn = []
  for method, variant, is_baseline in lines[['method', 'variant', 'baseline']].itertuples(
    index=False
  ):
    own = frame[frame['method'].eq(method)]
    if is_baseline:  # sgd is unif_sgd at budget 1
      own = pd.concat([own, full[full['variant'].eq(variant)]])
    runs = [finished[c][['cost', 'final_accuracy']] for c in own.sort_values('cost')['cell_id']]
    drawn.append({'label': method, 'style': styles[method]} | _points(runs, shaded=is_baseline))
  panel = {'xlabel': COST, 'ylabel': axis, 'title': name, 'lines': drawn}
  low = min((line['y'] - line['yerr'][0]).min() for line in drawn)
  high = max((line['y'] + line['yerr'][1]).max() for line in drawn)
  pad = max(0.05 * (high - low), 0.1)
  share = axis == reading.score_axis(())  # other scores may be negative
  panel['ylim'] = [max(low - pad, -0.5 if share else -math.inf), min(high + pad, 100.5)]
  return {'size': [6.2, 3.6], 'grid': [1, 1], 'panels': [panel | set_aside(drawn)]}


def _score_axis(workdir: Workdir, frame: pd.DataFrame) -> str:
  runs = workdir.runs
  return reading.score_axis(runs.loc[runs['cell_id'].isin(frame['cell_id']), 'score_name'])


def _points(runs: list[pd.DataFrame], shaded: bool) -> dict[str, Any]:
  """Means with their intervals, by rising cost; the band is interpolated seed by seed."""
  means = np.array([run['final_accuracy'].mean() for run in runs])
  costs = np.array([run['cost'].mean() for run in runs])
  ends = np.array([statistics.mean_interval(run['final_accuracy']) for run in runs]).T
  errors = np.nan_to_num(np.maximum([means - ends[0], ends[1] - means], 0))
  line = {'x': costs, 'y': means, 'yerr': errors}
  together = pd.concat(runs, axis=1, keys=range(len(runs)), join='inner')
  if shaded and len(runs) > 1 and len(together) > 1:
    grid = np.geomspace(costs.min(), costs.max(), 50)
    score, cost = (together.xs(k, axis=1, level=1) for k in ('final_accuracy', 'cost'))
    shown = band(score, cost, grid)
    line |= {'band_x': grid, 'low': shown['low'], 'high': shown['high']}
  return line


def _curves(workdir: Workdir, frame, begun, by_epoch, name: str, styles) -> Iterator[Drawing]:
  """For each budget: accuracy and loss by epoch and by cost, sample counts, H(c)."""
  full = frame[frame['rule'].eq('sgd')]
  budgets = sorted(set(frame['budget'].dropna()))
  caption = (
    'Mean over seeds, shaded ± one standard deviation; sgd at budget 1 for reference. '
    'Times trained: how often each sample was trained on, in the runs of one seed. H(c): '
    'entropy of those counts in nats; thin line: ln N, perfectly even use.'
  )
  for budget in [b for b in budgets if b < 1] or budgets:
    at_budget = frame[frame['budget'] == budget]
    shown = pd.concat([at_budget, full[~full['cell_id'].isin(at_budget['cell_id'])]])
    shown = shown[[cell_id in begun for cell_id in shown['cell_id']]]
    if not shown.empty:
      title = f'{name}, budget {layout.plain(budget)}'
      draw = functools.partial(_curves_picture, workdir, shown, by_epoch, styles, title)
      stem = file_name(f'curves_{name}_b{layout.plain(budget)}')
      yield Drawing(stem, f'Training: {title}', caption, draw)


def _curves_picture(workdir: Workdir, shown, by_epoch: Callable, styles, title: str) -> dict:
  epoch, cost = 'epoch', 'cost (full runs of SGD = 1)'
  accuracy = _score_axis(workdir, shown)
  loss = 'training loss (nats)' if accuracy == reading.score_axis(()) else 'training loss'
  panels = [
    {'xlabel': x, 'ylabel': y, 'lines': []}
    for x, y in ((epoch, accuracy), (cost, accuracy), (epoch, loss), (cost, loss))
  ]
  counts = {'xlabel': 'times trained on', 'ylabel': 'samples (% per count)', 'stairs': []}
  entropy = {'xlabel': epoch, 'ylabel': 'H(c) (nats)', 'lines': []}
  for cell in shown.to_dict('records'):
    part = by_epoch(cell['cell_id'])
    style = {k: v for k, v in styles[cell['method']].items() if k != 'marker'}
    values = ('test_accuracy', 'test_accuracy', 'train_loss', 'train_loss', 'entropy_nats')
    for number, (panel, value) in enumerate(zip((*panels, entropy), values, strict=True)):
      x = 'cost' if number in (1, 3) else 'epoch'
      panel['lines'] += courses.curve(part, x, value) and [
        {'label': cell['method'], 'style': style} | courses.curve(part, x, value)
      ]
    counts['stairs'] += _histogram(workdir, cell['cell_id'], style)
  for panel in panels[2:]:
    panel['ylog'] = bool(panel['lines']) and all((line['y'] > 0).all() for line in panel['lines'])
  sizes = sorted(set(shown['num_train'].dropna()))
  entropy['hlines'] = [{'at': math.log(size)} for size in sizes if size > 0]
  return {
    'size': [7.2, 6.4], 'grid': [3, 2], 'title': title, 'panels': [*panels, counts, entropy],
  }  # fmt: skip


def _histogram(workdir: Workdir, cell_id: str, style: dict) -> list[dict[str, Any]]:
  """Times each sample was trained on, in the first run that kept its counts."""
  for run_id in workdir.runs.loc[workdir.runs['cell_id'] == cell_id, 'run_id']:
    counts = load.load_counts(workdir, run_id)
    if counts is not None and counts.size:
      top = int(counts.max())
      width = max(1, math.ceil((top + 1) / 40))
      edges = np.arange(0, top + width + 1, width) - 0.5
      share = np.histogram(counts, edges)[0] / counts.size / width
      return [{'values': 100 * share, 'edges': edges, 'style': style}]
  return []


def _internals(workdir: Workdir, frame, begun, by_epoch, name: str) -> Iterator[Drawing]:
  """Selective Backprop's acceptance rate and Ordered SGD's q, epoch by epoch."""
  telling = {
    cell_id: load.epoch_columns(workdir, begun[cell_id])
    for cell_id in frame['cell_id'] if cell_id in begun
  }  # fmt: skip
  known = [k for k in _TELLING if any(k[0] in columns for columns in telling.values())]
  if not known:
    return
  told = frame[[bool(set(telling.get(c, ())) & {k[0] for k in known}) for c in frame['cell_id']]]
  caption = 'What the selectors did: means over seeds, one line per budget; thin lines: B.'
  draw = functools.partial(_internals_picture, told.sort_values('budget'), by_epoch, known)
  yield Drawing(file_name(f'internals_{name}'), f'Selectors at work: {name}', caption, draw)


def _internals_picture(frame: pd.DataFrame, by_epoch: Callable, known) -> dict[str, Any]:
  panels = []
  for column, title, label in known:
    lines, hlines = [], []
    for cell in frame.to_dict('records'):
      curve = courses.curve(by_epoch(cell['cell_id']), 'epoch', column)
      if curve:
        label_of = f'{cell["method"]} {layout.plain(cell["budget"])}'
        lines.append({'x': curve['x'], 'y': curve['y'], 'label': label_of})
        hlines += [{'at': cell['budget']}] if 'acceptance' in column else []
    for line, style in zip(lines, shades(len(lines)), strict=True):
      line |= {'style': style, 'steps': True}
    top = 1.05 * max((line['y'].max() for line in lines), default=1.0)
    panels.append({
      'xlabel': 'epoch', 'ylabel': label, 'title': title, 'ylim': [0, top], 'lines': lines,
      'hlines': hlines,
    })  # fmt: skip
  return {'size': [3.4 * len(panels) + 1.2, 2.8], 'grid': [1, len(panels)], 'panels': panels}
