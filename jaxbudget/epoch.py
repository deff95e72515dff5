"""The one training epoch. No method is mentioned here.

An epoch is two programs: `begin_epoch` runs the selector's `plan`, `train_rows` then walks
the plan: gather -> augment -> select -> step -> update. Rows, learning rates, allowance and
seed are arrays, so budgets, schedules and seeds share one executable of `train_rows`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbudget import averaging as averaging_lib
from jaxbudget import ledger, parallel
from jaxbudget.averaging import Averaging
from jaxbudget.feeding import fetch, present
from jaxbudget.keys import derive
from jaxbudget.rows import Row, as_row
from jaxbudget.state import RowMetrics, TrainState, check_size
from jaxbudget.step import check_asked, make_step, row_hooks
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import Augment, Cost, Data, Model, Selector, draw_ahead, plain_batch

# Raised when the same config and seed give other results than before (tests/golden_test.py says
# when that is): every run has a new id then. An edit that keeps the results keeps the number.
ENGINE = 4


class Program(NamedTuple):
  """The static side of `train_rows`. Equal programs share an executable."""

  num_classes: int
  model: Model
  augment: Augment
  selector: Selector  # without the fields that depend on the budget, see `make_program`
  optimizer: optax.GradientTransformation
  mesh: jax.sharding.Mesh | None = None  # devices to split batches over, see `parallel.py`
  task: Task = CLASSIFICATION
  averaging: Averaging = averaging_lib.NONE


class Progress(NamedTuple):
  """What the host wants to know of an epoch; survives the donation of the state."""

  row: jax.Array  # i32[]  next row
  metrics: RowMetrics
  entropy: jax.Array  # f32[]  H(c) so far, nats
  report: Any  # the selector's figures


def make_program(
  num_classes: int,
  model: Model,
  augment: Augment,
  selector: Selector,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh | None = None,
  task: Task = CLASSIFICATION,
  averaging: Averaging = averaging_lib.NONE,
) -> Program:
  """Makes what `train_rows` compiles; equal programs share an executable.

  The selector is stripped to its row hooks: what is left must not depend on the budget.

  Args:
    num_classes: C.
    model: the network.
    augment: from gathered to trained-on samples.
    selector: the method.
    optimizer: as for `step.make_step`.
    mesh: devices to split batches over.
    task: what is learned.
    averaging: of the weights.

  Returns:
    The program, hashable.

  Raises:
    ValueError: the method asks for what the task cannot tell.
  """
  check_asked(selector, task)
  hooks = row_hooks(selector)
  return Program(num_classes, model, augment, hooks, optimizer, mesh, task, averaging)


@partial(jax.jit, static_argnums=(0, 1), static_argnames='mesh', donate_argnums=2)
def plan_program(plan_hook, padded_rows, selector_state, epoch, root, mesh=None):
  """The small program of an epoch's plan, one for each budget; use `begin_epoch`."""
  selector_state, plan = plan_hook(selector_state, derive(root, 'plan', epoch), epoch)
  if len(plan.index) != padded_rows:  # told while it is traced, before anything is donated
    raise ValueError(
      f'the plan has {len(plan.index)} row slots, but the state was made for {padded_rows}: pad it '
      'to max(num_examples // candidates, facts.rows), which is R for all budgets'
    )
  return parallel.everywhere((selector_state, plan, RowMetrics.blank(padded_rows)), mesh)


def begin_epoch(
  selector: Selector,
  state: TrainState,
  epoch: int,
  root: jax.Array,
  mesh: jax.sharding.Mesh | None = None,
) -> TrainState:
  """Plans an epoch.

  Args:
    selector: the method.
    state: between two epochs; its selector state is donated.
    epoch: the epoch that begins, 0-based.
    root: the run's key.
    mesh: devices that hold the state.

  Returns:
    A state at row 0 of the new plan, with blank row metrics; its allowance asks for what a row of
    this epoch may cost at most.

  Raises:
    ValueError: the plan has not the R row slots of the state.
  """
  padded_rows = state.plan.index.shape[0]
  place, row = parallel.replicate((np.int32(epoch), np.int32(0)), mesh)
  allowance = state.allowance
  if selector.facts.scoring is not None:  # else every epoch asks for as much
    row_cost = Cost(*map(np.int32, selector.facts.row_in(int(epoch))))
    allowance = _asking(allowance, parallel.replicate(row_cost, mesh), mesh=mesh)
  selector_state, plan, metrics = plan_program(
    selector.plan, padded_rows, state.selector, place, root, mesh=mesh
  )
  return state.replace(
    epoch=place, row=row, selector=selector_state, plan=plan, metrics=metrics, allowance=allowance
  )


