"""The page: one HTML file that needs nothing but itself."""

import html
import os
import pathlib
import tempfile

from jaxbudget.report import render, tables
from jaxbudget.report.load import Workdir, load_workdir


def write_report(workdir, allow: tuple[str, ...] = ()) -> pathlib.Path:
  """Writes `report/index.html`, `report/tables/` and `report/figures/` into a workdir.

  Each file is written under a temporary name and then renamed, so a report can be read while
  it is renewed, and written while runs are still training.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields in which compared runs may differ; printed in the report.

  Returns:
    Path of the page.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir)
  report = workdir.path / 'report'
  shown = [tables.summary_table(workdir), tables.runs_table(workdir)]
  shown += [tables.problems_table(workdir)] if workdir.problems else []
  for table in shown:
    write_table(table, report / 'tables')
  body = ''.join(f'<h2>{html.escape(t.title)}</h2>{render.to_html(t)}' for t in shown)
  page = report / 'index.html'
  write_atomic(page, f'<!doctype html><meta charset="utf-8"><title>jaxbudget</title>{body}')
  return page


def write_table(table: render.Table, directory: pathlib.Path) -> None:
  """Writes a table as CSV, Markdown and LaTeX."""
  write_atomic(directory / f'{table.name}.csv', render.to_csv(table))
  write_atomic(directory / f'{table.name}.md', render.to_markdown(table))
  write_atomic(directory / f'{table.name}.tex', render.to_latex(table))


def write_atomic(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file under a temporary name beside it, then renames."""
  path.parent.mkdir(parents=True, exist_ok=True)
  data = content.encode('utf-8') if isinstance(content, str) else content
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
    os.chmod(name, 0o666 & ~_umask())
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
