"""A section of the page: a heading and what stands under it."""

from typing import NamedTuple

from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.render import Table


class Listing(NamedTuple):
  """Text to be copied.

  Attributes:
    title: one line.
    text: as it is.
    note: a sentence below.
  """

  title: str
  text: str
  note: str = ''


class Section(NamedTuple):
  """A part of the page.

  Attributes:
    title: its heading.
    content: what stands under it; a section without content is not shown.
  """

  title: str
  content: list[Table | Drawing | Listing]
