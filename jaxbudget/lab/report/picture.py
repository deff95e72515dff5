"""A picture as plain data, and matplotlib that draws it: once, for SVG, PDF and PNG.

It imports nothing of jaxbudget, so that worker processes start in the time matplotlib needs:
`python -P picture.py` reads pictures as JSON from its input, a line each, and answers with
their files. What a picture shows, and nothing else, decides how it looks.

A picture is `{'size': [width, height], 'grid': [rows, columns], 'title', 'panels': [...]}`, in
inches. A panel has `title, xlabel, ylabel, xlog, ylog, xlim, ylim, yticks` and lists:

  lines: `x, y`, a `style` (color, marker, linestyle), and if there are any `label`, `xerr`, `yerr`
    (below, above), `low`, `high` (a shaded band, over `band_x` or `x`), `steps`, and `path_x`,
    `path_y`, `marked`: the way between the points, and which places on it they are
  stairs: `edges, values, style`
  bars: `values, left, color, hatch, label`, one value for each of the panel's `yticks`
  hlines, vlines: `at, color, linestyle, label`
"""

import base64
import functools
import io
import json
import math
import os
import sys
import textwrap
import traceback
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib import font_manager, textpath
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator

GREY = '#8C8C8C'
_PNG_DPI = 150
_EXPLAINED = 40  # lines in a legend
# Beside matplotlib's own font, those that have what it lacks, where they are installed.
_FALLBACKS = (
  'Noto Sans CJK JP', 'Noto Sans CJK SC', 'Noto Sans JP', 'Source Han Sans', 'WenQuanYi Zen Hei',
  'Droid Sans Fallback', 'IPAGothic', 'Hiragino Sans', 'PingFang SC', 'Yu Gothic',
  'Microsoft YaHei', 'Noto Sans Arabic', 'Noto Sans Devanagari', 'Noto Emoji', 'Symbola',
)  # fmt: skip
RC = {
  'axes.axisbelow': True,
  'axes.grid': True,
  'axes.labelsize': 9,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlesize': 10,
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
}


def render(picture: Mapping[str, Any]) -> dict[str, bytes]:
  """Draws a picture.

  Args:
    picture: as described above.

  Returns:
    The content of a file of each kind: `svg`, `pdf` and `png`.
  """
  with settings():
    figure = draw(picture)
    files = {kind: io.BytesIO() for kind in ('svg', 'pdf')}
    figure.savefig(files['svg'], format='svg', metadata={'Date': None})
    figure.savefig(files['pdf'], format='pdf', metadata={'CreationDate': None})
    figure.dpi = _PNG_DPI
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Flat colours: a palette keeps what is seen in a third of the bytes.
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert('RGB')
    files['png'] = io.BytesIO()
    image.quantize(256, PIL.Image.Quantize.FASTOCTREE).save(
      files['png'], format='png', dpi=(_PNG_DPI, _PNG_DPI)
    )
  return {kind: file.getvalue() for kind, file in files.items()}


def settings():
  """A context with the settings of all pictures, whatever a matplotlibrc says."""
  families = ['DejaVu Sans', *(name for name in _FALLBACKS if name in _installed())]
  defaults = {
    key: value
    for key, value in matplotlib.rcParamsDefault.items()
    if not key.startswith(('backend', 'date', 'keymap', 'toolbar', 'webagg', 'interactive'))
  }
  return matplotlib.rc_context(defaults | RC | {'font.family': families})


@functools.cache
def _installed() -> frozenset[str]:
  return frozenset(font.name for font in font_manager.fontManager.ttflist)


def words(text: str) -> str:
  r"""Any text as a figure shows it; what no font has is written out, as in `\u72ac`.

  Args:
    text: anything.

  Returns:
    What to draw. A leading underscore, which would hide it from a legend, gets a space before.
  """
  shown = ''.join(c if c == '\n' or _has_glyph(c) else ascii(c)[1:-1] for c in str(text))
  return f' {shown}' if shown.startswith('_') else shown


