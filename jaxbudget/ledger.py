"""Cost accounting: budgets as caps, forward equivalents, and what was really seen.

Unit: the forward pass of one sample is 1, its backward pass 2 (fidelity.md section 6).
"""

import dataclasses
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import registry
from jaxbudget.types import Cost, Facts, Spec

BUDGET_UNITS = ('backward', 'compute')
_PRICES = {'backward': Cost(0, 0, 1), 'compute': Cost(1, 1, 2)}
_DIGIT = 2**20  # allowances reach 6e9 at 10M samples: two int32 digits hold them


def exact(number: Any) -> Fraction:
  """A number as it is written in decimals, which no binary float holds.

  Args:
    number: an int, Fraction or Decimal, which are exact, or a float of any width, which
      stands for the shortest decimal that reads back as it: 3/10 for 0.3 and for
      `np.float32(0.3)`. What is no decimal (a third) wants a Fraction.

  Returns:
    The value.

  Raises:
    ValueError: not a finite number.
  """
  return Fraction(str(np.asarray(number)[()]))


def as_written(share: float) -> Fraction:
  """What a float option stands for: a decimal, or a third, of a denominator up to 10,000.

  Args:
    share: any finite number.

  Returns:
    The nearest such fraction, so that 2/3 of 3 epochs are 2, and 0.57 of 100 are 57.
  """
  return Fraction(share).limit_denominator(10_000)


@dataclasses.dataclass(frozen=True)
class Budget:
  """A share of full training, and what counts towards it. `budget * x` scales the share.

  Attributes:
    fraction: B in (0, 1], exact; given as any number that `exact` takes.
    unit: `backward` counts back-propagated samples, as the paper does; `compute` charges every
      pass, in forward equivalents.
    spent: forward equivalents that the runs which this one needs have cost before it starts;
      charged under `compute`.
    scoring: forward equivalents of a pass that ranks candidates: less than 1 on smaller images.
    every: of the epochs in which a method would score, only those divisible by it do; the others
      reuse what was said. What `looks` makes of the two is what methods divide their budget by.

  Raises:
    ValueError: out of range, no number, or an unknown unit.
  """

  fraction: Fraction
  unit: str = 'backward'
  spent: int = 0
  scoring: Fraction = Fraction(1)
  every: int = 1

  def __post_init__(self):
    for field, said in (('fraction', 'budget must be in (0, 1]'), ('scoring', 'scoring: a number')):
      try:
        object.__setattr__(self, field, exact(getattr(self, field)))
      except ValueError:  # NaN, infinity, or no number at all
        raise ValueError(f'{said}, got {getattr(self, field)}') from None
    if not 0 < self.fraction <= 1:
      raise ValueError(f'budget must be in (0, 1], got {float(self.fraction):g}')
    registry.check('budget_unit', self.unit, BUDGET_UNITS)

  def __mul__(self, factor: Any) -> 'Budget':
    return dataclasses.replace(self, fraction=self.fraction * exact(factor))

  def __str__(self) -> str:
    return f'{float(self.fraction):g}'

  def looks(self, epochs: Iterable[int]) -> Fraction:
    """What it costs to score a candidate once in each of some epochs.

    Args:
      epochs: in which a method scores, 0-based, see `Facts.scoring`.

    Returns:
      Forward equivalents.
    """
    return self.scoring * sum(e % self.every == 0 for e in epochs)


def as_budget(budget: Any, unit: str = 'backward', spent: int = 0) -> Budget:
  """A budget of what a caller may give.

  Args:
    budget: a `Budget`, which is returned as it is, or a number that `exact` takes.
    unit: of a number.
    spent: of a number.

  Returns:
    The budget.

  Raises:
    ValueError: out of range, or an unknown unit.
  """
  return budget if isinstance(budget, Budget) else Budget(budget, unit, spent)


