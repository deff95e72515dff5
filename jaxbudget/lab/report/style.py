"""How figures look: told apart by colour-blind eyes, and in grey by marker and line."""

import collections
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from jaxbudget.lab import plain

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/).
_BLACK, _ORANGE, _SKY, _GREEN = '#000000', '#E69F00', '#56B4E9', '#009E73'
_BLUE, _RED, _PINK, _GREY = '#0072B2', '#D55E00', '#CC79A7', '#8C8C8C'

_KNOWN = {
  'unif_sgd': (_BLACK, 'o', '-'),
  'sgd': (_GREY, '*', (0, (1, 1))),
  'scan_sgd': (_GREEN, 'v', '-.'),
  'p_sgd': (_BLUE, 's', '--'),
  'c_sgd': (_SKY, 'D', (0, (4, 1, 1, 1, 1, 1))),
  'selective_backprop': (_RED, '^', (0, (6, 2))),
  'ordered_sgd': (_PINK, 'P', (0, (2, 4))),
  'random_subset': (_ORANGE, 'X', '-.'),
  'coreset': (_GREEN, '<', '--'),
}
_COLOURS = (_BLUE, _RED, _GREEN, _PINK, _ORANGE, _SKY, _GREY)
_MARKERS = ('d', '>', 'h', 'p', '8', 'H', '1', '2', 'x', '+', '3', '4')
_LINES = ('-', '--', '-.', ':', (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 2)))

RC = {
  'axes.axisbelow': True,
  'axes.grid': True,
  'axes.labelsize': 9,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlesize': 10,
  'figure.dpi': 150,
  'font.size': 9,
  'grid.alpha': 0.25,
  'hatch.linewidth': 0.6,
  'legend.fontsize': 8,
  'legend.frameon': False,
  'lines.linewidth': 1.4,
  'lines.markersize': 5,
  'svg.fonttype': 'none',
  'svg.hashsalt': 'jaxbudget',
  'text.parse_math': False,  # a dollar in a name is a dollar
  'text.usetex': False,
}


class Drawing(NamedTuple):
  """A figure and what to say of it.

  Attributes:
    name: stem of its files.
    title: heading on the page.
    caption: what is shown, with units.
    figure: the drawing.
  """

  name: str
  title: str
  caption: str
  figure: Figure


def method_styles(cells: pd.DataFrame) -> dict[str, dict[str, Any]]:
  """A colour, a marker and a line for each method; the known ones always have theirs.

  Variants of a method share its colour and marker and differ in their lines.

  Args:
    cells: with `method`, `rule` and `variant`, in order of appearance.

  Returns:
    label -> keyword arguments for `Axes.plot`.
  """
  looks, styles, seen = {}, {}, collections.Counter()
  names = cells[['method', 'rule']].drop_duplicates('method')
  for method, rule in names.itertuples(index=False):
    if rule not in looks:
      number = sum(name not in _KNOWN for name in looks)
      own = tuple(kind[number % len(kind)] for kind in (_COLOURS, _MARKERS, _LINES))
      looks[rule] = _KNOWN.get(rule, own)
    colour, marker, line = looks[rule]
    if seen[rule]:
      others = [other for other in _LINES if other != line]
      line = others[(seen[rule] - 1) % len(others)]
    seen[rule] += 1
    styles[method] = {'color': colour, 'marker': marker, 'linestyle': line}
  return styles


def words(text: str) -> str:
  """Any text as a figure shows it.

  Args:
    text: anything; a leading underscore would hide it from a legend.

  Returns:
    What to draw.
  """
  text = plain.text(text)
  return f' {text}' if text.startswith('_') else text


def plain_logarithm(axis: Axis) -> None:
  """A logarithmic axis with plain numbers: powers would be mathematical markup."""
  axis.axes.set(**{f'{axis.axis_name}scale': 'log'})
  axis.set_major_formatter(lambda value, _: f'{value:.12g}')
  axis.set_minor_formatter(NullFormatter())
