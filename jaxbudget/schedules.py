"""Learning-rate schedules that know the budget: functions of the plan row.

Progress is measured in plan rows, not in optimizer updates: a step that a method decides
not to take does not stretch the schedule (fidelity.md 1.5 and 2.6).
"""

from collections.abc import Callable

import jax
import numpy as np
import optax

from jaxbudget import registry


def linear(epochs: int, rows: int, learning_rate: float, final: float) -> optax.Schedule:
  """Straight line from the first row to the last, both endpoints included (fidelity.md 1.5).

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of row E*rows - 1.

  Returns:
    `row -> learning rate`.
  """
  return optax.linear_schedule(learning_rate, final, max(1, epochs * rows - 1))


def step(epochs: int, rows: int, learning_rate: float, final: float) -> optax.Schedule:
  """A tenth of the rate from epoch floor(E/3), a hundredth from floor(2E/3) (fidelity.md 1.5).

  Args:
    epochs: E, at least 3.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: not used; the last rate is learning_rate / 100.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: fewer than 3 epochs.
  """
  del final
  if epochs < 3:
    raise ValueError(f"schedule 'step' needs at least 3 epochs to run, got {epochs}")
  milestones = {epochs // 3 * rows: 0.1, 2 * epochs // 3 * rows: 0.1}
  return optax.piecewise_constant_schedule(learning_rate, milestones)


def cosine(epochs: int, rows: int, learning_rate: float, final: float) -> optax.Schedule:
  """Half a cosine from the first row to the last, both endpoints included.

  Args:
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row.

  Returns:
    `row -> learning rate`.
  """
  steps = max(1, epochs * rows - 1)
  return optax.cosine_decay_schedule(learning_rate, steps, alpha=final / learning_rate)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
  'linear': linear,
  'step': step,
  'cosine': cosine,
}


def make_schedule(
  name: str, epochs: int, rows: int, learning_rate: float, final: float
) -> optax.Schedule:
  """Builds a schedule by name.

  Args:
    name: `linear`, `step` or `cosine`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: rate of row 0.
    final: rate of the last row (linear and cosine).

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: unknown name, or a step schedule too short to have steps.
  """
  registry.check('schedule', name, SCHEDULES)
  return SCHEDULES[name](epochs, rows, learning_rate, final)


def tabulate(schedule: optax.Schedule, epochs: int, rows: int, padded_rows: int) -> np.ndarray:
  """Lays a schedule out for a whole run.

  Args:
    schedule: `row -> learning rate`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    padded_rows: R >= rows, row slots of a full epoch.

  Returns:
    f32[E,R]; the slots of rows that do not exist hold 0.
  """
  total = epochs * rows
  exact = total <= 2**24  # float32 holds these numbers; optax's schedules promote ints
  table = np.zeros((epochs, padded_rows), np.float32)
  with jax.enable_x64(not exact):
    row = np.arange(total, dtype=np.float32 if exact else np.float64)
    table[:, :rows] = np.asarray(schedule(row)).reshape(epochs, rows)
  return table
