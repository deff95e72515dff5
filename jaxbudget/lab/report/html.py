"""The page: one HTML file that needs nothing but itself."""

import base64
import datetime
import html
import importlib.metadata
import importlib.resources
import io
import itertools
import pathlib
import string
from collections.abc import Callable, Iterable, Iterator, Sequence

import matplotlib
import PIL.Image

from jaxbudget.lab.report import (
  comparison_tables,
  configuration,
  figures,
  frontier,
  render,
  tables,
  tensorboard,
  verdict,
)
from jaxbudget.lab.report.load import Workdir, load_workdir
from jaxbudget.lab.report.sections import Section
from jaxbudget.lab.report.style import RC, Drawing
from jaxbudget.lab.run import files

_SVG_LIMIT = 60_000  # bytes; larger drawings go into the page as PNG


def write_report(
  workdir,
  allow: Sequence[str] = (),
  extra: Sequence[Callable[[Workdir], Iterable[Section]]] = (),
) -> pathlib.Path:
  """Writes `report/index.html`, `report/tables/` and `report/figures/` into a workdir.

  With the extra `tensorboard` installed, event files go to `report/tensorboard/`.

  Each file is written under a temporary name and then renamed, so a report can be read while
  it is renewed, and written while runs are still training.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields of the comparability lock to override; printed in the report.
    extra: give further sections, which stand after the comparison at equal compute.

  Returns:
    Path of the page.

  Raises:
    ValueError: no such workdir, or an unknown field in `allow`.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir, allow)
  compared = frontier.equal_compute(workdir, allow)
  report = workdir.path / 'report'
  for name in ('tables', 'figures'):
    (report / name).mkdir(parents=True, exist_ok=True)
  more = [section for sections in extra for section in sections(workdir)]
  sections = _sections(workdir, compared, more, allow)
  for part in (part for section in sections for part in section.content):
    if isinstance(part, render.Table):
      _save_table(part, report / 'tables')
  tensorboard.write_events(workdir)
  page = report / 'index.html'
  files.write_bytes(page, _page(workdir, compared, sections, allow).encode())
  return page


def _sections(workdir, compared, extra, allow) -> list[Section]:
  """The sections that have something to show."""
  frontiers, others = [], []
  for drawing in figures.draw_all(workdir):
    (frontiers if drawing.name.startswith('frontier') else others).append(drawing)
  unsaid = tables.unsaid_note(workdir)
  equal_compute = comparison_tables.equal_compute_table(compared, unsaid)
  presets = comparison_tables.fidelity_table(workdir, allow)
  sections = [
    Section('Accuracy and cost', [tables.summary_table(workdir)]),
    Section('At equal compute', [equal_compute, *frontiers]),
    *extra,
    Section('Deviations', [presets] if presets else []),
    Section('Training', others),
    Section('Runs', [tables.runs_table(workdir)] if len(workdir.runs) else []),
    Section('Configuration', configuration.blocks(workdir)),
    Section('Files left out', [tables.problems_table(workdir)] if workdir.problems else []),
  ]
  return [section for section in sections if section.content]


def _page(workdir: Workdir, compared, sections, allow) -> str:
  """Fills the template; everything that comes from files is escaped on the way."""
  parts = {
    name: (importlib.resources.files('jaxbudget.lab.report') / f'page.{name}').read_text('utf-8')
    for name in ('html', 'css', 'js')
  }
  sentence, evidence = verdict.verdict(workdir, compared)
  body, nav = [], []
  for title, content in sections:
    anchor = title.lower().replace(' ', '-')
    nav.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
    body.append(f'<section><h2 id="{anchor}">{html.escape(title)}</h2>')
    body += _content_html(content, workdir.path / 'report/figures')
    body.append('</section>')
  return string.Template(parts['html']).substitute(
    title=html.escape(f'jaxbudget report: {workdir.path.resolve().name}'),
    verdict=html.escape(sentence),
    evidence=html.escape(evidence),
    status=html.escape(verdict.status(workdir, allow)),
    nav=' '.join(nav),
    body='\n'.join(body),
    css=parts['css'],
    js=parts['js'],
    version=html.escape(importlib.metadata.version('jaxbudget')),
    date=datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
  )


def _content_html(content, directory: pathlib.Path) -> Iterator[str]:
  """What stands in a section; neighbouring figures share a grid. Figures are saved on the way."""
  for kind, parts in itertools.groupby(content, type):
    if kind is Drawing:
      grid = ''.join(_figure_html(drawing, _save_figure(drawing, directory)) for drawing in parts)
      yield f'<div class="figures">{grid}</div>'
    else:
      yield from (_table_html(p) if kind is render.Table else p for p in parts)


def _table_html(table: render.Table) -> str:
  files_note = ' '.join(
    f'<a href="tables/{html.escape(table.name)}.{kind}">{kind}</a>' for kind in ('csv', 'md', 'tex')
  )
  notes = ''.join(f'<p class="note">{html.escape(note)}</p>' for note in table.notes)
  return (
    f'<h3>{html.escape(table.title)}<span class="files">{files_note}</span></h3>'
    f'<div class="scroll">{render.to_html(table)}</div>{notes}'
  )


def _figure_html(drawing: Drawing, source: str) -> str:
  title = html.escape(drawing.title)
  return (
    f'<figure><img src="{source}" alt="{title}" loading="lazy" decoding="async">'
    f'<figcaption><b>{title}.</b> {html.escape(drawing.caption)}</figcaption></figure>'
  )


def _save_figure(drawing: Drawing, directory: pathlib.Path) -> str:
  """Writes PNG and SVG; returns one of them as a data URI."""
  svg, raw, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
  with matplotlib.rc_context(RC):
    drawing.figure.savefig(svg, format='svg', metadata={'Date': None})
    drawing.figure.set_layout_engine('none')  # it is laid out: not a second time
    drawing.figure.savefig(raw, format='png')
  # Flat colours: a palette keeps what is seen in a third of the bytes.
  PIL.Image.open(raw).convert('RGB').quantize(256, PIL.Image.Quantize.FASTOCTREE).save(
    png, format='png', optimize=True
  )
  content = {'svg': svg.getvalue(), 'png': png.getvalue()}
  for kind, data in content.items():
    files.write_bytes(directory / f'{drawing.name}.{kind}', data)
  kind, mime = (
    ('svg', 'image/svg+xml') if len(content['svg']) < _SVG_LIMIT else ('png', 'image/png')
  )
  return f'data:{mime};base64,{base64.b64encode(content[kind]).decode()}'


def _save_table(table: render.Table, directory: pathlib.Path) -> None:
  for kind, text in (
    ('csv', render.to_csv(table)),
    ('md', render.to_markdown(table)),
    ('tex', render.to_latex(table)),
  ):
    files.write_bytes(directory / f'{table.name}.{kind}', text.encode())
