"""The table at the end of a launch, in the terminal."""

import rich.console
import rich.text

from jaxbudget.report import render, tables
from jaxbudget.report.load import Workdir, load_workdir


def summary(workdir) -> rich.console.Group:
  """Accuracy (mean ± std over seeds) and cost of every cell, grouped by budget.

  Args:
    workdir: a path, or a loaded `Workdir`.

  Returns:
    Something `rich.print` shows; `str()` of rich's console capture gives plain text.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir)
  parts = [render.to_rich(tables.summary_table(workdir))]
  counts = workdir.runs['status'].value_counts()
  unfinished = ', '.join(f'{n} {status}' for status, n in counts.items() if status != 'done')
  if unfinished:
    parts.append(rich.text.Text(f'Runs without a result: {unfinished}.'))
  parts += [rich.text.Text(f'{p.path}: {p.what}') for p in workdir.problems]
  return rich.console.Group(*parts)
