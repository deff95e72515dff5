"""Tables of differences: at equal compute, between presets."""

from collections.abc import Sequence

import pandas as pd

from jaxbudget.lab.report import cells, comparability, layout, render, statistics
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.render import Cell, Table
from jaxbudget.lab.report.tables import STD_NOTE, accuracy_cell, unsaid_note


def equal_compute_table(compared: pd.DataFrame, notes: Sequence[str] = ()) -> Table:
  """The difference to `unif_sgd` at the same cost.

  Args:
    compared: of `frontier.equal_compute`.
    notes: to print below its own.

  Returns:
    A table with a row per compared cell; what is missing or refused says so.
  """
  varying = [name for name in cells.SETTING if compared[name].nunique(dropna=False) > 1]
  compared = layout.in_plan_order(compared, varying, 'mean')
  rows = []
  for row in compared.to_dict('records'):
    rows.append((
      *(render.text_cell(layout.plain(row[name])) for name in varying),
      Cell(layout.plain(row['budget']), row['budget']), render.text_cell(row['method']),
      render.number_cell(row['cost'], 3), render.number_cell(row['accuracy']),
      render.number_cell(row['baseline']), _difference_cell(row),
      Cell(render.interval(row['low'], row['high']), row['low']),
      render.number_cell(row['p'], 3), render.number_cell(row['p_holm'], 3),
      Cell(row['verdict'] or '–', row['verdict']),
      render.number_cell(row['same_budget'], sign=True),
    ))  # fmt: skip
  columns = (
    *varying, 'budget', 'method', 'cost', 'accuracy', 'unif_sgd there', 'difference',
    '95% interval', 'p', 'p (Holm)', 'verdict', 'at equal budget',
  )  # fmt: skip
  rules = layout.rules(compared[[*varying, 'budget']])
  return Table(
    'equal_compute', 'Difference to unif_sgd at the same cost, in points', columns, rows,
    compared, (*_statistics_notes(compared), *notes), len(varying) + 2, rules,
  )  # fmt: skip


def _difference_cell(row: dict) -> Cell:
  if row['state']:
    return Cell(row['state'], None, row['reason'], state=row['state'])
  details = [f'to {row["at"]}', row['overridden'], row['reason']]
  if row['curvature'] and not pd.isna(row['curvature']):
    details.insert(1, f'curvature {render.signed(row["curvature"])}')
  text = render.difference(row['mean'], row['se'])
  return Cell(text, row['mean'], '; '.join(filter(None, details)))


def _statistics_notes(compared: pd.DataFrame) -> tuple[str, ...]:
  """How the figures of the comparison came about, and what they can and cannot show."""
  tested = compared[compared['p'].notna()]
  notes = [
    'Paired by seed. unif_sgd there: interpolated at the same cost between runs of the same seed '
    '(sgd is its budget 1), so that the interval holds the uncertainty of the interpolation. '
    'Curvature: what a monotone cubic instead of the straight line would add to unif_sgd.'
  ]
  if len(tested):
    kinds = ' and '.join(sorted(set(tested['interval'])))
    seeds = ' or '.join(str(int(n)) for n in sorted(set(tested['n'])))
    smallest, count = tested['p_smallest'].min(), len(tested)
    notes.append(
      f'Intervals: {kinds} ({seeds} seeds). p: exact two-sided sign-flip test; with these seeds '
      f'it cannot fall below {smallest:.3g}, or {min(1, count * smallest):.3g} after Holm over '
      f'the {count} tests of this table.'
    )
  floor = compared['floor'].astype(float).dropna()
  if len(floor):
    notes.append(
      'Noise floor of the test sets, sqrt(p(1−p)/n): '
      f'{render.span(floor.min(), floor.max(), ".2f")} points.'
    )
  overridden = sorted(set(compared['overridden']) - {''})
  notes += [f'Override of the comparability lock: {text}.' for text in overridden]
  return tuple(notes)


def fidelity_table(workdir: Workdir, allow: Sequence[str] = ()) -> Table | None:
  """What the repairs are worth: `corrected` minus `released`, cell by cell, paired by seed.

  Args:
    workdir: a loaded workdir.
    allow: fields of the comparability lock to override.

  Returns:
    A table, or None if no cell was run under both presets.
  """
  frame = workdir.cells[workdir.cells['apart'] == '']
  if not {'released', 'corrected'} <= set(frame['fidelity']):
    return None
  lock = comparability.lock_values(workdir)
  keys = [*cells.SETTING, 'budget', 'rule', 'variant']
  done = cells.finished(workdir.runs)
  rows, data = [], []
  for key, part in frame.groupby(keys, sort=False, dropna=False):
    pair = part.drop_duplicates('fidelity').set_index('fidelity')
    if not {'released', 'corrected'} <= set(pair.index):
      continue
    scores = [
      done[name]['final_accuracy'] if name in done else pd.Series(dtype=float)
      for name in pair['cell_id'][['corrected', 'released']]
    ]
    used = [run for name in pair['cell_id'] if name in done for run in done[name]['run_id']]
    refused = _refused(lock, used, allow)
    test = statistics.paired([] if refused else (scores[0] - scores[1]).dropna())
    own = dict(zip(keys, key, strict=True))
    own['method'] = ' '.join(filter(None, (own['rule'], own['variant'])))
    labels = [own[name] for name in (*cells.SETTING, 'method')]
    released, corrected = (accuracy_cell(pair.loc[f]) for f in ('released', 'corrected'))
    difference = Cell('missing', state='missing')
    if refused:
      difference = Cell('refused', None, refused, state='refused')
    elif test.n:
      difference = Cell(render.difference(test.mean, test.se), test.mean)
    rows.append((
      *map(render.text_cell, labels), Cell(layout.plain(own['budget']), own['budget']),
      released, corrected, difference, Cell(render.interval(test.low, test.high), test.low),
    ))  # fmt: skip
    data.append(own | test._asdict())
  if not rows:
    return None
  columns = (*cells.SETTING, 'method', 'budget', 'released', 'corrected', 'difference',
             '95% interval')  # fmt: skip
  title = 'What the repaired deviations are worth (corrected − released), in points'
  notes, data = (STD_NOTE, *unsaid_note(workdir)), pd.DataFrame(data)
  return Table('deviations', title, columns, rows, data, notes, labels=len(cells.SETTING) + 2)


def _refused(lock, run_ids: list[str], allow: Sequence[str]) -> str:
  """Why runs of the two presets may not be compared; the preset itself is what is compared."""
  differences = comparability.differing(lock, run_ids)
  differences.pop('fidelity', None)
  return comparability.refusal(differences, allow)[0]