@functools.cache
def _has_glyph(character: str) -> bool:
  if character.isascii():
    return character.isprintable()
  if not character.isprintable():
    return False
  families = ('DejaVu Sans', *(name for name in _FALLBACKS if name in _installed()))
  return any(_font(name).get_char_index(ord(character)) for name in families)


@functools.cache
def _font(name: str):
  return font_manager.get_font(font_manager.findfont(name))


def draw(picture: Mapping[str, Any]) -> Figure:
  """Lays a picture out; the legend stands below it, never on what it explains.

  Args:
    picture: as described above.

  Returns:
    The figure, drawn within `settings()`.
  """
  width, height = picture['size']
  rows, columns = picture['grid']
  broad = int(width / 0.085)  # letters of a title that fit
  panels = [_shorten(panel, broad // 2) for panel in picture['panels']]
  title = textwrap.fill(words(picture.get('title', '')), broad)
  left = max(0.25 + max((_inches(words(label), 9) for label in panel['yticks']), default=0)
             if 'yticks' in panel else 0.68 for panel in panels)  # fmt: skip
  left = min(left, 0.7 * width)
  fitting = max(8, int((width - left - 0.12) / 0.08) // columns)  # letters, over its axes
  heads = [textwrap.fill(words(panel.get('title', '')), fitting) for panel in panels]
  top = 0.12 + 0.18 * (1 + title.count('\n')) * bool(title)
  top += max(0.18 * (1 + head.count('\n')) * bool(head) for head in heads)
  figure = Figure()
  axes = list(figure.subplots(rows, columns, squeeze=False).flat)
  for ax, panel, head in zip(axes, panels, heads, strict=False):
    draw_panel(ax, panel)
    ax.set_title(head)
  for ax in axes[len(panels) :]:
    ax.set_axis_off()
  bottom = 0.46 + _draw_legend(figure, axes, width)
  height += bottom + top
  figure.set_size_inches(width, height)
  gap = (width - left - 0.12) / columns
  figure.subplots_adjust(
    left=left / width, right=1 - 0.12 / width, bottom=bottom / height, top=1 - top / height,
    wspace=0.7 / max(0.5, gap - 0.55), hspace=0.6 * rows / max(0.5, height - bottom - top - 0.6),
  )  # fmt: skip
  if title:
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / height, va='top')
  return figure


def _shorten(panel: Mapping[str, Any], most: int) -> Mapping[str, Any]:
  """Takes the middle out of long names at the y axis (paths), lest they leave no room."""
  if 'yticks' not in panel:
    return panel
  half = most // 2
  short = [t if len(t) <= most else f'{t[:half]}…{t[-half:]}' for t in panel['yticks']]
  return {**panel, 'yticks': short}


def draw_panel(ax: Axes, panel: Mapping[str, Any]) -> None:
  """Draws a panel on anybody's axes, title and legend apart.

  Args:
    ax: to draw on.
    panel: as described above.
  """
  for line in panel.get('lines', ()):
    _draw_line(ax, line)
  for stairs in panel.get('stairs', ()):
    style = {'color': stairs['style']['color'], 'linestyle': _dashes(stairs['style'])}
    ax.stairs(stairs['values'], stairs['edges'], lw=1.4, **style)
  for bars in panel.get('bars', ()):
    ax.barh(
      range(len(bars['values'])), bars['values'], left=bars['left'], label=words(bars['label']),
      color=bars['color'], hatch=bars['hatch'], edgecolor='white', linewidth=0.4,
    )  # fmt: skip
    ax.grid(axis='y', visible=False)
  for across, rule in (('axhline', 'hlines'), ('axvline', 'vlines')):
    for line in panel.get(rule, ()):
      label = words(line['label']) if 'label' in line else None
      style = {'color': line.get('color', GREY), 'linestyle': line.get('linestyle', '-')}
      getattr(ax, across)(line['at'], label=label, lw=line.get('width', 0.7), **style)
  _set_axes(ax, panel)


def _draw_line(ax: Axes, line: Mapping[str, Any]) -> None:
  style = dict(line['style'], linestyle=_dashes(line['style']))
  if len(line['x']) == 1:
    style['marker'] = style.get('marker') or '.'
  options = {'label': words(line['label'])} if 'label' in line else {}
  x, y = np.asarray(line['x'], float), np.asarray(line['y'], float)
  errors = {key: np.asarray(line[key], float) for key in ('xerr', 'yerr') if key in line}
  if 'path_x' in line:
    ax.plot(line['path_x'], line['path_y'], markevery=list(line['marked']), **options, **style)
    style, options = {'color': style['color'], 'linestyle': ''}, {}
  if errors:
    ax.errorbar(x, y, **errors, capsize=2, elinewidth=0.8, **options, **style)
  else:
    ax.plot(x, y, drawstyle='steps-mid' if line.get('steps') else 'default', **options, **style)
  if 'low' in line:
    at = np.asarray(line.get('band_x', line['x']), float)
    ax.fill_between(at, line['low'], line['high'], color=style['color'], alpha=0.15, lw=0)


def _dashes(style: Mapping[str, Any]):
  """JSON knows no tuples: (0, (1, 1)) comes as lists."""
  line = style.get('linestyle', '-')
  return line if isinstance(line, str) else (line[0], tuple(line[1]))


def _set_axes(ax: Axes, panel: Mapping[str, Any]) -> None:
  """Scales, ticks (few, with plain numbers) and names."""
  for name, axis in (('x', ax.xaxis), ('y', ax.yaxis)):
    if panel.get(f'{name}log'):
      getattr(ax, f'set_{name}scale')('log')
      axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
      axis.set_major_formatter(lambda value, _: f'{value:.6g}')
      axis.set_minor_locator(NullLocator())
      axis.set_minor_formatter(NullFormatter())
    else:
      whole = panel.get(f'{name}label') == 'epoch'  # there is no half of one
      axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=whole))
    if f'{name}lim' in panel:
      getattr(ax, f'set_{name}lim')(*panel[f'{name}lim'])
  if 'yticks' in panel:
    count = len(panel['yticks'])
    ax.yaxis.set_major_locator(FixedLocator(range(count)))
    ax.set_yticklabels([words(label) for label in panel['yticks']])
    ax.set_ylim(count - 0.5, -0.5)
  ax.set(**{key: words(panel[key]) for key in ('xlabel', 'ylabel') if panel.get(key)})


