"""Schedules of straight lines: up, perhaps flat, down."""

import math
from fractions import Fraction
from typing import Literal

import jax.numpy as jnp
import optax

from jaxbudget import registry
from jaxbudget.schedules.shapes import check, last_row, pieces, rows_left, straight, warm_up

FALLS = {'linear': straight, 'sqrt': lambda share: 1 - share**0.5}


def wsd(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  warmup: float = 0.05,
  decay: float = 0.2,
  fall: Literal['linear', 'sqrt'] = 'linear',
) -> optax.Schedule:
  """Warm-up, stable, decay: a trapezoid; a triangle where warmup + decay = 1.

  Haegele et al., `Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations
  <https://arxiv.org/abs/2405.18392>`_, 2024.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of the flat part.
    final: rate of the last row.
    warmup: share of the run that climbs from 0; 0 starts on the flat part, and so does a run of
      fewer than three rows.
    decay: share of the run that falls, at its end.
    fall: `linear`, or `sqrt` for 1 - sqrt of the share of the fall that is over.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  registry.check('fall', fall, FALLS)
  fits = warmup >= 0 and decay > 0 and warmup + decay <= 1
  check('wsd', fits, f'warmup={warmup} and decay={decay} must be shares that add up to 1 at most')
  last = last_row(epochs, rows)
  down = pieces([(1 - decay) * last, last], [learning_rate, final], FALLS[fall])
  if warmup == 0 or rows_left(epochs, rows) < 3:
    return down
  up = pieces([0, warmup * last], [0.0, learning_rate])
  return lambda row: jnp.where(row < warmup * last, up(row), down(row))


def airbench(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  start: float = 0.2,
  peak: float = 0.23,
  end: float = 0.07,
  warmup: float = 0.0,
) -> optax.Schedule:
  """The trapezoid of the CIFAR-10 speed records, without a flat part.

  Jordan, `94% on CIFAR-10 in 3.29 Seconds on a Single GPU
  <https://arxiv.org/abs/2404.00498>`_, 2024; airbench96 has peak 0.1 and end 0.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch; S = E*rows.
    learning_rate: rate of row floor(peak*S).
    final: not used.
    start: share of learning_rate in row 0.
    peak: share of the rows before the peak.
    end: share of learning_rate in row S, the one after the last.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  del final
  check('airbench', 0 <= peak < 1, f'peak must be in [0, 1), got {peak}')
  check('airbench', start >= 0 and end >= 0, f'start={start}, end={end} must not be negative')
  total = epochs * rows
  values = [start * learning_rate, learning_rate, end * learning_rate]
  top = math.floor(total * Fraction(peak).limit_denominator(10_000))  # of 0.29, not a hair less
  lines = pieces([0, top, total], values)
  return warm_up(lines, epochs, rows, warmup)


def dawn(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  peak: float = 5 / 24,
  warmup: float = 0.0,
) -> optax.Schedule:
  """The triangle of the DAWNBench entries: from 0 to the peak at 5 of 24 epochs, and down.

  Page, `How to Train Your ResNet <https://github.com/davidcpage/cifar10-fast>`_, 2018.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate at the peak.
    final: rate of the last row.
    peak: share of the run before the peak; fewer than three rows start there.
    warmup: share of the rows that stand still before; the climb is part of the schedule.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  check('dawn', 0 < peak < 1, f'peak must be in (0, 1), got {peak}')
  last, climbs = last_row(epochs, rows), rows_left(epochs, rows, warmup) >= 3
  knots, values = [0, peak * last, last], [0.0, learning_rate, final]
  lines = pieces(knots, values) if climbs else pieces([0, last], values[1:])
  return warm_up(lines, epochs, rows, warmup)
