"""How far a workdir is, read from its files: planned, queued, running, done, failed."""

import collections
import contextlib
import json
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live

from jaxbudget.lab import plain
from jaxbudget.lab.columns import Columns
from jaxbudget.lab.run import files, run_state
from jaxbudget.lab.sweep import plan_file, slurm
from jaxbudget.lab.sweep.duration import duration

QUEUED = 'queued'  # by SLURM, which a run's own files do not say
STATES = ('planned', QUEUED, 'running', 'stopped', 'done', 'failed', 'corrupt')
_EVERY = 2.0  # seconds between looks
_PACE_OF = 4  # epochs


class Standing(NamedTuple):
  """How far a run is.

  Attributes:
    run_id: of the run.
    cell_id: its cell.
    state: one of `STATES`, see `run_state.State`.
    where: host and process, or the task of SLURM.
    epoch: the last one finished.
    epochs: all of them.
    left: seconds, by the pace of the last epochs; NaN if not known.
    error: what it failed of, or what is wrong with its result.
    work: forward equivalents that it is planned to cost.
    seconds: that it took so far, compilation and loading included if it is done.
  """

  run_id: str
  cell_id: str
  state: str
  where: str
  epoch: int
  epochs: int
  left: float
  error: str
  work: int = 0
  seconds: float = 0.0


def look(workdir: pathlib.Path, only: str = '', superseded: bool = False) -> list[Standing]:
  """Looks at every run of a workdir.

  Args:
    workdir: with a plan.json.
    only: looks at a part of it, see `plan_file.narrow`.
    superseded: looks at runs of an earlier source too, which may still go on.

  Returns:
    In the order of the plan.

  Raises:
    ValueError: there is no plan, or no such part.
  """
  entries = plan_file.entries(workdir)
  if not entries:
    path = workdir / plan_file.FILE
    if path.exists():
      raise ValueError(f'{path} is damaged: launch again, or --stage=plan, which writes it anew')
    raise ValueError(f'workdir {str(workdir)!r} holds no plan: launch or --stage=plan first')
  entries = entries if superseded else plan_file.current(entries)
  entries = plan_file.narrow(entries, only) if only else entries
  tasks = slurm.waiting(workdir)
  return [_look(workdir / 'runs' / e['run_id'], e, tasks.get(e['run_id'])) for e in entries]


def _look(directory: pathlib.Path, entry: dict[str, Any], task) -> Standing:
  epochs = entry.get('epochs_run', 0)
  lines = _metrics(directory) if directory.is_dir() else []
  epoch, where, left = (lines[-1]['epoch'] if lines else 0), '', float('nan')
  found = run_state.look(directory)
  name = found.name
  seconds = _spent(found.result.get('seconds')) or (_pace(lines) * epoch if epoch else 0.0)
  if found.owner:
    where = f'{found.owner.get("host")}, process {found.owner.get("pid")}'
    left = _pace(lines) * (epochs - epoch)
  elif task and not found.result:
    name, where = QUEUED, f'task {task.name} ({task.state.lower()})'
  ids = entry['run_id'], entry['cell_id']
  work = entry.get('planned', {}).get('forward_equivalents')
  work = work if isinstance(work, int) else 0
  return Standing(*ids, name, where, epoch, epochs, left, found.why, work, seconds)


def _spent(seconds: Any) -> float:
  """Of a table of seconds, as result.json and metrics.jsonl have one, the sum.

  Waiting for data is left out: it is part of training and of evaluation.
  """
  given = seconds.items() if isinstance(seconds, dict) else ()
  return sum(s for name, s in given if name != 'data_wait' and isinstance(s, int | float))


def _metrics(directory: pathlib.Path) -> list[dict[str, Any]]:
  """The last lines of metrics.jsonl; what is half-written or damaged is left out."""
  try:
    lines = (directory / files.METRICS).read_text('utf-8', 'replace').splitlines()
  except OSError:
    return []
  found = []
  for line in lines[-_PACE_OF - 1 :]:
    with contextlib.suppress(ValueError, RecursionError):
      found.append(json.loads(line))
  whole = (one for one in found if isinstance(one, dict) and isinstance(one.get('epoch'), int))
  return list(whole)[-_PACE_OF:]


def _pace(lines: list[dict[str, Any]]) -> float:
  """Seconds an epoch, evaluation included."""
  seconds = [_spent(line.get('seconds')) for line in lines]
  return sum(seconds) / len(seconds) if seconds else float('nan')


