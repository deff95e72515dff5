"""Reads a workdir: what was planned, what has run, and what is wrong with the files.

Nothing in a workdir can stop a report. A file that is damaged, unfinished or unknown becomes
a `Problem`, is listed in the report, and everything else is used.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

IDENTITY = (
  'cell_id', 'seed', 'dataset', 'model', 'selector', 'augment', 'schedule', 'budget',
  'budget_unit', 'epochs', 'batch_size', 'fidelity', 'num_train', 'num_test',
)  # fmt: skip
COST = (
  'rows', 'forward_scored', 'forward_trained', 'backward', 'forward_equivalents',
  'forward_evaluated', 'flops',
)  # fmt: skip
SECONDS = ('data', 'compile', 'train', 'evaluate')
NUMBERS = ('final_accuracy', 'best_accuracy', 'realised_budget', 'entropy_nats')
EPOCH_NUMBERS = (
  'epoch', 'rows', 'lr', 'train_loss', 'train_accuracy', 'test_accuracy', 'entropy_nats',
)  # fmt: skip
_NUMERIC = ('seed', 'budget', 'epochs', 'batch_size', 'num_train', 'num_test')
_WORKDIR_NAMES = {'plan.json', 'runs', 'report', 'logs', 'slurm'}
_RUN_SUFFIXES = {'.json', '.jsonl', '.npy', '.npz', '.msgpack', '.log', '.png'}


class Problem(NamedTuple):
  """Something in the workdir that the report could not use.

  Attributes:
    path: relative to the workdir.
    what: one sentence.
  """

  path: str
  what: str


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Everything a report needs from a workdir.

  Attributes:
    path: the directory.
    runs: one row per planned run: the columns of `IDENTITY`, `options` and `paper` of the
      plan, `status` (done, failed, running, missing, corrupt), accuracies in percent, the
      costs of `COST` in samples, `planned_*`, `seconds_*`, versions, and `cost`: forward
      equivalents in units of a full run of T epochs over N samples (3TN).
    epochs: one row per run and epoch, from metrics.jsonl; `selector_*` columns are a
      selector's own figures.
    configs: run_id -> the run's resolved config.
    problems: what could not be read.
  """

  path: pathlib.Path
  runs: pd.DataFrame
  epochs: pd.DataFrame
  configs: dict[str, dict]
  problems: list[Problem]


