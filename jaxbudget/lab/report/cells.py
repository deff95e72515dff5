"""Runs that differ only in their seed, brought together: one cell, one mean."""

import pandas as pd

SETTING = ('dataset', 'model', 'augment', 'schedule')  # what tables have columns for
SCALE = ('epochs', 'num_train')  # what a full run is, the unit of cost
CELL = (
  *SETTING, *SCALE, 'batch_size', 'fidelity', 'budget', 'budget_unit', 'selector', 'method', 'rule',
  'variant',
)  # fmt: skip
_FACTS = ('num_test', 'paper', 'is_scoring')
LACKING = ('failed', 'corrupt', 'running')  # why a planned run has no result
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
    `failed`, `corrupt`, `running` (numbers of runs), `mean`, `std` of the final and `best_mean`,
    `best_std` of the best accuracy in percent, the means of costs and seconds over finished
    runs, `num_test`, `data_fingerprint`, `paper` and `is_scoring` (a run that others need, not
    a method).
  """
  rows = []
  for cell_id, part in runs.groupby('cell_id', sort=False):
    done = part[part['status'] == 'done']
    row = {'cell_id': cell_id, **{name: part[name].iloc[0] for name in CELL}}
    row['planned'] = len(part)
    for status in ('done', *LACKING):
      row[status] = int((part['status'] == status).sum())
    row['mean'], row['std'] = done['final_accuracy'].mean(), done['final_accuracy'].std()
    row['best_mean'], row['best_std'] = done['best_accuracy'].mean(), done['best_accuracy'].std()
    row |= {name: done[name].mean() for name in _MEANS}
    row['planned_cost'] = part['planned_cost'].mean()
    row |= {name: part[name].iloc[0] for name in _FACTS}
    row['data_fingerprint'] = part['data_fingerprint'].max()  # unknown is the empty string
    rows.append(row)
  extra = ['planned', 'done', *LACKING, 'mean', 'std', 'best_mean', 'best_std']
  return pd.DataFrame(
    rows,
    columns=['cell_id', *CELL, *extra, *_MEANS, *_FACTS, 'data_fingerprint'],
  )


def split_by_data(runs: pd.DataFrame) -> pd.DataFrame:
  """Parts the seeds of a cell that were trained on other data of the same name.

  Their mean would be of nothing. Runs without a result stay with the commonest data.

  Args:
    runs: with `cell_id` and `data_fingerprint`.

  Returns:
    The same with cells of one content each.
  """
  known = runs[runs['data_fingerprint'] != '']
  usual = known.groupby('cell_id')['data_fingerprint'].transform(lambda f: f.mode()[0])
  odd = known[known['data_fingerprint'] != usual]
  ids = runs['cell_id'].copy()
  ids[odd.index] = odd['cell_id'] + '~' + odd['data_fingerprint'].str[:8]
  return runs.assign(cell_id=ids)


def finished(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
  """The finished runs of each cell, for pairing.

  Args:
    runs: `Workdir.runs`.

  Returns:
    cell_id -> its finished runs indexed by seed, in rising order of seed.
  """
  done = first_of_each_seed(runs[runs['status'] == 'done']).sort_values('seed')
  return {name: part.set_index('seed') for name, part in done.groupby('cell_id')}


def first_of_each_seed(runs: pd.DataFrame) -> pd.DataFrame:
  """Leaves out a cell's second run of a seed, which could not be paired."""
  return runs.drop_duplicates(['cell_id', 'seed'])


def state(cell) -> str:
  """Why a cell has fewer runs than planned, in words; empty when it is complete."""
  if cell['done'] == cell['planned']:
    return ''
  parts = [f'{cell[s]} {s}' for s in LACKING if cell[s]]
  missing = cell['planned'] - cell['done'] - sum(cell[s] for s in LACKING)
  return ', '.join(parts + ([f'{missing} missing'] if missing else []))