def table(standings: list[Standing], brief: bool = False) -> Columns:
  """A row per cell, the total, and what is running.

  Args:
    standings: of a workdir.
    brief: show only the cells of which a run is in progress, was stopped or failed.

  Returns:
    Something `rich.print` shows.
  """
  cells: dict[str, list[Standing]] = {}
  for standing in standings:
    cells.setdefault(standing.cell_id, []).append(standing)
  totals = collections.Counter(seen.state for seen in standings)
  states = [s for s in STATES if totals[s] or s in ('planned', 'done')]
  rows, labels = [], _labels(cells)
  for cell_id, part in cells.items():
    counts = collections.Counter(s.state for s in part)
    if brief and set(counts) <= {'planned', 'queued', 'done'}:
      continue
    now = '\n'.join(_now(s) for s in part if s.state in _SHOWN)
    rows.append((labels[cell_id], now, *(_count(counts[state]) for state in states)))
  names, footer = ('cell', 'now', *states), ('total', '', *(_count(totals[s]) for s in states))
  if not any(row[1] for row in rows):
    names, footer, *rows = (row[:1] + row[2:] for row in (names, footer, *rows))
  labels = names.index('planned')
  return Columns(names, rows, labels, footer=footer, title=_headline(standings))


def _labels(cells: Iterable[str]) -> dict[str, str]:
  """Ids in words, which wrap; the hash only where nothing else tells two cells apart."""
  words = {cell_id: cell_id.rpartition('-') for cell_id in cells}
  count = collections.Counter(head for head, _, _ in words.values())
  labels = {}
  for cell_id, (head, _, digest) in words.items():
    told_by = [] if head and count[head] == 1 else [digest[:8]]
    labels[cell_id] = ' '.join([*head.split('-'), *told_by]) if head else cell_id
  return labels


_SHOWN = ('running', 'failed', 'corrupt')


def _headline(standings: list[Standing]) -> str:
  done = sum(s.state == 'done' for s in standings)
  running = [s for s in standings if s.state == 'running']
  text = f'{done} of {len(standings)} runs are done'
  if not running:
    return text
  left = time_left(standings)
  return f'{text}, {len(running)} in progress' + (
    f', {duration(left)} left' if left == left else ''
  )


def time_left(standings: Iterable[Standing]) -> float:
  """How long a workdir will go on with as many runs at a time as now.

  Args:
    standings: of its runs.

  Returns:
    Seconds, by what the runs so far took for the work that was planned; NaN if nothing is known.
  """
  parts = [(s, 1.0 if s.state == 'done' else s.epoch / max(1, s.epochs)) for s in standings]
  known = [(s, part) for s, part in parts if s.seconds > 0 and part > 0]
  seconds, work = sum(s.seconds for s, _ in known), sum(part * s.work for s, part in known)
  going = ('planned', QUEUED, 'running', 'stopped')
  rest = sum((1 - part) * s.work for s, part in parts if s.state in going)
  at_a_time = sum(s.state == 'running' for s in standings)
  return seconds / work * rest / at_a_time if work and at_a_time else float('nan')


def _count(count: int) -> str:
  return str(count) if count else '·'


def _now(standing: Standing) -> str:
  seed = standing.run_id.rpartition('-s')[2]
  if standing.state != 'running':
    return f'seed {seed}: {standing.error}'
  left = '' if standing.left != standing.left else f', {duration(standing.left)} left'
  return f'seed {seed}: epoch {standing.epoch + 1} of {standing.epochs}{left}'


def show(workdir: pathlib.Path, console: Console, only: str = '') -> None:
  """Prints how far a workdir is; in a terminal, follows it first while something goes on.

  Args:
    workdir: with a plan.json.
    console: to print to.
    only: shows a part of it.

  Raises:
    ValueError: there is no plan, or no such part.
  """
  standings = look(workdir, only)
  if console.is_terminal and _going_on(standings):
    with follow(workdir, console), contextlib.suppress(KeyboardInterrupt):
      while _going_on(standings):
        time.sleep(_EVERY)
        standings = look(workdir, only)
  console.print(table(standings))
  left_out = plan_file.left_out(plan_file.entries(workdir))
  if left_out:
    plain.say(console, left_out)


def _going_on(standings: list[Standing]) -> bool:
  return any(s.state in ('running', 'queued') for s in standings)


@contextlib.contextmanager
def follow(workdir: pathlib.Path, console: Console) -> Iterator[None]:
  """Keeps a brief table at the foot of a terminal for the time of a `with` block."""
  if not console.is_terminal:
    yield
    return
  over = threading.Event()
  with Live(console=console, auto_refresh=False, transient=True) as live:

    def refresh():
      while not over.wait(_EVERY):
        with contextlib.suppress(ValueError, OSError):  # e.g. a plan that is just being written
          live.update(table(look(workdir), brief=True), refresh=True)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
      yield
    finally:
      over.set()
      thread.join()
