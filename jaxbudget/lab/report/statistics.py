"""What a handful of seeds can say: intervals, exact tests and their limits.

Everything works on differences paired by seed, in points of accuracy; NaN is a pair of which a
figure is not known, and is left out. Below `BCA_FROM` seeds intervals are paired t: at 3 seeds a
nominal 95% BCa bootstrap interval covers about 72 %.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

ALPHA = 0.05
BCA_FROM = 10
_RESAMPLES = 9999
_ENUMERATED = 13  # pairs, of which there are no more sign patterns than resamples
# Sums this near are equal. It is far above the rounding of accuracies, which are up to 100 while
# their differences may be next to nothing, and far below what one image is worth.
_TIE = 1e-9


class Paired(NamedTuple):
  """A mean difference and what is known of it; NaN where the seeds do not suffice.

  Attributes:
    n: pairs of which the difference is known.
    mean: of the differences.
    se: standard error of the mean (ddof=1).
    low: lower end of the 95% interval.
    high: upper end.
    interval: `paired t`, `BCa bootstrap`, or empty when there is none.
    p: two-sided, exact sign-flip test.
    p_smallest: the smallest p that this test can give with so many pairs.
  """

  n: int
  mean: float
  se: float
  low: float
  high: float
  interval: str
  p: float
  p_smallest: float


def paired(differences: Sequence[float]) -> Paired:
  """Interval and test for a mean of paired differences.

  Args:
    differences: one per seed, in points.

  Returns:
    A `Paired`; with fewer than two pairs only the mean.
  """
  d = _known(differences)
  if d.size < 2:
    mean = float(d.mean()) if d.size else math.nan
    return Paired(d.size, mean, math.nan, math.nan, math.nan, '', math.nan, math.nan)
  mean, se = float(d.mean()), _standard_error(d)
  low, high, name = paired_interval(d)
  return Paired(d.size, mean, se, low, high, name, sign_flip_p(d), smallest_p(d.size))


def _known(values: Sequence[float]) -> np.ndarray:
  values = np.asarray(values, np.float64)
  return values[~np.isnan(values)]


def _standard_error(values: np.ndarray) -> float:
  return float(values.std(ddof=1) / math.sqrt(values.size))


def sign_flip_p(differences: Sequence[float]) -> float:
  """Exact two-sided p of the hypothesis that the differences are symmetric about 0.

  Every one of the 2^n ways to swap the members of pairs is equally likely then (up to 13
  pairs all are enumerated, beyond that 9,999 are drawn).

  Args:
    differences: one per pair.

  Returns:
    p, at least 2^(1-n).
  """
  d = _known(differences)
  if (np.abs(d) <= _TIE).all():
    return 1.0
  if d.size <= _ENUMERATED:
    places = np.arange(d.size)
    signs = 1 - 2 * (np.arange(2**d.size)[:, None] >> places & 1)  # [2^n,n]
    sums = np.abs((signs * d).sum(axis=1))
    return float((sums >= abs(d.sum()) - _TIE).mean())
  import scipy.stats  # which takes a second to import

  test = scipy.stats.permutation_test(
    (d,),
    lambda x, axis: np.sum(x, axis=axis),
    permutation_type='samples',
    vectorized=True,
    n_resamples=_RESAMPLES,
    rng=np.random.default_rng(0),
  )
  # Its own p takes sums for different that only rounding tells apart.
  sums, observed = test.null_distribution, test.statistic
  rarer = min((sums <= observed + _TIE).sum(), (sums >= observed - _TIE).sum())
  return float(min(2 * (rarer + 1) / (_RESAMPLES + 1), 1.0))


def smallest_p(n: int) -> float:
  """The smallest two-sided p of a sign-flip test of n pairs: 2 of the 2^n sign patterns.

  Args:
    n: pairs.

  Returns:
    2^(1-n); beyond 13 pairs what 9,999 random flips can resolve.
  """
  return 2.0 ** (1 - n) if n <= _ENUMERATED else 2 / (_RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Holm's step-down correction over a table.

  Args:
    p_values: NaN where a row has no test; those count for nothing.

  Returns:
    Adjusted p, in the same order.
  """
  p = np.asarray(p_values, np.float64)
  order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN sorts last
  factors = np.arange(order.size, 0, -1)
  adjusted = np.full(p.shape, np.nan)
  adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1)
  return adjusted