def load_workdir(path) -> Workdir:
  """Reads a workdir, finished or still training.

  Args:
    path: directory with `plan.json` and `runs/<run_id>/`.

  Returns:
    A `Workdir`; damaged or foreign files are in its `problems`.

  Raises:
    ValueError: there is no such directory.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise ValueError(f'workdir {str(path)!r} is not a directory')
  problems: list[Problem] = []
  planned = _read_plan(path, problems)
  _list_foreign(path, {run['run_id'] for run in planned}, problems)
  rows, epochs, configs = [], [], {}
  for run in planned:
    directory = path / 'runs' / run['run_id']
    config = _read_json(directory / 'config.json', path, problems) or {}
    configs[run['run_id']] = config
    lines = _read_metrics(directory / 'metrics.jsonl', path, problems)
    result, status = _read_result(directory, path, problems)
    if status == 'unfinished':
      status = 'running' if lines else 'missing'
    row = _run_row(run, config, result, status, lines)
    rows.append(row)
    epochs += [{'run_id': run['run_id'], **line} for line in lines]
  runs = pd.DataFrame(rows, columns=_columns())
  runs['cost'] = runs['forward_equivalents'] / _full_cost(runs)
  runs['planned_cost'] = runs['planned_forward_equivalents'] / _full_cost(runs)
  runs['method'] = method_labels(runs)
  first = ['run_id', *EPOCH_NUMBERS, *(f'cost_{k}' for k in COST), 'seconds']
  epochs = pd.DataFrame(epochs)
  epochs = epochs.reindex(columns=first + [c for c in epochs.columns if c not in first])
  return Workdir(path, runs, epochs, configs, problems)


def load_counts(workdir: Workdir, run_id: str) -> np.ndarray | None:
  """Times each training sample was trained on in a run.

  Args:
    workdir: a loaded workdir.
    run_id: one of its runs.

  Returns:
    i32[N], or None (and a new entry in `workdir.problems`) when the file is no such array.
  """
  file = workdir.path / 'runs' / run_id / 'counts.npy'
  if not file.is_file():
    return None
  try:
    counts = np.load(file, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    return _note(workdir.problems, file, workdir.path, f'not a readable array: {error}')
  if counts.ndim != 1 or counts.dtype.kind not in 'iu' or (counts < 0).any():
    what = f'counts must be non-negative integers [N], found {counts.dtype} {counts.shape}'
    return _note(workdir.problems, file, workdir.path, what)
  return counts


def method_labels(runs: pd.DataFrame) -> pd.Series:
  """Names for the methods of a table: the selector, with the options that tell cells apart.

  Args:
    runs: rows with `selector` and `options`.

  Returns:
    One label per row, such as `p_sgd` or `p_sgd smoothing=False`.
  """
  labels = pd.Series(runs['selector'].astype(str), index=runs.index)
  for _, part in runs.groupby('selector', dropna=False):
    options = [o if isinstance(o, dict) else {} for o in part['options']]
    names = sorted({name for o in options for name in o})
    usual = {name: _most_common([o.get(name) for o in options]) for name in names}
    for index, o in zip(part.index, options, strict=True):
      extra = [f'{n}={o.get(n)}' for n in names if repr(o.get(n)) != repr(usual[n])]
      labels[index] = ' '.join([labels[index], *extra])
  return labels


def _most_common(values: list) -> Any:
  """The commonest value (by repr); among equals the first seen."""
  seen = [repr(value) for value in values]
  return values[max(range(len(seen)), key=lambda i: (seen.count(seen[i]), -i))]


def _columns() -> list[str]:
  return [
    'run_id', *IDENTITY, 'options', 'paper', 'status', 'error', 'epochs_done', *NUMBERS,
    *COST, *(f'planned_{name}' for name in COST), *(f'seconds_{name}' for name in SECONDS),
    'device', 'version', 'commit', 'jax', 'data_fingerprint', 'config_hash',
  ]  # fmt: skip


def _full_cost(runs: pd.DataFrame) -> pd.Series:
  """Forward equivalents of a full run: 3TN, or what the plan says budget 1 costs."""
  full = 3.0 * runs['epochs'] * runs['num_train']
  plain = runs[runs['selector'].isin(['sgd', 'unif_sgd', 'p_sgd', 'c_sgd'])]
  guess = (plain['planned_forward_equivalents'] / plain['budget']).groupby(
    [plain['dataset'], plain['epochs']]
  )
  guess = {key: value.max() for key, value in guess}
  keys = zip(runs['dataset'], runs['epochs'], strict=True)
  return full.fillna(pd.Series([guess.get(key, math.nan) for key in keys], index=runs.index))


def _run_row(run: dict, config: dict, result: dict, status: str, lines: list[dict]) -> dict:
  """One row of the runs table from the plan's entry and the run's own files."""
  known = {name: run.get(name, config.get(name)) for name in IDENTITY}
  for name in _NUMERIC:
    known[name] = _number(known[name])
  for name in set(IDENTITY) - set(_NUMERIC):
    known[name] = '' if known[name] is None else str(known[name])
  last = lines[-1] if lines else {}
  cost = result.get('cost') if isinstance(result.get('cost'), dict) else {}
  planned = run.get('planned') if isinstance(run.get('planned'), dict) else {}
  seconds = result.get('seconds') if isinstance(result.get('seconds'), dict) else {}
  versions = result.get('versions') if isinstance(result.get('versions'), dict) else {}
  options = run.get('options', config.get('options'))
  return {
    'run_id': run['run_id'],
    **known,
    'cell_id': known['cell_id'] or run['run_id'],
    'options': options if isinstance(options, dict) else {},
    'paper': [entry for entry in run.get('paper') or [] if isinstance(entry, dict)],
    'status': status,
    'error': str(result.get('error', '')),
    'epochs_done': _number(last.get('epoch')) if lines else 0,
    **{name: _number(result.get(name)) for name in NUMBERS},
    **{name: _number(cost.get(name, last.get(f'cost_{name}'))) for name in COST},
    **{f'planned_{name}': _number(planned.get(name)) for name in COST},
    **{f'seconds_{name}': _number(seconds.get(name)) for name in SECONDS},
    'device': str(result.get('device', '')),
    'version': str(versions.get('jaxbudget', '')),
    'commit': str(versions.get('commit') or ''),
    'jax': str(versions.get('jax', '')),
    'data_fingerprint': str(result.get('data_fingerprint', '')),
    'config_hash': str(result.get('config_hash', '')),
  }


def _read_plan(path: pathlib.Path, problems: list[Problem]) -> list[dict]:
  """The plan's runs; without a usable plan, the runs that left a config."""
  file = path / 'plan.json'
  plan = _read_json(file, path, problems)
  entries = plan.get('runs') if plan else None
  if not isinstance(entries, list):
    if plan is not None:
      _note(problems, file, path, "no list under 'runs'")
    elif not file.exists():
      _note(problems, file, path, 'missing: the runs found are reported as they are')
    return _plan_from_configs(path, problems)
  runs, seen = [], set()
  for position, entry in enumerate(entries):
    run_id = entry.get('run_id') if isinstance(entry, dict) else None
    if not isinstance(run_id, str) or run_id in ('', '.', '..') or set(run_id) & set('/\0'):
      _note(problems, file, path, f'entry {position} has no usable run_id ({run_id!r})')
    elif run_id in seen:
      _note(problems, file, path, f'run_id {run_id!r} is planned twice; the first is used')
    else:
      seen.add(run_id)
      runs.append(entry)
  return runs


