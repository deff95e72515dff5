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
from jaxbudget.rows import Row, check_finite, lay_out
from jaxbudget.schedules import cycles
from jaxbudget.state import slots
from jaxbudget.types import Facts, Spec

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
    rows: plan rows in an epoch, those that only look left out.
    learning_rate: the largest rate.
    final: rate of the last row, where the schedule has no rule of its own for it.
    options: keyword options of the schedule.

  Returns:
    `row -> learning rate`, of many rows at once: f32[n] of row numbers to n rates, or to one.

  Raises:
    ValueError: unknown name or option, values the schedule refuses, or another package's does not
      take many rows at once.
  """
  part = factories.find('schedule', name)
  made = part.make(Callable, epochs, rows, learning_rate, final, **part.fill(options or {}))
  if part.outside:
    _try(part, made, min(epochs * rows, _ROUND))
  return made


def _try(part: factories.Part, schedule: optax.Schedule, count: int) -> None:
  """Refuses a schedule that does not give a rate for each of `count` rows.

  Raises:
    ValueError: naming it, and the line.
  """
  try:
    try:  # by its shape, which computes nothing and starts no device
      given = jax.eval_shape(schedule, jax.ShapeDtypeStruct((count,), np.float32))
    except Exception:  # of others' code, which may well be NumPy's
      given = schedule(np.arange(count, dtype=np.float32))
  except Exception as e:
    raise ValueError(f'{part.said(e)}; {_MANY}') from e
  if np.ndim(given) and np.shape(given) != (count,) or given is None:
    told = 'None' if given is None else f'shape {np.shape(given)}'
    raise ValueError(f'schedule {part.name!r} gives {told} for {count} rows; {_MANY}')


_MANY = 'it is given the numbers of many rows at once, f32[n]: jnp.where, not if'


def make_momentum(
  name: str, epochs: int, rows: int, options: Mapping[str, Any] | None = None
) -> optax.Schedule | None:
  """Builds the momentum that belongs to a schedule.

  Args:
    name: as for `make_schedule`.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch, those that only look left out.
    options: keyword options of the schedule.

  Returns:
    `row -> momentum`; None for a schedule that leaves it to the optimizer, as all do without
    the option `cycle_momentum`.

  Raises:
    ValueError: unknown name or option, or values the schedule refuses.
  """
  filled = factories.find('schedule', name).fill(options or {})
  cycles_it = name in MOMENTA and filled['cycle_momentum']
  return MOMENTA[name](epochs, rows, **filled) if cycles_it else None


def make_table(
  name: str,
  facts: Facts,
  spec: Spec,
  learning_rate: float,
  final: float,
  options: Mapping[str, Any] | None = None,
) -> Callable[[int], Row]:
  """Builds what the rows of a run are given: learning rates, momentum, place in the run.

  Args:
    name: as for `make_schedule`.
    facts: of the method.
    spec: sizes of the run.
    learning_rate: as for `make_schedule`.
    final: as for `make_schedule`.
    options: keyword options of the schedule.

  Returns:
    `epoch -> Row` of columns of R row slots, for `epoch.train_rows`.

  Raises:
    ValueError: unknown name or option, or values the schedule refuses.
  """
  place = facts.epochs, facts.steps
  rates = make_schedule(name, *place, learning_rate, final, options)
  momentum = make_momentum(name, *place, options)
  return table(rates, momentum, facts, spec)


def table(
  rates: optax.Schedule, momentum: optax.Schedule | None, facts: Facts, spec: Spec
) -> Callable[[int], Row]:
  """Lays schedules out over the rows of a run, see `make_table`."""
  place = facts.epochs, facts.steps, slots(facts, spec)
  columns = [s and by_epoch(s, *place, facts.lr_ahead) for s in (rates, momentum)]
  return lay_out(*columns, facts.epochs, facts.steps)


_BLOCK = 2**22  # rates that are laid out at a time
_ROUND = 2**12  # in lengths of which: runs of any length share what JAX compiles of a schedule


def by_epoch(
  schedule: optax.Schedule, epochs: int, rows: int, padded_rows: int, ahead: int = 0
) -> Callable[[int], np.ndarray]:
  """Lays a schedule out, some epochs at a time: a table of all might not fit in memory.

  Args:
    schedule: `row -> learning rate`, of many rows at once.
    epochs: E, epochs of the run.
    rows: plan rows in an epoch, those that only look left out.
    padded_rows: R >= rows, row slots of a full epoch.
    ahead: rows by which the schedule runs ahead; the last rows have the rate of the last.

  Returns:
    `epoch -> f32[R]`; the slots of rows that do not exist hold 0. It raises a `ValueError` where
    the schedule gives what is not finite.
  """
  exact = epochs * rows <= 2**24  # float32 holds these numbers; optax's schedules promote ints
  size = max(1, min(epochs, _BLOCK // padded_rows))
  length = -(-size * rows // _ROUND) * _ROUND

  @functools.lru_cache(maxsize=2)
  def block(number: int) -> np.ndarray:
    first, table = number * size * rows, np.zeros((size, padded_rows), np.float32)
    with jax.enable_x64(not exact):
      row = np.minimum(np.arange(first, first + length) + ahead, epochs * rows - 1)
      row = row.astype(np.float32 if exact else np.float64)
      rates = np.asarray(schedule(row), row.dtype)
      rates = np.broadcast_to(rates, row.shape)  # a constant may be a scalar
      check_finite('what the schedule gives', rates[: (epochs - number * size) * rows], first)
      table[:, :rows] = rates[: size * rows].reshape(size, rows)
    return table

  return lambda epoch: block(epoch // size)[epoch % size]