def left_of(spec: Spec, budget: Any) -> Budget:
  """What is left to train with, after what the runs that come first have cost.

  Args:
    spec: sizes of the run.
    budget: a `Budget`, or B.

  Returns:
    The budget under `backward`; under `compute` B - spent/(3TN), nothing spent.

  Raises:
    ValueError: nothing is left.
  """
  budget = as_budget(budget)
  if budget.unit != 'compute' or not budget.spent:
    return budget
  before = Fraction(budget.spent, 3 * spec.epochs * spec.num_examples)
  if budget.fraction <= before:
    raise ValueError(
      f"budget_unit='compute' is impossible at budget={budget}: the runs that come first alone "
      f'cost {float(before):.4f} of full training; raise the budget, or shared_by if others '
      'share them'
    )
  return dataclasses.replace(budget, fraction=budget.fraction - before, spent=0)


def share(total: int, budget: Any) -> int:
  """floor(total * budget), exactly.

  Args:
    total: a whole number (samples, epochs).
    budget: a `Budget`, or B of any type that `exact` takes.

  Returns:
    A whole number: share(100, 0.29) is 29 although 100 * 0.29 < 29 in binary.
  """
  fraction = budget.fraction if isinstance(budget, Budget) else exact(budget)
  return math.floor(total * fraction)


def trainable(spec: Spec, budget: Any, scored: int | Fraction, name: str) -> int:
  """Samples that each of T epochs may train on, beside the forward passes that rank candidates.

  Args:
    spec: sizes of the run.
    budget: a `Budget`, or B.
    scored: forward equivalents of the whole run that train nothing.
    name: of the method, for the message.

  Returns:
    floor(N*B) under `backward`; under `compute` floor(N*B - scored/3T), of what is left after the
    runs that come first.

  Raises:
    ValueError: nothing is left to train with.
  """
  budget = left_of(spec, budget)
  fraction = budget.fraction
  if budget.unit == 'compute':
    before = Fraction(scored, 3 * spec.epochs * spec.num_examples)
    if fraction <= before:
      raise ValueError(
        f"budget_unit='compute' is impossible for {name} at budget={budget}: its own forward "
        f'passes alone cost {float(before):.4f} of full training'
      )
    fraction -= before
  return share(spec.num_examples, fraction)


def rows_of(samples: int, spec: Spec) -> int:
  """Full batches in a number of samples; the tail is dropped (fidelity.md 1.3)."""
  return samples // spec.batch_size


def price(cost: Cost, budget_unit: str) -> int:
  """What a cost weighs under a budget unit.

  Args:
    cost: samples passed, as ints.
    budget_unit: `backward` (back-propagated samples) or `compute` (forward equivalents).

  Returns:
    Samples, or forward equivalents.
  """
  per_sample = _PRICES[budget_unit]
  return int(sum(c * p for c, p in zip(cost, per_sample, strict=True)))


def cap(spec: Spec, budget: Any, facts: Facts) -> int:
  """The most a run may spend.

  Args:
    spec: sizes of the run.
    budget: a `Budget` or B.
    facts: of the selector; `facts.cap` replaces the common cap under `backward`.

  Returns:
    floor(B*T*N) back-propagated samples, or under `compute` floor(3*B*T*N) forward
    equivalents less what was spent before.
  """
  budget = as_budget(budget)
  if budget.unit == 'compute':
    return max(0, share(3 * spec.epochs * spec.num_examples, budget) - budget.spent)
  if facts.cap is not None:
    return facts.cap
  return share(spec.epochs * spec.num_examples, budget)


