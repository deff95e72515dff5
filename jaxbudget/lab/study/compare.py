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
_SLACK = 1e-6  # in cost, of which the tables hold six digits
WORDS = ('higher', 'lower', 'equal', 'open', 'above', 'below', '', 'too few seeds')


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
    word: one of `WORDS`; of what is judged by intervals where these lie, empty if about zero.
    cost: of the first, in full trainings.
    trained: of the samples that a full training back-propagates, the share of the first.
    every: epochs from one scoring pass of its own to the next.
    as_many: accuracy of uniform sampling that trains on as many samples; NaN where it is not known.
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
  every: int = 1
  as_many: float = math.nan

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
  own, other = (rows[columns].dropna() for rows in (own, other))
  both = own.merge(other, on=['seed', 'machine'], suffixes=('', '_other'))
  both = both.sort_values(['seed', 'machine']).drop_duplicates('seed').set_index('seed')
  return both.rename(columns={column: 'own', f'{column}_other': 'other'})[['own', 'other']]


def at_equal_cost(own: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
  """Pairs runs with uniform sampling that costs the same, seed by seed.

  The line's knots are those that any of its seeds has: a seed that lacks one of the two that its
  cost lies between is left out, for between others the line would be another.

  Args:
    own: rows of a cell.
    line: rows of uniform sampling at several budgets, and of SGD.

  Returns:
    As `paired`; nothing is extrapolated.
  """
  found = {}
  costs = _distinct(line['cost'])
  scored = line[line['final_accuracy'].notna()]
  points = {key: rows.sort_values('cost') for key, rows in scored.groupby(['seed', 'machine'])}
  for run in own.sort_values(['seed', 'machine']).to_dict('records'):
    there = points.get((run['seed'], run['machine']))
    if run['seed'] in found or there is None or math.isnan(run['final_accuracy']):
      continue
    near = costs[_neighbours(costs, run['cost'])]
    ends = [there[(there['cost'] - knot).abs() <= _SLACK] for knot in near]
    if ends and all(map(len, ends)):
      ends = pd.concat(ends)
      baseline = float(np.interp(run['cost'], ends['cost'], ends['final_accuracy']))
      found[run['seed']] = (run['final_accuracy'], baseline)
  return pd.DataFrame.from_dict(found, orient='index', columns=['own', 'other'])


def _distinct(costs: pd.Series) -> np.ndarray:
  """Costs that differ by more than rounding, rising."""
  found = np.sort(costs.dropna().unique())
  return found[np.diff(found, prepend=-math.inf) > _SLACK]


def _neighbours(knots: np.ndarray, cost: float) -> list[int]:
  """The knots that a cost lies between; the one that it is at, none beyond the ends."""
  at = np.flatnonzero(np.abs(knots - cost) <= _SLACK).tolist()
  right = int(np.searchsorted(knots, cost))
  return at or ([right - 1, right] if 0 < right < len(knots) else [])


def measure(claim: str, where: str, name: str, budget: float, baseline: str, own: pd.DataFrame,
            pairs: pd.DataFrame) -> Comparison:  # fmt: skip
  """A comparison before its family is known: without corrected p, and without a word.

  A pair of which a figure is not known is none, in means as in tests.
  """
  pairs = pairs.dropna()
  found = statistics.paired(pairs['own'] - pairs['other'])
  means = pairs['own'].mean(), pairs['other'].mean()
  figures = found.n, found.mean, found.low, found.high, found.p, math.nan, ''
  spent = own['cost'].mean(), own['realised_budget'].mean()
  return Comparison(claim, where, name, budget, baseline, *map(float, means), *figures, *spent)


def judge(
  family: Sequence[Comparison],
  margin: float = MARGIN,
  correct: bool = True,
  by_interval: bool = False,
) -> list[Comparison]:
  """Corrects p over a family, and says of each comparison what it shows.

  Args:
    family: of one claim on one set.
    margin: within which a difference is none.
    correct: False for families that nobody corrects.
    by_interval: what is said follows from the interval alone.

  Returns:
    The comparisons, completed.
  """
  known = [c.p if c.enough else math.nan for c in family]
  adjusted = statistics.holm(known) if correct else [math.nan] * len(family)
  return [
    c._replace(p_holm=float(p), word=_side(c) if by_interval else _word(c, float(p), margin))
    for c, p in zip(family, adjusted, strict=True)
  ]


def _side(c: Comparison) -> str:
  if not c.enough:
    return 'too few seeds'
  return 'above' if c.low > 0 else 'below' if c.high < 0 else ''


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
