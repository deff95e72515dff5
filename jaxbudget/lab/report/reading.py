"""Reads the files of a workdir, whole, half-written or damaged, without ever raising."""

import json
import math
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxbudget.lab.run import conditions, files, run_state

EPOCH_NUMBERS = (
  'epoch', 'rows', 'lr', 'train_loss', 'train_accuracy', 'test_accuracy', 'entropy_nats',
)  # fmt: skip
_WORKDIR_NAMES = {'plan.json', 'calibration.json', 'runs', 'jobs', 'report', 'lock'}
_RUN_NAMES = {files.SUMS, 'lock'}
_RUN_SUFFIXES = {'.json', '.jsonl', '.npy', '.npz', '.msgpack', '.ckpt', '.log', '.png'}


class Problem(NamedTuple):
  """Something in the workdir that the report could not use.

  Attributes:
    path: relative to the workdir.
    what: one sentence.
  """

  path: str
  what: str


def read_json(file: pathlib.Path, root: pathlib.Path, problems: list[Problem]) -> dict | None:
  """A JSON object, or None: silently when there is no file, else with a problem."""
  if not file.is_file():
    return None
  try:
    value = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    return note(problems, file, root, f'not readable as JSON: {error}')
  if not isinstance(value, dict):
    return note(problems, file, root, f'a JSON object is expected, found {type(value).__name__}')
  return value


def written_out(value: Any) -> Any:
  """JSON without what no file can hold: halves of surrogate pairs, of names that are no UTF-8."""
  try:
    # Sooner than to look at each text; hardly any has one.
    json.dumps(value, ensure_ascii=False).encode()
    return value
  except UnicodeEncodeError:
    return _written_out(value)


def _written_out(value: Any) -> Any:
  if isinstance(value, str):
    return value.encode('utf-8', 'backslashreplace').decode()
  if isinstance(value, dict):
    return {_written_out(key): _written_out(one) for key, one in value.items()}
  return [_written_out(one) for one in value] if isinstance(value, list) else value


def intact(file: pathlib.Path, root: pathlib.Path, problems: list[Problem]) -> bool:
  """Whether a run's file is what was written; a problem if not."""
  try:
    files.verify(file)
    return True
  except (files.Damaged, OSError) as error:
    what = str(error).removeprefix(f'{file} is ').removeprefix('damaged: ')
    note(problems, file, root, f'damaged and not used: {what}')
    return False


def read_result(
  directory: pathlib.Path, root: pathlib.Path, problems: list[Problem]
) -> tuple[dict, str, str]:
  """Returns (result, how the run stands, why); a problem if the result is corrupt.

  A whole result beside which another file is lost is reported, as old ones without checksums are.
  """
  state = run_state.look(directory)
  if state.name == run_state.CORRUPT and state.result:
    if (directory / files.SUMS).is_file():
      note(problems, directory, root, state.why)
    return state.result, run_state.DONE, ''
  if state.name == run_state.CORRUPT:
    note(problems, directory / files.RESULT, root, f'damaged and not used: {state.why}')
  return state.result, state.name, state.why


def conditions_of(result: dict) -> dict[str, str]:
  """The conditions under which a result was computed, as text; '' for what is not known.

  A result of before conditions were written down tells versions and device, and the code, which
  stands for its engine: nothing says that other code would have given the same. A run that was
  made to go on under other conditions is of both.
  """
  given = result.get('conditions')
  versions, device = (
    value if isinstance(value := result.get(key), dict) else {} for key in ('versions', 'device')
  )
  if not isinstance(given, dict):
    given = {name: versions[name] for name in conditions.POOL if name in versions}
    if versions.get('code'):
      given['engine'] = f'before 1, code {versions["code"]}'
    if device:
      names = (str(device.get(key) or '') for key in ('platform', 'kind'))
      given['device'] = conditions.device_phrase(*names, device.get('devices', 1))
  given = {'data_fingerprint': result.get('data_fingerprint', ''), **given}
  found = {name: condition_text(given.get(name, '')) for name in conditions.POOL}
  forced = result.get('forced')
  for one in forced if isinstance(forced, list) else ():
    if isinstance(one, dict) and one.get('field') in found:
      was, now = (condition_text(one.get(key)) for key in ('was', 'is'))
      found[one['field']] = f'{was} then {now}'
  return found