def check_planned(spec: Spec, budget: Any, facts: Facts, name: str) -> None:
  """Refuses what plans to spend more than it may: its run would be cut before its end.

  Args:
    spec: sizes of the run.
    budget: a `Budget` or B; only the unit `compute` is looked at, whose cap is nobody's own.
    facts: of the method; a cost that is only expected is not looked at.
    name: of the method, for the message.

  Raises:
    ValueError: more is planned than there is.
  """
  budget = as_budget(budget)
  if budget.unit != 'compute' or facts.cost == 'expected':
    return
  planned, most = price(facts.planned, budget.unit), cap(spec, budget, facts)
  if planned > most:
    raise ValueError(
      f"budget_unit='compute' is impossible for {name} at budget={budget}: it plans to spend "
      f'{planned} forward equivalents, and at most {most} are allowed'
    )


def realised_budget(cost: Cost, spec: Spec, budget_unit: str, spent: int = 0) -> float:
  """Spent over what T full epochs of N samples would cost.

  Args:
    cost: what was spent.
    spec: sizes of the run.
    budget_unit: `backward` or `compute`.
    spent: forward equivalents before the run, which count under `compute`.

  Returns:
    A fraction; plain SGD reads just under 1, since incomplete batches are dropped.
  """
  full = spec.epochs * spec.num_examples * (3 if budget_unit == 'compute' else 1)
  return (price(cost, budget_unit) + (spent if budget_unit == 'compute' else 0)) / full


def entropy_nats(times_trained: np.ndarray) -> float:
  """H(c), the entropy of how often each sample was trained on (fidelity.md section 5).

  Args:
    times_trained: i32[N].

  Returns:
    -sum p ln p with p = c / sum c; 0 if nothing was trained on; ln N at most.
  """
  counts = np.asarray(times_trained, np.float64)
  p = counts[counts > 0] / max(1.0, counts.sum())
  return float(-(p * np.log(p)).sum()) + 0.0


class Allowance(NamedTuple):
  """What a run may still spend, on the device, exact beyond 2^31."""

  left: jax.Array  # i32[2]  high and low digit
  price: Cost  # of i32[]: what one scored, trained, back-propagated sample costs
  row: jax.Array  # i32[]  the most that one row of the epoch under way may cost


def allowance(spec: Spec, budget: Any, facts: Facts) -> Allowance:
  """The allowance of a run that has not started, for a `Budget` or B."""
  budget = as_budget(budget)
  total = cap(spec, budget, facts)
  return Allowance(
    left=jnp.array([total // _DIGIT, total % _DIGIT], jnp.int32),
    price=Cost(*(jnp.int32(p) for p in _PRICES[budget.unit])),
    row=jnp.int32(price(facts.row_cost, budget.unit)),  # until an epoch begins
  )


def _subtract(left: jax.Array, amount: jax.Array) -> jax.Array:
  low = left[1] - amount
  return jnp.stack([left[0] + low // _DIGIT, low % _DIGIT])


def affordable(allowance: Allowance) -> jax.Array:
  """Whether the dearest possible row of the epoch under way still fits under the cap.

  Args:
    allowance: of a run, `TrainState.allowance`.

  Returns:
    bool[].
  """
  return _subtract(allowance.left, allowance.row)[0] >= 0


def asking(allowance: Allowance, row_cost: Cost) -> Allowance:
  """The allowance of an epoch that begins.

  Args:
    allowance: before it.
    row_cost: of i32[] each, the most that one of its rows may spend.

  Returns:
    The allowance, which asks for so much before a row starts.
  """
  return allowance._replace(row=_amount(allowance, row_cost))


def covers(allowance: Allowance, cost: Cost) -> jax.Array:
  """Whether a cost of i32[] each still fits under the cap: bool[]."""
  return _subtract(allowance.left, _amount(allowance, cost))[0] >= 0


def spend(allowance: Allowance, cost: Cost) -> Allowance:
  """Charges a row, or a look at all samples.

  Args:
    allowance: before it.
    cost: of i32[] each.

  Returns:
    The allowance after it.
  """
  return allowance._replace(left=_subtract(allowance.left, _amount(allowance, cost)))


def _amount(allowance: Allowance, cost: Cost) -> jax.Array:
  return sum(c * p for c, p in zip(cost, allowance.price, strict=True))
