"""A section of the page: a heading and what stands under it."""

from typing import NamedTuple

from jaxbudget.lab.report.render import Table
from jaxbudget.lab.report.style import Drawing


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    title: its heading.
    content: tables, drawings, or ready HTML; a section without content is not shown.
  """

  title: str
  content: list[Table | Drawing | str]
