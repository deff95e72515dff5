"""The figures of the study's page, of its comparisons: SVG on white, always the same bytes."""

import io
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxbudget.lab.report import picture
from jaxbudget.lab.study import claims, results
from jaxbudget.lab.study.compare import MARGIN, Comparison

TITLES = {
  'cifar': 'CIFAR-10, 16 px', 'fashion': 'Fashion-MNIST, 14 px',
  'cifar_noise': 'CIFAR-10, 20 % of labels wrong', 'cifar_tail': 'CIFAR-10, long tail 100:1',
}  # fmt: skip
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')  # Okabe and Ito's
_MARKERS = ('o', 's', '^', 'D')
_ROW = 0.17  # inches
_FAR, _LINEAR = 10.0, 2.0  # points: an axis that goes farther is linear up to there
_TICKS = (-80, -30, -10, -3, -1, 0, 1, 3, 10, 30)


_OF = {  # the claims that a figure shows
  'methods.svg': ('i',),
  'schedules.svg': ('ii',),
  'augment.svg': ('v',),
  'released.svg': ('B',),
  'equal_compute.svg': ('C',),
  'paying.svg': ('D', 'cheaper'),
}
_LABELS = {
  'methods.svg': 'points above uniform, at equal B',
  'schedules.svg': 'linear less step schedule, points',
  'released.svg': 'released less corrected, points',
}
_CHARGED = 'points above uniform, at equal cost'


def names(comparisons: Sequence[Comparison]) -> list[str]:
  """The figures for which there is something to show."""
  there = {c.claim for c in comparisons if c.enough}
  return [name for name, keys in _OF.items() if there & {*keys}]


def draw(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> dict[str, bytes]:
  """Draws the figures for which there is something to show.

  Args:
    runs: of `results.load`.
    comparisons: of `families.compared`.

  Returns:
    SVG by file name.
  """
  drawn = {}
  for name in names(comparisons):
    if name == 'augment.svg':
      drawn[name] = _accuracies(runs)
    else:
      shown = [c for c in comparisons if c.claim in _OF[name] and c.enough]
      drawn[name] = _forests(shown, _LABELS.get(name, _CHARGED))
  return drawn


def _forests(comparisons: Sequence[Comparison], label: str) -> bytes:
  """A panel for each set: a row a method, a mark with its interval for each budget."""
  sets = list(dict.fromkeys(c.set for c in comparisons))
  budgets = sorted({c.budget for c in comparisons})
  rows = max(len({c.name for c in comparisons if c.set == s}) for s in sets)
  size = (2.2 + 3.3 * len(sets), 1.3 + rows * (_ROW + 0.1 * len(budgets)))

  def panel(axes: Iterable[Axes]) -> None:
    for ax, name in zip(axes, sets, strict=True):
      own = [c for c in comparisons if c.set == name]
      _forest(ax, own, comparisons, budgets, label)
      ax.set_title(TITLES[name])

  return _svg(size, len(sets), panel)


def _forest(
  ax: Axes,
  comparisons: Sequence[Comparison],
  shown: Sequence[Comparison],
  budgets: Sequence[float],
  label: str,
) -> None:
  """A panel; its axis has room for all that is `shown` in the figure."""
  names = list(dict.fromkeys(c.name for c in comparisons))
  best = {n: max(c.mean for c in comparisons if c.name == n) for n in names}
  if len(names) > 12:  # of many the order says more than the list does
    names = sorted(names, key=best.get, reverse=True)
  ax.set_xlabel(label)
  ax.axvspan(-MARGIN, MARGIN, color='#8C8C8C', alpha=0.2, linewidth=0)
  ax.axvline(0, color='#000000', linewidth=0.8)

  def aside(c):  # the budgets of a method stand around its name
    there = sorted({other.budget for other in comparisons if other.name == c.name})
    return (there.index(c.budget) - (len(there) - 1) / 2) * 0.8 / len(budgets)

  for i, b in enumerate(budgets):
    own = [c for c in comparisons if c.budget == b]
    place = [names.index(c.name) + aside(c) for c in own]
    errors = [[c.mean - c.low for c in own], [c.high - c.mean for c in own]]
    style = {'color': _COLOURS[i % 4], 'marker': _MARKERS[i % 4], 'linestyle': 'none'}
    ax.errorbar([c.mean for c in own], place, xerr=errors, label=f'B = {b:g}', ms=3.5, **style)
  ax.set_yticks(range(len(names)), names)
  ax.set_ylim(len(names) - 0.5, -0.5)
  low = min(-MARGIN, *(c.low for c in shown))
  high = max(MARGIN, *(c.high for c in shown))
  if max(-low, high) > _FAR:  # large losses leave room for what is near 0
    ax.set_xscale('symlog', linthresh=_LINEAR)
    ticks = [t for t in _TICKS if 1.25 * low <= t <= 1.25 * high]
    ax.set_xticks(ticks, [f'{t:g}'.replace('-', '\N{MINUS SIGN}') for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel(f'{label}\n(logarithmic beyond {_LINEAR:g})')


def _accuracies(runs: pd.DataFrame) -> bytes:
  """Accuracy by budget under each augmentation: uniform sampling, and Selective Backprop."""
  runs = results.once(runs)
  own = runs[(runs['set'] == 'cifar') & (runs['fidelity'] == 'corrected')]
  own = own[own['schedule'].eq('linear') & own['budget_unit'].eq('backward')]
  own = own[own['budget'].isin((*claims.BUDGETS, 1.0)) & ~own['needed'].astype(bool)]
  primed = own['selector'].eq('selective_backprop') & own['options'].str.contains('"prime": true')
  own = own[~primed]
  shown = {
    'unif_sgd': 'uniform sampling, and SGD at B = 1',
    'selective_backprop': 'Selective Backprop',
  }

  def panel(axes: Iterable[Axes]) -> None:
    for ax, (method, title) in zip(axes, shown.items(), strict=True):
      for i, augment in enumerate(('standard', *claims.AUGMENTS)):
        asked = (method, 'sgd') if method == 'unif_sgd' else (method,)
        mine = own[own['augment'].eq(augment) & own['selector'].isin(asked)]
        if mine.empty:  # not trained yet: no line in the legend either
          continue
        mean = mine.groupby('budget')['final_accuracy'].agg(['mean', 'sem'])
        style = {'color': _COLOURS[i], 'marker': _MARKERS[i]}
        ax.errorbar(mean.index, mean['mean'], yerr=2 * mean['sem'], label=augment, **style)
      ax.set_xscale('log')
      ticks = (*claims.BUDGETS, 1)
      ax.set_xticks(ticks, [f'{b:g}' for b in ticks])
      ax.minorticks_off()
      ax.set_title(title)
      ax.set_xlabel('B, of back-propagated samples')
      ax.set_ylabel('test accuracy, % (± 2 SE)')

  return _svg((8.4, 3.6), 2, panel, sharey=True)


def _svg(size, panels: int, fill: Callable[[Iterable[Axes]], None], **shared) -> bytes:
  """Draws panels side by side."""
  with picture.settings():
    figure = Figure(figsize=size, layout='constrained', facecolor='#FFFFFF')
    axes = figure.subplots(1, panels, squeeze=False, **shared)[0]
    fill(axes)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels))
    content = io.BytesIO()
    figure.savefig(content, format='svg', metadata={'Date': None})
  return content.getvalue()
