"""Learning-rate schedules that know the budget: functions of the plan row.

All are shapes over the progress of the run, so that a budget compresses them as a whole.
Progress is measured in plan rows, not in optimizer updates: a step that a method decides
not to take does not stretch the schedule (fidelity.md 1.5 and 2.6).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from jaxbudget import factories
from jaxbudget.schedules import cycles

# (epochs, rows, *, the options of the schedule) -> (row -> momentum)
MOMENTA: dict[str, Callable[..., optax.Schedule]] = {
  'clr': cycles.clr_momentum,
  'onecycle': cycles.onecycle_momentum,
}


def make_schedule(
  name: str,
  epochs: int,
  rows: int,
  learning_rate: float,
  final: float,
  options: Mapping[str, Any] | None = None,
) -> optax.Schedule:
  """Builds a schedule by name.

  Args:
    name: a known schedule, or `package.module:factory`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    learning_rate: the largest rate.
    final: rate of the last row, where the schedule has no rule of its own for it.
    options: keyword options of the schedule.

  Returns:
    `row -> learning rate`.

  Raises:
    ValueError: unknown name or option, or values the schedule refuses.
  """
  part = factories.find('schedule', name)
  return part.make(Callable, epochs, rows, learning_rate, final, **part.fill(options or {}))


def make_momentum(
  name: str, epochs: int, rows: int, options: Mapping[str, Any] | None = None
) -> optax.Schedule | None:
  """Builds the momentum that belongs to a schedule.

  Args:
    name: as for `make_schedule`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    options: keyword options of the schedule.

  Returns:
    `row -> momentum`; None for a schedule that leaves it to the optimizer.

  Raises:
    ValueError: unknown name or option, or values the schedule refuses.
  """
  filled = factories.find('schedule', name).fill(options or {})
  return MOMENTA[name](epochs, rows, **filled) if name in MOMENTA else None


_BLOCK = 2**22  # rates that are laid out at a time


def by_epoch(
  schedule: optax.Schedule, epochs: int, rows: int, padded_rows: int, ahead: int = 0
) -> Callable[[int], np.ndarray]:
  """Lays a schedule out, some epochs at a time: a table of all might not fit in memory.

  Args:
    schedule: `row -> learning rate`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch.
    padded_rows: R >= rows, row slots of a full epoch.
    ahead: rows by which the schedule runs ahead; the last rows have the rate of the last.

  Returns:
    `epoch -> f32[R]`; the slots of rows that do not exist hold 0.
  """
  exact = epochs * rows <= 2**24  # float32 holds these numbers; optax's schedules promote ints
  size = max(1, min(epochs, _BLOCK // padded_rows))

  @functools.lru_cache(maxsize=2)
  def block(number: int) -> np.ndarray:
    first, table = number * size * rows, np.zeros((size, padded_rows), np.float32)
    with jax.enable_x64(not exact):
      row = np.minimum(np.arange(first, first + size * rows) + ahead, epochs * rows - 1)
      row = row.astype(np.float32 if exact else np.float64)
      rates = np.broadcast_to(np.asarray(schedule(row)), row.shape)  # a constant may be a scalar
      table[:, :rows] = rates.reshape(size, rows)
    return table

  return lambda epoch: block(epoch // size)[epoch % size]
