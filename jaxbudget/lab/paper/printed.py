"""The paper's printed numbers (Tables 1-6, Figure 1), and what they say at equal compute."""

import functools
import importlib.resources
import math

import pandas as pd

from jaxbudget.lab.report import frontier, statistics

EPOCHS = 200  # T of all its tables
RUNS = 3  # independent runs behind each of the paper's means (section 4 of the paper)
KEY = ('table', 'dataset', 'method', 'augmentation', 'schedule', 'budget')


@functools.cache
def results() -> pd.DataFrame:
  """Tables 1-6: `table, dataset, method, augmentation, schedule, budget, metric, mean, std`."""
  return _read('paper_results.csv')


@functools.cache
def figure1() -> pd.DataFrame:
  """Figure 1 as digitised: `panel, dataset, group, series, metric, value, uncertainty`."""
  return _read('fig1_digitised.csv')


def _read(name: str) -> pd.DataFrame:
  file = importlib.resources.files('jaxbudget.lab.paper') / name
  with file.open(encoding='utf-8') as text:
    return pd.read_csv(text)


def lookup(place: dict, metric: str = 'accuracy_percent') -> tuple[float, float]:
  """The paper's number for an entry of a run's `paper` list.

  Args:
    place: the keys of `KEY`.
    metric: `accuracy_percent`, `wall_clock_minutes` or `speedup_percent`.

  Returns:
    (mean, std), NaN where the paper prints none.
  """
  return _index().get((*(canonical(place.get(key)) for key in KEY), metric), (math.nan,) * 2)


def canonical(value) -> str:
  """A spelling that does not depend on who wrote it: `mini-imagenet`, `0.20`, `Table 2`."""
  text = '' if value is None else str(value).strip().lower().replace('-', '_')
  text = text.removeprefix('table').strip()
  try:
    number = float(text)
  except ValueError:
    return text
  return '' if math.isnan(number) else f'{number:g}'


@functools.cache
def _index() -> dict[tuple, tuple[float, float]]:
  return {
    (*(canonical(getattr(row, key)) for key in KEY), row.metric): (row.mean, row.std)
    for row in results().itertuples()
  }


def cost(method: str, budget: float) -> float:
  """Cost of a cell of the paper in units of full training (fidelity.md 6).

  Args:
    method: as the paper spells it.
    budget: B.

  Returns:
    B, and for Selective Backprop B + 1/3: every image passes forward before the choice.
  """
  return budget + 1 / 3 if method == 'SB' else budget


def equal_compute() -> pd.DataFrame:
  """The paper's own means against unif-SGD at the same cost.

  unif-SGD is interpolated linearly in cost, with SGD as its budget 1. The standard error
  propagates those of the three means involved (3 runs each, taken as independent, for the
  paper prints no single runs).

  Returns:
    `dataset, augmentation, schedule, method, budget, cost, accuracy, baseline, difference,
    se, low, high` (95% Welch t), one row per cell of Tables 2-6 that has a bracket.
  """
  table = results().query('metric == "accuracy_percent" and table > 1')
  table = table.drop_duplicates(list(KEY[1:]))
  rows = []
  for setting, part in table.groupby(['dataset', 'augmentation', 'schedule'], sort=False):
    base = part[part['method'].isin(['unif-SGD', 'SGD'])].sort_values('budget')
    for row in part[~part['method'].isin(['unif-SGD', 'SGD'])].itertuples():
      own_cost = cost(row.method, row.budget)
      place = frontier.bracket(own_cost, base['budget'])
      if place is None:
        continue
      left, right = base.iloc[place.left], base.iloc[place.right]
      w = place.weight
      base_mean = (1 - w) * left['mean'] + w * right['mean']
      points = [(row.mean, row.std, 1), (left['mean'], left['std'], w - 1)]
      points += [(right['mean'], right['std'], -w)] if w else []
      means, stds, weights = zip(*points, strict=True)
      difference, se, df = statistics.difference_of_means(means, stds, [RUNS] * len(means), weights)
      low, high = statistics.t_interval(difference, se, df)
      rows.append((
        *setting, row.method, row.budget, own_cost, row.mean, base_mean, difference, se, low, high,
      ))  # fmt: skip
  return pd.DataFrame(rows, columns=[
    'dataset', 'augmentation', 'schedule', 'method', 'budget', 'cost', 'accuracy', 'baseline',
    'difference', 'se', 'low', 'high',
  ])  # fmt: skip
