"""The table at the end of a launch, in the terminal."""

from collections.abc import Sequence

import rich.console

from jaxbudget.lab import plain
from jaxbudget.lab.report import frontier, render, tables, verdict
from jaxbudget.lab.report.load import Workdir, load_workdir


def summary(workdir, allow: Sequence[str] = ()) -> rich.console.Group:
  """Accuracy (mean ± std over seeds) and cost of every cell, by budget, and the verdict.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields of the comparability lock to override.

  Returns:
    Something `rich.print` shows; `str()` of rich's console capture gives plain text.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir, allow)
  parts = [render.to_rich(tables.summary_table(workdir))]
  sentence, evidence = verdict.verdict(workdir, frontier.equal_compute(workdir, allow))
  parts.append(plain.rich_text(f'{sentence} {evidence}'))
  counts = workdir.runs['status'].value_counts()
  unfinished = ', '.join(f'{n} {status}' for status, n in counts.items() if status != 'done')
  if unfinished:
    parts.append(plain.rich_text(f'Runs without a result: {unfinished}.'))
  parts += [plain.rich_text(f'{p.path}: {p.what}') for p in workdir.problems]
  return rich.console.Group(*parts)
