"""What a run leaves when it ends: weights, counts, and the content of result.json."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbudget import checkpoint, hosts, ledger, results, selection
from jaxbudget.books import Books, Diverged
from jaxbudget.flops import model_flops
from jaxbudget.provenance import device_record, versions
from jaxbudget.state import TrainState
from jaxbudget.sweep.plan import Run, cost_record


class Best(NamedTuple):
  """The weights of the epoch with the highest test accuracy, on the device."""

  correct: jax.Array  # i32[]
  epoch: jax.Array  # i32[]  1-based
  params: Any
  model_state: Any


def write(
  directory: pathlib.Path, run: Run, books: Books, state: TrainState, best: Best
) -> dict[str, Any]:
  """Writes weights and counts, and gives the result; the caller writes it last of all.

  Args:
    directory: of the run.
    run: that is trained.
    books: after the last epoch.
    state: after the last epoch.
    best: the best weights.

  Returns:
    The content of result.json, without the seconds that loading the data took.

  Raises:
    Diverged: weights are not finite.
    OSError: a file could not be written.
  """
  selector, best = run.parts.selector, jax.device_get(best)
  params = jax.device_get(state.params)
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise Diverged(books.epochs, int(state.row) - 1, 'after the last step the weights are')
  times_trained = np.asarray(state.times_trained)
  scores = selector.scores(state.selector) if selector.scores else None

  def write_files() -> None:
    results.write_weights(directory / results.LAST, params, state.model_state)
    results.write_weights(directory / results.BEST, best.params, best.model_state)
    results.write_array(directory / results.COUNTS, times_trained)
    if scores is not None:
      results.write_array(directory / 'scores.npy', scores)
    if run.cell.record_selection:
      content = selection.to_bytes(list(books.selection.values()), run.parts.spec.num_examples)
      results.write_bytes(directory / selection.FILE, content)

  hosts.first(write_files)
  return _result(run, books, best, times_trained)


def _result(run: Run, books: Books, best: Best, times_trained: np.ndarray) -> dict[str, Any]:
  """The content of result.json (design.md 6)."""
  parts = run.parts
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
    'device': {**device_record(), 'devices': run.cell.devices or jax.device_count()},
    **({'forced': books.forced} if books.forced else {}),
  }


def write_result(directory: pathlib.Path, result: dict[str, Any]) -> None:
  """Writes result.json, after which the run is done."""
  content = results.json_bytes(result)
  (directory / results.ERROR).unlink(missing_ok=True)
  results.write_sums(directory, content)
  results.write_bytes(directory / results.RESULT, content)
  checkpoint.remove(directory)


def write_failure(directory: pathlib.Path, run: Run, e: Diverged) -> None:
  """Writes the result.json of a run that diverged."""
  ids = {'run_id': run.run_id, 'cell_id': run.cell_id, 'seed': run.seed}
  failure = {'status': 'failed', 'error': str(e), 'epoch': e.epoch, 'row': e.row}
  results.write_json(directory / results.RESULT, {**ids, **failure})
  checkpoint.remove(directory)
