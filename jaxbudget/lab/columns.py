"""Tables for terminals: what stands in a cell is never cut.

Where there is no room, columns that can be spared are left out, and the table says which.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import rich.table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from jaxbudget.lab import plain

_BORDER = 3  # characters that a column takes beside its content


@dataclasses.dataclass(frozen=True)
class Columns:
  """A table; to be printed by a rich console.

  Attributes:
    names: of the columns.
    rows: of texts, plain or styled, one for each column.
    labels: how many columns, the first, hold words, which may wrap; the others hold figures.
    spare: names of columns that may be left out, in this order.
    footer: one text for each column, or none.
    rules: rows after which a line is drawn.
    title: above.
    notes: below.
  """

  names: tuple[str, ...]
  rows: Sequence[Sequence[str | Text]]
  labels: int = 1
  spare: tuple[str, ...] = ()
  footer: tuple[str, ...] = ()
  rules: frozenset[int] = frozenset()
  title: str = ''
  notes: tuple[str, ...] = ()

  def __rich_console__(
    self, console: Console, options: ConsoleOptions
  ) -> Iterator[rich.table.Table]:
    yield self.fitted(options.max_width)

  def fitted(self, width: int) -> rich.table.Table:
    """The table in a terminal of some width, at least as wide as its longest words."""
    kept, spare = list(range(len(self.names))), [self.names.index(n) for n in self.spare]
    while sum(self._least(i) + _BORDER for i in kept) + 1 > width and spare:
      kept.remove(spare.pop(0))
    left_out = [name for i, name in enumerate(self.names) if i not in kept]
    notes = [*self.notes]
    if left_out:
      notes.append(f'Left out in {width} columns: {", ".join(left_out)}.')
    table = rich.table.Table(
      title=plain.rich_text(self.title, 'table.title'),
      caption=plain.rich_text('\n'.join(notes), 'table.caption') if notes else None,
      title_justify='left',
      caption_justify='left',
      show_footer=bool(self.footer),
    )
    for i, size in zip(kept, self._widths(kept, width), strict=True):
      table.add_column(
        plain.rich_text(self.names[i]),
        footer=plain.rich_text(self.footer[i]) if self.footer else '',
        justify='left' if i < self.labels else 'right',
        overflow='fold',
        width=size,
      )
    for index, row in enumerate(self.rows):
      cells = [row[i] if isinstance(row[i], Text) else plain.rich_text(row[i]) for i in kept]
      table.add_row(*cells, end_section=index + 1 in self.rules)
    return table

  def _widths(self, kept: list[int], width: int) -> list[int]:
    """Each column has its least; what is left over goes to the first that wants more."""
    sizes = [self._least(i) for i in kept]
    rest = width - 1 - sum(size + _BORDER for size in sizes)
    for place, i in enumerate(kept):
      more = max(0, min(rest, self._most(i) - sizes[place]))
      sizes[place], rest = sizes[place] + more, rest - more
    return sizes

  def _least(self, i: int) -> int:
    """The longest word of a column; of figures the longest figure."""
    lines = self._lines(i)
    pieces = [word for line in lines for word in line.split()] if i < self.labels else lines
    return max(map(cell_len, [*pieces, *self.names[i].split()]), default=1)

  def _most(self, i: int) -> int:
    return max(map(cell_len, [*self._lines(i), self.names[i]]), default=1)

  def _lines(self, i: int) -> list[str]:
    texts = [*(row[i] for row in self.rows), *self.footer[i : i + 1]]
    texts = [x.plain if isinstance(x, Text) else plain.text(x) for x in texts]
    return [line for text in texts for line in text.split('\n')]
