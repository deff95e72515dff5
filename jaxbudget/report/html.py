"""The page: one HTML file that needs nothing but itself."""

import base64
import datetime
import html
import importlib.metadata
import importlib.resources
import io
import pathlib
import string
from collections.abc import Sequence

import PIL.Image

from jaxbudget import results
from jaxbudget.report import (
  comparison_tables,
  configuration,
  figures,
  frontier,
  paper_tables,
  render,
  tables,
  tensorboard,
  verdict,
)
from jaxbudget.report.load import Workdir, load_workdir
from jaxbudget.report.style import Drawing

_SVG_LIMIT = 60_000  # bytes; larger drawings go into the page as PNG


def write_report(workdir, allow: Sequence[str] = ()) -> pathlib.Path:
  """Writes `report/index.html`, `report/tables/` and `report/figures/` into a workdir.

  With the extra `tensorboard` installed, event files go to `report/tensorboard/`.

  Each file is written under a temporary name and then renamed, so a report can be read while
  it is renewed, and written while runs are still training.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields of the comparability lock to override; printed in the report.

  Returns:
    Path of the page.

  Raises:
    ValueError: no such workdir, or an unknown field in `allow`.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir)
  compared = frontier.equal_compute(workdir, allow)
  report = workdir.path / 'report'
  for name in ('tables', 'figures'):
    (report / name).mkdir(parents=True, exist_ok=True)
  drawings = [(d, _save_figure(d, report / 'figures')) for d in figures.draw_all(workdir)]
  sections = _sections(workdir, compared, drawings)
  for table in (t for _, content in sections for t in content if isinstance(t, render.Table)):
    _save_table(table, report / 'tables')
  tensorboard.write_events(workdir)
  page = report / 'index.html'
  results.write_bytes(page, _page(workdir, compared, sections, allow).encode())
  return page


def _sections(workdir, compared, drawings) -> list[tuple[str, list]]:
  """Headings and what stands under each: tables, or ready HTML."""
  by_kind = {'frontier': [], 'figure1': [], 'other': []}
  for drawing, source in drawings:
    kind = next((k for k in by_kind if drawing.name.startswith(k)), 'other')
    by_kind[kind].append(_figure_html(drawing, source))
  grids = {k: [f'<div class="figures">{"".join(v)}</div>'] if v else [] for k, v in by_kind.items()}
  paper = paper_tables.paper_tables(workdir)
  deviations = comparison_tables.fidelity_table(workdir)
  sections = [
    ('Accuracy and cost', [tables.summary_table(workdir)]),
    ('At equal compute', [comparison_tables.equal_compute_table(compared), *grids['frontier']]),
    ('Beside the paper', [*paper, *grids['figure1']]),
    ('Paper at equal compute', [comparison_tables.paper_equal_compute_table()] if paper else []),
    ('Deviations', [deviations] if deviations else []),
    ('Training', grids['other']),
    ('Runs', [tables.runs_table(workdir)] if len(workdir.runs) else []),
    ('Configuration', configuration.blocks(workdir)),
    ('Files left out', [tables.problems_table(workdir)] if workdir.problems else []),
  ]
  return [(title, content) for title, content in sections if content]


def _page(workdir: Workdir, compared, sections, allow) -> str:
  """Fills the template; everything that comes from files is escaped on the way."""
  parts = {
    name: (importlib.resources.files('jaxbudget.report') / f'page.{name}').read_text('utf-8')
    for name in ('html', 'css', 'js')
  }
  sentence, evidence = verdict.verdict(workdir, compared)
  body, nav = [], []
  for title, content in sections:
    anchor = title.lower().replace(' ', '-')
    nav.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
    body.append(f'<section><h2 id="{anchor}">{html.escape(title)}</h2>')
    body += [_table_html(c) if isinstance(c, render.Table) else c for c in content]
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
  drawing.figure.savefig(svg, format='svg', metadata={'Date': None})
  drawing.figure.set_layout_engine('none')  # it is laid out: not a second time
  drawing.figure.savefig(raw, format='png')
  # Flat colours: a palette keeps what is seen in a third of the bytes.
  PIL.Image.open(raw).convert('RGB').quantize(256, PIL.Image.Quantize.FASTOCTREE).save(
    png, format='png', optimize=True
  )
  content = {'svg': svg.getvalue(), 'png': png.getvalue()}
  for kind, data in content.items():
    results.write_bytes(directory / f'{drawing.name}.{kind}', data)
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
    results.write_bytes(directory / f'{table.name}.{kind}', text.encode())
