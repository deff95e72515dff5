"""One run, top to bottom: from a plan's entry to the files of a finished run.

The host only dispatches: a plan program and a row program an epoch, then the evaluation.
What an epoch measured is fetched after the next one was dispatched.
"""

import contextlib
import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, epoch, feeding, parallel, placement, recording, scan
from jaxbudget.averaging import Averaging, Weights
from jaxbudget.evaluation import TEST_TIME, Evaluation, evaluate, forward_batch, test_time
from jaxbudget.lab.run import checkpoint, classes, conditions, files, hosts, record
from jaxbudget.lab.run.checkpoint import Refused
from jaxbudget.lab.run.record import Best, Books
from jaxbudget.lab.run.run import Run
from jaxbudget.state import TrainState
from jaxbudget.types import Data, Model

# About how long a call to the device lasts, so that signals are answered in between; on an
# accelerator longer, so that most epochs are one call.
_CPU_SECONDS, _SECONDS = 1.0, 10.0


class Stopped(Exception):  # noqa: N818  it is no error
  """The run was asked to stop; its state is saved."""


@dataclasses.dataclass
class Live:
  """What changes while a run runs. Its checkpoints hold state, best, sums and books."""

  state: TrainState
  best: Best
  sums: Evaluation  # of the evaluation under way
  books: Books
  counted: np.ndarray  # i32[N]  times trained on in the epochs recorded, under record_selection
  row: int  # the next row to dispatch
  rows_per_call: int
  batches_per_call: int  # of an evaluation
  clock: float  # when the device was last known to be done with earlier work
  saved_at: float
  pending: 'Pending | None' = None  # the epoch that is dispatched, but not yet recorded


class Setting(NamedTuple):
  """What does not change while a run runs."""

  run: Run
  program: epoch.Program
  root: jax.Array  # the run's key
  train_data: Data
  test_data: Data
  evaluation_batch: int  # test images in a forward pass
  directory: pathlib.Path
  belongs_to: dict[str, Any]  # what its checkpoints belong to
  progress: Callable[[int, int], None]  # told (epochs done, rows done in the one under way)
  stop: Callable[[], bool]  # asked between calls to the device
  told: Callable[[Mapping[str, Any]], None]  # told of each line of metrics


class Pending(NamedTuple):
  """An epoch that is dispatched, but not yet recorded."""

  epoch: int
  measured: epoch.Progress
  evaluation: Evaluation | None
  times_trained: jax.Array | None  # i32[N]  under record_selection
  trained_at: float | None  # when its rows were done, if they were waited for


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
  _restore(setting, live, resume, note)
  hosts.first((directory / files.ERROR).unlink, missing_ok=True)  # a crash of before is over
  _compile(setting, live)
  for e in range(live.books.epochs, facts.epochs):
    _train_epoch(setting, live, e)
  _settle(setting, live)
  views = _test_time(setting, live)
  weights = _weights(setting, live.state)
  result = record.write(directory, run, live.books, live.state, weights, live.best, here, tested)
  return {**result, **views}


def _train_epoch(setting: Setting, live: Live, e: int) -> None:
  """Trains epoch e, or what is left of it, and evaluates after it."""
  short = _is_short(setting, live)
  if not short:
    _settle(setting, live)
  if live.books.begun == e:
    _begin_epoch(setting, live, e)
  for measured in _rows(setting, live, e, short):  # noqa: B007  the last one is used
    _pause(setting, live)
  trained_at = None if short else time.monotonic()
  for _ in _evaluate(setting, live, e, short):
    _pause(setting, live)
  _after(setting, live, e, measured, trained_at)
  if not short:
    _settle(setting, live)


def _begin_epoch(setting: Setting, live: Live, e: int) -> None:
  """Lets the method look at all samples if it is to, and plans the epoch."""
  selector = setting.run.parts.selector
  if selector.facts.scan.due(e):
    _settle(setting, live)  # its line of metrics does not hold what comes now
    _scan(setting, live, e)
  live.state = epoch.begin_epoch(selector, live.state, e, setting.root, setting.program.mesh)
  live.books.begun, live.books.batches, live.row = e + 1, 0, 0


