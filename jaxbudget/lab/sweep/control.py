"""A launch whose runs others train: submit what is left, retry what failed, cancel."""

import contextlib
import math
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from jaxbudget.lab import plain
from jaxbudget.lab.run import files, lock, run_state
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import calibrate, jobs, slurm, status


def submit(
  config: ConfigDict,
  runs: list[Run],
  workdir: pathlib.Path,
  console: Console,
  resume: str = 'auto',
) -> None:
  """Submits to SLURM what is neither finished nor submitted already, see `ask`.

  Args:
    config: of the launch.
    runs: those wanted.
    workdir: with plan.json.
    console: to say what was done.
    resume: `auto` or `force`.

  Raises:
    ValueError: a file of an earlier job is damaged.
    slurm.Unwilling: SLURM does not accept it.
  """
  directory = workdir / jobs.DIRECTORY
  directory.mkdir(exist_ok=True)
  with lock.wait_for(directory):  # two launches must not both find nothing submitted
    pending, left = slurm.waiting(workdir), unfinished(runs, workdir)
    new = [run for run in left if run.run_id not in pending]
    if len(new) < len(left):
      plain.say(console, f'{len(left) - len(new)} runs are submitted already')
    if not new:
      plain.say(console, 'nothing to submit')
      return
    name = f'jaxbudget-{config.name or workdir.name}'
    arrays = slurm.submit(config, new, workdir, name, resume)
  plain.say(console, f'submitted: {len(new)} runs as SLURM arrays {", ".join(arrays)}')
  plain.say(
    console,
    f'--workdir={workdir} with --stage=status, report, cancel: how far it is, what came out, stop',
  )


def ask(
  runs: list[Run], workdir: pathlib.Path, yes: bool, console: Console, again: bool = False
) -> None:
  """Makes sure that what `submit` would submit is wanted; nothing is written.

  Args:
    runs: those wanted.
    workdir: of the launch; may be missing.
    yes: it is wanted, whatever it costs.
    console: to ask.
    again: they are to be trained although they have failed.

  Raises:
    ValueError: it is not wanted, or a file of an earlier job is damaged.
    slurm.Unwilling: SLURM does not answer.
  """
  pending = slurm.waiting(workdir)
  left = runs if again else unfinished(runs, workdir)
  new = [run for run in left if run.run_id not in pending]
  if new:
    confirm(new, files.read_json(workdir / calibrate.FILE), yes, console)


def unfinished(runs: list[Run], workdir: pathlib.Path) -> list[Run]:
  """Those of a plan that have no result, or a damaged one."""
  return [run for run in runs if not run_state.look(workdir / 'runs' / run.run_id).result]


def confirm(
  runs: list[Run], calibration: dict[str, Any] | None, yes: bool, console: Console
) -> None:
  """Says what a submission will cost; above `slurm.confirm_hours` it must be wanted.

  Args:
    runs: to be submitted; at least one.
    calibration: of `calibrate.calibrate`, on a device like those of the cluster; or None.
    yes: it is wanted, do not ask.
    console: to ask.

  Raises:
    ValueError: it is not wanted, or nobody is there to say so.
  """
  hours, parallel = _hours(runs, calibration), _parallel(runs)
  if math.isnan(hours):
    cost = 'for an unknown time (`--stage=plan --calibrate` on a node would tell)'
  else:
    cost = (
      f'for about {hours:.1f} device-hours as {calibration["device"]} needs them, compilation '
      f'apart: done {hours / parallel:.1f} hours after the start at {parallel} tasks at a time'
    )
  said = f'{len(runs)} runs to submit, {cost}'
  plain.say(console, said)
  if yes or hours <= min(run.cell.slurm.confirm_hours for run in runs):
    return
  if not sys.stdin.isatty():
    raise ValueError(f'{said}; give --yes if you want that')
  if console.input(plain.rich_text('Submit? [y/N] ')).strip().lower() not in ('y', 'yes'):
    raise ValueError('not submitted')


def _hours(runs: list[Run], calibration: dict[str, Any] | None) -> float:
  """Device-hours; NaN if not known."""
  if not calibration:
    return math.nan
  try:
    seconds = calibrate.estimate(runs, calibration)
  except ValueError:  # of other networks
    return math.nan
  return sum(seconds.values()) / 3600


def _parallel(runs: Iterable[Run]) -> int:
  """How many tasks may be at work at the same time."""
  sizes: dict[Any, int] = {}
  for run in runs:
    sizes[run.cell.slurm] = sizes.get(run.cell.slurm, 0) + 1
  return sum(min(r.parallel, -(-size // r.runs_per_task)) for r, size in sizes.items())


_LEFT = (run_state.FAILED, run_state.CORRUPT, run_state.STOPPED)


def failed(runs: list[Run], workdir: pathlib.Path) -> list[Run]:
  """Those of a plan that failed, lost or damaged a file, or were begun and left.

  Args:
    runs: of the plan.
    workdir: of the launch.

  Returns:
    The runs to try again.
  """
  states = {s.run_id: s.state for s in status.look(workdir, superseded=True)}

  def wants(run):
    state = states.get(run.run_id)
    # What train says of a finished run, which looks at more than one look does.
    hurt = state == run_state.DONE and run_state.damaged(workdir / 'runs' / run.run_id)
    return hurt or state in _LEFT

  return [run for run in runs if wants(run)]


def forget_failures(runs: list[Run], workdir: pathlib.Path) -> None:
  """Removes what says that runs failed, so that they are trained again.

  Args:
    runs: that failed; checkpoints stay.
    workdir: of the launch.
  """
  for run in runs:
    directory = workdir / 'runs' / run.run_id
    with contextlib.suppress(lock.Busy), lock.own(directory):
      for name in (files.RESULT, files.SUMS, files.ERROR):
        (directory / name).unlink(missing_ok=True)


def cancel(workdir: pathlib.Path, console: Console, only: str = '') -> None:
  """Cancels what SLURM has of a workdir, and stops what is trained in it on this host.

  Args:
    workdir: of any launch.
    console: to say what was done.
    only: cancels a part of it: tasks of which all runs belong to it, and whoever is at one of them.

  Raises:
    ValueError: there is no plan, or no such part.
    slurm.Unwilling: SLURM does not answer.
  """
  there = [seen.run_id for seen in status.look(workdir, only, superseded=True)]
  tasks = slurm.cancel(workdir, set(there) if only else None)
  if tasks:
    plain.say(console, f'cancelled: {len(tasks)} tasks of SLURM, which save their state first')
  owners = {}
  for run_id in there:
    owner = lock.alive(workdir / 'runs' / run_id)
    if owner and isinstance(owner.get('pid'), int) and owner['pid'] > 1:  # less are not one process
      owners[str(owner.get('host')), owner['pid']] = run_id
  for (host, pid), run_id in owners.items():
    if host == socket.gethostname():
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
      plain.say(console, f'stopped: process {pid}, at run {run_id}')
    elif not tasks:
      plain.say(console, f'on host {host}, stop there: process {pid}, at run {run_id}')
  if not tasks and not owners:
    plain.say(console, 'nothing is queued or running')
