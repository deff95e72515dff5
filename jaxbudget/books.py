"""What the host writes down of a run: costs, seconds, the lines of metrics.jsonl."""

import dataclasses
from typing import Any

import numpy as np

from jaxbudget import ledger, results, selection
from jaxbudget.epoch import Progress
from jaxbudget.sweep.plan import Run, cost_record
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
class Books:
  """Plain values, saved with every checkpoint."""

  begun: int = 0  # epochs that have a plan
  epochs: int = 0  # finished and recorded
  rows: int = 0
  scored: int = 0
  trained: int = 0
  evaluated: int = 0
  compile_seconds: float = 0.0
  train_seconds: float = 0.0
  evaluate_seconds: float = 0.0
  open_seconds: float = 0.0  # of the epoch under way, when it was saved
  final_accuracy: float = float('nan')  # percent
  lines: str = ''  # of metrics.jsonl
  selection: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # by epoch
  forced: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # see `checkpoint.Refused`

  @property
  def cost(self) -> Cost:
    """Samples passed so far, without evaluation."""
    return Cost(self.scored, self.trained, self.trained)

  def counted(self, num_examples: int) -> np.ndarray:
    """Times each sample was trained on in the recorded epochs: i32[N]."""
    total = np.zeros(num_examples, np.int32)
    for planes in self.selection.values():
      total += selection.unpack(planes, num_examples)
    return total


def enter(
  books: Books,
  run: Run,
  e: int,
  measured: Progress,
  correct: int | None,
  rates: np.ndarray,
  seconds: dict[str, float],
) -> str:
  """Enters an epoch.

  Args:
    books: changed in place.
    run: that is trained.
    e: the epoch, 0-based.
    measured: of the epoch's last call, on the host.
    correct: test images classified correctly; None if the epoch was not evaluated.
    rates: f32[R], learning rates of its rows.
    seconds: `train` and `evaluate`.

  Returns:
    The epoch's line of metrics.jsonl.

  Raises:
    Diverged: the loss of a row is not finite.
  """
  metrics, done = measured.metrics, int(measured.row)
  bad = np.flatnonzero(~np.isfinite(metrics.loss[:done]))
  if bad.size:
    raise Diverged(e + 1, int(bad[0]))
  if correct is not None:
    books.final_accuracy = 100 * correct / run.info.num_test
    books.evaluated += run.info.num_test
  books.epochs = e + 1
  books.rows += done
  books.scored += int(metrics.scored.sum())
  books.trained += int(metrics.trained.sum())
  books.train_seconds += seconds['train']
  books.evaluate_seconds += seconds['evaluate']
  steps = int(np.count_nonzero(metrics.examples))
  line = results.json_line(
    {
      'epoch': e + 1,
      'rows': done,
      'steps': steps,
      'lr': float(rates[max(0, done - 1)]),
      'train_loss': float(metrics.loss.sum()) / max(1, steps),
      'train_accuracy': 100 * int(metrics.correct.sum()) / max(1, int(metrics.examples.sum())),
      'test_accuracy': None if correct is None else books.final_accuracy,
      'entropy_nats': float(measured.entropy),
      'cost': cost_record(books.rows, books.cost),
      'realised_budget': ledger.realised_budget(books.cost, run.parts.spec, run.cell.budget_unit),
      'seconds': seconds,
      'selector': {key: float(value) for key, value in measured.report.items()},
    }
  )
  books.lines += line
  return line
