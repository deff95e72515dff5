"""Between which points of a line a cost lies, and what a smooth curve through them says there."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxbudget.lab.report.layout import SAME_COST


class Bracket(NamedTuple):
  """Where a cost lies among the baseline's: between points `left` and `right`."""

  left: int
  right: int
  weight: float  # of the right one


def bracket(cost: float, knots: Sequence[float]) -> Bracket | None:
  """Finds the baseline points between which a cost lies.

  Args:
    cost: to look up.
    knots: costs of the baseline's points, rising.

  Returns:
    The neighbours and the weight of the right one; the same point twice if it costs the same
    (to 1 %); None outside the range, for nothing is extrapolated.
  """
  knots = np.asarray(knots, np.float64)
  if not knots.size or math.isnan(cost):
    return None
  nearest = int(np.argmin(np.abs(knots - cost)))
  if abs(knots[nearest] - cost) <= SAME_COST * cost:
    return Bracket(nearest, nearest, 0.0)
  right = int(np.searchsorted(knots, cost))
  if right in (0, knots.size):
    return None
  return Bracket(right - 1, right, float((cost - knots[right - 1]) / np.diff(knots)[right - 1]))


def pchip(x: np.ndarray, y: np.ndarray, at: float) -> float:
  """A cubic through points that is monotone where they are.

  Fritsch and Butland, "A Method for Constructing Local Monotone Piecewise Cubic Interpolants",
  with the ends of Moler's `pchip`: what `scipy.interpolate.PchipInterpolator` computes, which takes
  half a second to import.

  Args:
    x: rising, three or more.
    y: as many.
    at: between the first and the last x.

  Returns:
    The value there.
  """
  h, slope = np.diff(x), np.diff(y) / np.diff(x)
  rises = np.zeros(len(x))
  same = np.sign(slope[1:]) * np.sign(slope[:-1]) > 0
  one, two = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
  a, b = (np.where(same, part, 1.0) for part in (slope[:-1], slope[1:]))
  rises[1:-1] = np.where(same, (one + two) / (one / a + two / b), 0.0)
  for end, next_one in ((0, 1), (-1, -2)):
    first, second = h[end], h[next_one]
    rise = ((2 * first + second) * slope[end] - first * slope[next_one]) / (first + second)
    if np.sign(rise) != np.sign(slope[end]):
      rise = 0.0
    elif np.sign(slope[end]) != np.sign(slope[next_one]):
      rise = math.copysign(min(abs(rise), 3 * abs(slope[end])), rise)
    rises[end] = rise
  k = min(int(np.searchsorted(x, at, 'right')) - 1, len(h) - 1)
  t = (at - x[k]) / h[k]
  left = (1 + 2 * t) * y[k] + t * h[k] * rises[k]
  right = (3 - 2 * t) * y[k + 1] - (1 - t) * h[k] * rises[k + 1]
  return float((1 - t) ** 2 * left + t**2 * right)
