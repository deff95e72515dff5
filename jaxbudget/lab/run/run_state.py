"""How a run stands, from its files: the one opinion that status, report and launcher share."""

import contextlib
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxbudget.lab.run import checkpoint, files, identity, lock
from jaxbudget.lab.run.run import Run

DONE, FAILED, RUNNING, STOPPED, CORRUPT, PLANNED = STATES = (
  'done', 'failed', 'running', 'stopped', 'corrupt', 'planned',
)  # fmt: skip


class State(NamedTuple):
  """How a run stands.

  Attributes:
    name: one of `STATES`. failed: it diverged or crashed; stopped: it was begun, and nobody is
      at it; corrupt: its result is not what was written, or another of its files is lost; planned:
      it was never begun.
    result: the content of result.json, if done or diverged, or if only other files are lost.
    why: of what it failed, or what is wrong with its result.
    owner: who is at it, see `lock.alive`, if it is running.
  """

  name: str
  result: dict[str, Any] = {}
  why: str = ''
  owner: dict[str, Any] | None = None


def look(directory: pathlib.Path) -> State:
  """Looks at a run.

  Args:
    directory: of the run; may be missing.

  Returns:
    How it stands, as far as one look can tell; nothing in the directory makes it raise.
  """
  try:
    return _look(directory)
  except OSError as e:
    return State(CORRUPT, why=f'{e.strerror or e}: {e.filename or directory}')


def _look(directory: pathlib.Path) -> State:
  result, fault = _result(directory / files.RESULT)
  if result and result['status'] == 'failed':
    return State(FAILED, result, str(result.get('error') or ''))
  if result:
    fault = _lost(directory)
    return State(CORRUPT, result, fault) if fault else State(DONE, result)
  owner = lock.alive(directory)
  if owner:
    return State(RUNNING, owner=owner)
  if fault:
    return State(CORRUPT, why=fault)
  if (directory / files.ERROR).exists():
    return State(FAILED, why=_last_line(directory / files.ERROR))
  return State(STOPPED if (directory / files.CONFIG).exists() else PLANNED)


def _result(path: pathlib.Path) -> tuple[dict[str, Any], str]:
  """The result in a file and '', or nothing and what is wrong with it."""
  if not path.exists():
    return {}, ''
  result = files.read_json(path)
  if not isinstance(result, dict):
    return {}, 'not readable as a JSON object'
  if result.get('status') == 'failed':
    return result, ''
  try:
    files.verify(path)
  except files.Damaged as e:
    return {}, str(e)
  faults = _implausible(result, path.parent.name)
  return ({}, '; '.join(faults)) if faults else (result, '')


def _lost(directory: pathlib.Path) -> str:
  """Which files of a finished run are lost; '' if none is, as far as one sees without reading."""
  sums = files.read_sums(directory)
  if sums is None:
    return f'{files.SUMS} is missing'
  lost = [n for n in sums if n not in _WEIGHTS and not (directory / n).is_file()]
  return '; '.join(f'{name} is missing' for name in lost)


_WEIGHTS = (files.LAST, files.BEST)  # which people may delete


def _implausible(result: dict[str, Any], run_id: str) -> list[str]:
  """Why this cannot be the result of a finished run."""
  faults = []
  if result.get('status') != 'done':
    known = 'status' in result
    faults.append(f'its status is {result["status"]!r}' if known else 'it has no status')
  if result.get('run_id', run_id) != run_id:
    faults.append(f'it is the result of run {result["run_id"]!r}')
  # Of before tasks had names, or of a task that counts right answers.
  known_name = result.get('score_name', 'accuracy') == 'accuracy'
  for name in ('final_accuracy', 'best_accuracy') if known_name else ():
    value = result.get(name)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not (known and math.isfinite(value) and 0 <= value <= 100):
      faults.append(f'{name} is {value!r}, not a percentage')
  if not isinstance(result.get('cost'), dict):
    faults.append('it has no cost')
  return faults


def _last_line(path: pathlib.Path) -> str:
  lines = path.read_text('utf-8', 'replace').strip().splitlines()
  return lines[-1] if lines else ''


def settled(run: Run, directory: pathlib.Path, say: Callable[[str], None]) -> str | None:
  """Whether there is nothing left to do for a run; a diverged one would diverge again.

  Args:
    run: of the plan.
    directory: of the run.
    say: told of failures and damage.

  Returns:
    `DONE` or `FAILED`; None if it is to be trained.

  Raises:
    checkpoint.Refused: the directory is of another run with the same id.
    OSError: a file cannot be read.
  """
  _same(run, directory)
  state = _look(directory)
  if not state.result:
    if state.name == CORRUPT:
      say(f'{directory / files.RESULT}: {state.why}; the run is trained again')
    return None
  _tidy(directory)
  if state.name == FAILED:
    say(
      f'failed earlier: {run.run_id}: {state.why} (to try again: --stage=retry with the same '
      f'--config; of api.run, remove {directory})'
    )
    return FAILED
  damage = damaged(directory)
  for what in damage:
    say(f'damaged: {what}; remove {directory} to train the run again')
  if run.cell.record_selection and not (directory / 'selection.npz').exists():
    say(f'note: {run.run_id} was trained without record_selection')
  return FAILED if damage else DONE


def _same(run: Run, directory: pathlib.Path) -> None:
  """Refuses a directory whose run has the same id, but is not the same."""
  found = files.read_json(directory / files.CONFIG)
  was = found.get('identity') if isinstance(found, dict) else None
  if isinstance(was, dict):
    try:
      identity.agree(run.run_id, was, run.identity)
    except ValueError as e:
      raise checkpoint.Refused(f'{e}: {directory} holds the first; give another --workdir') from e


def damaged(directory: pathlib.Path) -> list[str]:
  """What is wrong with the files of a finished run, a sentence each.

  Weights are looked at when they are loaded: to delete them is allowed, and to read
  gigabytes at every launch is not worth it.
  """
  sums = files.read_sums(directory)
  faults = [f'{directory / files.SUMS} is missing'] if sums is None else []
  for name in sums or ():
    if name not in _WEIGHTS:
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
