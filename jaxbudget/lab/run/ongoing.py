"""What a run holds while it is under way, what of it is fixed, and how it is saved and restored."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import epoch, feeding, parallel, placement, recording
from jaxbudget.evaluation import Evaluation
from jaxbudget.lab.run import checkpoint, files, hosts, record
from jaxbudget.lab.run.checkpoint import Refused
from jaxbudget.lab.run.record import Best, Books
from jaxbudget.lab.run.run import Run
from jaxbudget.state import TrainState
from jaxbudget.types import Data

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


def next_size(size: int, seconds: float) -> int:
  """How much to do in the next call to the device, from how long the last one took."""
  wanted = _CPU_SECONDS if jax.default_backend() == 'cpu' else _SECONDS
  if seconds < wanted / 2:
    size *= 2
  elif seconds > 2 * wanted:
    size = max(1, size // 2)
  return hosts.agree(size)


def fed(
  setting: Setting, live: Live, feed: feeding.Feed, start: int, stop: int
) -> tuple[Data, int]:
  """What `feed.at` gives; where the images cannot be read, the run is saved as it is."""
  with saved_if_unread(setting, live):
    found = feed.at(start, stop)
  live.books.missing = sorted({*live.books.missing, *placement.missing(setting.train_data)})
  return found


@contextlib.contextmanager
def saved_if_unread(setting: Setting, live: Live) -> Iterator[None]:
  """Saves the run as it is if the block finds images that cannot be read."""
  try:
    yield
  except (OSError, ValueError):
    if hosts.count() == 1:  # else the others do not come to agree
      settle(setting, live)
      save(setting, live)
    raise


def heed(setting: Setting) -> None:
  """Stops a run that is to stop before anything was done that is not saved already."""
  if hosts.any_of(setting.stop()):
    raise Stopped(f'{setting.run.run_id} is left as it was')


def pause(setting: Setting, live: Live) -> None:
  """Between calls: saves the run if it is time to, or if it is to stop."""
  stopping = hosts.any_of(setting.stop())
  often = setting.run.cell.checkpoint_every
  if stopping or hosts.agree(time.monotonic() - live.saved_at > often):
    settle(setting, live)
    save(setting, live)
    live.saved_at = time.monotonic()
  if stopping:
    raise Stopped(f'{setting.run.run_id} is saved at epoch {live.books.begun}')


def settle(setting: Setting, live: Live) -> None:
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


def save(setting: Setting, live: Live) -> None:
  """Writes a checkpoint."""
  start = time.monotonic()
  live.books.open_seconds = start - live.clock
  live.books.missing = hosts.union(live.books.missing)
  books = dataclasses.asdict(live.books)
  tree = {'state': live.state, 'best': live.best, 'sums': live.sums}
  hosts.first(checkpoint.save, setting.directory, tree, books, setting.belongs_to)
  live.clock += time.monotonic() - start  # writing is not training


def restore(setting: Setting, live: Live, resume: str, note: Callable[[str], None]) -> None:
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
