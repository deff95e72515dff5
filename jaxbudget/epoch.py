"""The one training epoch, and the evaluation pass. No method is mentioned here.

An epoch is two programs: `begin_epoch` runs the selector's `plan`, `train_rows` then walks
the plan: gather -> augment -> select -> step -> update. Rows, learning rates, allowance and
seed are arrays, so budgets, schedules and seeds share one executable of `train_rows`.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbudget import ledger, parallel
from jaxbudget.keys import derive
from jaxbudget.state import RowMetrics, TrainState
from jaxbudget.step import make_step, row_hooks
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import (
  Augment,
  Data,
  Model,
  Selector,
  Spec,
  as_target,
  draw_ahead,
  plain_batch,
)

# Raised when the same config and seed give other results than before (tests/golden_test.py says
# when that is): every run has a new id then. An edit that keeps the results keeps the number.
ENGINE = 1


class Program(NamedTuple):
  """The static side of `train_rows`. Equal programs share an executable."""

  num_classes: int
  model: Model
  augment: Augment
  selector: Selector  # without the fields that depend on the budget, see `make_program`
  optimizer: optax.GradientTransformation
  mesh: jax.sharding.Mesh | None = None  # devices to split batches over, see `parallel.py`
  task: Task = CLASSIFICATION


class Progress(NamedTuple):
  """What the host wants to know of an epoch; survives the donation of the state."""

  row: jax.Array  # i32[]  next row
  metrics: RowMetrics
  entropy: jax.Array  # f32[]  H(c) so far, nats
  report: Any  # the selector's figures


class Evaluation(NamedTuple):
  """Sums over a split, or over its first batches."""

  correct: jax.Array  # i32[]  0 where nothing is right or wrong
  loss: jax.Array  # f32[]

  @classmethod
  def blank(cls) -> 'Evaluation':
    """Sums over nothing."""
    return cls(jnp.int32(0), jnp.float32(0))


def make_program(
  num_classes: int,
  model: Model,
  augment: Augment,
  selector: Selector,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh | None = None,
  task: Task = CLASSIFICATION,
) -> Program:
  """Makes what `train_rows` compiles; equal programs share an executable.

  The selector is stripped to its row hooks: what is left must not depend on the budget.

  Args:
    num_classes: C.
    model: the network.
    augment: from gathered to trained-on samples.
    selector: the method.
    optimizer: yields updates for a learning rate of 1.
    mesh: devices to split batches over.
    task: what is learned.

  Returns:
    The program, hashable.
  """
  return Program(num_classes, model, augment, row_hooks(selector), optimizer, mesh, task)


@partial(jax.jit, static_argnums=(0, 1), static_argnames='mesh', donate_argnums=2)
def plan_program(plan_hook, padded_rows, selector_state, epoch, root, mesh=None):
  """The small program of an epoch's plan, one for each budget; use `begin_epoch`."""
  selector_state, plan = plan_hook(selector_state, derive(root, 'plan', epoch), epoch)
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
    A state at row 0 of the new plan, with blank row metrics.
  """
  padded_rows = state.plan.index.shape[0]
  place, row = parallel.replicate((np.int32(epoch), np.int32(0)), mesh)
  selector_state, plan, metrics = plan_program(
    selector.plan, padded_rows, state.selector, place, root, mesh=mesh
  )
  return state.replace(epoch=place, row=row, selector=selector_state, plan=plan, metrics=metrics)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_rows(
  program: Program,
  state: TrainState,
  data: Data,
  learning_rate: jax.Array,
  root: jax.Array,
  stop: jax.Array,
) -> tuple[TrainState, Progress]:
  """Trains on the rows of the plan from `state.row` up to `stop`.

  Stops early where the plan ends, or where the dearest possible row no longer fits under
  the budget. Results do not depend on how an epoch is cut into calls.

  Args:
    program: static.
    state: donated.
    data: the training split.
    learning_rate: f32[R], of each row of this epoch.
    root: the run's key.
    stop: i32[], first row not to run.

  Returns:
    The state after, and what to log of it.
  """

  drawn = _drawn(program, state, root)

  def go_on(state):
    in_plan = state.row < jnp.minimum(stop, state.plan.rows)
    return in_plan & ledger.affordable(state.allowance)

  def body(state):
    own = jax.tree.map(lambda x: x[state.row], drawn)
    state = _row(program, state, data, learning_rate[state.row], root, own)
    return parallel.everywhere(state, program.mesh)

  state = parallel.everywhere(jax.lax.while_loop(go_on, body, state), program.mesh)
  counts = state.times_trained.astype(jnp.float32)
  total = jnp.maximum(jnp.sum(counts), 1)
  entropy = jnp.sum(jax.scipy.special.entr(counts / total))
  figures = program.selector.report(state.selector)
  return state, Progress(state.row, state.metrics, entropy, figures)


def _drawn(program, state, root):
  """What the augmentation of each row is given instead of drawing it there, [R, ...] or None."""
  rows, candidates = state.plan.index.shape

  def of_row(row):
    key = derive(root, 'augment', state.epoch, row)
    return draw_ahead(program.augment.train, key, candidates)

  # One by one on the CPU, where that costs nothing and rounds as a draw within a row does.
  drawn = jax.lax.platform_dependent(
    jnp.arange(rows, dtype=jnp.int32),
    cpu=lambda row: jax.lax.map(of_row, row),
    default=jax.vmap(of_row),
  )
  return parallel.everywhere(drawn, program.mesh)


def _row(program, state, data, learning_rate, root, drawn):
  """One plan row: gather its candidates, take the step, enter it into the books."""
  row = state.row
  batch = plain_batch(data, state.plan.index[row], state.plan.weight[row], program.num_classes)
  step = make_step(
    program.selector, program.model, program.optimizer, program.augment, program.task, program.mesh
  )
  state, metrics = step(state, batch, learning_rate, root, drawn)
  return state.replace(
    metrics=jax.tree.map(lambda rows, own: rows.at[row].set(own), state.metrics, metrics)
  )


@partial(jax.jit, static_argnums=(0, 1, 2), static_argnames=('mesh', 'task'))
def evaluate(
  model: Model,
  transform,
  batch_size: int,
  params: Any,
  model_state: Any,
  data: Data,
  sums: Evaluation,
  start: jax.Array,
  stop: jax.Array,
  mesh: jax.sharding.Mesh | None = None,
  task: Task = CLASSIFICATION,
) -> Evaluation:
  """Runs the model over batches of a split in eval mode.

  Results do not depend on how a split is cut into calls, only on the size of a batch.

  Args:
    model: static.
    transform: static, `Augment.test`.
    batch_size: static, examples in a forward pass; the last batch is padded.
    params: of the model.
    model_state: of the model.
    data: the split, n examples.
    sums: over the batches before `start`; `Evaluation.blank()` at first.
    start: i32[], the first batch to look at.
    stop: i32[], the batch to stop before: ceil(n / batch_size) for the rest of the split.
    mesh: static, devices to split batches over.
    task: static, what is learned.

  Returns:
    Correct predictions and summed losses of the batches before `stop`.
  """
  total = data.label.shape[0]

  def body(i, sums):
    position = i * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    real = position < total
    index = jnp.minimum(position, total - 1)
    image = parallel.split(data.image[index], mesh)
    output, _ = model.apply(params, model_state, transform(image), train=False)
    output = output.astype(jnp.float32)
    target = as_target(data.label[index], output.shape[-1])
    loss = jnp.where(real, task.loss(output, target), 0.0)
    hit = task.correct(output, target) & real
    return Evaluation(sums.correct + jnp.sum(hit, dtype=jnp.int32), sums.loss + jnp.sum(loss))

  return jax.lax.fori_loop(start, stop, body, sums)


_PLACES = 2**18  # 256 images of 32x32, whose forward pass takes 0.3 GB in a ResNet-18


def forward_batch(size: int, spec: Spec, bound: int = 0) -> int:
  """Chooses how many examples of a split share a forward pass where nothing is trained.

  As many as there are, but they take no more memory than the rows of training do, or than 256
  images of 32x32 where these are more: pixels, tokens and features count alike. It follows from
  shapes alone: what memory happens to be free must not decide how sums are rounded.

  Args:
    size: n, examples of the split.
    spec: of the run; the backward pass of its batches takes more memory than their forward pass.
    bound: the most there may be; 0 is no bound.

  Returns:
    1 to n.
  """
  fitting = max(spec.batch_size, _PLACES // math.prod(spec.image_shape[:2]))
  return min(size, fitting, bound or size)
