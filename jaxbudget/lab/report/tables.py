"""The tables of a report: what was run, at what cost, beside what the paper printed."""

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, layout, render
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.render import Cell, Table

BOLD_NOTE = 'Bold: the most accurate of those that cost the same (to 1 %) at a budget.'
STD_NOTE = 'Accuracy: mean ± standard deviation over seeds (ddof = 1), last epoch, in percent.'
COST_NOTE = (
  'Trained: samples trained on over T epochs of N, the budget as the paper counts it. Cost: all '
  'that was spent, in full runs of SGD: forward equivalents (a backward pass counts 2) over 3TN, '
  'choosing the samples included, with the whole of a scoring run if there is one, or the part of '
  'it that shared_by says; test passes are not counted.'
)


def summary_table(workdir: Workdir) -> Table:
  """All cells, budget by budget, the most accurate first, what each one cost beside it.

  Bold is the best among equal cost only.

  Args:
    workdir: a loaded workdir.

  Returns:
    A table with a row per cell.
  """
  frame = workdir.cells
  varying = [n for n in cells.SETTING if frame[n].nunique(dropna=False) > 1]
  frame = layout.in_plan_order(frame, varying, 'mean')
  block = [*varying, 'budget']
  best = _best_of_equal_cost(frame)
  rows = []
  for (_, cell), is_best in zip(frame.iterrows(), best, strict=True):
    labels = [render.text_cell(layout.plain(cell[name])) for name in varying]
    figures = (
      Cell(layout.plain(cell['budget']), float(cell['budget'])),
      render.text_cell(cell['method']),
      accuracy_cell(cell, bold=is_best),
      render.number_cell(cell['best_mean']),
      render.number_cell(cell['realised_budget'], 3),
      render.number_cell(cell['cost'], 3),
      render.number_cell(100 * _selection_share(cell), 0),
      render.number_cell(cell['seconds_train'], 1),
      Cell(f'{cell["done"]}/{cell["planned"]}', float(cell['done'])),
    )
    rows.append((*labels, *figures))
  columns = ('budget', 'method', 'accuracy', 'best epoch', 'trained', 'cost', 'selection %',
             'train s', 'seeds')  # fmt: skip
  fixed = ', '.join(f'{n} {layout.plain(frame[n].iloc[0])}' for n in ('dataset', 'model', 'augment',
    'schedule') if len(frame) and n not in varying)  # fmt: skip
  return Table(
    name='summary',
    title='Accuracy and cost by budget' + (f' ({fixed})' if fixed else ''),
    columns=(*varying, *columns),
    rows=rows,
    data=frame.drop(columns='paper').assign(best_in_block=best),
    notes=(
      *(STD_NOTE, COST_NOTE, *([BOLD_NOTE] if best.any() else [])),
      *(*score_note(workdir), *unsaid_note(workdir), *workdir.pooling),
      *([workdir.left_out] if workdir.left_out else []),
    ),
    labels=len(varying) + 2,
    rules=layout.rules(frame[block]),
    spare=('train s', 'best epoch', 'trained', 'selection %', 'seeds'),
  )


def _best_of_equal_cost(frame: pd.DataFrame) -> pd.Series:
  """Marks the most accurate among cells of one setting, data, budget and cost."""
  best = pd.Series(False, frame.index)
  keys = [*cells.SETTING, *cells.SCALE, 'data_fingerprint', 'budget']
  for _, block in frame[frame['done'] > 0].groupby(keys, sort=False, dropna=False):
    for group in layout.of_equal_cost(block['cost']):
      mean = frame.loc[group, 'mean']
      best[group] = (mean == mean.max()) & (len(group) > 1)
  return best


def unsaid_note(workdir: Workdir) -> list[str]:
  """What the methods' labels leave out where it is what most cells have, as a note or none."""
  unsaid = [f'{key}={value}' for key, value in workdir.unsaid.items()]
  return [f'Where a method does not say otherwise: {", ".join(unsaid)}.'] if unsaid else []


def score_note(workdir: Workdir) -> list[str]:
  """What stands in the place of accuracies, where there are none, as a note or none."""
  names = sorted(set(workdir.runs['score_name']) - {'accuracy', ''})
  said = f'Where the task has no accuracy its score stands there: {", ".join(names)}, in percent.'
  return [said] if names else []


def _selection_share(cell) -> float:
  """The part of a cell's cost that went into choosing samples."""
  chosen = cell['forward_scored'] + cell['scoring_forward_equivalents']
  return chosen / (cell['forward_equivalents'] + cell['scoring_forward_equivalents'])


