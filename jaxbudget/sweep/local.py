"""Trains the runs of a plan one after the other, in this process."""

import contextlib
import pathlib
import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from rich import progress as rich_progress
from rich.console import Console

from jaxbudget import checkpoint, data, results
from jaxbudget.sweep import plan, prerequisites
from jaxbudget.train import Diverged, Stopped, train
from jaxbudget.types import Data


def run_all(
  runs: list[plan.Run],
  datasets: Mapping[Any, data.Dataset],
  directory: pathlib.Path,
  console: Console,
) -> int:
  """Trains what is not finished.

  Args:
    runs: of the plan.
    datasets: by `plan.data_key`.
    directory: that holds the run directories.
    console: for progress; quiet when it is not a terminal.

  Returns:
    0 all done; 1 a run failed; 128 + signal number when stopped by one.
  """
  waiting = [run for run in runs if not finished(directory / run.run_id)]
  failures = 0
  placed: dict[Any, tuple[Data, Data, float]] = {}
  with _signals() as received, _bars(console) as bars:
    for run in waiting:
      key = plan.data_key(run.cell)
      if key not in placed:
        placed.clear()  # one data set on the device at a time
        placed[key] = _place(datasets[key])
      try:
        run = prerequisites.prepare(run, directory, datasets[key])
        run_one(run, *placed[key], directory / run.run_id, bars, stop=lambda: bool(received))
      except Stopped as e:
        console.print(str(e))
        return 128 + received[0]
      except Diverged as e:
        failures += 1
        console.print(f'failed: {run.run_id}: {e}')
      except OSError as e:
        failures += 1
        console.print(f'failed: {run.run_id}: {e.strerror or e}: {e.filename or ""} (resumable)')
      except Exception:  # a bug in one run must not cost the others
        failures += 1
        trace = directory / run.run_id / 'error.txt'
        results.write_bytes(trace, traceback.format_exc().encode())
        console.print(f'failed: {run.run_id}: see {trace}')
      if received:
        return 128 + received[0]
  return 1 if failures else 0


def finished(directory: pathlib.Path) -> bool:
  """Whether a run has a result (a diverged run has one too: it would diverge again)."""
  result = results.read_json(directory / results.RESULT)
  return isinstance(result, dict) and result.get('status') in ('done', 'failed')


def run_one(run, train_data, test_data, data_seconds, directory, bars, stop) -> None:
  """Trains one run and writes its result, the last file of a run to appear.

  Args:
    run: of the plan.
    train_data: on the device.
    test_data: on the device.
    data_seconds: that loading took.
    directory: of the run.
    bars: where progress is shown.
    stop: asked between dispatches.

  Raises:
    Stopped: the state is saved.
    Diverged: after the failure was written down.
    OSError: a file could not be written; the run can be resumed.
  """
  directory.mkdir(parents=True, exist_ok=True)
  parts = run.parts
  record = {**run.cell.to_dict(), 'run_id': run.run_id, 'seed': run.seed}
  record |= {'selector_options': parts.selector_options, 'augment_options': parts.augment_options}
  results.write_json(directory / 'config.json', record)
  epochs = parts.selector.facts.epochs
  task = bars.add_task(run.run_id, total=epochs)

  def progress(done: int, rows: int) -> None:
    bars.update(task, completed=done + rows / parts.selector.facts.rows)

  try:
    result = train(run, train_data, test_data, directory, progress, stop)
  except Diverged as e:
    failure = {'status': 'failed', 'error': str(e), 'epoch': e.epoch, 'row': e.row}
    ids = {'run_id': run.run_id, 'cell_id': run.cell_id, 'seed': run.seed}
    results.write_json(directory / results.RESULT, {**ids, **failure})
    raise
  finally:
    bars.remove_task(task)
  result['seconds'] = {'data': data_seconds, **result['seconds']}
  results.write_json(directory / results.RESULT, result)
  checkpoint.remove(directory)
  bars.print(f'{run.run_id}: {result["final_accuracy"]:.2f} %')


def _place(dataset: data.Dataset) -> tuple[Data, Data, float]:
  """Puts a data set on the device, uint8, one copy."""
  start = time.monotonic()
  placed = data.place(dataset)
  jax.block_until_ready(placed)
  return (*placed, time.monotonic() - start)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM instead of dying of them; a second SIGINT is obeyed at once."""
  received: list[int] = []

  def note(number, frame):
    del frame
    if received and number == signal.SIGINT:
      raise KeyboardInterrupt
    received.append(number)

  previous = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield received
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


class _Bars(rich_progress.Progress):
  """Progress bars; on what is no terminal, only the lines printed."""

  def print(self, line: str) -> None:
    self.console.print(line)


def _bars(console: Console) -> _Bars:
  return _Bars(
    rich_progress.TextColumn('{task.description}'),
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TextColumn('epochs'),
    rich_progress.TimeRemainingColumn(),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )
