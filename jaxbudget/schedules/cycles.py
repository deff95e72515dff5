"""Schedules that rise and fall, and the momentum that goes the other way."""

from typing import Literal

import jax.numpy as jnp
import optax

from jaxbudget import registry
from jaxbudget.schedules.shapes import (
  check,
  half_cosine,
  last_row,
  over_progress,
  pieces,
  ramp_and_pace,
  rows_left,
  straight,
  warm_up,
)

CLR_MODES = ('triangular', 'triangular2', 'exp_range')
ONECYCLE_FORMS = ('torch', 'three_phase', 'fastai')
ANNEALS = {'cos': half_cosine, 'linear': straight}


def _clr_height(cycles: int, mode: str, decay: float):
  """Height of the triangles over progress, in [0, 1]."""
  registry.check('mode', mode, CLR_MODES)
  check('clr', cycles >= 1, f'cycles must be at least 1, got {cycles}')
  check('clr', 0 < decay <= 1, f'decay must be in (0, 1], got {decay}')

  def height(u):
    cycle = jnp.floor(cycles * u)
    triangle = 1 - jnp.abs(2 * (cycles * u - cycle) - 1)
    scale = {'triangular': 1.0, 'triangular2': 0.5**cycle, 'exp_range': decay**u}[mode]
    return triangle * scale

  return height


def clr(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  mode: Literal['triangular', 'triangular2', 'exp_range'] = 'triangular',
  cycles: int = 1,
  decay: float = 0.1,
  base_momentum: float = 0.8,
  max_momentum: float = 0.9,
  cycle_momentum: bool = False,
  warmup: float = 0.0,
) -> optax.Schedule:
  """Cyclical learning rates: whole triangles between `final` and `learning_rate`.

  Smith, `Cyclical Learning Rates for Training Neural Networks
  <https://arxiv.org/abs/1506.01186>`_, 2017. The half-cycle follows from the run: a budget
  changes the length of the cycles, not their number.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate at the peaks.
    final: rate at the feet, the first and the last row among them.
    mode: `triangular`; `triangular2` halves the height with every cycle; `exp_range` scales
      it by decay^u.
    cycles: c, in the run.
    decay: what `exp_range` leaves of the height at the end of the run.
    base_momentum: see `clr_momentum`.
    max_momentum: see `clr_momentum`.
    cycle_momentum: whether the momentum goes the other way; else it is the optimizer's.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range, or too few rows for a foot and a peak of every cycle.
  """
  del base_momentum, max_momentum, cycle_momentum
  height, left = _clr_height(cycles, mode, decay), rows_left(epochs, rows, warmup)
  needed = 2 * cycles + 1
  check('clr', left >= needed, f'cycles={cycles} needs at least {needed} rows, got {left}')
  waves = over_progress(last_row(epochs, rows), learning_rate, final, height)
  return warm_up(waves, epochs, rows, warmup)


def clr_momentum(
  epochs: int,
  rows: int,
  *,
  mode: Literal['triangular', 'triangular2', 'exp_range'] = 'triangular',
  cycles: int = 1,
  decay: float = 0.1,
  base_momentum: float = 0.8,
  max_momentum: float = 0.9,
  cycle_momentum: bool = False,
  warmup: float = 0.0,
) -> optax.Schedule:
  """The momentum of `clr`: least where the rate is largest.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    mode: see `clr`.
    cycles: see `clr`.
    decay: see `clr`.
    base_momentum: at height 1.
    max_momentum: at height 0.
    cycle_momentum: not used.
    warmup: share of the rows before the first cycle, at `max_momentum`.

  Returns:
    `row -> momentum`.

  Raises:
    ValueError: an option out of range.
  """
  del cycle_momentum
  height = _clr_height(cycles, mode, decay)
  waves = over_progress(last_row(epochs, rows), base_momentum, max_momentum, height)
  return warm_up(waves, epochs, rows, warmup, start=1.0)