def _plan_from_configs(path: pathlib.Path, problems: list[Problem]) -> list[dict]:
  runs = []
  for file in sorted((path / 'runs').glob('*/config.json')):
    config = _read_json(file, path, [])
    if config is not None:
      name = file.parent.name
      cell = {k: config.get(k) for k in IDENTITY if k not in ('seed', 'cell_id')}
      cell['options'] = config.get('options')
      cell_id = json.dumps(cell, sort_keys=True, default=str)
      runs.append({'cell_id': cell_id, **config, 'run_id': name})
  return runs


def _read_json(file: pathlib.Path, root: pathlib.Path, problems: list[Problem]) -> dict | None:
  """A JSON object, or None: silently when there is no file, else with a problem."""
  if not file.is_file():
    return None
  try:
    value = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    return _note(problems, file, root, f'not readable as JSON: {error}')
  if not isinstance(value, dict):
    return _note(problems, file, root, f'a JSON object is expected, found {type(value).__name__}')
  return value


def _read_result(directory: pathlib.Path, root: pathlib.Path, problems: list[Problem]):
  """Returns (result, status); a result that cannot be right is `corrupt`."""
  file = directory / 'result.json'
  before = len(problems)
  result = _read_json(file, root, problems)
  if result is None:
    return {}, 'corrupt' if len(problems) > before else 'unfinished'
  if result.get('status') == 'failed':
    return result, 'failed'
  faults = []
  if result.get('run_id', directory.name) != directory.name:
    faults.append(f'it is the result of run {result["run_id"]!r}')
  for name in ('final_accuracy', 'best_accuracy'):
    if not 0 <= _number(result.get(name)) <= 100:
      faults.append(f'{name} is {result.get(name)!r}, not a percentage')
  if not isinstance(result.get('cost'), dict):
    faults.append('it has no cost')
  if faults:
    _note(problems, file, root, '; '.join(faults))
    return {}, 'corrupt'
  return result, 'done'


def _read_metrics(file: pathlib.Path, root: pathlib.Path, problems: list[Problem]) -> list[dict]:
  """Flat rows of a metrics file; a half-written last line is left out without a word."""
  if not file.is_file():
    return []
  try:
    text = file.read_text(encoding='utf-8')
  except (OSError, ValueError) as error:
    _note(problems, file, root, f'not readable: {error}')
    return []
  lines = text.split('\n')
  rows, bad = [], []
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      rows.append(_epoch_row(row))
    except (ValueError, TypeError, AttributeError, RecursionError):
      if number < len(lines):
        bad.append(number)
  if bad:
    shown = ', '.join(map(str, bad[:5])) + (', ...' if len(bad) > 5 else '')
    _note(problems, file, root, f'{len(bad)} unreadable line(s) left out: {shown}')
  return rows


def _epoch_row(row: dict) -> dict:
  flat: dict[str, Any] = {name: _number(row.get(name)) for name in EPOCH_NUMBERS}
  if math.isnan(flat['epoch']):
    raise ValueError('a line without an epoch')
  cost = row.get('cost')
  for name, value in (cost if isinstance(cost, dict) else {}).items():
    flat[f'cost_{name}'] = _number(value)
  seconds = row.get('seconds')
  if isinstance(seconds, dict):
    flat |= {f'seconds_{name}': _number(value) for name, value in seconds.items()}
  else:
    flat['seconds'] = _number(seconds)
  selector = row.get('selector')
  for name, value in (selector if isinstance(selector, dict) else {}).items():
    flat[f'selector_{name}'] = _number(value)
  return flat


def _list_foreign(path: pathlib.Path, planned: set[str], problems: list[Problem]) -> None:
  """Notes what lies in a workdir and belongs to no planned run."""
  for file in sorted(path.iterdir()):
    if file.name not in _WORKDIR_NAMES and not file.name.startswith('.'):
      _note(problems, file, path, 'not part of a workdir; left alone')
  runs = path / 'runs'
  for directory in sorted(runs.iterdir()) if runs.is_dir() else ():
    if directory.name.startswith('.'):
      continue
    if not directory.is_dir():
      _note(problems, directory, path, 'a file among the runs; left alone')
    elif directory.name not in planned:
      _note(problems, directory, path, 'a run that is not in the plan; not reported')
    else:
      for file in sorted(directory.iterdir()):
        if file.is_file() and file.suffix not in _RUN_SUFFIXES and file.name[0] != '.':
          _note(problems, file, path, 'not a file of a run; left alone')


def _number(value) -> float:
  """A finite float, else NaN; booleans and text are not numbers."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return math.nan
  try:
    return float(value) if math.isfinite(value) else math.nan
  except OverflowError:
    return math.nan


def _note(problems: list[Problem], file: pathlib.Path, root: pathlib.Path, what: str) -> None:
  problem = Problem(str(file.relative_to(root)), what)
  if problem not in problems:
    problems.append(problem)
