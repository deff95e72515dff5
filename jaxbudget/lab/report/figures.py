"""The figures of a report, each for one setting (data, augmentation, schedule)."""

import math
from collections.abc import Iterator

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxbudget.lab.report import cells, figures_cost, layout, statistics
from jaxbudget.lab.report.frontier import band
from jaxbudget.lab.report.load import Workdir, load_counts
from jaxbudget.lab.report.style import RC, Drawing, method_styles, plain_logarithm, words
from jaxbudget.paths import file_name


def draw_all(workdir: Workdir) -> Iterator[Drawing]:
  """Draws what the workdir has data for; the figures come one at a time.

  Args:
    workdir: a loaded workdir.

  Yields:
    Drawings: frontiers, then curves by budget, selector internals,
    time and realised cost.
  """
  with matplotlib.rc_context(RC):
    styles = method_styles(workdir.cells)
    epochs = _epoch_statistics(workdir)
    settings = list(_settings(workdir))
    for name, frame in settings:
      compared = frame[(frame['done'] > 0) & ~frame['is_scoring'].astype(bool)]
      if not compared.empty:
        yield draw_frontier(workdir, compared, name, styles)
    for name, frame in settings:
      yield from _draw_curves(workdir, frame, epochs, name, styles)
      yield from _draw_internals(frame, epochs, name)
    for name, frame in settings:
      if frame['seconds_train'].notna().any():
        yield figures_cost.draw_time(frame, name)
    if (workdir.cells['done'] > 0).any():
      yield figures_cost.draw_realised(workdir, styles)


def _settings(workdir: Workdir) -> Iterator[tuple[str, pd.DataFrame]]:
  """Cells that may share a figure, with a name for them that says where settings differ."""
  frame = workdir.cells
  varying = [n for n in cells.SETTING if frame[n].nunique(dropna=False) > 1]
  scales = [n for n in cells.SCALE if frame[n].nunique(dropna=False) > 1]
  keys = [*cells.SETTING, *cells.SCALE]  # an axis of costs has one unit
  for _, part in frame.groupby(keys, sort=False, dropna=False):
    first = part.iloc[0]
    words = [layout.plain(first[n]) for n in varying or ['dataset', 'augment', 'schedule']]
    yield ', '.join([*words, *(f'{n}={layout.plain(first[n])}' for n in scales)]), part


def _epoch_statistics(workdir: Workdir) -> dict[str, pd.DataFrame]:
  """Per cell: mean and standard deviation over seeds, by epoch; columns (value, mean | std)."""
  runs = workdir.runs.set_index('run_id')
  run_id = workdir.epochs['run_id']
  cost = workdir.epochs['cost_forward_equivalents'] / run_id.map(runs['full_cost'])
  epochs = workdir.epochs.drop(columns='run_id').astype(float)
  epochs = epochs.assign(cell_id=run_id.map(runs['cell_id']), cost=cost)
  table = epochs.groupby(['cell_id', 'epoch']).agg(['mean', 'std'])
  return {cell_id: part.droplevel('cell_id') for cell_id, part in table.groupby('cell_id')}


