"""Averages of the weights along a run, BatchNorm statistics included; these are evaluated."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import factories
from jaxbudget.rows import Row, checked

Weights = tuple[Any, Any]  # (params, model_state)


class Averaging(NamedTuple):
  """What happens to the weights after each row, as pure functions.

  Attributes:
    init: `weights -> average`, an opaque pytree: before the first row, after `Model.prepare`.
    update: `(average, weights, row) -> (average, weights)`, after a row; `row` is a `rows.Row`.
    evaluated: `(average, weights) -> weights`, those that are evaluated and kept.
  """

  init: Callable[[Weights], Any]
  update: Callable[[Any, Weights, Row], tuple[Any, Weights]]
  evaluated: Callable[[Any, Weights], Weights]


NONE = Averaging(
  init=lambda weights: (),
  update=lambda average, weights, row: (average, weights),
  evaluated=lambda average, weights: weights,
)


def none() -> Averaging:
  """The weights of the last step, as they are."""
  return NONE


def ema(*, decay: float = 0.99, every: int = 5) -> Averaging:
  """Exponential moving average, beside weights that go their own way.

  Page, `How to Train Your ResNet <https://github.com/davidcpage/cifar10-fast>`_, 2018: every
  fifth row, average <- d average + (1 - d) weights with d = decay^every.

  Args:
    decay: in [0, 1), share of the average that stays in a row.
    every: rows from one time to the next.

  Returns:
    The averaging; equal arguments give the identical object.

  Raises:
    ValueError: an option out of range.
  """
  _check(decay, every)
  return _ema(decay, every)


@functools.cache
def _ema(decay, every):
  def update(average, weights, row):
    due = checked(row, 'averaging ema').step % every == 0
    return _mix(average, weights, jnp.where(due, jnp.float32(1 - decay**every), 0)), weights

  return Averaging(_copies, update, lambda average, weights: average)


def lookahead(*, decay: float = 0.95, every: int = 5, power: float = 3.0) -> Averaging:
  """Slow weights that follow, and that the fast ones are set back to, every few rows.

  Jordan, `94% on CIFAR-10 in 3.29 Seconds on a Single GPU <https://arxiv.org/abs/2404.00498>`_,
  2024, after Zhang et al., `Lookahead Optimizer <https://arxiv.org/abs/1907.08610>`_, 2019: in
  every fifth row of S, the t-th of the run, slow <- d slow + (1 - d) fast with
  d = decay^every (t/S)^power; fast <- slow. At the end the slow weights are the network.

  Args:
    decay: in [0, 1), share of the slow weights that stays in a row at the end of the run.
    every: rows from one time to the next.
    power: > 0, how late the slow weights get slow.

  Returns:
    The averaging; equal arguments give the identical object.

  Raises:
    ValueError: an option out of range.
  """
  _check(decay, every)
  if not 0 < power < float('inf'):
    raise ValueError(f'power={power!r} is refused: it must be positive and finite')
  return _lookahead(decay, every, power)


@functools.cache
def _lookahead(decay, every, power):
  def update(average, weights, row):
    row = checked(row, 'averaging lookahead')
    due = row.step % every == 0
    stays = jnp.float32(decay**every) * row.progress ** jnp.float32(power)
    average = _mix(average, weights, jnp.where(due, 1 - stays, 0))
    return average, jax.tree.map(lambda fast, slow: jnp.where(due, slow, fast), weights, average)

  return Averaging(_copies, update, lambda average, weights: average)


def check_rows(name: str, options: Mapping[str, Any], rows: int) -> None:
  """Refuses an averaging of this module whose first time would come after the run.

  Args:
    name: of it.
    options: all that it has.
    rows: of the run.

  Raises:
    ValueError: it would keep the weights that the run begins with, and these would be evaluated.
  """
  least = options.get('every', 0)
  if rows < least:
    raise ValueError(
      f'averaging={name!r} with every={least} needs a run of at least {least} rows, got {rows}: it '
      'would evaluate the weights of before the first; lower averaging_options.every'
    )


def make_averaging(name: str = 'none', **options) -> Averaging:
  """Builds an averaging by name.

  Args:
    name: a known one, or `package.module:factory`.
    **options: of the averaging.

  Returns:
    The averaging; equal arguments give the identical object.

  Raises:
    ValueError: unknown name or option, or a value out of range.
  """
  part = factories.find('averaging', name)
  return _make(part, tuple(part.fill(options).items()))


@functools.cache
def _make(part, options):
  return part.make(Averaging, **dict(options))


def _copies(weights: Weights) -> Weights:
  """Copies, for both may be donated."""
  return jax.tree.map(jnp.copy, weights)


def _mix(average: Weights, weights: Weights, share: jax.Array) -> Weights:
  """The average with a share of the weights; what is no float is theirs."""

  def mix(old, new):
    if not jnp.issubdtype(new.dtype, jnp.floating):
      return new
    return old + share.astype(new.dtype) * (new - old)

  return jax.tree.map(mix, average, weights)


def _check(decay: float, every: int) -> None:
  if not 0 <= decay < 1:
    raise ValueError(f'decay={decay!r} is refused: it must be in [0, 1)')
  if every < 1:
    raise ValueError(f'every={every!r} is refused: it must be a whole number from 1')
