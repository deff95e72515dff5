"""One run, top to bottom: from a plan's entry to the files of a finished run.

The host only dispatches: a plan program and a row program an epoch, then the evaluation.
What an epoch measured is fetched after the next one was dispatched.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import checkpoint, epoch, ledger, results, schedules
from jaxbudget.flops import model_flops
from jaxbudget.provenance import device_record, versions
from jaxbudget.state import TrainState, init_state
from jaxbudget.sweep.plan import Run, cost_record
from jaxbudget.types import Cost, Data

_CALL_SECONDS = 1.0  # on CPU a dispatch lasts about this long, so that signals are answered


class Stopped(Exception):  # noqa: N818  it is no error
  """The run was asked to stop; its state is saved."""


class Diverged(Exception):  # noqa: N818
  """The training loss is not finite.

  Attributes:
    epoch: 1-based.
    row: 0-based, in that epoch.
  """

  def __init__(self, epoch: int, row: int):
    super().__init__(f'training loss is not finite at epoch {epoch}, row {row}')
    self.epoch, self.row = epoch, row


@dataclasses.dataclass
class Books:
  """What the host has recorded of a run: plain numbers, saved with every checkpoint."""

  epochs: int = 0  # finished and recorded
  rows: int = 0
  scored: int = 0
  trained: int = 0
  evaluated: int = 0
  compile_seconds: float = 0.0
  train_seconds: float = 0.0
  evaluate_seconds: float = 0.0
  final_accuracy: float = float('nan')  # percent

  @property
  def cost(self) -> Cost:
    """Samples passed so far, without evaluation."""
    return Cost(self.scored, self.trained, self.trained)


class Best(NamedTuple):
  """The weights of the epoch with the highest test accuracy, on the device."""

  correct: jax.Array  # i32[]
  epoch: jax.Array  # i32[]  1-based
  params: Any
  model_state: Any


@dataclasses.dataclass
class Live:
  """What changes while a run runs, and what its checkpoints hold."""

  state: TrainState
  best: Best
  books: Books
  rows_per_call: int
  clock: float  # when the device was last known to be done with earlier work


class Setting(NamedTuple):
  """What does not change while a run runs."""

  run: Run
  program: epoch.Program
  train_data: Data
  test_data: Data
  learning_rate: np.ndarray  # f32[E,R]
  directory: pathlib.Path
  progress: Callable[[int, int], None]  # told (epochs done, rows done in the one under way)
  stop: Callable[[], bool]  # asked between dispatches


def train(
  run: Run,
  train_data: Data,
  test_data: Data,
  directory: pathlib.Path,
  progress: Callable[[int, int], None] = lambda epochs, rows: None,
  stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
  """Trains a run to its end, from its last checkpoint if there is one.

  Args:
    run: an entry of the plan.
    train_data: on the device.
    test_data: on the device.
    directory: of the run; exists.
    progress: told (epochs done, rows done in the epoch under way).
    stop: asked between dispatches; True saves the state and raises `Stopped`.

  Returns:
    The content of result.json, without the seconds that loading the data took.

  Raises:
    Stopped: asked to stop; the state is saved.
    Diverged: the loss is not finite.
    OSError: a file could not be written.
  """
  parts, facts = run.parts, run.parts.selector.facts
  padded_rows = parts.spec.num_examples // facts.candidates
  rates = schedules.tabulate(parts.schedule, facts.epochs, facts.rows, padded_rows)
  program = epoch.make_program(
    parts.spec.num_classes, parts.model, parts.augment, parts.selector, parts.optimizer
  )
  setting = Setting(run, program, train_data, test_data, rates, directory, progress, stop)
  live = _restore(setting, _begin(setting))
  _compile(setting, live)
  saved_at = time.monotonic()
  pending = None  # the epoch that is dispatched but not yet recorded
  for e in range(live.books.epochs, facts.epochs):
    if int(live.state.epoch) != e or not int(live.state.plan.rows):
      live.state = epoch.begin_epoch(parts.selector, live.state, e, _root(run))
    for measured in _rows(setting, live, e):  # noqa: B007  the last one is used
      due = time.monotonic() - saved_at > run.cell.checkpoint_every
      if due or stop():
        if pending:
          pending = _record(setting, live, *pending)
        _save(setting, live)
        saved_at = time.monotonic()
      if stop():
        raise Stopped(f'{run.run_id} is saved at epoch {e + 1}')
    evaluation = _evaluate(setting, live, e)
    if pending:
      _record(setting, live, *pending)
    pending = e, measured, evaluation
  if pending:
    _record(setting, live, *pending)
  return _finish(setting, live)


def _begin(setting: Setting) -> Live:
  """A run before its first epoch."""
  run, parts = setting.run, setting.run.parts
  state = init_state(
    run.seed,
    parts.spec,
    parts.model,
    parts.selector,
    parts.optimizer,
    run.cell.budget,
    run.cell.budget_unit,
  )
  weights = jax.tree.map(jnp.copy, (state.params, state.model_state))
  on_cpu = jax.default_backend() == 'cpu'
  rows_per_call = run.cell.rows_per_call or (4 if on_cpu else parts.selector.facts.rows)
  return Live(
    state, Best(jnp.int32(-1), jnp.int32(0), *weights), Books(), rows_per_call, time.monotonic()
  )


def _compile(setting: Setting, live: Live) -> None:
  """Compiles the programs by running them over no rows, which leaves the state as it is."""
  start = time.monotonic()
  _train_until(setting, live, live.books.epochs, stop=0)
  nothing = _run_evaluation(setting, live, batches=0)
  live.best = _keep_best(live.best, nothing, live.state, jnp.int32(0))
  jax.block_until_ready(live.best)
  live.clock = time.monotonic()
  live.books.compile_seconds += live.clock - start


def _rows(setting: Setting, live: Live, e: int):
  """Walks the plan of epoch e; yields between dispatches, and once it has dispatched all."""
  rows = setting.run.parts.selector.facts.rows
  row = int(live.state.row)
  while True:
    start = time.monotonic()
    row = min(row + live.rows_per_call, rows)
    measured = _train_until(setting, live, e, row)
    if row == rows:
      yield measured
      return
    measured.row.block_until_ready()
    adaptive = not setting.run.cell.rows_per_call
    if adaptive and time.monotonic() - start < _CALL_SECONDS / 2:
      live.rows_per_call *= 2
    setting.progress(e, row)
    yield measured


def _train_until(setting: Setting, live: Live, e: int, stop: int) -> epoch.Progress:
  rates = jnp.asarray(setting.learning_rate[min(e, len(setting.learning_rate) - 1)])
  live.state, measured = epoch.train_rows(
    setting.program, live.state, setting.train_data, rates, _root(setting.run), jnp.int32(stop)
  )
  return measured


def _evaluate(setting: Setting, live: Live, e: int) -> epoch.Evaluation | None:
  """Dispatches the evaluation after epoch e, if it is due, and keeps the best weights."""
  run = setting.run
  last = e + 1 == run.parts.selector.facts.epochs
  if not last and (e + 1) % run.cell.evaluate_every:
    return None
  size = setting.test_data.label.shape[0]
  evaluation = _run_evaluation(setting, live, -(-size // run.cell.evaluate_batch))
  live.best = _keep_best(live.best, evaluation, live.state, jnp.int32(e + 1))
  return evaluation


def _run_evaluation(setting: Setting, live: Live, batches: int) -> epoch.Evaluation:
  parts, state = setting.run.parts, live.state
  return epoch.evaluate(
    parts.model,
    parts.augment.test,
    setting.run.cell.evaluate_batch,
    state.params,
    state.model_state,
    setting.test_data,
    jnp.int32(batches),
  )


@jax.jit
def _keep_best(best: Best, evaluation: epoch.Evaluation, state: TrainState, e: jax.Array) -> Best:
  latest = Best(evaluation.correct, e, state.params, state.model_state)
  better = (evaluation.correct > best.correct) & (e > 0)
  return jax.tree.map(lambda new, old: jnp.where(better, new, old), latest, best)


def _record(
  setting: Setting, live: Live, e: int, measured: epoch.Progress, evaluation: Any
) -> None:
  """Waits for an epoch, enters it into the books and writes its line of metrics."""
  run, books, spec = setting.run, live.books, setting.run.parts.spec
  metrics = jax.device_get(measured.metrics)
  trained_at = time.monotonic()
  seconds = {'train': trained_at - live.clock, 'evaluate': 0.0}
  done = int(measured.row)
  bad = np.flatnonzero(~np.isfinite(metrics.loss[:done]))
  if bad.size:
    raise Diverged(e + 1, int(bad[0]))
  accuracy = None
  if evaluation is not None:
    books.final_accuracy = accuracy = 100 * int(evaluation.correct) / run.info.num_test
    books.evaluated += run.info.num_test
    seconds['evaluate'] = time.monotonic() - trained_at
  live.clock = time.monotonic()
  books.epochs = e + 1
  books.rows += done
  books.scored += int(metrics.scored.sum())
  books.trained += int(metrics.trained.sum())
  books.train_seconds += seconds['train']
  books.evaluate_seconds += seconds['evaluate']
  steps = max(1, int(np.count_nonzero(metrics.examples)))
  examples = max(1, int(metrics.examples.sum()))
  results.append_line(
    setting.directory / results.METRICS,
    {
      'epoch': e + 1,
      'rows': done,
      'steps': int(np.count_nonzero(metrics.examples)),
      'lr': float(setting.learning_rate[e, max(0, done - 1)]),
      'train_loss': float(metrics.loss.sum()) / steps,
      'train_accuracy': 100 * int(metrics.correct.sum()) / examples,
      'test_accuracy': accuracy,
      'entropy_nats': float(measured.entropy),
      'cost': cost_record(books.rows, books.cost),
      'realised_budget': ledger.realised_budget(books.cost, spec, run.cell.budget_unit),
      'seconds': seconds,
      'selector': {key: float(value) for key, value in measured.report.items()},
    },
  )
  setting.progress(e + 1, 0)


def _save(setting: Setting, live: Live) -> None:
  belongs_to = {'run_id': setting.run.run_id, 'versions': versions(), 'device': device_record()}
  tree = {'state': live.state, 'best': live.best, 'books': dataclasses.asdict(live.books)}
  checkpoint.save(setting.directory, tree, belongs_to)


def _restore(setting: Setting, live: Live) -> Live:
  """Goes on from the last whole checkpoint; forgets what was written after it."""
  target = {'state': live.state, 'best': live.best, 'books': dataclasses.asdict(live.books)}
  saved = checkpoint.load(setting.directory, target)
  metrics = setting.directory / results.METRICS
  if saved is None:
    metrics.unlink(missing_ok=True)
    return live
  tree, _ = saved
  state, best = jax.tree.map(jnp.asarray, (tree['state'], tree['best']))
  books = Books(**tree['books'])
  results.write_lines(metrics, results.read_lines(metrics)[: books.epochs])
  return dataclasses.replace(live, state=state, best=best, books=books)


def _finish(setting: Setting, live: Live) -> dict[str, Any]:
  """Writes weights and counts, and gives the result; the caller writes it last of all."""
  run, books, directory = setting.run, live.books, setting.directory
  parts, best = run.parts, jax.device_get(live.best)
  times_trained = np.asarray(live.state.times_trained)
  results.write_weights(directory / 'params.msgpack', live.state.params, live.state.model_state)
  results.write_weights(directory / 'best.msgpack', best.params, best.model_state)
  results.write_array(directory / 'counts.npy', times_trained)
  if parts.selector.scores:
    results.write_array(directory / 'scores.npy', parts.selector.scores(live.state.selector))
  forward, train_step = model_flops(run.cell, run.info)
  forwards = books.scored + books.evaluated
  return {
    'status': 'done',
    'run_id': run.run_id,
    'cell_id': run.cell_id,
    'seed': run.seed,
    'config_hash': run.config_hash,
    'final_accuracy': books.final_accuracy,
    'best_accuracy': 100 * int(best.correct) / run.info.num_test,
    'best_epoch': int(best.epoch),
    'cost': {
      **cost_record(books.rows, books.cost),
      'forward_evaluated': books.evaluated,
      'flops': forward * forwards + train_step * books.trained,
    },
    'realised_budget': ledger.realised_budget(books.cost, parts.spec, run.cell.budget_unit),
    'realised_budgets': {
      unit: ledger.realised_budget(books.cost, parts.spec, unit) for unit in ledger.BUDGET_UNITS
    },
    'entropy_nats': ledger.entropy_nats(times_trained),
    'seconds': {
      'compile': books.compile_seconds,
      'train': books.train_seconds,
      'evaluate': books.evaluate_seconds,
    },
    'versions': versions(),
    'device': device_record(),
  }


def _root(run: Run) -> jax.Array:
  return jax.random.key(run.seed)
