"""The tables of a report: what was run, at what cost, beside what the paper printed."""

import pandas as pd

from jaxbudget.report import cells, paper, render, statistics
from jaxbudget.report.load import Workdir
from jaxbudget.report.render import Cell, Table

STD_NOTE = 'Accuracy: mean ± standard deviation over seeds (ddof = 1), last epoch, in percent.'
COST_NOTE = (
  'Cost: forward equivalents spent (a backward pass counts 2), selection included, in units '
  'of a full run of T epochs over N samples; test passes are not counted.'
)


def summary_table(workdir: Workdir) -> Table:
  """All cells, budget by budget, the most accurate first, what each one cost beside it.

  Args:
    workdir: a loaded workdir.

  Returns:
    A table with a row per cell.
  """
  frame = workdir.cells
  varying = [n for n in (*cells.SETTING, 'budget_unit') if frame[n].nunique(dropna=False) > 1]
  frame = _in_plan_order(frame, varying, 'mean')
  block = [*varying, 'budget']
  groups = frame.groupby(block, sort=False, dropna=False)
  comparable = groups['done'].transform(lambda done: (done > 0).sum()) > 1
  best = (frame['mean'] == groups['mean'].transform('max')) & comparable
  rows = []
  for (_, cell), is_best in zip(frame.iterrows(), best, strict=True):
    labels = [render.text_cell(_plain(cell[name])) for name in varying]
    figures = (
      Cell(_plain(cell['budget']), float(cell['budget'])),
      render.text_cell(cell['method']),
      accuracy_cell(cell, bold=is_best),
      render.number_cell(cell['best_mean']),
      render.number_cell(cell['cost'], 3),
      render.number_cell(100 * cell['forward_scored'] / cell['forward_equivalents'], 0),
      render.number_cell(cell['seconds_train'], 1),
      Cell(f'{cell["done"]}/{cell["planned"]}', float(cell['done'])),
    )
    rows.append((*labels, *figures))
  columns = (
    'budget',
    'method',
    'accuracy',
    'best epoch',
    'cost',
    'selection %',
    'train s',
    'seeds',
  )
  fixed = ', '.join(f'{n} {_plain(frame[n].iloc[0])}' for n in ('dataset', 'model', 'augment',
    'schedule') if len(frame) and n not in varying)  # fmt: skip
  return Table(
    name='summary',
    title='Accuracy and cost by budget' + (f' ({fixed})' if fixed else ''),
    columns=(*varying, *columns),
    rows=rows,
    data=frame.drop(columns='paper').assign(best_in_block=best),
    notes=(STD_NOTE, COST_NOTE),
    labels=len(varying) + 2,
    rules=_rules(frame[block]),
  )