def _begin(run: Run, state: TrainState, mesh: jax.sharding.Mesh | None) -> Live:
  """A run before its first epoch."""
  # The weights are on every device already, and may be those of other processes.
  weights = jax.tree.map(jnp.copy, (state.params, state.model_state))
  nothing = _blank(run)
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


def _blank(run: Run) -> Evaluation:
  return Evaluation.blank(classes.number(run.info))


def _compile(setting: Setting, live: Live) -> None:
  """Compiles the programs by running them over no rows, which leaves the state as it is."""
  start = time.monotonic()
  with _feed_rows(setting, live, stop=0) as feed:
    _train_until(setting, live, live.books.epochs, feed, 0)
  _heed(setting)
  with _feed_batches(setting, live, stop=0) as feed:
    nothing = _run_evaluation(setting, live, setting.run.parts.model, live.sums, feed, 0, 0)[0]
  live.best = _keep(setting, live, nothing, 0)
  jax.block_until_ready(live.best)
  _heed(setting)
  now = time.monotonic()
  live.clock = now - live.books.open_seconds
  live.books.compile_seconds += now - start
  live.saved_at = now


def _heed(setting: Setting) -> None:
  """Stops a run that is to stop before anything was done that is not saved already."""
  if hosts.any_of(setting.stop()):
    raise Stopped(f'{setting.run.run_id} is left as it was')


def _pause(setting: Setting, live: Live) -> None:
  """Between calls: saves the run if it is time to, or if it is to stop."""
  stopping = hosts.any_of(setting.stop())
  often = setting.run.cell.checkpoint_every
  if stopping or hosts.agree(time.monotonic() - live.saved_at > often):
    _settle(setting, live)
    _save(setting, live)
    live.saved_at = time.monotonic()
  if stopping:
    raise Stopped(f'{setting.run.run_id} is saved at epoch {live.books.begun}')


def _is_short(setting: Setting, live: Live) -> bool:
  """Whether an epoch is one call, and its evaluation another.

  Only then is it worth to dispatch the next one before this one is done: its figures are
  fetched one epoch late, and the device never waits.
  """
  if setting.train_data.is_fed:
    return False
  rows = setting.run.parts.selector.facts.rows
  return live.rows_per_call >= rows and live.batches_per_call >= _batches(setting)


