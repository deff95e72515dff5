"""How methods look in figures: told apart by colour-blind eyes, and in grey by marker and line."""

import collections
from typing import Any

import numpy as np
import pandas as pd

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
_DECADE = 9.5  # costs that differ by about ten or more want a logarithmic axis
_ASIDE = 0.014  # of an axis, between points of one cost
_CROWD = 7  # points at one cost that keep their full distance
_LINES = ('-', '--', '-.', ':', (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 2)))


def method_styles(cells: pd.DataFrame) -> dict[str, dict[str, Any]]:
  """A colour, a marker and a line for each method; the known ones always have theirs.

  Variants of a method share its colour and marker and differ in their lines.

  Args:
    cells: with `method` and `rule`, in order of appearance.

  Returns:
    label -> the style of a line in a picture.
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


def numbered_styles(count: int) -> list[dict[str, Any]]:
  """Styles of lines that are no methods, told apart as those of methods are."""
  kinds = {'color': _COLOURS, 'marker': _MARKERS, 'linestyle': _LINES}
  return [{key: kind[i % len(kind)] for key, kind in kinds.items()} for i in range(count)]


def set_aside(lines: list[dict[str, Any]]) -> dict[str, Any]:
  """Moves points of one cost apart, in place, so that none hides another.

  Args:
    lines: of a panel with costs across; the first stays where it is.

  Returns:
    Scale and limits of its axis.
  """
  costs = np.concatenate([line['x'] for line in lines])
  logarithmic = bool(costs.min() > 0 and costs.max() >= _DECADE * costs.min())
  scale, inverse = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
  low, high = scale(costs.min()), scale(costs.max())
  width = max(high - low, 1e-3 if logarithmic else 0.01 * max(costs.max(), 1e-3))
  step = _ASIDE * width
  total: collections.Counter[int] = collections.Counter()  # points by their place, in steps
  places = [scale(line['x']).astype(float) for line in lines]
  homes = [[_home(round((place - low) / step), total) for place in own] for own in places]
  taken: collections.Counter[int] = collections.Counter()
  for number, (line, own, home) in enumerate(zip(lines, places, homes, strict=True)):
    for i, near in enumerate(home):
      if number:
        closer = min(1.0, _CROWD / total[near])  # many share what a few take
        own[i] += (taken[near] + 1) // 2 * (-1) ** taken[near] * step * closer
      taken[near] += 1
    line['x'] = inverse(own)
    if logarithmic and len(own) > 1 and line['style'].get('linestyle') != '':
      _add_chords(line)
  ends = [float(inverse(low - 0.06 * width)), float(inverse(high + 0.06 * width))]
  return {'xlog': logarithmic, 'xlim': ends}


def _home(nearest: int, total: collections.Counter[int]) -> int:
  """The place of a point, next to which there may be one already; counts it there."""
  near = next((k for k in (nearest, nearest - 1, nearest + 1) if total[k]), nearest)
  total[near] += 1
  return near


def _add_chords(line: dict[str, Any]) -> None:
  """What is linear in cost is no straight line on a logarithmic axis."""
  order = np.argsort(line['x'])
  costs, means = line['x'][order], np.asarray(line['y'])[order]
  path = np.union1d(np.geomspace(costs[0], costs[-1], 40), costs)
  line |= {'path_x': path, 'path_y': np.interp(path, costs, means)}
  line['marked'] = np.searchsorted(path, costs)


def shades(count: int) -> list[dict[str, str]]:
  """Lines from dark to light, for what has an order.

  Args:
    count: of them.

  Returns:
    Their styles, the darkest first.
  """
  dark, light = np.array([0x00, 0x22, 0x4E]), np.array([0xC8, 0xB8, 0x66])
  shares = np.linspace(0, 1, max(2, count))[:count]
  colours = [np.round(dark + share * (light - dark)).astype(int) for share in shares]
  lines = ('-', '--', '-.', ':')
  return [
    {'color': '#' + ''.join(f'{c:02x}' for c in colour), 'linestyle': lines[i % 4]}
    for i, colour in enumerate(colours)
  ]