def draw_frontier(workdir: Workdir, frame: pd.DataFrame, name: str, styles) -> Drawing:
  """Accuracy against cost, with 95% bands over seeds."""
  figure = Figure(figsize=(5.6, 3.9), layout='constrained')
  ax = figure.subplots()
  finished = cells.finished(workdir.runs)
  # sgd is unif_sgd at budget 1: it closes the baseline's line.
  full = frame[frame['rule'].eq('sgd')]
  lines = frame.assign(baseline=frame['rule'].eq('unif_sgd')).drop_duplicates('method')
  lines = lines.sort_values('baseline', ascending=False, kind='stable')
  for i, (method, variant, is_baseline) in enumerate(
    lines[['method', 'variant', 'baseline']].itertuples(index=False)
  ):
    own = frame[frame['method'].eq(method)]
    if is_baseline:
      own = pd.concat([own, full[full['variant'].eq(variant)]])
    line = [finished[c][['cost', 'final_accuracy']] for c in own.sort_values('cost')['cell_id']]
    aside = 0.004 * (i // 2 + 1) * (-1) ** i
    aside = 0.0 if is_baseline or method in full['method'].array else aside
    _frontier_line(ax, line, method, styles[method], aside, shaded=is_baseline)
  ax.set(xlabel='cost (full runs of SGD = 1, selection charged)', ylabel='test accuracy (%)')
  ax.set_title(words(name))
  ax.set_ylim(top=min(100.5, ax.get_ylim()[1]))
  ax.legend()
  caption = (
    'Accuracy of the last epoch against everything spent on it. Bars and the band around '
    'unif_sgd: 95% intervals over seeds (t below 10 seeds, BCa bootstrap from 10 up). Points '
    'at equal cost are drawn a hair apart.'
  )
  return Drawing(file_name(f'frontier_{name}'), f'Accuracy against cost: {name}', caption, figure)


def _frontier_line(
  ax: Axes, line: list[pd.DataFrame], label: str, style: dict, aside: float, shaded: bool
) -> None:
  """One method: its points with intervals, joined; the baseline also with a band."""
  means = [run['final_accuracy'].mean() for run in line]
  costs = [run['cost'].mean() for run in line]
  found = [statistics.paired(run['final_accuracy']) for run in line]
  errors = [[f.mean - f.low for f in found], [f.high - f.mean for f in found]]
  errors = np.nan_to_num(np.maximum(errors, 0))
  drawn_at = np.array(costs) + aside
  ax.errorbar(drawn_at, means, errors, label=words(label), capsize=2, elinewidth=0.8, **style)
  together = pd.concat(line, axis=1, keys=range(len(line)), join='inner')
  if shaded and len(line) > 1 and len(together) > 1:
    grid = np.linspace(min(costs), max(costs), 50)
    score, cost = (together.xs(k, axis=1, level=1) for k in ('final_accuracy', 'cost'))
    shown = band(score, cost, grid)
    ax.fill_between(grid, shown['low'], shown['high'], color=style['color'], alpha=0.15, lw=0)


def _draw_curves(workdir: Workdir, frame, epochs, name: str, styles) -> Iterator[Drawing]:
  """For each budget: accuracy and loss by epoch and by cost, sample counts, H(c)."""
  full = frame[frame['rule'].eq('sgd')]
  budgets = sorted(set(frame['budget'].dropna()))
  for budget in [b for b in budgets if b < 1] or budgets:
    at_budget = frame[frame['budget'] == budget]
    shown = pd.concat([at_budget, full[~full['cell_id'].isin(at_budget['cell_id'])]])
    shown = shown[shown['cell_id'].isin(epochs)]
    if shown.empty:
      continue
    # Fixed margins: measuring text for an automatic layout would take a third of the time.
    figure = Figure(figsize=(7.2, 7.6))
    margins = {'left': 0.09, 'right': 0.98, 'top': 0.95, 'bottom': 0.13}
    axes = figure.subplots(3, 2, gridspec_kw=margins | {'hspace': 0.33, 'wspace': 0.24})
    for _, cell in shown.iterrows():
      part = epochs[cell['cell_id']]
      style = {k: v for k, v in styles[cell['method']].items() if k != 'marker'}
      for row, value in enumerate(('test_accuracy', 'train_loss')):
        for column, x in enumerate(('epoch', 'cost')):
          _curve(axes[row, column], part, x, value, cell['method'], style)
      _curve(axes[2, 1], part, 'epoch', 'entropy_nats', cell['method'], style)
      _histogram(axes[2, 0], workdir, cell, style)
    _label_curves(axes)
    for size in shown['num_train'].dropna().unique():
      axes[2, 1].axhline(math.log(size), color='#8C8C8C', lw=0.6)
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc='lower center', ncols=4)
    title = f'{name}, budget {layout.plain(budget)}'
    figure.suptitle(words(title), fontsize=10, y=0.985)
    caption = (
      'Mean over seeds, shaded ± one standard deviation; sgd at budget 1 for reference. '
      'Times trained: how often each sample was trained on, in the runs of one seed. H(c): '
      'entropy of those counts in nats; thin line: ln N, perfectly even use.'
    )
    yield Drawing(
      file_name(f'curves_{name}_b{layout.plain(budget)}'), f'Training: {title}', caption, figure
    )  # fmt: skip