def _batches(setting: Setting) -> int:
  return -(-setting.test_data.label.shape[0] // setting.evaluation_batch)


def _scan(setting: Setting, live: Live, e: int) -> None:
  """Looks at all samples before epoch e, if the budget allows; stopped midway it begins again."""
  parts, state, books = setting.run.parts, live.state, live.books
  if not scan.affordable(state):
    books.scans_skipped += 1
    return

  def between() -> None:
    if hosts.any_of(setting.stop()):
      _save(setting, live)
      raise Stopped(f'{setting.run.run_id} is saved before epoch {e + 1}')

  with _saved_if_unread(setting, live):
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
          live.rows_per_call = _next_size(size, time.monotonic() - start)
        if setting.train_data.is_fed and int(measured.row) < live.row:
          # The rest of the plan is not trained on: it need not be read.
          live.row = rows
        setting.progress(e, live.row)
      yield measured
      if live.row == rows:
        return


def _evaluate(setting: Setting, live: Live, e: int, short: bool) -> Iterator[None]:
  """Evaluates after epoch e, if that is due; yields between calls."""
  last = e + 1 == setting.run.parts.selector.facts.epochs
  if not last and (e + 1) % setting.run.cell.evaluate_every:
    return
  batches, model = _batches(setting), setting.run.parts.model
  with _feed_batches(setting, live, live.books.batches) as feed:
    while live.books.batches < batches:
      start, size, done = time.monotonic(), live.batches_per_call, live.books.batches
      sums = live.sums if done else parallel.replicate(_blank(setting.run), setting.program.mesh)
      stop = min(done + size, batches)
      live.sums, live.books.batches = _run_evaluation(setting, live, model, sums, feed, done, stop)
      if not short:
        live.sums.correct.block_until_ready()
        if live.books.batches == done + size:
          live.batches_per_call = _next_size(size, time.monotonic() - start)
      if live.books.batches < batches:
        yield


def _next_size(size: int, seconds: float) -> int:
  """How much to do in the next call to the device, from how long the last one took."""
  wanted = _CPU_SECONDS if jax.default_backend() == 'cpu' else _SECONDS
  if seconds < wanted / 2:
    size *= 2
  elif seconds > 2 * wanted:
    size = max(1, size // 2)
  return hosts.agree(size)


def _feed_rows(setting: Setting, live: Live, stop: int = feeding.ALL) -> feeding.Feed:
  mesh = setting.program.mesh
  return feeding.rows(setting.train_data, live.state, mesh, stop, live.books)


def _feed_batches(
  setting: Setting, live: Live, start: int = 0, stop: int = feeding.ALL
) -> feeding.Feed:
  size, mesh = setting.evaluation_batch, setting.program.mesh
  return feeding.batches(setting.test_data, size, mesh, start, stop, live.books)


def _fed(
  setting: Setting, live: Live, feed: feeding.Feed, start: int, stop: int
) -> tuple[Data, int]:
  """What `feed.at` gives; where the images cannot be read, the run is saved as it is."""
  with _saved_if_unread(setting, live):
    found = feed.at(start, stop)
  live.books.missing = sorted({*live.books.missing, *placement.missing(setting.train_data)})
  return found


@contextlib.contextmanager
def _saved_if_unread(setting: Setting, live: Live) -> Iterator[None]:
  try:
    yield
  except (OSError, ValueError):
    if hosts.count() == 1:  # else the others do not come to agree
      _settle(setting, live)
      _save(setting, live)
    raise


def _train_until(
  setting: Setting, live: Live, e: int, feed: feeding.Feed, stop: int
) -> tuple[epoch.Progress, int]:
  """Trains up to a row, or to the last that the feed has at hand; gives that too."""
  data, stop = _fed(setting, live, feed, live.row, stop)
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
  evaluation = live.sums if live.books.batches else None
  if evaluation is not None:
    live.best = _keep(setting, live, evaluation, e + 1)
  _settle(setting, live)
  live.pending = Pending(e, measured, evaluation, times_trained, trained_at)


def _run_evaluation(
  setting: Setting,
  live: Live,
  model: Model,
  sums: Evaluation,
  feed: feeding.Feed,
  start: int,
  stop: int,
) -> tuple[Evaluation, int]:
  """Evaluates up to a batch, or to the last that the feed has at hand; gives that too."""
  parts, (data, stop) = setting.run.parts, _fed(setting, live, feed, start, stop)
  sums = evaluate(
    model,
    parts.augment.test,
    setting.evaluation_batch,
    *_weights(setting, live.state),
    data,
    sums,
    _scalar(start, setting),
    _scalar(stop, setting),
    mesh=setting.program.mesh,
    task=parts.task,
  )
  return sums, stop


def _weights(setting: Setting, state: TrainState) -> Weights:
  """The weights that are evaluated and kept: averaged ones, if there is an average."""
  averaging: Averaging = setting.program.averaging
  return averaging.evaluated(state.average, (state.params, state.model_state))


def _test_time(setting: Setting, live: Live) -> dict[str, Any]:
  """Evaluates the final weights on several views of each image, if asked for, and says so."""
  run, batches = setting.run, _batches(setting)
  name = run.cell.tta
  if name == 'none':
    return {}
  start, model = time.monotonic(), test_time(run.parts.model, name)
  sums = parallel.replicate(_blank(run), setting.program.mesh)
  with _feed_batches(setting, live) as feed:
    for batch in range(batches):
      sums, _ = _run_evaluation(setting, live, model, sums, feed, batch, batch + 1)
      sums.correct.block_until_ready()
      _pause(setting, live)
  forwards = TEST_TIME[name] * run.info.num_test
  live.books.evaluated += forwards
  live.books.evaluate_seconds += time.monotonic() - start
  score = record.score(run, jax.device_get(sums))
  return {'tta': {'name': name, 'score': score, 'forward_evaluated': forwards}}


def _scalar(value: int, setting: Setting) -> jax.Array:
  return parallel.replicate(np.int32(value), setting.program.mesh)


def _keep(setting: Setting, live: Live, evaluation: Evaluation, e: int) -> Best:
  rank = setting.program.task.rank
  weights = _weights(setting, live.state)
  return _keep_best(rank, live.best, evaluation, weights, _scalar(e, setting))


@functools.partial(jax.jit, static_argnums=0)
def _keep_best(
  rank: Callable, best: Best, evaluation: Evaluation, weights: Weights, e: jax.Array
) -> Best:
  latest = Best(evaluation, e, *weights)
  new, old = (rank(sums.correct, sums.loss) for sums in (evaluation, best.sums))
  better = (best.epoch == 0) | (new > old)
  better = better & (e > 0)
  return jax.tree.map(lambda new, old: jnp.where(better, new, old), latest, best)


def _settle(setting: Setting, live: Live) -> None:
  """Waits for the epoch that is dispatched, enters it into the books and writes its metrics."""
  if live.pending is None:
    return
  pending, live.pending = live.pending, None
  run, e = setting.run, pending.epoch
  measured = jax.device_get(pending.measured)
  trained_at = pending.trained_at or time.monotonic()
  evaluation = jax.device_get(pending.evaluation)
  now = time.monotonic()
  seconds = {'train': trained_at - live.clock, 'evaluate': now - trained_at}
  if setting.train_data.is_fed:
    seconds['data_wait'] = live.books.waited - live.books.waited_told
    live.books.waited_told = live.books.waited
  live.clock = now
  if pending.times_trained is not None:
    times_trained = np.asarray(pending.times_trained)
    live.books.selection[f'{e:04d}'] = recording.pack(times_trained - live.counted)
    live.counted = times_trained
  rates = run.parts.table(e).learning_rate
  line = record.enter(live.books, run, e, measured, evaluation, rates, seconds)
  hosts.first(files.append_text, setting.directory / files.METRICS, line)
  setting.told(json.loads(line))
  setting.progress(e + 1, 0)


def _save(setting: Setting, live: Live) -> None:
  start = time.monotonic()
  live.books.open_seconds = start - live.clock
  books = dataclasses.asdict(live.books)
  tree = {'state': live.state, 'best': live.best, 'sums': live.sums}
  hosts.first(checkpoint.save, setting.directory, tree, books, setting.belongs_to)
  live.clock += time.monotonic() - start  # writing is not training


def _restore(setting: Setting, live: Live, resume: str, note: Callable[[str], None]) -> None:
  """Goes on from the last whole checkpoint, and makes metrics.jsonl what it was then."""
  metrics = setting.directory / files.METRICS
  target = {'state': live.state, 'best': live.best, 'sums': live.sums}
  saved = checkpoint.restore(setting.directory, target, setting.belongs_to, resume, note)
  if saved is None:
    hosts.first(metrics.unlink, missing_ok=True)
    return
  try:
    books = Books(**saved.record)
  except TypeError as e:
    raise checkpoint.unfit(saved, e) from e
  if setting.run.cell.record_selection and len(books.selection) < books.epochs:
    raise Refused(
      f'record_selection=True, but the first {books.epochs} epochs of its checkpoint were not '
      f'recorded; turn it off, or remove {saved.path.parent}/*.ckpt to train it from the start'
    )
  # A copy: arrays over the checkpoint's bytes must not be donated.
  kept = [saved.state[name] for name in ('state', 'best', 'sums')]
  live.state, live.best, live.sums = parallel.replicate(
    jax.tree.map(jnp.array, kept), setting.program.mesh
  )
  live.books, live.row = books, int(live.state.row)
  live.counted = books.counted(setting.run.parts.spec.num_examples)
  hosts.first(files.write_bytes, metrics, books.lines.encode())
