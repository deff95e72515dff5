"""What the paper adds to a report: its tables and figure beside ours, and where runs deviate."""

from collections.abc import Iterator

import pandas as pd

from jaxbudget.lab.paper import deviations, figure1, printed, tables
from jaxbudget.lab.report import layout, render
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.reading import Problem
from jaxbudget.lab.report.render import Cell, Table
from jaxbudget.lab.report.sections import Section


def sections(workdir: Workdir) -> Iterator[Section]:
  """The paper's sections of a report, for `report.write_report`.

  Args:
    workdir: a loaded workdir.

  Yields:
    Tables 1-6 and Figure 1 beside the paper's, the paper at equal compute, deviations in force.
  """
  beside = tables.paper_tables(workdir)
  yield Section('Beside the paper', [*beside, *figure1.drawings(workdir)])
  yield Section('Paper at equal compute', [paper_equal_compute_table()] if beside else [])
  in_force = deviations_table(workdir)
  yield Section('Deviations in force', [in_force] if in_force else [])


def paper_equal_compute_table() -> Table:
  """The paper's own numbers, read at equal compute."""
  found = printed.equal_compute()
  rows = []
  for row in found.to_dict('records'):
    labels = (row['dataset'], row['augmentation'], row['schedule'], row['method'])
    rows.append((
      *map(render.text_cell, labels), Cell(layout.plain(row['budget']), row['budget']),
      render.number_cell(row['cost'], 3), render.number_cell(row['accuracy']),
      render.number_cell(row['baseline']),
      Cell(render.difference(row['difference'], row['se']), row['difference']),
      Cell(render.interval(row['low'], row['high']), row['low']),
    ))  # fmt: skip
  columns = ('dataset', 'augmentation', 'schedule', 'method', 'budget', 'cost', 'accuracy',
             'unif-SGD at that cost', 'difference', '95% interval')  # fmt: skip
  notes = (
    'The means and standard deviations printed in Tables 2, 3, 4 and 6 (3 runs each). SB is '
    'charged its selection passes (cost B + 1/3); unif-SGD is interpolated linearly in cost, '
    'with SGD as its budget 1. Intervals: Welch t on independent means, not corrected for '
    'their number.',
  )
  title = 'The paper’s own numbers against unif-SGD at the same cost, in points'
  return Table('paper_equal_compute', title, columns, rows, found, notes, labels=5)


def deviations_table(workdir: Workdir) -> Table | None:
  """Where the runs follow the released code rather than the paper, and the other way round.

  Returns:
    A table, or None if nothing is known of deviations.
  """
  found: dict[tuple, dict] = {}
  for run_id, config in workdir.configs.items():
    try:
      entries = deviations.in_force(config) if config else ()
    except (KeyError, TypeError, AttributeError) as error:
      what = f'deviations unknown: the config is incomplete ({error!r})'
      workdir.problems.append(Problem(f'runs/{run_id}/config.json', what))
      continue
    for entry in entries:
      key = entry['id'], str(entry.get('effect'))
      found.setdefault(key, {**entry, 'runs': 0})['runs'] += 1
  columns = ('id', 'title', 'paper', 'code', 'effect')
  rows = [
    (*(render.text_cell(entry.get(name, '')) for name in columns),
     render.number_cell(float(entry['runs']), 0))
    for entry in found.values()
  ]  # fmt: skip
  if not rows:
    return None
  data = pd.DataFrame(list(found.values()))
  title = 'Deviations between paper and code that are in force'
  return Table('deviations_in_force', title, (*columns, 'runs'), rows, data, labels=5)