def _curve(ax: Axes, part: pd.DataFrame, x: str, value: str, label: str, style: dict) -> None:
  """Mean and spread over seeds of one cell."""
  found = part[value].dropna(subset='mean')
  at = found.index if x == 'epoch' else part.loc[found.index, (x, 'mean')]
  ax.plot(at, found['mean'], label=words(label), marker='.' if len(found) == 1 else '', **style)
  low, high = found['mean'] - found['std'], found['mean'] + found['std']
  ax.fill_between(at, low, high, color=style['color'], alpha=0.15, lw=0)


def _histogram(ax: Axes, workdir: Workdir, cell: pd.Series, style: dict) -> None:
  """Times each sample was trained on, in the first run that kept its counts."""
  for run_id in workdir.runs.loc[workdir.runs['cell_id'] == cell['cell_id'], 'run_id']:
    counts = load_counts(workdir, run_id)
    if counts is not None and counts.size:
      top = int(counts.max())
      width = max(1, math.ceil((top + 1) / 40))
      edges = np.arange(0, top + width + 1, width) - 0.5
      share = np.histogram(counts, edges)[0] / counts.size / width
      ax.stairs(100 * share, edges, color=style['color'], linestyle=style['linestyle'], lw=1.4)
      return


def _label_curves(axes) -> None:
  epoch, cost = 'epoch', 'cost (full runs of SGD = 1)'
  axes[0, 0].set(xlabel=epoch, ylabel='test accuracy (%)')
  axes[0, 1].set(xlabel=cost, ylabel='test accuracy (%)')
  axes[1, 0].set(xlabel=epoch, ylabel='training loss (nats)')
  axes[1, 1].set(xlabel=cost, ylabel='training loss (nats)')
  axes[2, 0].set(xlabel='times trained on', ylabel='samples (% per count)')
  axes[2, 1].set(xlabel=epoch, ylabel='H(c) (nats)')
  for ax in axes[1]:
    if all((line.get_ydata() > 0).all() for line in ax.lines):
      plain_logarithm(ax.yaxis)


def _draw_internals(frame, epochs, name: str) -> Iterator[Drawing]:
  """Selective Backprop's acceptance rate and Ordered SGD's q, epoch by epoch."""
  known = (
    ('selector_acceptance_rate', 'acceptance rate', 'accepted share of candidates'),
    ('selector_q', 'q', 'q (losses in the mean)'),
  )
  lines = {
    column: [
      (cell, epochs[cell['cell_id']][column, 'mean'].dropna())
      for cell in frame.sort_values('budget').to_dict('records')
      if column in epochs.get(cell['cell_id'], ())
    ]
    for column, *_ in known
  }
  lines = {c: [(cell, line) for cell, line in own if len(line)] for c, own in lines.items()}
  found = [k for k in known if lines[k[0]]]
  if not found:
    return
  figure = Figure(figsize=(3.6 * len(found) + 0.6, 3.6), layout='constrained')
  axes = figure.subplots(1, len(found), squeeze=False)[0]
  for ax, (column, title, label) in zip(axes, found, strict=True):
    colours = matplotlib.colormaps['cividis'](np.linspace(0, 0.8, max(2, len(lines[column]))))
    for i, (cell, line) in enumerate(lines[column]):
      ax.plot(line.index, line, color=colours[i], linestyle=('-', '--', '-.', ':')[i % 4],
              drawstyle='steps-mid', marker='.' if len(line) == 1 else '',
              label=words(f'{cell["method"]} {layout.plain(cell["budget"])}'))  # fmt: skip
      if 'acceptance' in column:
        ax.axhline(cell['budget'], color='#8C8C8C', lw=0.6)
    ax.set(xlabel='epoch', ylabel=label, title=title, ylim=(0, None))
    ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.18), ncols=2)
  caption = 'What the selectors did: means over seeds, one line per budget; thin lines: B.'
  yield Drawing(file_name(f'internals_{name}'), f'Selectors at work: {name}', caption, figure)