def score_axis(names: Iterable[str]) -> str:
  """What an axis shows of runs with these `score_name`s: accuracies, or what stands for them."""
  others = sorted(set(names) - {'accuracy', ''})
  return f'test {" or ".join(others)} (%)' if others else 'test accuracy (%)'


def condition_text(value) -> str:
  """A condition for people; what is set to nothing is known, unlike what is missing."""
  return 'none' if value is None else str(value)


def read_metrics(file: pathlib.Path, root: pathlib.Path, problems: list[Problem]) -> list[dict]:
  """Flat rows of a metrics file; a half-written last line is left out without a word."""
  if not file.is_file():
    return []
  try:
    text = file.read_text(encoding='utf-8')
  except (OSError, ValueError) as error:
    note(problems, file, root, f'not readable: {error}')
    return []
  lines = text.split('\n')
  rows, bad = [], []
  for position, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      rows.append(_epoch_row(row))
    except (ValueError, TypeError, AttributeError, RecursionError):
      if position < len(lines):
        bad.append(position)
  if bad:
    shown = ', '.join(map(str, bad[:5])) + (', ...' if len(bad) > 5 else '')
    note(problems, file, root, f'{len(bad)} unreadable line(s) left out: {shown}')
  return rows


def first_columns(file: pathlib.Path) -> list[str]:
  """The columns of a metrics file by its first line; none if that is not readable."""
  try:
    with file.open(encoding='utf-8') as lines:
      return list(_epoch_row(json.loads(next(lines, ''))))
  except (OSError, ValueError, TypeError, AttributeError, RecursionError):
    return []


def _epoch_row(row: dict) -> dict:
  flat: dict[str, Any] = {name: number(row.get(name)) for name in EPOCH_NUMBERS}
  if row.get('test_accuracy') is None:  # of a task without one: its score stands in its place
    flat['test_accuracy'] = number(row.get('test_score'))
  if math.isnan(flat['epoch']):
    raise ValueError('a line without an epoch')
  cost = row.get('cost')
  for name, value in (cost if isinstance(cost, dict) else {}).items():
    flat[f'cost_{name}'] = number(value)
  seconds = row.get('seconds')
  if isinstance(seconds, dict):
    flat |= {f'seconds_{name}': number(value) for name, value in seconds.items()}
  else:
    flat['seconds'] = number(seconds)
  selector = row.get('selector')
  for name, value in (selector if isinstance(selector, dict) else {}).items():
    flat[f'selector_{name}'] = number(value)
  return flat


def list_foreign(path: pathlib.Path, planned: set[str], problems: list[Problem]) -> None:
  """Notes what lies in a workdir and belongs to no planned run."""
  for file in sorted(path.iterdir()):
    known = file.name in _WORKDIR_NAMES or file.suffix == '.png'  # contact sheets
    if not known and not file.name.startswith('.'):
      note(problems, file, path, 'not part of a workdir; left alone')
  runs = path / 'runs'
  for directory in sorted(runs.iterdir()) if runs.is_dir() else ():
    if directory.name.startswith('.'):
      continue
    if not directory.is_dir():
      note(problems, directory, path, 'a file among the runs; left alone')
    elif directory.name not in planned:
      note(problems, directory, path, 'a run that is not in the plan; not reported')
    else:
      for file in sorted(directory.iterdir()):
        known = file.suffix in _RUN_SUFFIXES or file.name in _RUN_NAMES
        if file.is_file() and not known and file.name[0] != '.':
          note(problems, file, path, 'not a file of a run; left alone')


def number(value) -> float:
  """A finite float, else NaN; booleans and text are not numbers."""
  if type(value) is float:  # most are
    return value if math.isfinite(value) else math.nan
  if isinstance(value, bool) or not isinstance(value, int | float):
    return math.nan
  try:
    return float(value) if math.isfinite(value) else math.nan
  except OverflowError:
    return math.nan


def note(problems: list[Problem], file: pathlib.Path, root: pathlib.Path, what: str) -> None:
  """Adds a problem, once."""
  problem = Problem(*written_out([str(file.relative_to(root)), what]))
  if problem not in problems:
    problems.append(problem)
