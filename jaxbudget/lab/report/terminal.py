"""The table at the end of a launch, in the terminal."""

import dataclasses
from collections.abc import Sequence

import pandas as pd
import rich.console

from jaxbudget.lab import plain
from jaxbudget.lab.report import frontier, render, tables, verdict
from jaxbudget.lab.report.load import Workdir, load_workdir
from jaxbudget.lab.report.render import Table

ROWS = 100  # of a table that still can be read in a terminal


def summary(
  workdir, allow: Sequence[str] = (), compared: pd.DataFrame | None = None
) -> rich.console.Group:
  """Accuracy (mean ± std over seeds) and cost of every cell, by budget, and the verdict.

  Args:
    workdir: a path, or a loaded `Workdir`.
    allow: fields of the comparability lock to override.
    compared: of `frontier.equal_compute`, if it is known.

  Returns:
    Something `rich.print` shows; `str()` of rich's console capture gives plain text.
  """
  workdir = workdir if isinstance(workdir, Workdir) else load_workdir(workdir, allow)
  compared = frontier.equal_compute(workdir, allow) if compared is None else compared
  parts = [render.to_rich(_readable(tables.summary_table(workdir)))]
  parts.append(plain.rich_text(' '.join(verdict.verdict(workdir, compared))))
  counts = workdir.runs['status'].value_counts()
  unfinished = ', '.join(f'{n} {status}' for status, n in counts.items() if status != 'done')
  if unfinished:
    parts.append(plain.rich_text(f'Runs without a result: {unfinished}.'))
  problems = [f'{p.path}: {p.what}' for p in workdir.problems[:ROWS]]
  if len(workdir.problems) > ROWS:
    problems.append(f'{len(workdir.problems) - ROWS} more files were left out, see the report')
  return rich.console.Group(*parts, *map(plain.rich_text, problems))


def _readable(table: Table) -> Table:
  """The first rows of each block where there are too many rows for a terminal."""
  if len(table.rows) <= ROWS:
    return table
  starts = [0, *sorted(table.rules), len(table.rows)]
  blocks = [range(a, b) for a, b in zip(starts, starts[1:], strict=False)][:ROWS]
  each = ROWS // len(blocks)
  kept = [block[:each] for block in blocks]
  rows = [table.rows[i] for block in kept for i in block]
  rules, count = [], 0
  for block in kept:
    rules.append(count)
    count += len(block)
  note = (
    f'The first {each} of each budget, {len(rows)} of {len(table.rows)} rows: all are in '
    f'report/tables/{table.name}.csv.'
  )
  return dataclasses.replace(
    table, rows=rows, rules=frozenset(rules[1:]), notes=(*table.notes, note)
  )
