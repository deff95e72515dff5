"""Setting up what trains, in one place: for the laboratory, for benchmarks, tests and own scripts.

run = engine.start(spec, model, augment, selector, optimizer, budget=0.3)
run = engine.prepare(run, data)
for epoch in range(selector.facts.epochs):
  run, progress = engine.run_epoch(run, data, epoch, learning_rate=0.1)
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbudget import averaging as averaging_lib
from jaxbudget import checks, epoch, feeding, parallel, rows, scan
from jaxbudget.averaging import Averaging
from jaxbudget.ledger import Budget
from jaxbudget.state import TrainState, check_size, init_state
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import Augment, Data, Model, Selector, Spec, as_initialised

Rates = float | np.ndarray | rows.Row
PREPARED = 5000  # training images that a network is prepared with, as airbench does


class Engine(NamedTuple):
  """A run that is set up."""

  program: epoch.Program  # the static side of its rows
  selector: Selector
  root: jax.Array  # the run's key
  state: TrainState  # donated by each step: go on with the engine that a step returns


def start(
  spec: Spec,
  model: Model,
  augment: Augment,
  selector: Selector,
  optimizer: optax.GradientTransformation,
  budget: Budget | float,
  *,
  seed: int = 0,
  mesh: jax.sharding.Mesh | None = None,
  task: Task = CLASSIFICATION,
  averaging: Averaging = averaging_lib.NONE,
) -> Engine:
  """Sets a run up, before its first epoch.

  Args:
    spec: sizes of the run.
    model: the network.
    augment: what happens to images before it.
    selector: the method.
    optimizer: as for `step.make_step`.
    budget: for the cap; a number counts back-propagated samples.
    seed: of the run.
    mesh: devices to train on, of `parallel.make_mesh`.
    task: what is learned.
    averaging: of the weights.

  Returns:
    The run, on its devices.

  Raises:
    ValueError: the method asks for what the task cannot tell, or the mesh is another one.
  """
  parallel.check_mesh(mesh)
  parts = spec.num_classes, model, augment, selector, optimizer, mesh, task, averaging
  program = epoch.make_program(*parts)
  state = init_state(seed, spec, model, selector, optimizer, budget, averaging)
  root, state = parallel.replicate((jax.random.key(seed), state), mesh)
  return Engine(program, selector, root, state)


def prepare(run: Engine, data: Data) -> Engine:
  """Looks at the data once before the first epoch, and lets the network compute what it wants.

  Args:
    run: of `start`.
    data: the training split, on the devices of the run, or fed (`feeding.py`); the first
      `PREPARED` samples count.

  Returns:
    The run; itself if its network wants nothing.

  Raises:
    ValueError: the data are not of as many samples as the run, or the labels are not what its
      task wants, see `check_labels`.
  """
  program, state = run.program, run.state
  check_size(state, data.label)
  checks.check_labels(data.label, program.num_classes, program.task)
  if program.model.prepare is as_initialised:
    return run
  static = program.model.prepare, program.augment.test, program.mesh
  if data.is_fed:
    first = data.image.read(np.arange(min(PREPARED, data.label.shape[0]), dtype=np.int32))
    data = data._replace(image=parallel.replicate(first, program.mesh))
  weights = _prepared(*static, state.params, state.model_state, data)
  params, model_state = weights
  state = state.replace(params=params, model_state=model_state)
  return run._replace(state=state.replace(average=program.averaging.init(weights)))


def evaluated(run: Engine) -> tuple[Any, Any]:
  """The weights that are evaluated: averaged ones if there is an average.

  Args:
    run: between two epochs.

  Returns:
    (params, model_state).
  """
  state = run.state
  return run.program.averaging.evaluated(state.average, (state.params, state.model_state))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _prepared(function, transform, mesh, params, model_state, data):
  images = transform(data.image[: min(PREPARED, data.label.shape[0])])
  return parallel.everywhere(function(params, model_state, images), mesh)


def begin_epoch(run: Engine, number: int) -> Engine:
  """Plans an epoch. A look at all samples that is due comes before it, see `scan.before`.

  Args:
    run: between two epochs; its selector state is donated.
    number: of the epoch that begins, 0-based.

  Returns:
    The run, at row 0 of the new plan.

  Raises:
    ValueError: the plan has not the R row slots of the state.
  """
  mesh = run.program.mesh
  return run._replace(state=epoch.begin_epoch(run.selector, run.state, number, run.root, mesh))


def train_rows(
  run: Engine, data: Data, learning_rate: Rates, stop: int | None = None
) -> tuple[Engine, epoch.Progress]:
  """Trains on rows of the epoch under way.

  Args:
    run: its state is donated.
    data: the training split, on the devices of the run, or fed.
    learning_rate: of all rows, f32[R] of each, or a table of `rows.Row`.
    stop: first row not to run; None runs to the end of the epoch.

  Returns:
    The run after, and what to log of it.

  Raises:
    ValueError: the data, or the table, are not of the size of the run, or the labels are not of
      the type that its task wants.
  """
  program, state, mesh = run.program, run.state, run.program.mesh
  checks.check_label_kind(data.label, program.task)
  slots = state.plan.index.shape[0]
  table = parallel.replicate(rows.table(learning_rate, slots), mesh)
  stop = slots if stop is None else stop
  with feeding.rows(data, state, mesh, stop) as feed:
    end = 0
    while True:
      part, end = feed.at(end, stop)
      until = parallel.replicate(np.int32(end), mesh)
      state, progress = epoch.train_rows(program, state, part, table, run.root, until)
      del part
      if end == stop or int(progress.row) < end:  # else, no sooner, the next chunk
        break
  return run._replace(state=state), progress


def run_epoch(
  run: Engine, data: Data, number: int, learning_rate: Rates, stop: int | None = None
) -> tuple[Engine, epoch.Progress]:
  """A whole epoch: `scan.before`, where the method wants it, `begin_epoch`, then `train_rows`.

  Args:
    run: between two epochs; its state is donated.
    data: the training split, on the devices of the run, or fed.
    number: of the epoch, 0-based.
    learning_rate: of all rows, f32[R] of each, or a table of `rows.Row`.
    stop: first row not to run; None runs to the end of the epoch.

  Returns:
    The run after, and what to log of the epoch.

  Raises:
    ValueError: data, plan or table are not of the size of the run.
  """
  program = run.program
  look = run.selector, program.model, program.augment.test
  state = scan.before(
    *look, run.state, data, number, run.root, task=program.task, mesh=program.mesh
  )
  run = run._replace(state=state)
  return train_rows(begin_epoch(run, number), data, learning_rate, stop)


def row_shapes(
  spec: Spec,
  model: Model,
  augment: Augment,
  selector: Selector,
  optimizer: optax.GradientTransformation,
  budget: Budget | float,
) -> tuple[Any, ...]:
  """The arguments of `epoch.train_rows` as shapes, to lower or compile it for what is not there.

  Args:
    spec: sizes of the run.
    model: the network.
    augment: what happens to images before it.
    selector: the method.
    optimizer: as for `start`.
    budget: for the cap.

  Returns:
    (program, state, data, learning rates, root, stop).
  """
  parts = spec, model, augment, selector, optimizer, budget
  program = epoch.make_program(spec.num_classes, model, augment, selector, optimizer)
  root, state = jax.eval_shape(lambda: start(*parts)[2:])
  array, n = jax.ShapeDtypeStruct, spec.num_examples
  raw = jnp.uint8 if len(spec.image_shape) == 3 else spec.image_dtype
  data = Data(array((n, *spec.image_shape), raw), array((n,), jnp.int32))
  rates = array((state.plan.index.shape[0],), jnp.float32)
  return program, state, data, rates, root, array((), jnp.int32)
