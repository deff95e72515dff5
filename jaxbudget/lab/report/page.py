"""The page: one HTML file that needs nothing but itself."""

import base64
import concurrent.futures
import datetime
import functools
import importlib.metadata
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jinja2
import pandas as pd

from jaxbudget.lab.report import (
  comparison_tables,
  configuration,
  drawings,
  frontier,
  render,
  tables,
  tensorboard,
  verdict,
)
from jaxbudget.lab.report.drawings import Drawing
from jaxbudget.lab.report.figures import frontiers, training
from jaxbudget.lab.report.figures_flops import by_flops
from jaxbudget.lab.report.load import Workdir, load_workdir
from jaxbudget.lab.report.render import Table
from jaxbudget.lab.report.sections import Section
from jaxbudget.lab.run import files

FIGURES = ('page', 'all', 'none')
_SHOWN, _SHOWN_IN_SECTION = 24, 9  # figures on the page
_OPEN = 6  # figures of a section that are seen at once
_SVG_LIMIT = 60_000  # bytes; larger drawings go into the page as PNG
PAGE_ROWS = 100  # of a long table, at a time


def write_report(
  workdir,
  allow: Sequence[str] = (),
  extra: Sequence[Callable[[Workdir], Iterable[Section]]] = (),
  figures: str = 'page',
  compared: pd.DataFrame | None = None,
) -> pathlib.Path:
  """Writes `report/index.html`, `report/tables/` and `report/figures/` into a workdir.

  With the extra `tensorboard` installed, event files go to `report/tensorboard/`.

  Each file is written under a temporary name and then renamed, so a report can be read while
  it is renewed, and written while runs are still training. A figure that shows what it showed
  before is not drawn again.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields of the comparability lock to override; printed in the report.
    extra: give further sections, which stand after the comparison at equal compute.
    figures: one of `FIGURES`: which are drawn. `page`: those that the page shows, and those
      that were drawn before; `all`: one for each setting and budget.
    compared: of `frontier.equal_compute`, if it is known.

  Returns:
    Path of the page.

  Raises:
    ValueError: no such workdir, or an unknown field in `allow`.
    OSError: a file cannot be written.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir, allow)
  compared = frontier.equal_compute(workdir, allow) if compared is None else compared
  report = workdir.path / 'report'
  for name in ('tables', 'figures'):
    (report / name).mkdir(parents=True, exist_ok=True)
  more = [section for sections in extra for section in sections(workdir)]
  sections = _sections(workdir, compared, more, allow)
  with concurrent.futures.ThreadPoolExecutor(1) as beside:  # most of the drawing is elsewhere
    events = beside.submit(tensorboard.write_events, workdir)
    shown, drawn = _draw(sections, report / 'figures', figures)
    events.result()
  if workdir.problems:  # drawing may have found some
    sections.append(Section('Files left out', [tables.problems_table(workdir)]))
  for table in (part for s in sections for part in s.content if isinstance(part, Table)):
    _save_table(table, report / 'tables')
  page = report / 'index.html'
  files.write_bytes(page, encoded(_page(workdir, compared, sections, (shown, drawn), allow)))
  return page


def _sections(workdir, compared, extra, allow) -> list[Section]:
  """The sections that have something to show, the answer first."""
  by_class = tables.class_table(workdir)
  presets = comparison_tables.fidelity_table(workdir, allow)
  notes = tables.unsaid_note(workdir)
  equal_compute = comparison_tables.equal_compute_table(compared, notes)
  sections = [
    Section('At equal compute', [*frontiers(workdir), *by_flops(workdir), equal_compute]),
    Section('Accuracy and cost', [tables.summary_table(workdir)]),
    Section('Accuracy by class', [by_class] if by_class else []),
    *extra,
    Section('Deviations', [presets] if presets else []),
    Section('Training', list(training(workdir))),
    Section('Runs', [tables.runs_table(workdir)] if len(workdir.runs) else []),
    Section('Configuration', configuration.blocks(workdir)),
  ]
  return [section for section in sections if section.content]


def _draw(
  sections: list[Section], directory: pathlib.Path, which: str
) -> tuple[set[str], set[str]]:
  """Draws what is wanted.

  Returns:
    The names of the figures that the page shows, and of those whose files show what is so now.
  """
  by_section = [[d for d in s.content if isinstance(d, Drawing)] for s in sections]
  every = [drawing for own in by_section for drawing in own]
  first = [drawing for own in by_section for drawing in own[:_SHOWN_IN_SECTION]]
  shown = {drawing.name for drawing in first[:_SHOWN]} if which != 'none' else set()
  before = drawings.known(directory)
  wanted = shown | (set(before) if which == 'page' else set())
  chosen = [d for d in every if which == 'all' or d.name in wanted]
  drawings.forget(set(before) - {drawing.name for drawing in every}, directory)
  drawings.save(chosen, directory)
  return shown, {drawing.name for drawing in chosen}


def _page(workdir: Workdir, compared, sections, names: tuple[set[str], set[str]], allow) -> str:
  """Fills the template, which escapes every text."""
  sentence, evidence = verdict.verdict(workdir, compared)
  directory = workdir.path / 'report' / 'figures'
  return environment().get_template('page.html').render(
    title=f'jaxbudget report: {workdir.path.resolve().name}',
    verdict=sentence,
    evidence=evidence,
    status=verdict.status(workdir, allow),
    sections=[
      {
        'title': section.title,
        'anchor': section.title.lower().replace(' ', '-'),
        'blocks': list(_blocks(section.content, *names, directory)),
      }
      for section in sections
    ],
    version=importlib.metadata.version('jaxbudget'),
    date=datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
  )  # fmt: skip


def _blocks(
  content, shown: set[str], drawn: set[str], directory: pathlib.Path
) -> Iterator[dict[str, Any]]:
  """What stands in a section, for the template; neighbouring figures share a grid."""
  for kind, parts in itertools.groupby(content, type):
    if kind is Drawing:
      own = list(parts)
      seen = [_figure(drawing, directory) for drawing in own if drawing.name in shown]
      rest = [d for d in own if d.name not in shown]
      there = [d for d in rest if d.name in drawn]
      yield {
        'kind': 'figures', 'first': seen[:_OPEN], 'more': seen[_OPEN:], 'files': there,
        'undrawn': len(rest) - len(there),
      }  # fmt: skip
    elif kind is Table:
      yield from ({'kind': 'table', 'table': table} for table in parts)
    else:
      yield from ({'kind': 'listing', 'listing': listing} for listing in parts)


def _figure(drawing: Drawing, directory: pathlib.Path) -> dict[str, Any]:
  """A drawing with its picture as a data URI, the smaller of what is sharp and what is light."""
  content, mime = (directory / f'{drawing.name}.svg').read_bytes(), 'image/svg+xml'
  if len(content) > _SVG_LIMIT:
    content, mime = (directory / f'{drawing.name}.png').read_bytes(), 'image/png'
  source = f'data:{mime};base64,{base64.b64encode(content).decode()}'
  return {'drawing': drawing, 'source': source}


@functools.cache
def environment() -> jinja2.Environment:
  """The templates of the page; every text in them is escaped."""
  found = jinja2.Environment(
    loader=jinja2.PackageLoader('jaxbudget.lab.report'), autoescape=True, trim_blocks=True,
    lstrip_blocks=True, undefined=jinja2.StrictUndefined,
  )  # fmt: skip
  found.globals |= {'PAGE_ROWS': PAGE_ROWS}
  found.filters |= {'packed': _packed, 'sort_key': render.sort_key}
  return found


def _packed(table: Table) -> list[list]:
  """The rows of a long table as the page's script reads them; a label is just its text."""
  return [
    [cell.text if cell == render.text_cell(cell.text) else _plain(cell) for cell in row]
    for row in table.rows
  ]


def _plain(cell: render.Cell) -> list:
  return list(cell._replace(sort=render.sort_key(cell)))


def encoded(text: str) -> bytes:
  """UTF-8; half of a surrogate pair, as file names may hold, is written out."""
  return text.encode('utf-8', 'backslashreplace')


def _save_table(table: Table, directory: pathlib.Path) -> None:
  for kind, text in (
    ('csv', render.to_csv(table)),
    ('md', render.to_markdown(table)),
    ('tex', render.to_latex(table)),
  ):
    files.write_bytes(directory / f'{table.name}.{kind}', encoded(text))
