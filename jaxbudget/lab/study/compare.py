"""Comparisons of the study: runs paired by seed and machine, with interval, exact p, and a word."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxbudget.lab.report import statistics

MARGIN, ENTROPY_MARGIN = 1.0, 0.005  # points of accuracy, nats
FEWEST = 6  # seeds below which nothing can be told
WORDS = ('higher', 'lower', 'equal', 'open', 'too few seeds')


class Comparison(NamedTuple):
  """A mean difference over seeds.

  Attributes:
    claim: that it belongs to.
    set: of images.
    name: what is compared, such as `p_sgd`.
    budget: B.
    baseline: what is subtracted.
    value: mean of the first over the seeds that are paired.
    against: mean of the baseline.
    n: pairs.
    mean: of the differences.
    low: lower end of the 95% interval.
    high: upper end.
    p: two-sided, exact sign-flip test.
    p_holm: corrected over the family; NaN in one that is judged by intervals.
    word: one of `WORDS`.
    cost: of the first, in full trainings.
    trained: of the samples that a full training back-propagates, the share of the first.
  """

  claim: str
  set: str
  name: str
  budget: float
  baseline: str
  value: float
  against: float
  n: int
  mean: float
  low: float
  high: float
  p: float
  p_holm: float
  word: str
  cost: float
  trained: float

  @property
  def enough(self) -> bool:
    """Whether it has seeds enough to tell anything."""
    return self.n >= FEWEST


def pick(runs: pd.DataFrame, options: dict[str, Any] | None = None, **values: Any) -> pd.DataFrame:
  """The runs of one cell, by the columns that tell it.

  Args:
    runs: of `results.load`.
    options: of the method, those that it must have.
    **values: of columns.

  Returns:
    Its rows, one a seed and machine; runs that others need are never among them.
  """
  kept = ~runs['needed'].astype(bool)
  for key, value in values.items():
    kept &= np.isclose(runs[key], value) if isinstance(value, float) else runs[key] == value
  found = runs[kept]
  if options:
    has = found['options'].map(lambda text: options.items() <= json.loads(text).items())
    found = found[has.astype(bool)]
  return found


def paired(own: pd.DataFrame, other: pd.DataFrame, column: str = 'final_accuracy') -> pd.DataFrame:
  """Pairs runs of equal seed that were computed on the same machine.

  Args:
    own: rows of a cell.
    other: rows of its baseline.
    column: what is compared.

  Returns:
    `own` and `other` by seed; a seed that was trained on several machines counts once.
  """
  columns = ['seed', 'machine', column]
  both = own[columns].merge(other[columns], on=['seed', 'machine'], suffixes=('', '_other'))
  both = both.sort_values(['seed', 'machine']).drop_duplicates('seed').set_index('seed')
  return both.rename(columns={column: 'own', f'{column}_other': 'other'})[['own', 'other']]


def at_equal_cost(own: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
  """Pairs runs with uniform sampling that costs the same, seed by seed.

  Args:
    own: rows of a cell.
    line: rows of uniform sampling at several budgets, and of SGD.

  Returns:
    As `paired`; nothing is extrapolated.
  """
  found = {}
  knots = {key: rows.sort_values('cost') for key, rows in line.groupby(['seed', 'machine'])}
  for run in own.sort_values(['seed', 'machine']).to_dict('records'):
    points = knots.get((run['seed'], run['machine']))
    if run['seed'] in found or points is None:
      continue
    cost, slack = points['cost'].to_numpy(), 1e-9
    if cost[0] - slack <= run['cost'] <= cost[-1] + slack:
      baseline = float(np.interp(run['cost'], cost, points['final_accuracy']))
      found[run['seed']] = (run['final_accuracy'], baseline)
  return pd.DataFrame.from_dict(found, orient='index', columns=['own', 'other'])


def measure(claim: str, where: str, name: str, budget: float, baseline: str, own: pd.DataFrame,
            pairs: pd.DataFrame) -> Comparison:  # fmt: skip
  """A comparison before its family is known: without corrected p, and without a word."""
  found = statistics.paired(pairs['own'] - pairs['other'])
  means = pairs['own'].mean(), pairs['other'].mean()
  figures = found.n, found.mean, found.low, found.high, found.p, math.nan, ''
  spent = own['cost'].mean(), own['realised_budget'].mean()
  return Comparison(claim, where, name, budget, baseline, *map(float, means), *figures, *spent)


def judge(family: Sequence[Comparison], margin: float = MARGIN, correct: bool = True):
  """Corrects p over a family, and says of each comparison what it shows.

  Args:
    family: of one claim on one set.
    margin: within which a difference is none.
    correct: False for families that are judged by intervals alone.

  Returns:
    The comparisons, completed.
  """
  known = [c.p if c.enough else math.nan for c in family]
  adjusted = statistics.holm(known) if correct else [math.nan] * len(family)
  return [
    c._replace(p_holm=float(p), word=_word(c, float(p), margin))
    for c, p in zip(family, adjusted, strict=True)
  ]


def _word(c: Comparison, p: float, margin: float) -> str:
  if not c.enough:
    return 'too few seeds'
  if p <= statistics.ALPHA:
    return 'higher' if c.mean > 0 else 'lower'
  return 'equal' if -margin < c.low and c.high < margin else 'open'


def table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
  """Comparisons as a table, a row each."""
  return pd.DataFrame(comparisons, columns=Comparison._fields)


def of_table(frame: pd.DataFrame) -> list[Comparison]:
  """Comparisons of a table that `table` made."""
  return [Comparison(*row) for row in frame.itertuples(index=False)]