def onecycle(
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  *,
  form: Literal['torch', 'three_phase', 'fastai'] = 'torch',
  pct: float | None = None,
  div: float = 25.0,
  final_div: float | None = None,
  anneal: Literal['cos', 'linear'] = 'cos',
  base_momentum: float = 0.85,
  max_momentum: float = 0.95,
  cycle_momentum: bool = False,
  warmup: float = 0.0,
) -> optax.Schedule:
  """One cycle: from learning_rate/div up to learning_rate, then down to almost nothing.

  Smith and Topin, `Super-Convergence <https://arxiv.org/abs/1708.07120>`_, 2018, in the forms
  of two libraries. `torch`: PyTorch's OneCycleLR, which peaks at row pct*S - 1 of S;
  `three_phase`: the same, down to the first rate as fast as up, then to the last;
  `fastai`: fit_one_cycle. (optax's two one-cycle schedules peak at int(pct*S), end at row S.)

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate at the peak.
    final: not used: the last rate follows from `final_div`.
    form: `torch`, `three_phase` or `fastai`.
    pct: share of the run before the peak, where one of so few rows that none climbs starts; None:
      0.3, and 0.25 in `fastai`.
    div: the first rate is learning_rate / div.
    final_div: the last rate is learning_rate / (div * final_div), None: 1e4; in `fastai`
      learning_rate / final_div, None: 1e5.
    anneal: `cos` or `linear` between these.
    base_momentum: see `onecycle_momentum`.
    max_momentum: see `onecycle_momentum`.
    cycle_momentum: whether the momentum goes the other way; else it is the optimizer's.
    warmup: share of the rows that climb to the first rate.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: an option out of range.
  """
  del final, base_momentum, max_momentum, cycle_momentum
  knots = _onecycle_knots(epochs, rows, form, pct, anneal, warmup)
  final_div = final_div if final_div is not None else 1e5 if form == 'fastai' else 1e4
  check('onecycle', div > 0 and final_div > 0, f'div={div}, final_div={final_div} must be positive')
  first = learning_rate / div
  last = learning_rate / final_div if form == 'fastai' else first / final_div
  cycle = _through(knots, first, learning_rate, last, anneal)
  return warm_up(cycle, epochs, rows, warmup)


def onecycle_momentum(
  epochs: int,
  rows: int,
  *,
  form: Literal['torch', 'three_phase', 'fastai'] = 'torch',
  pct: float | None = None,
  div: float = 25.0,
  final_div: float | None = None,
  anneal: Literal['cos', 'linear'] = 'cos',
  base_momentum: float = 0.85,
  max_momentum: float = 0.95,
  cycle_momentum: bool = False,
  warmup: float = 0.0,
) -> optax.Schedule:
  """The momentum of `onecycle`: least at the peak of the rate.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    form: see `onecycle`.
    pct: see `onecycle`.
    div: not used.
    final_div: not used.
    anneal: see `onecycle`.
    base_momentum: at the peak.
    max_momentum: at both ends.
    cycle_momentum: not used.
    warmup: share of the rows before the cycle, at `max_momentum`.

  Returns:
    `row -> momentum`.

  Raises:
    ValueError: an option out of range.
  """
  del div, final_div, cycle_momentum
  knots = _onecycle_knots(epochs, rows, form, pct, anneal, warmup)
  cycle = _through(knots, max_momentum, base_momentum, max_momentum, anneal)
  return warm_up(cycle, epochs, rows, warmup, start=1.0)


def _through(knots: list[float], foot: float, top: float, last: float, anneal: str):
  """The cycle through its knots."""
  values = {2: [top, last], 3: [foot, top, last], 4: [foot, top, foot, last]}[len(knots)]
  return pieces(knots, values, ANNEALS[anneal])


def _onecycle_knots(
  epochs: int, rows: int, form: str, pct: float | None, anneal: str, warmup: float
) -> list[float]:
  """Rows of the first rate, the peak, in `three_phase` the first rate again, and the last.

  In a run so short that the climb has no row, those of the peak and the last rate alone.
  """
  registry.check('form', form, ONECYCLE_FORMS)
  registry.check('anneal', anneal, ANNEALS)
  pct = pct if pct is not None else 0.25 if form == 'fastai' else 0.3
  most = 0.5 if form == 'three_phase' else 1.0
  check('onecycle', 0 < pct < most, f'pct must be in (0, {most}), got {pct}')
  total, (_, pace) = epochs * rows, ramp_and_pace(epochs, rows, warmup)
  last = max(1.0, total - 1.0)
  peak = pct * last if form == 'fastai' else pct * total - 1  # as fastai and PyTorch have it
  back = [2 * peak] if form == 'three_phase' else []
  passed_over = peak <= 0 or any(row <= pace for row in back)  # before the next row
  if passed_over or rows_left(epochs, rows, warmup) < 3:
    return [0.0, last]
  return [0.0, peak, *back, last]