@partial(jax.jit, static_argnames='mesh')
def _asking(allowance, row_cost, mesh):
  return parallel.everywhere(ledger.asking(allowance, row_cost), mesh)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_rows(
  program: Program,
  state: TrainState,
  data: Data,
  table: jax.Array | Row,
  root: jax.Array,
  stop: jax.Array,
) -> tuple[TrainState, Progress]:
  """Trains on the rows of the plan from `state.row` up to `stop`.

  Stops early where the plan ends, or where the dearest possible row of this epoch no longer
  fits under the budget. Results do not depend on how an epoch is cut into calls.

  Args:
    program: static.
    state: donated.
    data: the training split; or of its images a `feeding.Chunk` that holds those rows.
    table: `rows.Row` of f32[R], what is given for each row of this epoch; or f32[R], its
      learning rates alone.
    root: the run's key.
    stop: i32[], first row not to run.

  Returns:
    The state after, and what to log of it.

  Raises:
    ValueError: the data are not of as many samples as the state.
  """
  check_size(state, data.label)
  drawn = _drawn(program, state, root, stop)

  def go_on(state):
    in_plan = state.row < jnp.minimum(stop, state.plan.rows)
    return in_plan & ledger.affordable(state.allowance)

  def body(state):
    own = jax.tree.map(lambda x: x[state.row], drawn)
    values = jax.tree.map(lambda column: column[state.row], as_row(table))
    state = _row(program, state, data, values, root, own)
    return parallel.everywhere(state, program.mesh)

  state = parallel.everywhere(jax.lax.while_loop(go_on, body, state), program.mesh)
  counts = state.times_trained.astype(jnp.float32)
  total = jnp.maximum(jnp.sum(counts), 1)
  entropy = jnp.sum(jax.scipy.special.entr(counts / total))
  figures = program.selector.report(state.selector)
  return state, Progress(state.row, state.metrics, entropy, figures)


def _drawn(program, state, root, stop):
  """What the augmentation of each row is given instead of drawing it there, [R, ...] or None."""
  rows, candidates = state.plan.index.shape

  def of_row(row):
    key = derive(root, 'augment', state.epoch, row)
    return draw_ahead(program.augment.train, key, candidates)

  def one_by_one(row):
    blank = jax.tree.map(
      lambda x: jnp.zeros((rows, *x.shape), x.dtype), jax.eval_shape(of_row, row[0])
    )
    return jax.lax.fori_loop(
      state.row,
      jnp.minimum(stop, state.plan.rows),
      lambda i, drawn: jax.tree.map(lambda d, own: d.at[i].set(own), drawn, of_row(i)),
      blank,
    )

  # The CPU draws one by one what this call needs, and rounds as a draw within a row does.
  row = jnp.arange(rows, dtype=jnp.int32)
  drawn = jax.lax.platform_dependent(row, cpu=one_by_one, default=jax.vmap(of_row))
  return parallel.everywhere(drawn, program.mesh)


def _row(program, state, data, values, root, drawn):
  """One plan row: gather its candidates, take the step, enter it into the books."""
  row = state.row
  index, weight = state.plan.index[row], state.plan.weight[row]
  image, there = fetch(data.image, row, index), present(data.image, row)
  if there is not None:
    weight = jnp.where(there, weight, jnp.float32(0))
  batch = plain_batch(data, index, weight, program.num_classes, image)
  parts = program.selector, program.model, program.optimizer, program.augment
  rest = program.task, program.mesh, program.averaging
  step = make_step(*parts, *rest, gaps=there is not None)
  state, metrics = step(state, batch, values, root, drawn)
  return state.replace(
    metrics=jax.tree.map(lambda rows, own: rows.at[row].set(own), state.metrics, metrics)
  )
