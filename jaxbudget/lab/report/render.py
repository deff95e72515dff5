"""A table as a value, and its faces: terminal, Markdown, LaTeX, CSV (and HTML, `page.py`)."""

import dataclasses
import html
import math
import re
from typing import NamedTuple

import pandas as pd

from jaxbudget.lab import plain
from jaxbudget.lab.columns import Columns


class Cell(NamedTuple):
  """What stands in one place of a table.

  Attributes:
    text: the plain text, `±` included.
    sort: what the page sorts by; None sorts last.
    detail: a second, smaller line (the paper's number, an interval).
    bold: the best of its column.
    state: empty, or why there is no number (`missing`, `failed`, ...): the page's style for it.
  """

  text: str
  sort: float | str | None = None
  detail: str = ''
  bold: bool = False
  state: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table ready to be shown.

  Attributes:
    name: the stem of its files.
    title: one line.
    columns: headings.
    rows: cells, one tuple per row.
    data: the same figures, tidy and unrounded, for CSV.
    notes: sentences to print below.
    labels: how many leading columns are labels rather than figures.
    rules: rows before which a horizontal rule is drawn.
    spare: columns that a narrow terminal does without, the first goes first.
  """

  name: str
  title: str
  columns: tuple[str, ...]
  rows: list[tuple[Cell, ...]]
  data: pd.DataFrame
  notes: tuple[str, ...] = ()
  labels: int = 1
  rules: frozenset[int] = frozenset()
  spare: tuple[str, ...] = ()

  def __post_init__(self):
    widths = {len(row) for row in self.rows} - {len(self.columns)}
    if widths:
      raise ValueError(f'table {self.name!r} has {len(self.columns)} columns, rows of {widths}')


def sort_key(cell: Cell) -> float | str | None:
  """What a cell is sorted by; no number is nothing, which JSON can say and sorts last."""
  return None if isinstance(cell.sort, float) and not math.isfinite(cell.sort) else cell.sort


def text_cell(value) -> Cell:
  """A label."""
  return Cell(str(value), str(value))


def number_cell(value: float, digits: int = 2, sign: bool = False) -> Cell:
  """A figure, or an en dash where there is none."""
  if value is None or math.isnan(value):
    return Cell('–')
  return Cell(signed(value, digits) if sign else f'{value:.{digits}f}', float(value))


def signed(value: float, digits: int = 2) -> str:
  """`+0.12` or `−0.12`, with a true minus sign."""
  return f'{value:+.{digits}f}'.replace('-', '−')


def span(low: float, high: float, style: str) -> str:
  """`0.22 to 0.31` in a format such as `.2f`, or one number where both look the same."""
  shown = format(low, style), format(high, style)
  return shown[0] if shown[0] == shown[1] else ' to '.join(shown)


def interval(low: float, high: float) -> str:
  """`−3.64 to −0.51`, or a dash where there is none."""
  return '–' if math.isnan(low) else f'{signed(low)} to {signed(high)}'


def difference(value: float, se: float) -> str:
  """`+0.12 ± 0.05 SE`; without a standard error just the difference."""
  return signed(value) + ('' if math.isnan(se) else f' ± {se:.2f} SE')


def mean_std(mean: float, std: float, digits: int = 2) -> str:
  """`93.78 ± 0.11`; without a standard deviation just the mean."""
  return f'{mean:.{digits}f}' + ('' if math.isnan(std) else f' ± {std:.{digits}f}')


def to_csv(table: Table) -> str:
  """Tidy CSV, ten digits; an empty field is a figure that does not exist."""
  return table.data.to_csv(index=False, lineterminator='\n', float_format='%.10g')


def to_markdown(table: Table) -> str:
  """A GitHub-flavoured table under its title, notes below."""
  columns = [_markdown(name) for name in table.columns]
  align = ['---' if i < table.labels else '---:' for i in range(len(columns))]
  lines = [f'### {_markdown(table.title)}', '', _pipe(columns), _pipe(align)]
  for row in table.rows:
    lines.append(_pipe([_markdown_cell(cell) for cell in row]))
  notes = [line for note in table.notes for line in ('', _markdown(note))]
  return '\n'.join(lines + notes) + '\n'


def to_latex(table: Table) -> str:
  """A booktabs table that compiles as it is, in any document that loads booktabs."""
  # LaTeX numbers tables itself: 'Table 4: The paper's Table 2: ...'.
  title = re.sub(r'^Table (?=\d)', "The paper's Table ", table.title)
  spec = 'l' * table.labels + 'r' * (len(table.columns) - table.labels)
  lines = [
    '% needs \\usepackage{booktabs}',
    '\\begin{table}',
    '\\centering',
    f'\\caption{{{_latex(title)}}}',
    f'\\label{{tab:{"".join(c for c in table.name if c.isalnum() or c in "-_")}}}',
    f'\\begin{{tabular}}{{{spec}}}',
    '\\toprule',
    ' & '.join(_latex(name) for name in table.columns) + ' \\\\',
    '\\midrule',
  ]
  for index, row in enumerate(table.rows):
    if index in table.rules:
      lines.append('\\midrule')
    lines.append(' & '.join(_latex_cell(cell) for cell in row) + ' \\\\')
  lines += ['\\bottomrule', '\\end{tabular}']
  lines += [f'\n\\smallskip\\footnotesize {_latex(note)}' for note in table.notes]
  return '\n'.join(lines + ['\\end{table}']) + '\n'


def to_rich(table: Table) -> Columns:
  """A table for the terminal, of which `table.spare` may be left out."""
  rows = [
    [
      plain.rich_text(
        cell.text + (f'\n{cell.detail}' if cell.detail else ''), 'bold' if cell.bold else ''
      )
      for cell in row
    ]
    for row in table.rows
  ]
  return Columns(
    names=tuple(table.columns),
    rows=rows,
    labels=table.labels,
    spare=table.spare,
    rules=frozenset(table.rules),
    title=table.title,
    notes=tuple(table.notes),
  )


def _pipe(texts) -> str:
  return '| ' + ' | '.join(texts) + ' |'


def _markdown(text: str) -> str:
  text = ' '.join(html.escape(plain.text(text), quote=False).split())
  return re.sub(r'[\\`*_\[\]|$~]', r'\\\g<0>', text)


def _markdown_cell(cell: Cell) -> str:
  text = _markdown(cell.text)
  text = f'**{text}**' if cell.bold else text
  return f'{text} ({_markdown(cell.detail)})' if cell.detail else text


_LATEX = {
  '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
  '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
  '±': r'$\pm$', '–': r'\textendash{}', '−': '$-$', '×': r'$\times$', '≤': r'$\le$', '≥': r'$\ge$',
  '<': r'$<$', '>': r'$>$', 'Δ': r'$\Delta$', '·': r'$\cdot$', '√': r'$\surd$', '|': r'$|$',
  '…': r'\ldots{}', '’': "'", 'ε': r'$\varepsilon$', '`': '`{}',
  '[': '{[}', ']': '{]}', '*': '{*}', '"': r'\char34{}',
}  # fmt: skip
_LIGATURE = re.compile(r"-(?=-)|'(?=')|,(?=,)|[?!](?=`)")  # -- would be a dash


def _latex(text: str) -> str:
  """LaTeX for any text: what a plain engine cannot print becomes a question mark."""
  text = ' '.join(plain.text(text).split())
  known = (_LATEX.get(c) or (c if c.isascii() and c.isprintable() else '?') for c in text)
  return _LIGATURE.sub(r'\g<0>{}', ''.join(known))


def _latex_cell(cell: Cell) -> str:
  text = _latex(cell.text)
  text = f'\\textbf{{{text}}}' if cell.bold else text
  return f'{text} {{\\scriptsize ({_latex(cell.detail)})}}' if cell.detail else text
