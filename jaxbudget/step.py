"""The one training step: select -> loss -> weigh -> gradient -> update -> books.

The epoch calls it for every row of a plan, and so can anybody's loop (examples/own_loop.py).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxbudget import averaging as averaging_lib
from jaxbudget import ledger, parallel
from jaxbudget.averaging import Averaging
from jaxbudget.keys import derive
from jaxbudget.rows import as_row
from jaxbudget.state import RowMetrics, TrainState
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import Augment, Batch, Cost, Model, Outputs, Selector, take_all, with_epoch

Step = Callable[..., tuple[TrainState, RowMetrics]]


def make_step(
  selector: Selector,
  model: Model,
  optimizer: optax.GradientTransformation,
  augment: Augment | None = None,
  task: Task = CLASSIFICATION,
  mesh: Mesh | None = None,
  averaging: Averaging = averaging_lib.NONE,
  gaps: bool = False,
) -> Step:
  """Makes the training step of a method.

  Equal arguments give the identical function, and what of the selector may depend on the
  budget plays no part: all budgets share one compiled program.

  Args:
    selector: the method.
    model: the network.
    optimizer: yields a direction, which the step multiplies by -learning_rate, and is told the row
      as extra arguments: one of `make_optimizer`, `optax.trace(0.9)`, `optax.scale_by_adam()`;
      never `optax.sgd(lr)` or `optax.adam(lr)`, which multiply by a -lr of their own, so that the
      loss would climb.
    augment: from gathered to trained-on samples; None takes them as they are.
    task: what is learned.
    mesh: devices to split batches over.
    averaging: of the weights, after the step.
    gaps: images of candidates of weight 0 are missing: BatchNorm leaves them out and nobody pays
      for them. A row of nothing else is no step.

  Returns:
    `(state, batch[K], row, root, drawn=None) -> (state, metrics)`: a step on the plan row
    `state.row`, whose K candidates `batch` holds as they were gathered; `row` is its learning rate
    f32[], or a `rows.Row`; `root` is the run's key, `drawn` what was drawn for the row ahead
    (`types.draw_ahead`), None draws in the step; `metrics` is the row's entry in the books, a
    `RowMetrics` of scalars.

  Raises:
    ValueError: the method asks for what the task cannot tell.
  """
  check_asked(selector, task)
  return _make(row_hooks(selector), model, optimizer, augment, task, mesh, averaging, gaps)


def once(due: jax.Array, function: Callable[..., tuple], carry: tuple) -> tuple:
  """Applies a function if it is due: a loop of one round or none.

  A `cond` says the same, but where it may change nothing a GPU copies what it returns, the whole
  state in every row; a loop writes in place.

  Args:
    due: bool[].
    function: `(*carry) -> carry`.
    carry: arrays.

  Returns:
    The carry after.
  """

  def body(carried):
    return jnp.zeros_like(due), function(*carried[1])

  return jax.lax.while_loop(lambda carried: carried[0], body, (due, carry))[1]


def row_hooks(selector: Selector) -> Selector:
  """A selector without what may depend on the budget: equal for all budgets."""
  return selector._replace(facts=None, init=None, plan=None, scan=None, scores=None)


def check_asked(
  selector: Selector, task: Task, who: str = 'the selector', name: str | None = None
) -> None:
  """Refuses a method that wants to know what the task cannot tell.

  Args:
    selector: the method; one of `row_hooks` has no facts, and asks for nothing.
    task: what is learned.
    who: what to call the method.
    name: what to call the task; None is its own name.

  Raises:
    ValueError: naming both, and what is missing; or the method is a name, or something else.
  """
  if not isinstance(selector, Selector):
    raise ValueError(
      f'{who} is {selector!r}, a {type(selector).__name__}: give the Selector that '
      'make_selector(name, spec, budget) makes'
    )
  asks = selector.facts.asks if selector.facts else ()
  missing = [one for one in asks if one not in task.capabilities]
  if missing:
    raise ValueError(
      f'{who} asks for {" and ".join(missing)}, which task {name or task.name!r} '
      f'does not have (it has {", ".join(task.capabilities) or "losses only"})'
    )


def _stand_ins(real: jax.Array) -> jax.Array:
  """Who is shown in each place of a row, i32[K]: itself, or in turn one that is `real`, bool[K].

  Padding and what is missing are so mixed with nobody: their weight is 0 again afterwards.
  """
  place = jnp.arange(len(real), dtype=jnp.int32)
  first = jnp.argsort(~real, stable=True).astype(jnp.int32)  # those that are real
  return jnp.where(real, place, first[place % jnp.maximum(jnp.sum(real, dtype=jnp.int32), 1)])


@functools.lru_cache(maxsize=64)
def _make(selector, model, optimizer, augment, task, mesh, averaging, gaps) -> Step:
  """The step, for row hooks."""
  optimizer = optax.with_extra_args_support(optimizer)
  holes = gaps or selector.partial  # places of a row may hold nobody

  def step(state: TrainState, batch: Batch, row, root, drawn: Any = None):
    row, real = as_row(row), batch.weight > 0
    if holes:
      place = _stand_ins(real)
      batch = jax.tree.map(lambda x: x[place], batch)
    if augment is not None:
      key = derive(root, 'augment', state.epoch, state.row)
      batch = with_epoch(augment.train, key, state.epoch, batch, drawn)
    if holes:  # nobody has a share in the picture of a stand-in, which tells it, wherever it goes
      share = jnp.where(real[:, None], batch.part_share, jnp.float32(0))
      weight = jnp.where(real, batch.weight, jnp.float32(0))
      batch = batch._replace(weight=weight, part_share=share)
    batch = parallel.share(batch, mesh)
    if selector.select is take_all:
      state, metrics = (train_prefix if gaps else train)(state, batch, row)
      scored = jnp.int32(0)
    else:
      key = derive(root, 'select', state.epoch, state.row)
      chosen, batch, info = selector.select(state.selector, key, batch, score(state))
      # Whole on every device: who waits in a queue may be trained on by any of them.
      chosen, batch = parallel.everywhere((chosen, batch), mesh)
      state, scored = state.replace(selector=chosen), info['scored']
      state, metrics = train_prefix(state, batch, row)
    average, weights = averaging.update(state.average, (state.params, state.model_state), row)
    params, model_state = weights
    state = state.replace(average=average, params=params, model_state=model_state)
    metrics = metrics.replace(scored=scored)
    cost = Cost(metrics.scored, metrics.trained, metrics.trained)
    return state.replace(row=state.row + 1, allowance=ledger.spend(state.allowance, cost)), metrics

  def score(state):
    def forward(batch: Batch) -> Outputs:
      logits, _ = model.apply(state.params, state.model_state, batch.image, train=False)
      logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
      outputs = task.told(logits, batch.target, task.loss(logits, batch.target))
      return parallel.everywhere(outputs, mesh)

    return forward

  def train_prefix(state, batch, row):
    """A step on the smallest listed prefix that holds every example of positive weight, if any."""

    def on_prefix(size):
      prefix = jax.tree.map(lambda x: x[:size], batch)
      # Whole on every device: else images are exchanged for every size.
      prefix = parallel.everywhere(prefix, mesh)
      return lambda state, _: train(state, prefix, row)

    needed, carry = jnp.sum(batch.weight > 0, dtype=jnp.int32), (state, RowMetrics.blank())
    sizes = selector.sizes or batch.weight.shape
    for below, size in zip((0, *sizes), sizes, strict=False):
      # A switch would say the same, and copies the state on several GPUs: see `once`.
      carry = once((below < needed) & (needed <= size), on_prefix(size), carry)
    return carry

  def who_counts(batch):
    """bool[n], who is in BatchNorm and in the books; None is everybody.

    Padding of a partial batch is not a sample, nor is a stand-in for one that is missing.
    """
    real = batch.weight > 0 if selector.partial else None
    if not gaps:
      return real
    there = jnp.any(batch.part_share > 0, axis=1)
    return there if real is None else real & there

  def train(state, batch, row):
    """Forward, backward, optimizer, and feedback to the selector."""
    batch = parallel.share(batch, mesh)
    mask = who_counts(batch)

    def objective(params):
      logits, model_state = model.apply(
        params, state.model_state, batch.image, train=True, mask=mask
      )
      logits = logits.astype(jnp.float32)  # whatever the network computes in
      loss = task.loss(logits, batch.target)
      weight = selector.weigh(state.selector, jax.lax.stop_gradient(loss), batch.weight)
      count = jnp.maximum(jnp.sum((weight > 0).astype(jnp.float32)), 1)
      mean = jnp.sum(weight * task.trained(logits, batch.target, loss)) / count
      return mean, (logits, loss, weight, model_state)

    (mean, aux), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    logits, loss, weight, model_state = aux
    outputs = parallel.everywhere(task.told(logits, batch.target, loss), mesh)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, **row.told)
    updates = jax.tree.map(lambda u: -row.learning_rate * u, updates)
    real, counted = batch.weight > 0, (weight > 0).astype(jnp.int32)
    hit = task.correct(logits, batch.target) & real
    examples = jnp.sum(real, dtype=jnp.int32)
    everybody = jnp.int32(batch.weight.shape[0])
    trained = everybody if mask is None else jnp.sum(mask, dtype=jnp.int32)
    metrics = RowMetrics.blank().replace(
      loss=mean,
      correct=jnp.sum(hit, dtype=jnp.int32),
      examples=examples,
      trained=trained,
    )
    state = state.replace(
      params=optax.apply_updates(state.params, updates),
      model_state=model_state,
      opt_state=opt_state,
      selector=selector.update(state.selector, batch, outputs),
      times_trained=state.times_trained.at[batch.index].add(parallel.everywhere(counted, mesh)),
    )
    return state, metrics

  return step