def _draw_legend(figure: Figure, axes: list[Axes], width: float) -> float:
  """One legend of all panels below them.

  Returns:
    The height that it takes, in inches.
  """
  entries: dict[str, Any] = {}
  for ax in axes:
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
      entries.setdefault(label, handle)
  if len(entries) > _EXPLAINED:
    entries = dict(list(entries.items())[:_EXPLAINED])
    entries['and others'] = Line2D([], [], alpha=0)
  if not entries:
    return 0.0
  broad = max(20, int((width - 0.7) / 0.062))  # letters that fit into a line
  labels = ['\n'.join(textwrap.wrap(label, broad)) or label for label in entries]
  widest = max(_inches(line, 8) for label in labels for line in label.split('\n'))
  columns = max(1, min(len(labels), int(width / (widest + 0.55))))
  figure.legend(
    list(entries.values()), labels, loc='lower center', ncols=columns, borderaxespad=0.2
  )
  rows = math.ceil(len(labels) / columns)
  tallest = max(label.count('\n') + 1 for label in labels)
  return 0.08 + 0.165 * rows * tallest


def _inches(text: str, size: float) -> float:
  """How wide a text is."""
  font = font_manager.FontProperties(size=size)
  return textpath.text_to_path.get_text_width_height_descent(text, font, False)[0] / 72


def main() -> None:
  """Draws what comes in, a line each; a fault is told in the answer."""
  for line in sys.stdin:
    try:
      files = render(json.loads(line))
      answer = {kind: base64.b64encode(content).decode() for kind, content in files.items()}
    except Exception:  # whatever it is, the other end says it
      answer = {'error': traceback.format_exc()}
    try:
      print(json.dumps(answer), flush=True)
    except BrokenPipeError:  # the launch was killed, and nobody is left to tell
      os._exit(1)  # at an orderly end Python would complain of the pipe once more


if __name__ == '__main__':
  main()
