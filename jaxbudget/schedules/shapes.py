"""What schedules are made of: progress, pieces, and the ramp before any of them."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax


def check(schedule: str, fits: bool, fault: str) -> None:
  """Refuses an option of a schedule.

  Args:
    schedule: its name.
    fits: whether the option is in range.
    fault: the option, its value and what is allowed.

  Raises:
    ValueError: it does not fit.
  """
  if not fits:
    raise ValueError(f'schedule {schedule!r}: {fault}')


def last_row(epochs: int, rows: int) -> int:
  """The row where progress is 1; a run of one row stays at progress 0."""
  return max(1, epochs * rows - 1)


def over_progress(
  last: int, first: float, final: float, height: Callable[[jax.Array], jax.Array]
) -> optax.Schedule:
  """A schedule by its height over progress u = row / last: final + (first - final) height(u).

  Args:
    last: the row where progress is 1.
    first: rate at height 1.
    final: rate at height 0.
    height: of progress in [0, 1].

  Returns:
    `row -> rate`.
  """
  return lambda row: final + (first - final) * height(jnp.clip(row / last, 0, 1))


def straight(share: jax.Array) -> jax.Array:
  """What is left of a piece after a share of it: a straight line."""
  return 1 - share


def half_cosine(share: jax.Array) -> jax.Array:
  """What is left of a piece after a share of it: half a cosine."""
  return (1 + jnp.cos(jnp.pi * share)) / 2


def pieces(
  knots: Sequence[float],
  values: Sequence[float],
  left: Callable[[jax.Array], jax.Array] = straight,
) -> optax.Schedule:
  """A schedule through given points.

  optax has lines that are joined, which round otherwise in the last digits, and pieces that scale
  the value before (none can start at 0) of one row at a time; a test holds these to be equal.

  Args:
    knots: rows, not falling; the value at each is exact, the last where several coincide.
    values: rates there.
    left: what is left of a piece's difference after a share of the piece.

  Returns:
    `row -> rate`, constant outside the knots.
  """
  points = dict(zip(knots, values, strict=True))

  def schedule(row):
    rate = next(iter(points.values()))
    for (start, a), (end, b) in itertools.pairwise(points.items()):
      share = jnp.clip((row - start) / (end - start), 0, 1)
      rate = jnp.where(row > start, b + (a - b) * left(share), rate)
    return rate

  return schedule


def ramp_and_pace(epochs: int, rows: int, share: float) -> tuple[int, float]:
  """How a ramp leaves less of the run to the schedule behind it.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    share: of the run's rows that climb, [0, 1).

  Returns:
    (rows that climb, all but one at most; rows of the schedule that each of the others passes).

  Raises:
    ValueError: a share out of range.
  """
  if not 0 <= share < 1:
    raise ValueError(f'warmup must be a share of the run in [0, 1), got {share}')
  last, ramp = last_row(epochs, rows), min(round(share * epochs * rows), epochs * rows - 1)
  return ramp, last / max(1, last - ramp)


def rows_left(epochs: int, rows: int, share: float = 0.0) -> int:
  """Rows behind a ramp. Of fewer than three none is between the ends: there is no way up.

  A schedule that climbs and falls starts at its peak then.
  """
  return epochs * rows - ramp_and_pace(epochs, rows, share)[0]


def warm_up(
  schedule: optax.Schedule, epochs: int, rows: int, share: float, start: float = 0.0
) -> optax.Schedule:
  """Climbs to a schedule's first rate, then runs all of the schedule in the rows that are left.

  Args:
    schedule: `row -> rate` over epochs*rows rows.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    share: of the run's rows, [0, 1); 0 gives `schedule` itself.
    start: share of the first rate to climb from; 1 waits at the first rate.

  Returns:
    `row -> rate`.

  Raises:
    ValueError: a share out of range.
  """
  ramp, pace = ramp_and_pace(epochs, rows, share)
  if ramp == 0:
    return schedule

  def warmed(row):
    climbing = schedule(jnp.zeros_like(row)) * (start + (1 - start) * row / ramp)
    return jnp.where(row < ramp, climbing, schedule(jnp.maximum(row - ramp, 0) * pace))

  return warmed
