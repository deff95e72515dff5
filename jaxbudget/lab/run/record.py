"""What is written down of a run: costs, seconds and metrics as it goes, the result when it ends."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbudget import ledger, recording
from jaxbudget.averaging import Weights
from jaxbudget.epoch import Progress
from jaxbudget.evaluation import Evaluation
from jaxbudget.feeding import Meter
from jaxbudget.lab.run import checkpoint, classes, files, hosts
from jaxbudget.lab.run.flops import model_flops
from jaxbudget.lab.run.provenance import device_record, versions
from jaxbudget.lab.run.run import Run, cost_record
from jaxbudget.state import TrainState
from jaxbudget.types import Cost


class Diverged(Exception):  # noqa: N818
  """The training loss is not finite.

  Attributes:
    epoch: 1-based.
    row: 0-based, in that epoch.
  """

  def __init__(self, epoch: int, row: int, what: str = 'training loss is'):
    super().__init__(f'{what} not finite at epoch {epoch}, row {row}')
    self.epoch, self.row = epoch, row


@dataclasses.dataclass
class Books(Meter):
  """Plain values, saved with every checkpoint; and what feeding the run took, if it is fed."""

  begun: int = 0  # epochs that have a plan
  batches: int = 0  # of the test set, in the evaluation under way
  epochs: int = 0  # finished and recorded
  rows: int = 0
  scored: int = 0
  trained: int = 0
  scans: int = 0  # looks at all samples, in `scored`
  scans_skipped: int = 0  # for lack of budget
  evaluated: int = 0
  compile_seconds: float = 0.0
  train_seconds: float = 0.0
  evaluate_seconds: float = 0.0
  missing: list[str] = dataclasses.field(default_factory=list)  # files that were left out
  waited_told: float = 0.0  # seconds for data, of the epochs recorded
  open_seconds: float = 0.0  # of the epoch under way, when it was saved
  score: float = float('nan')  # of the last evaluation, percent
  by_class: list[int] = dataclasses.field(default_factory=list)  # correct ones in it
  lines: str = ''  # of metrics.jsonl
  selection: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # by epoch
  forced: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # see `checkpoint.Refused`

  @property
  def recorded(self) -> list[np.ndarray]:
    """Planes of every recorded epoch, in order; a checkpoint keeps names in that of text."""
    return [self.selection[name] for name in sorted(self.selection, key=int)]

  @property
  def cost(self) -> Cost:
    """Samples passed so far, without evaluation."""
    return Cost(self.scored, self.trained, self.trained)

  def counted(self, num_examples: int) -> np.ndarray:
    """Times each sample was trained on in the recorded epochs: i32[N]."""
    total = np.zeros(num_examples, np.int32)
    for planes in self.selection.values():
      total += recording.unpack(planes, num_examples)
    return total


def _realised(run: Run, books: Books, unit: str) -> float:
  """What was spent of full training; under `compute` with what the run needed first."""
  parts = run.parts
  return ledger.realised_budget(books.cost, parts.spec, unit, parts.budget.spent)


def _charged(run: Run) -> dict[str, Any]:
  """What a run is charged for those that it needs, beside the cost of its own training."""
  charged = {'forward_equivalents_charged': run.parts.budget.spent}
  return {'selection': charged} if run.needs else {}


def _scans(run: Run, books: Books) -> dict[str, int]:
  """Looks at all samples so far, done and left out, for a method that takes any."""
  if not run.parts.selector.facts.scan.every:
    return {}
  return {'scans': books.scans, 'scans_skipped': books.scans_skipped}


def enter(
  books: Books,
  run: Run,
  e: int,
  measured: Progress,
  evaluation: Evaluation | None,
  rates: np.ndarray,
  seconds: dict[str, float],
) -> str:
  """Enters an epoch.

  Args:
    books: changed in place.
    run: that is trained.
    e: the epoch, 0-based.
    measured: of the epoch's last call, on the host.
    evaluation: sums over the test set, on the host; None if the epoch was not evaluated.
    rates: f32[R], learning rates of its rows.
    seconds: `train` and `evaluate`, and of both `data_wait` if images are fed.

  Returns:
    The epoch's line of metrics.jsonl.

  Raises:
    Diverged: the loss of a row is not finite.
  """
  metrics, done = measured.metrics, int(measured.row)
  bad = np.flatnonzero(~np.isfinite(metrics.loss[:done]))
  if bad.size:
    raise Diverged(e + 1, int(bad[0]))
  if evaluation is not None:
    books.score = score(run, evaluation)
    books.by_class = np.asarray(evaluation.by_class).tolist()
    books.evaluated += run.info.num_test
  books.epochs = e + 1
  books.rows += done
  books.scored += int(metrics.scored.sum())
  books.trained += int(metrics.trained.sum())
  books.train_seconds += seconds['train']
  books.evaluate_seconds += seconds['evaluate']
  steps, task = int(np.count_nonzero(metrics.examples)), run.parts.task
  reached = None if evaluation is None else books.score
  right = 100 * int(metrics.correct.sum()) / max(1, int(metrics.examples.sum()))
  line = files.json_line(
    {
      'epoch': e + 1,
      'rows': done,
      'steps': steps,
      'lr': float(rates[max(0, done - 1)]),
      'train_loss': float(metrics.loss.sum()) / max(1, steps),
      'train_accuracy': right if task.is_accuracy else None,
      'test_accuracy': reached if task.is_accuracy else None,
      'test_score': reached,
      'entropy_nats': float(measured.entropy),
      'cost': cost_record(books.rows, books.cost),
      'realised_budget': _realised(run, books, run.cell.budget_unit),
      'seconds': seconds,
      'selector': {**_scans(run, books), **{k: float(v) for k, v in measured.report.items()}},
    }
  )
  books.lines += line
  return line


def score(run: Run, sums: Evaluation) -> float:
  """The task's score on the test set, percent."""
  return run.parts.task.score(int(sums.correct), float(sums.loss), run.info.num_test)


