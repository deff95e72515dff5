"""SLURM job arrays, through submitit: the plan's runs as tasks, queued, requeued, cancelled.

A task does what any worker does (`jobs.work`). When SLURM warns that its time is up, or stops
it, the run in hand is saved first; what has run out of time is requeued by submitit and goes
on. SLURM is asked by `squeue`, which, unlike `sacct`, needs no accounting.
"""

import collections
import contextlib
import io
import os
import pathlib
import shlex
import shutil
import subprocess
import types
from collections.abc import Iterable, Set
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxbudget.lab.run import files, process
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import jobs, slurm_task
from jaxbudget.registry import by_number

_TASKS = 'tasks.json'  # SLURM's names of the tasks, beside job.json
_LOGS = 'logs'
_WARNING = 90  # seconds before the time limit at which a task is told
_LOG_LEVEL = 'SUBMITIT_LOG_LEVEL'
_REQUEUES = 1000  # a long run may need many time limits


class Unwilling(Exception):  # noqa: N818
  """SLURM does not do what it was asked; the message is its own."""


class Task(NamedTuple):
  """A task that SLURM knows.

  Attributes:
    name: SLURM's, e.g. 1234_5.
    state: as squeue says it, e.g. PENDING.
  """

  name: str
  state: str


def check(runs: Iterable[Run]) -> None:
  """Refuses what cannot be submitted.

  Raises:
    ValueError: every fault, one a line.
  """
  faults = []
  try:
    _import_submitit()
  except ImportError:
    faults.append('--executor=slurm needs submitit: pip install jaxbudget[slurm]')
  if shutil.which('sbatch') is None:
    faults.append('--executor=slurm needs sbatch, which is not found on this host')
  least = {'gpus': 0, 'cpus': 1, 'memory_gb': 0, 'minutes': 1, 'runs_per_task': 1, 'parallel': 1}
  for resources in dict.fromkeys(run.cell.slurm for run in runs):
    for key, allowed in least.items():
      if resources[key] < allowed:
        faults.append(f'slurm.{key}={resources[key]!r} is refused: at least {allowed}')
    try:
      _options(resources['sbatch'])
    except ValueError as e:
      faults.append(str(e))
  if faults:
    raise ValueError('\n'.join(dict.fromkeys(faults)))


def _import_submitit() -> types.ModuleType:
  """Imports submitit, but not its settings of logging, which would close handlers in use."""
  before = os.environ.get(_LOG_LEVEL)
  os.environ[_LOG_LEVEL] = 'NOCONFIG'
  try:
    import submitit
  finally:  # tasks inherit the environment, and what they log is of use
    if before is None:
      del os.environ[_LOG_LEVEL]
    else:
      os.environ[_LOG_LEVEL] = before
  return submitit


def submit(
  config: ConfigDict, runs: list[Run], workdir: pathlib.Path, name: str, resume: str
) -> list[str]:
  """Submits runs as job arrays, one for each kind of resources; scoring runs first.

  Args:
    config: of the launch.
    runs: of the plan that are neither finished nor waiting, see `waiting`.
    workdir: of the launch, visible from the nodes.
    name: of the jobs.
    resume: `auto` or `force`.

  Returns:
    SLURM's names of the arrays.

  Raises:
    Unwilling: it does not accept them.
  """
  needed = {first.run_id for run in runs for first in run.needs}
  arrays: dict[Any, list[Run]] = collections.defaultdict(list)
  for run in runs:
    arrays[run.run_id not in needed, run.cell.slurm].append(run)
  submitted: list[str] = []
  earlier = [task for run_id, task in waiting(workdir).items() if run_id in needed]
  scoring = {task.name.partition('_')[0] for task in earlier}
  for (last, resources), part in sorted(arrays.items(), key=lambda item: item[0][0]):
    size = resources.runs_per_task
    tasks = [[r.run_id for r in part[i : i + size]] for i in range(0, len(part), size)]
    directory = jobs.write(workdir, config, tasks, 'slurm', resume).absolute()
    awaited = scoring if last and any(run.needs for run in part) else ()
    names = _submit_array(directory, len(tasks), resources, name, awaited)
    files.write_json(directory / _TASKS, files.sealed({'tasks': names}))
    submitted.append(names[0].partition('_')[0])
    if not last:
      scoring.add(submitted[-1])
  return submitted


