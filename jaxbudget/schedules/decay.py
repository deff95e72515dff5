"""Schedules that only fall."""

import math
from fractions import Fraction

import jax.numpy as jnp
import optax

from jaxbudget.schedules.shapes import check, last_row, over_progress, warm_up


def constant(
  epochs: int, rows: int, learning_rate: float, final: float, *, warmup: float = 0.0
) -> optax.Schedule:
  """The same rate throughout.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: of every row.
    final: not used.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.
  """
  del final
  return warm_up(optax.constant_schedule(learning_rate), epochs, rows, warmup)


def linear(
  epochs: int, rows: int, learning_rate: float, final: float, *, warmup: float = 0.0
) -> optax.Schedule:
  """Straight line from the first row to the last, both endpoints included (fidelity.md 1.5).

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of row E*rows - 1.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.
  """
  line = optax.linear_schedule(learning_rate, final, last_row(epochs, rows))
  return warm_up(line, epochs, rows, warmup)


def step(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  milestones: tuple[float, ...] = (1 / 3, 2 / 3),
  drop: float = 0.1,
  warmup: float = 0.0,
) -> optax.Schedule:
  """A tenth of the rate from epoch floor(E/3), a hundredth from floor(2E/3) (fidelity.md 1.5).

  Args:
    epochs: E; every milestone needs an epoch of its own after the first.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: not used.
    milestones: m, shares of the run, rising; the rate drops at epoch floor(E*m).
    drop: what is left of the rate after each.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range, or too few epochs.
  """
  del final
  check('step', 0 < drop <= 1, f'drop must be in (0, 1], got {drop}')
  inside = all(0 < m < 1 for m in milestones)
  check('step', inside, f'milestones must be shares in (0, 1), got {milestones}')
  # The floats that stand for a third and two thirds mean just these.
  at = [math.floor(epochs * Fraction(m).limit_denominator(10_000)) for m in milestones]
  if sorted({0, *at}) != [0, *at]:  # the first drop comes after the first epoch, and so on
    raise ValueError(
      f"schedule 'step' needs at least {len(at) + 1} epochs to run, and one between any two of "
      f'its milestones {milestones}, got {epochs}'
    )
  drops = optax.piecewise_constant_schedule(learning_rate, {e * rows: drop for e in at})
  return warm_up(drops, epochs, rows, warmup)


def cosine(
  epochs: int, rows: int, learning_rate: float, final: float, *, warmup: float = 0.0
) -> optax.Schedule:
  """Half a cosine from the first row to the last, both endpoints included.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.
  """
  fall = optax.cosine_decay_schedule(
    learning_rate, last_row(epochs, rows), alpha=final / learning_rate
  )
  return warm_up(fall, epochs, rows, warmup)


def poly(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  power: float = 0.9,
  warmup: float = 0.0,
) -> optax.Schedule:
  """A power of what is left of the run, (1-u)^power; power 1 is `linear`.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row.
    power: positive.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  check('poly', power > 0, f'power must be positive, got {power}')
  fall = optax.polynomial_schedule(learning_rate, final, power, last_row(epochs, rows))
  return warm_up(fall, epochs, rows, warmup)


def exp(
  epochs: int, rows: int, learning_rate: float, final: float, *, warmup: float = 0.0
) -> optax.Schedule:
  """Exponential decay, learning_rate * (final / learning_rate)^u: the same factor every row.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row, positive.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: a final rate of 0, which no exponential reaches.
  """
  check('exp', final > 0, f'final_learning_rate must be positive, got {final}')
  fall = optax.exponential_decay(learning_rate, last_row(epochs, rows), final / learning_rate)
  return warm_up(fall, epochs, rows, warmup)


def htd(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  lower: float = -4.0,
  upper: float = 4.0,
  warmup: float = 0.0,
) -> optax.Schedule:
  """Hyperbolic-tangent decay, (1 - tanh(L + (U-L)u)) / 2.

  Hsueh et al., `Stochastic Gradient Descent with Hyperbolic-Tangent Decay
  <https://arxiv.org/abs/1806.01593>`_, 2019: (-4, 4) for CIFAR, (-6, 3) for ImageNet.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate where the tangent is -1, nearly that of row 0.
    final: rate where it is 1.
    lower: L, the tangent's argument in row 0.
    upper: U > L, that in the last row.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  check('htd', lower < upper, f'lower must be below upper, got {lower} and {upper}')
  height = lambda u: (1 - jnp.tanh(lower + (upper - lower) * u)) / 2
  fall = over_progress(last_row(epochs, rows), learning_rate, final, height)
  return warm_up(fall, epochs, rows, warmup)


def rex(
  epochs: int, rows: int, learning_rate: float, final: float, *, warmup: float = 0.0
) -> optax.Schedule:
  """Reflected exponential, (1-u) / (1/2 + (1-u)/2): slow at first, fast at the end.

  Chen et al., `REX: Revisiting Budgeted Training with an Improved Schedule
  <https://arxiv.org/abs/2107.04197>`_, 2022.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.
  """
  height = lambda u: (1 - u) / (0.5 + (1 - u) / 2)
  fall = over_progress(last_row(epochs, rows), learning_rate, final, height)
  return warm_up(fall, epochs, rows, warmup)