def runs_table(workdir: Workdir) -> Table:
  """Every run on its own row."""
  frame = workdir.runs
  varying = [name for name in cells.SETTING if frame[name].nunique(dropna=False) > 1]
  columns = ('run', *varying, 'method', 'budget', 'seed', 'status', 'accuracy', 'best',
             'balanced', 'cost', 'realised', 'H(c)', 'train s')  # fmt: skip
  rows = []
  for run in frame.to_dict('records'):
    state = '' if run['status'] == 'done' else run['status']
    rows.append((
      *(render.text_cell(run[name]) for name in ('run_id', *varying, 'method')),
      Cell(layout.plain(run['budget']), run['budget']), render.number_cell(run['seed'], 0),
      Cell(run['status'], run['status'], run['error'], state=state),
      render.number_cell(run['final_accuracy']), render.number_cell(run['best_accuracy']),
      render.number_cell(run['balanced_accuracy']),
      render.number_cell(run['cost'], 3), render.number_cell(run['realised_budget'], 3),
      render.number_cell(run['entropy_nats'], 3), render.number_cell(run['seconds_train'], 1),
    ))  # fmt: skip
  data = frame.drop(columns=['paper', 'options', 'class_accuracy'])
  notes = (*score_note(workdir), *unsaid_note(workdir))
  return Table('runs', 'All runs', columns, rows, data, notes, labels=len(varying) + 2)


def class_table(workdir: Workdir) -> Table | None:
  """Accuracy class by class, of every cell; the worst and the best of many classes.

  Args:
    workdir: a loaded workdir.

  Returns:
    A table with a row per cell; None if no run tells of classes.
  """
  done = workdir.runs[workdir.runs['class_accuracy'].map(len) > 0]
  if not len(done):
    return None
  several = [name for name in cells.SETTING if done[name].nunique(dropna=False) > 1]
  widths = done['class_accuracy'].map(len)
  named = {_class_names(workdir, run) for run in done.to_dict('records')}  # heads are of all rows
  shown = len(named) == 1 and widths.max() <= _CLASSES
  rows, data = [], []
  for _, runs in done.groupby('cell_id', sort=False):
    first = runs.iloc[0]
    names = _class_names(workdir, first)
    mean = np.array([*runs['class_accuracy']], float).mean(0)
    order = np.argsort(mean)  # what was not tested comes last
    tested = order[: np.isfinite(mean).sum()]
    figures = [render.number_cell(value, 1) for value in mean] if shown else [
      cell for i in (tested[0], tested[-1])
      for cell in (render.number_cell(mean[i], 1), render.text_cell(names[i]))
    ]  # fmt: skip
    labels = [render.text_cell(layout.plain(first[name])) for name in several]
    budget = Cell(layout.plain(first['budget']), float(first['budget']))
    balanced = render.number_cell(runs['balanced_accuracy'].mean())
    rows.append((*labels, budget, render.text_cell(first['method']), balanced, *figures))
    own = {name: first[name] for name in (*cells.SETTING, 'budget', 'method')}
    data += [own | {'class': n, 'accuracy': v} for n, v in zip(names, mean, strict=True)]
  heads = named.pop() if shown else ('lowest', 'of', 'highest', 'of')
  guessing = int(done['guessing'].sum())
  said = f'{guessing} of {len(done)} runs are no better than guessing (to two standard errors).'
  return Table(
    name='classes',
    title='Accuracy by class',
    columns=(*several, 'budget', 'method', 'balanced', *heads),
    rows=rows,
    data=pd.DataFrame(data),
    notes=(
      'Share of each class told right, last epoch, mean over seeds, in percent; balanced: the mean '
      'over classes.',
      *([said] if guessing else []),
    ),
    labels=len(several) + 2,
  )


_CLASSES = 12  # that have a column each


def _class_names(workdir: Workdir, run) -> tuple[str, ...]:
  """Of a run's data; numbers where nobody named them."""
  data = workdir.configs.get(run['run_id'], {}).get('data')
  names = data.get('class_names') if isinstance(data, dict) else None
  count = len(run['class_accuracy'])
  known = isinstance(names, list | tuple) and len(names) == count
  return tuple(map(str, names if known else range(count)))


def problems_table(workdir: Workdir) -> Table:
  """Files that could not be used, and why."""
  rows = [(render.text_cell(p.path), render.text_cell(p.what)) for p in workdir.problems]
  data = pd.DataFrame(workdir.problems, columns=['path', 'what'])
  return Table('problems', 'Files left out', ('file', 'why'), rows, data, labels=2)


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
