"""Reads a workdir: what was planned, what has run, and what is wrong with the files.

Nothing in a workdir can stop a report. A file that is damaged, unfinished or unknown becomes
a `Problem`, is listed in the report, and everything else is used.
"""

import dataclasses
import json
import math
import pathlib
import shlex
from collections.abc import Collection

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, labels, reading, run_rows
from jaxbudget.lab.report.reading import Problem
from jaxbudget.lab.run import files, run_state
from jaxbudget.lab.sweep import plan_file
from jaxbudget.registry import by_number


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Everything a report needs from a workdir.

  Attributes:
    path: the directory.
    runs: one row per planned run: the columns of `run_rows.IDENTITY`, `options`, `parts` and
      `paper` of the plan, `status` (one of `run_state.STATES`), accuracies in percent, the costs
      of `run_rows.COST` in samples, `planned_*`, `seconds_*`, versions, and `cost`: forward
      equivalents, with those that it is charged for runs it needs (`scoring_...`), in units of a
      full run of T epochs over N samples (`full_cost` = 3TN). `method` is a label that tells cells
      apart, `rule` and `variant` its parts, see `labels.method_labels`. `has_metrics`: whether
      there are epochs to load (`load_epochs`).
    cells: `runs` aggregated over seeds, see `cells.cells`.
    configs: run_id -> the run's resolved config.
    unsaid: what the methods' labels do not name, because most cells share it.
    conditions: run_id -> what it was computed under, as text, see `reading.conditions_of`.
    pooling: sentences on seeds that were not pooled, see `cells.separate`.
    left_out: a sentence on runs of an earlier source, which are in no row; empty if there are none.
    command: what made the workdir, if the plan says so.
    problems: what could not be read.
  """

  path: pathlib.Path
  runs: pd.DataFrame
  cells: pd.DataFrame
  configs: dict[str, dict]
  unsaid: dict[str, str]
  conditions: dict[str, dict[str, str]]
  pooling: list[str]
  left_out: str
  command: str
  problems: list[Problem]


def load_workdir(path, allow: Collection[str] = (), only: str = '') -> Workdir:
  """Reads a workdir, finished or still training.

  Args:
    path: directory with `plan.json` and `runs/<run_id>/`.
    allow: conditions in which the seeds of a cell may differ.
    only: reads a part of the plan, see `plan_file.narrow`.

  Returns:
    A `Workdir`; damaged or foreign files are in its `problems`.

  Raises:
    ValueError: there is no such directory, or no such part.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise ValueError(f'workdir {str(path)!r} is not a directory')
  problems: list[Problem] = []
  planned, command = _read_plan(path, problems)
  reading.list_foreign(path, {run['run_id'] for run in planned}, problems)
  left_out = reading.written_out(plan_file.left_out(planned))
  planned = plan_file.current(planned)
  planned = reading.written_out(plan_file.narrow(planned, only) if only else planned)
  needed = {run_id for run in planned for run_id in plan_file.needs(run)}
  rows, configs, conditions = [], {}, {}
  for run in planned:
    directory = path / 'runs' / run['run_id']
    found = reading.read_result(directory, path, problems)
    result, status, why = reading.written_out([*found])
    config, last = _read_run(directory, path, status == run_state.DONE, problems)
    configs[run['run_id']] = reading.written_out(config)
    conditions[run['run_id']] = reading.conditions_of(result)
    row = run_rows.run_row(run, config, result, last or {}) | {'status': status, 'error': why}
    is_scoring = run['run_id'] in needed
    rows.append(row | {'is_scoring': is_scoring, 'has_metrics': last is not None})
  runs = pd.DataFrame(rows, columns=run_rows.columns())
  runs['full_cost'] = _full_cost(runs)
  for name in ('', 'planned_'):
    spent = runs[f'{name}forward_equivalents'] + runs['scoring_forward_equivalents']
    runs[f'{name}cost'] = spent / runs['full_cost']
  runs, apart, pooling = cells.separate(runs, conditions, allow)
  runs[list(labels.COLUMNS)], unsaid = labels.method_labels(runs, configs, apart)
  shown = runs, cells.cells(runs)
  notes = pooling, left_out
  return Workdir(path, *shown, configs, unsaid, conditions, *notes, command, problems)


def _read_run(directory, root, is_done, problems) -> tuple[dict, dict | None]:
  """A run's config, and its last epoch (None: there is none); nothing of what is damaged.

  Of a finished run whose checksums hold, the epochs are read when something shows them.
  """
  config, lines = directory / 'config.json', directory / 'metrics.jsonl'

  def whole(file):
    return reading.intact(file, root, problems)

  known = (reading.read_json(config, root, problems) if whole(config) else None) or {}
  if not whole(lines) or not lines.is_file():
    return known, None
  if is_done and (directory / files.SUMS).is_file():
    return known, {} if lines.stat().st_size else None
  rows = reading.read_metrics(lines, root, problems)
  return known, rows[-1] if rows else None