def equal_compute_table(compared: pd.DataFrame) -> Table:
  """The difference to `unif_sgd` at the same cost.

  Args:
    compared: of `frontier.equal_compute`.

  Returns:
    A table with a row per compared cell; what is missing or refused says so.
  """
  names = (*cells.SETTING, 'fidelity')
  varying = [name for name in names if compared[name].nunique(dropna=False) > 1]
  compared = _in_plan_order(compared, varying, 'mean')
  rows = []
  for row in compared.to_dict('records'):
    rows.append((
      *(render.text_cell(_plain(row[name])) for name in varying),
      Cell(_plain(row['budget']), row['budget']), render.text_cell(row['method']),
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
  rules = _rules(compared[[*varying, 'budget']])
  return Table(
    'equal_compute', 'Difference to unif_sgd at the same cost, in points', columns, rows,
    compared, _statistics_notes(compared), len(varying) + 2, rules,
  )  # fmt: skip


def _difference_cell(row: dict) -> Cell:
  if row['state']:
    return Cell(row['state'], None, row['reason'], state=row['state'])
  details = [f'to {row["at"]}', row['overridden']]
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
      f'Noise floor of the test sets, sqrt(p(1−p)/n): {floor.min():.2f} to {floor.max():.2f} '
      'points.'
    )
  overridden = sorted(set(compared['overridden']) - {''})
  notes += [f'Override of the comparability lock: {text}.' for text in overridden]
  return tuple(notes)


def paper_equal_compute_table() -> Table:
  """The paper's own numbers, read at equal compute."""
  found = paper.equal_compute()
  rows = []
  for row in found.to_dict('records'):
    labels = (row['dataset'], row['augmentation'], row['schedule'], row['method'])
    rows.append((
      *map(render.text_cell, labels), Cell(_plain(row['budget']), row['budget']),
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


def fidelity_table(workdir: Workdir) -> Table | None:
  """What the repairs are worth: `corrected` minus `released`, cell by cell, paired by seed.

  Args:
    workdir: a loaded workdir.

  Returns:
    A table, or None if no cell was run under both presets.
  """
  frame = workdir.cells
  keys = [*cells.SETTING, 'budget', 'budget_unit', 'selector']
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
    test = statistics.paired((scores[0] - scores[1]).dropna())
    own = dict(zip(keys, key, strict=True))
    labels = [own[name] for name in ('dataset', 'augment', 'schedule', 'selector')]
    released, corrected = (accuracy_cell(pair.loc[f]) for f in ('released', 'corrected'))
    difference = Cell('missing', state='missing')
    if test.n:
      difference = Cell(render.difference(test.mean, test.se), test.mean)
    rows.append((
      *map(render.text_cell, labels), Cell(_plain(own['budget']), own['budget']),
      released, corrected, difference, Cell(render.interval(test.low, test.high), test.low),
    ))  # fmt: skip
    data.append(own | test._asdict())
  if not rows:
    return None
  columns = ('dataset', 'augment', 'schedule', 'method', 'budget', 'released', 'corrected',
             'difference', '95% interval')  # fmt: skip
  return Table(
    'deviations', 'What the repaired deviations are worth (corrected − released), in points',
    columns, rows, pd.DataFrame(data), (STD_NOTE,), labels=5,
  )  # fmt: skip


def runs_table(workdir: Workdir) -> Table:
  """Every run on its own row."""
  frame = workdir.runs
  names = ('dataset', 'model', 'augment', 'schedule', 'fidelity')
  varying = [name for name in names if frame[name].nunique(dropna=False) > 1]
  columns = ('run', *varying, 'method', 'budget', 'seed', 'status', 'accuracy', 'best', 'cost',
             'realised', 'H(c)', 'train s')  # fmt: skip
  rows = []
  for run in frame.to_dict('records'):
    state = '' if run['status'] == 'done' else run['status']
    rows.append((
      *(render.text_cell(run[name]) for name in ('run_id', *varying, 'method')),
      Cell(_plain(run['budget']), run['budget']), render.number_cell(run['seed'], 0),
      Cell(run['status'], run['status'], run['error'], state=state),
      render.number_cell(run['final_accuracy']), render.number_cell(run['best_accuracy']),
      render.number_cell(run['cost'], 3), render.number_cell(run['realised_budget'], 3),
      render.number_cell(run['entropy_nats'], 3), render.number_cell(run['seconds_train'], 1),
    ))  # fmt: skip
  data = frame.drop(columns=['paper', 'options'])
  return Table('runs', 'All runs', columns, rows, data, labels=len(varying) + 2)


def problems_table(workdir: Workdir) -> Table:
  """Files that could not be used, and why."""
  rows = [(render.text_cell(p.path), render.text_cell(p.what)) for p in workdir.problems]
  data = pd.DataFrame(workdir.problems, columns=['path', 'what'])
  return Table('problems', 'Files left out', ('file', 'why'), rows, data, labels=2)


def _in_plan_order(frame: pd.DataFrame, settings: list[str], best: str) -> pd.DataFrame:
  """Sorts by setting as they first appear, then by budget, then the best first."""
  orders = {name: pd.factorize(frame[name])[0] for name in settings}
  keys = frame[['budget']].assign(**orders, best=-frame[best].astype(float))
  order = keys.sort_values([*settings, 'budget', 'best'], kind='stable').index
  return frame.loc[order].reset_index(drop=True)


def _rules(blocks: pd.DataFrame) -> frozenset[int]:
  """The rows at which another block begins."""
  keys = [repr(row) for row in blocks.itertuples(index=False)]
  return frozenset(i for i in range(1, len(keys)) if keys[i] != keys[i - 1])


def accuracy_cell(cell: pd.Series, bold: bool = False, detail: str = '') -> Cell:
  """Mean ± std of a cell, or in words why there is none.

  Args:
    cell: a row of `cells.cells`.
    bold: the best of its column.
    detail: second line; what is missing is added to it.

  Returns:
    The cell of a table.
  """
  lacking = cells.state(cell)
  kind = next((s for s in cells.LACKING if cell[s]), 'missing' if lacking else '')
  if not cell['done']:
    return Cell(kind, None, detail, state=kind)
  extra = '; '.join(filter(None, (detail, lacking)))
  return Cell(render.mean_std(cell['mean'], cell['std']), float(cell['mean']), extra, bold, kind)


def _plain(value) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)
