"""What is given for each row of a plan: learning rate, momentum, place in the run.

All of it is arrays: no schedule, budget or averaging makes a program of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
  """Values of one row, or of the R rows of an epoch: a table with named columns.

  Optimizers are told all of it as extra arguments of an update, and averaging is told it too.

  Attributes:
    learning_rate: f32[] or f32[R].
    momentum: f32, where the schedule sets it; None leaves it to the optimizer.
    step: i32, rows of the run up to this one, this one included.
    progress: f32, the share of the run's rows that `step` is, in (0, 1].
  """

  learning_rate: Any  # f32[R]
  momentum: Any = None  # f32[R]
  step: Any = None  # i32[R]
  progress: Any = None  # f32[R]

  @property
  def told(self) -> dict[str, Any]:
    """The columns there are, by name."""
    return {name: value for name, value in self._asdict().items() if value is not None}


def as_row(values: Any) -> Row:
  """A row of what a caller may give: a `Row`, or a learning rate alone."""
  return values if isinstance(values, Row) else Row(values)


def table(learning_rate: Any, slots: int) -> Row:
  """A table for the row slots of an epoch.

  Args:
    learning_rate: of all rows, f32[R] of each, or a `Row` of columns, which is returned as it is.
    slots: R.

  Returns:
    Columns of R values.

  Raises:
    ValueError: a column is of another length, or a value of it is not finite.
  """
  if not isinstance(learning_rate, Row):
    try:
      rates = np.asarray(learning_rate, np.float32)
    except (TypeError, ValueError):
      raise ValueError(
        f'learning_rate={learning_rate!r} is refused: it must be a number, one for each row slot, '
        'or a rows.Row of such'
      ) from None
    learning_rate = Row(rates if rates.ndim else np.broadcast_to(rates, slots))
  for name, column in learning_rate.told.items():
    if np.shape(column) != (slots,):  # beyond its end, gathers would be clamped
      raise ValueError(
        f'{name} has shape {np.shape(column)}, but the plan has {slots} row slots: give one '
        'value for each of them'
      )
    if isinstance(column, np.ndarray):  # what is on a device already is not fetched
      check_finite(name, column)
  return learning_rate


def check_finite(name: str, values: np.ndarray, first: int = 0) -> None:
  """Refuses what would train to NaN; NumPy takes None for it, too.

  Args:
    name: of the values.
    values: of rows.
    first: the number of the first row.

  Raises:
    ValueError: naming the first row of a value that is not finite.
  """
  wrong = np.flatnonzero(~np.isfinite(values))
  if wrong.size:
    raise ValueError(
      f'{name} is {values[wrong[0]]} at row {first + wrong[0]}, of {values.size} rows {wrong.size} '
      'are so: it must be finite'
    )


def lay_out(
  by_epoch: Callable[[int], np.ndarray],
  momentum: Callable[[int], np.ndarray] | None,
  epochs: int,
  rows: int,
) -> Callable[[int], Row]:
  """The tables of a run.

  Args:
    by_epoch: `epoch -> f32[R]`, learning rates, see `schedules.by_epoch`.
    momentum: likewise; None leaves it to the optimizer.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch, those that only look left out: these stand behind and are no step.

  Returns:
    `epoch -> Row` of f32[R]; the slots of rows that do not exist hold no meaning.
  """

  def at(epoch: int) -> Row:
    rates = by_epoch(epoch)
    step = epoch * rows + np.arange(1, rates.size + 1)  # i64: exact before it is divided
    progress = np.minimum(step / (epochs * rows), 1)
    told = None if momentum is None else momentum(epoch)
    return Row(rates, told, step.astype(np.int32), progress.astype(np.float32))

  return at


def checked(row: Row, who: str) -> Row:
  """Refuses a row without its place in the run, for who goes by it.

  Raises:
    ValueError: naming who, and what to give.
  """
  if row.step is None or row.progress is None:
    raise ValueError(
      f'{who} goes by the progress of the run: give a table of `rows.Row` with step and progress '
      'instead of learning rates alone'
    )
  return row