def _submit_array(directory, count: int, resources, name: str, after: Iterable[str]) -> list[str]:
  """Submits one array; gives SLURM's names of its tasks."""
  import cloudpickle

  submitit = _import_submitit()
  cloudpickle.register_pickle_by_value(slurm_task)
  executor = submitit.SlurmExecutor(directory / _LOGS, max_num_timeout=_REQUEUES)
  executor.update_parameters(
    job_name=name,
    partition=resources.partition or None,
    account=resources.account or None,
    gpus_per_node=resources.gpus or None,
    cpus_per_task=resources.cpus,
    mem=f'{round(1024 * resources.memory_gb)}MB' if resources.memory_gb else None,
    time=resources.minutes,
    array_parallelism=resources.parallel,
    setup=[*_exports(process.same_package()), *resources.setup],
    signal_delay_s=min(_WARNING, 15 * resources.minutes),
    stderr_to_stdout=True,
    # Whatever became of the scoring runs: a task trains what it needs and is not there.
    dependency='afterany:' + ':'.join(sorted(after)) if after else None,
    additional_parameters={'requeue': True, **_options(resources.sbatch)},
  )
  try:
    with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # the error has it all
      submitted = [executor.submit(slurm_task.Work(str(directory), task)) for task in range(count)]
  except submitit.core.utils.FailedJobError as e:
    shutil.rmtree(directory)
    raise Unwilling(f'SLURM does not accept the job: {str(e).strip()}') from None
  return [job.job_id for job in submitted]


def _exports(variables: dict[str, str]) -> list[str]:
  """Shell commands that set environment variables."""
  return [f'export {name}={shlex.quote(value)}' for name, value in variables.items()]


def _options(text: str) -> dict[str, Any]:
  """`--key=value --flag` as a dict; a value in quotes may hold blanks.

  Raises:
    ValueError: a word of another form.
  """
  try:
    words = shlex.split(text)
  except ValueError as e:
    raise ValueError(f'slurm.sbatch={text!r} is refused: {e}') from None
  for word in words:
    if not word.startswith('--') or not word.strip('-='):
      raise ValueError(
        f'slurm.sbatch={text!r} is refused at {word!r}: --key=value or --flag are allowed'
      )
  pairs = (word.removeprefix('--').partition('=') for word in words)
  return {key: value if equals else True for key, equals, value in pairs}


def waiting(workdir: pathlib.Path) -> dict[str, Task]:
  """What SLURM still has of a workdir.

  Args:
    workdir: of any launch.

  Returns:
    By run id, the task that is to train it. Where SLURM cannot be asked, all tasks that were
    ever submitted, with state UNKNOWN.

  Raises:
    ValueError: a file of a job is damaged.
    Unwilling: SLURM is there, and does not answer.
  """
  names = {directory: _names(directory) for directory in jobs.directories(workdir)}
  names = {directory: given for directory, given in names.items() if given}
  if not names:
    return {}
  states = _queue()
  found = {}
  for directory, given in names.items():
    for name, run_ids in zip(given, jobs.read(directory)['tasks'], strict=True):
      state = 'UNKNOWN' if states is None else states.get(name)
      if state:
        found |= dict.fromkeys(run_ids, Task(name, state))
  return found


def _names(directory: pathlib.Path) -> list[str]:
  """SLURM's names of a job's tasks; none if it was not submitted."""
  path = directory / _TASKS
  if not path.exists():
    return []
  content = files.read_json(path)
  whole = isinstance(content, dict) and files.seal_holds(content)
  if not whole or not isinstance(content.get('tasks'), list):
    raise ValueError(f'{path} is damaged; remove {directory} once squeue shows none of its tasks')
  return content['tasks']


def _queue() -> dict[str, str] | None:
  """States of all our tasks that SLURM has not done with, by name."""
  if shutil.which('squeue') is None:
    return None
  command = ['squeue', '--me', '--array', '--noheader', '--format=%i %T']
  asked = subprocess.run(command, capture_output=True, text=True, timeout=120)
  if asked.returncode:
    raise Unwilling(f'SLURM does not answer: {asked.stderr.strip()}')
  pairs = (line.split() for line in asked.stdout.splitlines())
  # What is COMPLETING may be about to be requeued.
  return {name: state for name, state in pairs if state != 'COMPLETED'}


def cancel(workdir: pathlib.Path, chosen: Set[str] | None = None) -> list[str]:
  """Cancels the tasks of a workdir; those that run save their state first.

  Args:
    workdir: of any launch.
    chosen: run ids; None is all. A task that has others too is left.

  Returns:
    SLURM's names of the tasks.

  Raises:
    Unwilling: SLURM does not answer.
  """
  tasks = waiting(workdir)
  others = () if chosen is None else tasks.keys() - chosen
  kept = {tasks[run_id].name for run_id in others}
  names = sorted({task.name for task in tasks.values()} - kept, key=by_number)
  if names and shutil.which('scancel') is not None:
    asked = subprocess.run(['scancel', *names], capture_output=True, text=True, timeout=120)
    if asked.returncode:
      raise Unwilling(f'SLURM does not cancel: {asked.stderr.strip()}')
  return names