def noise_floor(accuracy: float, n: float) -> float:
  """Standard error of an accuracy for want of test images, sqrt(p(1-p)/n).

  Args:
    accuracy: in percent.
    n: test images.

  Returns:
    Points of accuracy; NaN when n is not known, or the accuracy.
  """
  p = accuracy / 100
  return 100 * math.sqrt(p * (1 - p) / n) if n > 0 and 0 <= p <= 1 else math.nan


def verdicts(tests: Sequence[Paired]) -> list[str]:
  """Holm over a table of tests, in words; nothing is significant that cannot be.

  Args:
    tests: the rows of the table.

  Returns:
    For each row `better`, `worse`, `undecided`, `too few seeds` (no outcome of so few seeds
    could have been significant in this table, however the other rows came out), or empty when
    there is no test.
  """
  adjusted = holm([test.p for test in tests])
  # A smaller p corrects no other to a larger one: the least of a row is where all are least.
  reachable = holm([math.nan if math.isnan(test.p) else test.p_smallest for test in tests])
  words = []
  for test, p, least in zip(tests, adjusted, reachable, strict=True):
    if math.isnan(p):
      words.append('')
    elif p <= ALPHA:
      words.append('better' if test.mean > 0 else 'worse')
    else:
      words.append('undecided' if least <= ALPHA else 'too few seeds')
  return words


def difference_of_means(means: Sequence[float], stds: Sequence[float], ns: Sequence[int],
                        weights: Sequence[float]) -> tuple[float, float, float]:  # fmt: skip
  """A weighted sum of independent means with its standard error and degrees of freedom.

  Args:
    means: of the groups.
    stds: standard deviations of the groups (ddof=1).
    ns: sizes of the groups.
    weights: of the groups; (1, -1) is a difference.

  Returns:
    (sum of weight * mean, sqrt(sum of weight^2 std^2 / n), Welch-Satterthwaite df).
  """
  means, stds, ns, weights = (np.asarray(x, np.float64) for x in (means, stds, ns, weights))
  with np.errstate(divide='ignore', invalid='ignore'):
    variances = weights**2 * stds**2 / ns
    df = variances.sum() ** 2 / (variances**2 / (ns - 1)).sum()
  return float(weights @ means), float(np.sqrt(variances.sum())), float(df)


def t_interval(mean: float, se: float, df: float) -> tuple[float, float]:
  """The 95% t interval (mean -+ t * se); NaN without a standard error."""
  half = float(scipy.special.stdtrit(df, 1 - ALPHA / 2)) * se if df > 0 else math.nan
  return mean - half, mean + half


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
  """The 95% interval for a mean over seeds; NaN for fewer than two.

  Args:
    values: one per seed.

  Returns:
    (low, high).
  """
  return paired_interval(values)[:2] if _known(values).size > 1 else (math.nan, math.nan)


def paired_interval(differences: Sequence[float]) -> tuple[float, float, str]:
  """The 95% interval for the mean of at least two paired differences.

  Args:
    differences: one per seed.

  Returns:
    (low, high, name of the method); a constant sample has an interval of no width.
  """
  d = _known(differences)
  mean = float(d.mean())
  if np.ptp(d) <= _TIE:  # of which no bootstrap makes anything
    return mean, mean, 'paired t'
  if d.size < BCA_FROM:
    return *t_interval(mean, _standard_error(d), d.size - 1), 'paired t'
  import scipy.stats

  found = scipy.stats.bootstrap(
    (d,), np.mean, method='BCa', n_resamples=_RESAMPLES, rng=np.random.default_rng(0)
  ).confidence_interval
  return float(found.low), float(found.high), 'BCa bootstrap'
