"""What the study's runs themselves tell of its limits: fields of the page, none typed."""

import pandas as pd

from jaxbudget.lab.study import words


def ordered(runs: pd.DataFrame) -> str:
  """Where Ordered SGD came to choose, in words; empty if it was not trained.

  It trains on whole batches, as `scan_sgd`, until it classifies most of its samples right: cells in
  which all runs of a seed and machine end alike are one method under two names.
  """
  keys = ['set', 'budget', 'budget_unit', 'seed', 'machine']
  one, other = (
    runs[runs['selector'] == name][[*keys, 'final_accuracy']]
    for name in ('ordered_sgd', 'scan_sgd')
  )
  both = one.merge(other, on=keys, suffixes=('', '_other'))
  if both.empty:
    return ''
  both['apart'] = both['final_accuracy'] != both['final_accuracy_other']
  apart = both.groupby(['set', 'budget'])['apart'].any()
  chose = [f'B = {b:g} on {words.title(name)}' for (name, b), is_apart in apart.items() if is_apart]
  told = f'only at {" and ".join(chose)}' if chose else 'never'
  return f'it came to choose {told}, of {len(apart)} cells that have both on one machine'


def unscored(runs: pd.DataFrame) -> str:
  """Which shares of its budget the gradient bound used, in percent; empty if it scored any."""
  bound = runs[runs['selector'] == 'gradient_bound']
  if bound.empty or bound['forward_scored'].any():
    return ''
  used = 100 * bound['realised_budget'] / bound['budget']
  return f'{used.min():.0f} to {used.max():.0f} %'


def other_commits(runs: pd.DataFrame) -> tuple[int, int]:
  """Cells of methods in part C that another commit trained than their baseline, and all of them."""
  of_c = runs[runs['part'] == 'C']
  line = runs[runs['selector'].isin(('unif_sgd', 'sgd'))]
  commits = {key: set(rows['commit']) for key, rows in line.groupby(['set', 'machine'])}
  own = of_c[of_c['budget_unit'] == 'compute'].groupby(['set', 'machine', 'cell'])['commit']
  cells = [(key, set(found)) for key, found in own]
  return sum(not found <= commits.get(key[:2], set()) for key, found in cells), len(cells)