def load_epochs(workdir: Workdir, run_id: str) -> list[dict[str, float]]:
  """What a run wrote, epoch by epoch.

  Args:
    workdir: a loaded workdir.
    run_id: one of its runs.

  Returns:
    For each epoch `reading.EPOCH_NUMBERS`, `cost_*`, `seconds*` and `selector_*`, a selector's own
    figures, as far as they were written. None (and a new entry in `workdir.problems`) where the
    file is damaged.
  """
  file = workdir.path / 'runs' / run_id / files.METRICS
  whole = reading.intact(file, workdir.path, workdir.problems)
  return reading.read_metrics(file, workdir.path, workdir.problems) if whole else []


def epoch_columns(workdir: Workdir, run_id: str) -> list[str]:
  """The figures that `load_epochs` would give, by a run's first epoch."""
  return reading.first_columns(workdir.path / 'runs' / run_id / files.METRICS)


def load_counts(workdir: Workdir, run_id: str) -> np.ndarray | None:
  """Times each training sample was trained on in a run.

  Args:
    workdir: a loaded workdir.
    run_id: one of its runs.

  Returns:
    i32[N], or None (and a new entry in `workdir.problems`) when the file is no such array.
  """
  file = workdir.path / 'runs' / run_id / 'counts.npy'
  if not file.is_file() or not reading.intact(file, workdir.path, workdir.problems):
    return None
  try:
    counts = np.load(file, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    return reading.note(workdir.problems, file, workdir.path, f'not a readable array: {error}')
  if counts.ndim != 1 or counts.dtype.kind not in 'iu' or (counts < 0).any():
    what = f'counts must be non-negative integers [N], found {counts.dtype} {counts.shape}'
    return reading.note(workdir.problems, file, workdir.path, what)
  return counts


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


def _read_plan(path: pathlib.Path, problems: list[Problem]) -> tuple[list[dict], str]:
  """The plan's runs and command; without a usable plan, the runs that left a config."""
  file = path / 'plan.json'
  plan = reading.read_json(file, path, problems)
  if plan and not files.seal_holds(plan):
    plan = reading.note(problems, file, path, 'damaged: its checksum does not hold')
  entries = plan.get('runs') if plan else None
  if not isinstance(entries, list):
    if plan is not None:
      reading.note(problems, file, path, "no list under 'runs'")
    elif not file.exists():
      reading.note(problems, file, path, 'missing: the runs found are reported as they are')
    return _plan_from_configs(path), ''
  runs, seen = [], set()
  for position, entry in enumerate(entries):
    run_id = entry.get('run_id') if isinstance(entry, dict) else None
    if not isinstance(run_id, str) or run_id in ('', '.', '..') or set(run_id) & set('/\0'):
      reading.note(problems, file, path, f'entry {position} has no usable run_id ({run_id!r})')
    elif run_id in seen:
      reading.note(problems, file, path, f'run_id {run_id!r} is planned twice; the first is used')
    else:
      seen.add(run_id)
      runs.append(entry)
  command = plan.get('command')
  if isinstance(command, list):
    command = shlex.join(map(str, command))
  return runs, command if isinstance(command, str) else ''


def _plan_from_configs(path: pathlib.Path) -> list[dict]:
  """An entry for each run that left a config, as far as that tells what a plan would."""
  runs = []
  found = (path / 'runs').glob('*/config.json')
  for file in sorted(found, key=lambda file: by_number(file.parent.name)):  # seeds in order
    config = reading.read_json(file, path, [])
    if config is not None:
      runs.append(_entry_from_config(config, file.parent.name))
  return runs


def _entry_from_config(config: dict, run_id: str) -> dict:
  """What the plan would say of a run: the sizes of its data and what it needs stand deeper."""
  data, identity = (
    found if isinstance(found := config.get(key), dict) else {} for key in ('data', 'identity')
  )
  sizes = {key: data[key] for key in ('num_train', 'num_test') if key in data}
  cell_id = run_id.removesuffix(f'-s{config.get("seed")}')
  if cell_id == run_id:  # not named by us
    cell = {k: config.get(k) for k in run_rows.IDENTITY if k not in ('seed', 'cell_id')}
    cell |= {'options': run_rows.config_options(config), **sizes}
    cell_id = json.dumps(cell, sort_keys=True, default=str)
  needs = {'needs': identity['needs']} if 'needs' in identity else {}
  return {'cell_id': cell_id, **config, **sizes, **needs, 'run_id': run_id}
