"""How a run stands, from its files: finished or not, and whether they are what was written."""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

from jaxbudget.lab.run import checkpoint, files, lock
from jaxbudget.lab.run.run import Run

DONE, FAILED = 'done', 'failed'


def of(run: Run, directory: pathlib.Path, say: Callable[[str], None]) -> str | None:
  """How a run ended; a diverged one is finished, for it would diverge again.

  Args:
    run: of the plan.
    directory: of the run.
    say: told of failures and damage.

  Returns:
    `DONE` or `FAILED`; None if it is not finished.
  """
  result = finished(directory, say)
  if result is None:
    return None
  _tidy(directory)
  if result['status'] == 'failed':
    say(f'failed earlier: {run.run_id}: {result.get("error")} (remove {directory} to try again)')
    return FAILED
  damage = damaged(directory)
  for what in damage:
    say(f'damaged: {what}; remove {directory} to train the run again')
  if run.cell.record_selection and not (directory / 'selection.npz').exists():
    say(f'note: {run.run_id} was trained without record_selection')
  return FAILED if damage else DONE


def finished(directory: pathlib.Path, say: Callable[[str], None] = print) -> dict[str, Any] | None:
  """The result of a run that has one.

  Args:
    directory: of the run.
    say: told of a result that is damaged, and so is none.

  Returns:
    The content of result.json, `status` is done or failed; None if the run is not finished.
  """
  path = directory / files.RESULT
  result = files.read_json(path)
  try:
    if isinstance(result, dict) and result.get('status') in ('done', 'failed'):
      if result['status'] == 'done':
        files.verify(path)
      return result
    fault = f'{path} is damaged' if path.exists() else ''
  except files.Damaged as e:
    fault = str(e)
  if fault:
    say(f'{fault}; the run is trained again')
  return None


def damaged(directory: pathlib.Path) -> list[str]:
  """What is wrong with the files of a finished run, a sentence each.

  Weights are looked at when they are loaded: to delete them is allowed, and to read
  gigabytes at every launch is not worth it.
  """
  sums = files.read_sums(directory)
  faults = [f'{directory / files.SUMS} is missing'] if sums is None else []
  for name in sums or ():
    if name not in (files.LAST, files.BEST):
      try:
        files.verify(directory / name)
      except files.Damaged as e:
        faults.append(str(e))
  return faults


def _tidy(directory: pathlib.Path) -> None:
  """Removes what is left of a finished run whose process was killed at the very end."""
  if any(directory.glob('*.ckpt')) or any(directory.glob('.*.tmp')):
    with contextlib.suppress(lock.Busy, OSError), lock.own(directory):
      checkpoint.remove(directory)
      files.remove_temporaries(directory)