class Best(NamedTuple):
  """The weights of the epoch with the highest score on the test set, on the device."""

  sums: Evaluation
  epoch: jax.Array  # i32[]  1-based; 0: none yet
  params: Any
  model_state: Any


def write(
  directory: pathlib.Path,
  run: Run,
  books: Books,
  state: TrainState,
  weights: Weights,
  best: Best,
  conditions: Mapping[str, Any],
  tested: np.ndarray,
) -> dict[str, Any]:
  """Writes weights and counts, and gives the result; the caller writes it last of all.

  Args:
    directory: of the run.
    run: that is trained.
    books: after the last epoch.
    state: after the last epoch.
    weights: those that were evaluated then.
    best: the best weights.
    conditions: that it was trained under.
    tested: i64[C], test samples of each class; [0] where labels are no classes.

  Returns:
    The content of result.json, without the seconds that loading the data took.

  Raises:
    Diverged: weights are not finite.
    OSError: a file could not be written.
  """
  selector, best = run.parts.selector, jax.device_get(best)
  params, model_state = jax.device_get(weights)
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise Diverged(books.epochs, int(state.row) - 1, 'after the last step the weights are')
  times_trained = np.asarray(state.times_trained)
  scores = selector.scores(state.selector)

  def write_files() -> None:
    files.write_weights(directory / files.LAST, params, model_state)
    files.write_weights(directory / files.BEST, best.params, best.model_state)
    files.write_array(directory / files.COUNTS, times_trained)
    if scores is not None:
      files.write_array(directory / 'scores.npy', scores)
    if run.cell.record_selection:
      content = recording.to_bytes(books.recorded, run.parts.spec.num_examples)
      files.write_bytes(directory / recording.FILE, content)

  hosts.first(write_files)
  result = _result(run, books, best, times_trained)
  by_class = classes.summary(tested, np.asarray(books.by_class, np.int64))
  conditions = {**conditions, 'missing_files': books.missing or None}
  return {**result, **by_class, 'conditions': conditions}


def _result(run: Run, books: Books, best: Best, times_trained: np.ndarray) -> dict[str, Any]:
  """The content of result.json."""
  cell, options, task = run.cell, run.parts.options['model'], run.parts.task
  forward, train_step = model_flops(cell.model, run.info, cell.batch_size, options)
  best_score = score(run, best.sums)
  forwards = books.scored + books.evaluated
  return {
    'status': 'done',
    'run_id': run.run_id,
    'cell_id': run.cell_id,
    'seed': run.seed,
    'config_hash': run.config_hash,
    'final_accuracy': books.score if task.is_accuracy else None,
    'best_accuracy': best_score if task.is_accuracy else None,
    'score_name': task.score_name,
    'score': books.score,
    'best_score': best_score,
    'best_epoch': int(best.epoch),
    'cost': {
      **cost_record(books.rows, books.cost),
      'forward_evaluated': books.evaluated,
      'flops': forward * forwards + train_step * books.trained,
    },
    'realised_budget': _realised(run, books, run.cell.budget_unit),
    'realised_budgets': {unit: _realised(run, books, unit) for unit in ledger.BUDGET_UNITS},
    'entropy_nats': ledger.entropy_nats(times_trained),
    'seconds': {
      'compile': books.compile_seconds,
      'train': books.train_seconds,
      'evaluate': books.evaluate_seconds,
      **({'data_wait': books.waited} if books.bytes_read else {}),
    },
    **({'bytes_read': books.bytes_read} if books.bytes_read else {}),
    **({'missing_files': books.missing} if books.missing else {}),
    'versions': versions(),
    'device': {**device_record(), 'devices': run.cell.devices or jax.device_count()},
    **_scans(run, books),
    **_charged(run),
    **({'forced': books.forced} if books.forced else {}),
  }


def write_result(directory: pathlib.Path, result: dict[str, Any]) -> None:
  """Writes result.json, after which the run is done."""
  content = files.json_bytes(result)
  (directory / files.ERROR).unlink(missing_ok=True)
  files.write_sums(directory, content)
  files.write_bytes(directory / files.RESULT, content)
  checkpoint.remove(directory)


def write_failure(directory: pathlib.Path, run: Run, e: Diverged) -> None:
  """Writes the result.json of a run that diverged."""
  ids = {'run_id': run.run_id, 'cell_id': run.cell_id, 'seed': run.seed}
  failure = {'status': 'failed', 'error': str(e), 'epoch': e.epoch, 'row': e.row}
  files.write_json(directory / files.RESULT, {**ids, **failure})
  checkpoint.remove(directory)
