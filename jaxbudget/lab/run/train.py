"""One run, top to bottom: from a plan's entry to the files of a finished run.

The host only dispatches: a plan program and a row program an epoch, then the evaluation.
What an epoch measured is fetched after the next one was dispatched.
"""

import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, epoch, feeding, parallel, placement, scan
from jaxbudget.evaluation import forward_batch
from jaxbudget.lab.run import classes, conditions, evaluation, files, hosts, ongoing, record
from jaxbudget.lab.run.ongoing import Live, Pending, Setting, Stopped
from jaxbudget.lab.run.record import Best, Books
from jaxbudget.lab.run.run import Run
from jaxbudget.state import TrainState
from jaxbudget.types import Data


def train(
  run: Run,
  train_data: Data,
  test_data: Data,
  directory: pathlib.Path,
  progress: Callable[[int, int], None] = lambda epochs, rows: None,
  stop: Callable[[], bool] = lambda: False,
  *,
  told: Callable[[Mapping[str, Any]], None] = lambda line: None,
  fingerprint: str = '',
  resume: str = 'auto',
  note: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Trains a run to its end, from its last checkpoint if there is one.

  Args:
    run: an entry of the plan.
    train_data: on the device, or on the host, or images that are fed, see `placement.py`.
    test_data: likewise.
    directory: of the run; exists.
    progress: told (epochs done, rows done in the epoch under way).
    stop: asked between calls to the device; True saves the state and raises `Stopped`.
    told: told of each epoch's line of metrics.jsonl.
    fingerprint: of the data set; a checkpoint must have been trained on the same data.
    resume: `auto`, or `force` to go on from a checkpoint of other code, versions or device,
      which result.json then says under `forced`.
    note: told of damaged checkpoints.

  Returns:
    The content of result.json, without the seconds that loading the data took.

  Raises:
    Stopped: asked to stop; the state is saved.
    Diverged: loss or weights are not finite.
    Refused: the checkpoint was written under other conditions.
    OSError: a file could not be written.
  """
  parts, facts, cell = run.parts, run.parts.selector.facts, run.cell
  mesh = parallel.make_mesh(cell.devices, cell.batch_size)
  begun = engine.start(
    parts.spec, parts.model, parts.augment, parts.selector, parts.optimizer, parts.budget,
    seed=run.seed, mesh=mesh, task=parts.task, averaging=parts.averaging,
  )  # fmt: skip
  train_data = parallel.place_data(train_data, mesh)
  begun = engine.prepare(begun, train_data)
  tested = classes.counts(np.asarray(test_data.label), run.info)
  here = conditions.of(run, fingerprint, placement.of(train_data))
  setting = Setting(
    run=run,
    program=begun.program,
    root=begun.root,
    train_data=train_data,
    test_data=parallel.place_data(test_data, mesh, split_bytes=math.inf),
    evaluation_batch=forward_batch(len(test_data.label), parts.spec, cell.evaluate_batch),
    directory=directory,
    belongs_to={'run': run.run_id, **here},
    progress=progress,
    stop=stop,
    told=told,
  )
  live = _begin(run, begun.state, mesh)
  ongoing.restore(setting, live, resume, note)
  hosts.first((directory / files.ERROR).unlink, missing_ok=True)  # a crash of before is over
  _compile(setting, live)
  for e in range(live.books.epochs, facts.epochs):
    _train_epoch(setting, live, e)
  ongoing.settle(setting, live)
  views = evaluation.on_views(setting, live)
  live.books.missing = hosts.union(live.books.missing)
  weights = evaluation.weights(setting, live)
  result = record.write(directory, run, live.books, live.state, weights, live.best, here, tested)
  return {**result, **views}


def _train_epoch(setting: Setting, live: Live, e: int) -> None:
  """Trains epoch e, or what is left of it, and evaluates after it."""
  short = _is_short(setting, live)
  if not short:
    ongoing.settle(setting, live)
  if live.books.begun == e:
    _begin_epoch(setting, live, e)
  for measured in _rows(setting, live, e, short):  # noqa: B007  the last one is used
    ongoing.pause(setting, live)
  trained_at = None if short else time.monotonic()
  for _ in evaluation.after_epoch(setting, live, e, short):
    ongoing.pause(setting, live)
  _after(setting, live, e, measured, trained_at)
  if not short:
    ongoing.settle(setting, live)


def _begin_epoch(setting: Setting, live: Live, e: int) -> None:
  """Lets the method look at all samples if it is to, and plans the epoch."""
  selector = setting.run.parts.selector
  if selector.facts.scan.due(e):
    ongoing.settle(setting, live)  # its line of metrics does not hold what comes now
    _scan(setting, live, e)
  live.state = epoch.begin_epoch(selector, live.state, e, setting.root, setting.program.mesh)
  live.books.begun, live.books.batches, live.row = e + 1, 0, 0


def _begin(run: Run, state: TrainState, mesh: jax.sharding.Mesh | None) -> Live:
  """A run before its first epoch."""
  # The weights are on every device already, and may be those of other processes.
  weights = _copy((state.params, state.model_state))
  nothing = evaluation.blank(run)
  none, sums = parallel.replicate(((nothing, jnp.int32(0)), nothing), mesh)
  return Live(
    state=state,
    best=Best(*none, *weights),
    sums=sums,
    books=Books(),
    counted=np.zeros(run.parts.spec.num_examples, np.int32),
    row=0,
    rows_per_call=run.cell.rows_per_call or 1,
    batches_per_call=1,
    clock=time.monotonic(),
    saved_at=float('nan'),
  )


@jax.jit  # one program for all weights, not one for each shape among them
def _copy(weights: Any) -> Any:
  return jax.tree.map(jnp.copy, weights)


def _compile(setting: Setting, live: Live) -> None:
  """Compiles the programs by running them over no rows, which leaves the state as it is."""
  start = time.monotonic()
  with _feed_rows(setting, live, stop=0) as feed:
    _train_until(setting, live, live.books.epochs, feed, 0)
  ongoing.heed(setting)
  evaluation.compile(setting, live)
  jax.block_until_ready(live.best)
  ongoing.heed(setting)
  now = time.monotonic()
  live.clock = now - live.books.open_seconds
  live.books.compile_seconds += now - start
  live.saved_at = now


def _is_short(setting: Setting, live: Live) -> bool:
  """Whether an epoch is one call, and its evaluation another.

  Only then is it worth to dispatch the next one before this one is done: its figures are
  fetched one epoch late, and the device never waits.
  """
  if setting.train_data.is_fed:
    return False
  rows = setting.run.parts.selector.facts.rows
  return live.rows_per_call >= rows and live.batches_per_call >= evaluation.num_batches(setting)


def _scan(setting: Setting, live: Live, e: int) -> None:
  """Looks at all samples before epoch e, if the budget allows; stopped midway it begins again."""
  parts, state, books = setting.run.parts, live.state, live.books
  if not scan.affordable(state):
    books.scans_skipped += 1
    return

  def between() -> None:
    if hosts.any_of(setting.stop()):
      ongoing.save(setting, live)
      raise Stopped(f'{setting.run.run_id} is saved before epoch {e + 1}')

  with ongoing.saved_if_unread(setting, live):
    seen = scan.observe(
      parts.model,
      parts.augment.test,
      state.params,
      state.model_state,
      setting.train_data,
      forward_batch(parts.spec.num_examples, parts.spec, setting.run.cell.evaluate_batch),
      parts.selector.facts.scan.wants,
      parts.task,
      mesh=setting.program.mesh,
      between=between,
      meter=books,
    )
  live.state = scan.apply(parts.selector, state, seen, e, setting.root)
  books.scans += 1
  books.scored += parts.spec.num_examples


def _rows(setting: Setting, live: Live, e: int, short: bool) -> Iterator[epoch.Progress]:
  """Walks the plan of epoch e; yields between calls, and after the last one."""
  rows = setting.run.parts.selector.facts.rows
  with _feed_rows(setting, live) as feed:
    while True:
      start, size, done = time.monotonic(), live.rows_per_call, live.row
      measured, live.row = _train_until(setting, live, e, feed, min(done + size, rows))
      if not short:
        measured.row.block_until_ready()
        if live.row == done + size and not setting.run.cell.rows_per_call:
          live.rows_per_call = ongoing.next_size(size, time.monotonic() - start)
        if setting.train_data.is_fed and int(measured.row) < live.row:
          # The rest of the plan is not trained on: it need not be read.
          live.row = rows
        setting.progress(e, live.row)
      yield measured
      if live.row == rows:
        return


def _feed_rows(setting: Setting, live: Live, stop: int = feeding.ALL) -> feeding.Feed:
  mesh = setting.program.mesh
  return feeding.rows(setting.train_data, live.state, mesh, stop, live.books)


def _train_until(
  setting: Setting, live: Live, e: int, feed: feeding.Feed, stop: int
) -> tuple[epoch.Progress, int]:
  """Trains up to a row, or to the last that the feed has at hand; gives that too."""
  data, stop = ongoing.fed(setting, live, feed, live.row, stop)
  table = setting.run.parts.table(e)
  table, place = parallel.replicate((table, np.int32(stop)), setting.program.mesh)
  live.state, measured = epoch.train_rows(
    setting.program, live.state, data, table, setting.root, place
  )
  return measured, stop


def _after(
  setting: Setting, live: Live, e: int, measured: epoch.Progress, trained_at: float | None
) -> None:
  """Keeps the best weights, and records the epoch before: this one is recorded later."""
  times_trained = jnp.copy(live.state.times_trained) if setting.run.cell.record_selection else None
  sums = live.sums if live.books.batches else None
  if sums is not None:
    evaluation.keep_best(setting, live, sums, e + 1)
  ongoing.settle(setting, live)
  live.pending = Pending(e, measured, sums, times_trained, trained_at)
