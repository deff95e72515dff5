"""Runs that differ only in their seed, brought together: one cell, one mean."""

from collections.abc import Collection, Mapping

import pandas as pd

from jaxbudget.lab.run.conditions import POOL

SETTING = ('dataset', 'model', 'augment', 'schedule')  # what tables have columns for
SCALE = ('epochs', 'num_train')  # what a full run is, the unit of cost
CELL = (
  *SETTING, *SCALE, 'batch_size', 'fidelity', 'budget', 'budget_unit', 'selector', 'method', 'rule',
  'variant', 'apart',
)  # fmt: skip
_FACTS = ('num_test', 'paper', 'is_scoring')
LACKING = ('failed', 'corrupt', 'running', 'stopped')  # why a planned run has no result
_MEANS = (
  'cost', 'planned_cost', 'realised_budget', 'entropy_nats', 'forward_equivalents',
  'planned_forward_equivalents', 'forward_scored', 'scoring_forward_equivalents',
  'seconds_train', 'seconds_evaluate', 'seconds_compile', 'seconds_data',
)  # fmt: skip


def cells(runs: pd.DataFrame) -> pd.DataFrame:
  """Aggregates runs over their seeds.

  Standard deviations are those of a sample (ddof=1); one run alone has none (NaN).

  Args:
    runs: `Workdir.runs`.

  Returns:
    One row per cell, in the order of the plan: the columns of `CELL`, `planned`, `done`,
    `failed`, `corrupt`, `running`, `stopped` and `not_pooled` (numbers of runs; the last are
    those that `separate` set apart), `mean`, `std` of the final and `best_mean`, `best_std` of
    the best accuracy in percent, the means of costs and seconds over finished runs, `num_test`,
    `data_fingerprint`, `paper` and `is_scoring` (a run that others need, not a method).
  """
  numbers = ['final_accuracy', 'best_accuracy', *_MEANS]
  runs = runs.astype(dict.fromkeys(numbers, float))
  by_cell = runs.groupby('cell_id', sort=False)
  done = runs[runs['status'] == 'done'].groupby('cell_id')[numbers]
  table = runs.drop_duplicates('cell_id').set_index('cell_id')[[*CELL, *_FACTS]]
  table['planned'] = by_cell.size()
  for status in ('done', *LACKING):
    table[status] = (runs['status'] == status).groupby(runs['cell_id']).sum().astype(int)
  table['not_pooled'] = by_cell['not_pooled'].first().astype(int)
  mean, std = done.mean(), done.std()
  table['mean'], table['std'] = mean['final_accuracy'], std['final_accuracy']
  table['best_mean'], table['best_std'] = mean['best_accuracy'], std['best_accuracy']
  table[list(_MEANS)] = mean[list(_MEANS)]
  table['planned_cost'] = by_cell['planned_cost'].mean()
  table['data_fingerprint'] = by_cell['data_fingerprint'].max()  # unknown is the empty string
  counts = ('planned', 'done', *LACKING, 'not_pooled')
  scores = ('mean', 'std', 'best_mean', 'best_std')
  columns = [*CELL, *counts, *scores, *_MEANS, *_FACTS, 'data_fingerprint']
  return table[columns].reset_index()


def finished(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """The finished runs of each cell, for pairing.

  Args:
    runs: `Workdir.runs`.

  Returns:
    cell_id -> `run_id, cost, final_accuracy, entropy_nats` of its finished runs, indexed by
    seed, in rising order.
  """
  done = first_of_each_seed(runs[runs['status'] == 'done']).sort_values('seed')
  done = done.set_index('seed')[['cell_id', 'run_id', 'cost', 'final_accuracy', 'entropy_nats']]
  return dict(iter(done.groupby('cell_id')))


def first_of_each_seed(runs: pd.DataFrame) -> pd.DataFrame:
  """Leaves out a cell's second run of a seed, which could not be paired."""
  return runs.drop_duplicates(['cell_id', 'seed'])


def state(cell) -> str:
  """Why a cell has fewer runs than planned, in words; empty when it is complete."""
  missing = cell['planned'] - cell['done'] - sum(cell[s] for s in LACKING)
  counts = {**{s: cell[s] for s in LACKING}, 'missing': missing, 'not pooled': cell['not_pooled']}
  return ', '.join(f'{count} {name}' for name, count in counts.items() if count)


def separate(
  runs: pd.DataFrame, conditions: Mapping[str, Mapping[str, str]], allow: Collection[str] = ()
) -> tuple[pd.DataFrame, dict[str, dict[str, str]], list[str]]:
  """Sets seeds of a cell apart that were not drawn under the same conditions.

  Their mean would be of nothing. The most seeds that were stay the cell, and unfinished runs
  stay with them; the others become cells of their own.

  Args:
    runs: with `cell_id`, `run_id`, `seed` and `status`.
    conditions: by run_id, those of `POOL` as text.
    allow: conditions that may differ.

  Returns:
    (the runs, with `apart`, the conditions in which a run differs from its cell, or '', and
    `not_pooled`, how many runs of its cell do; the same conditions by the id of the new cell;
    sentences that say what was not pooled, and what was although it differs).
  """
  runs = runs.assign(apart='', not_pooled=0)
  done = runs[runs['status'] == 'done']
  known = pd.DataFrame([conditions[run_id] for run_id in done['run_id']], done.index, list(POOL))
  counts = known.groupby(done['cell_id'], sort=False).nunique()
  cells, said = {}, []
  for cell_id, count in counts[(counts > 1).any(axis=1)].iterrows():
    found = known[done['cell_id'] == cell_id]
    differing = [name for name in POOL if count[name] > 1]
    strict = [name for name in differing if name not in allow]
    said += [_said(cell_id, runs['seed'], found[name], name in allow) for name in differing]
    groups = sorted(found.groupby(strict, sort=False), key=lambda g: -len(g[1])) if strict else []
    for values, group in groups[1:]:
      own = {name: value or 'unknown' for name, value in zip(strict, values, strict=True)}
      apart = ', '.join(f'{name} {value}' for name, value in own.items())
      cells[f'{cell_id} [{apart}]'] = own
      runs.loc[group.index, 'apart'] = apart
      runs.loc[group.index, 'cell_id'] = f'{cell_id} [{apart}]'
    runs.loc[runs['cell_id'] == cell_id, 'not_pooled'] = sum(len(g) for _, g in groups[1:])
  return runs, cells, said


def _said(cell_id: str, seed: pd.Series, values: pd.Series, allowed: bool) -> str:
  """That a condition differs within a cell."""
  seeds = {
    value: ', '.join(f'{s:g}' for s in seed[group.index])
    for value, group in values.groupby(values, sort=False)
  }
  shown = ' | '.join(f'{value or "unknown"}: seed {which}' for value, which in seeds.items())
  how = 'Pooled all the same' if allowed else 'Not pooled'
  return f'{how}: {cell_id}: {values.name} differs ({shown}).'
