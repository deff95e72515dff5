"""Work for other processes: runs shared out as tasks, each for one worker.

A job is a directory `WORKDIR/jobs/NUMBER` with a file `job.json`: the config as it was when
the job was made, the folder it was launched in, and for each task its runs. A worker, started
on this host (`workers.py`) or by SLURM (`slurm.py`), reads it, plans again and trains its runs
as a launch in one process does: `local.run_all` with the same locks, checkpoints and files. So
it does not matter how often, or where, a task is started.
"""

import contextlib
import functools
import os
import pathlib
import signal
import sys
import threading
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from jaxbudget import factories
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import plain
from jaxbudget.lab.run import files, process
from jaxbudget.lab.run.run import Run, with_needed
from jaxbudget.lab.sweep import inputs, local

DIRECTORY, FILE = 'jobs', 'job.json'


def write(
  workdir: pathlib.Path,
  config: ConfigDict,
  tasks: list[list[str]],
  executor: str,
  resume: str,
  help_others: bool = False,
) -> pathlib.Path:
  """Makes a job.

  Args:
    workdir: exists.
    config: of the launch.
    tasks: run ids, for each task its own.
    executor: who is to run it, for people to read.
    resume: `auto` or `force`.
    help_others: whether a worker that is done with its runs goes on with the others'.

  Returns:
    Its directory.
  """
  (workdir / DIRECTORY).mkdir(exist_ok=True)
  number = 1 + max((int(path.name) for path in directories(workdir)), default=0)
  while True:
    directory = workdir / DIRECTORY / f'{number:04d}'
    try:
      directory.mkdir()
      break
    except FileExistsError:  # another launch was faster
      number += 1
  content = {
    'executor': executor,
    'resume': resume,
    'help_others': help_others,
    'tasks': tasks,
    'folder': os.getcwd(),  # searched last for parts from outside
    'config': config.to_dict(),
  }
  files.write_json(directory / FILE, files.sealed(content))
  return directory


def directories(workdir: pathlib.Path) -> list[pathlib.Path]:
  """The jobs of a workdir, oldest first."""
  found = (workdir / DIRECTORY).glob('*') if (workdir / DIRECTORY).is_dir() else ()
  jobs = (path for path in found if path.name.isdecimal() and (path / FILE).is_file())
  return sorted(jobs, key=lambda path: int(path.name))


def read(directory: pathlib.Path) -> dict[str, Any]:
  """The content of a job's file.

  Raises:
    ValueError: it is damaged.
  """
  content = files.read_json(directory / FILE)
  whole = isinstance(content, dict) and files.seal_holds(content)
  if not whole or not isinstance(content.get('tasks'), list):
    raise ValueError(f'{directory / FILE} is damaged')
  return content


def work(
  directory: pathlib.Path, task: int, console: Console | None = None, brief: bool = False
) -> int:
  """Trains the runs of a task: all that a worker does.

  Args:
    directory: of the job, WORKDIR/jobs/NUMBER.
    task: which one.
    console: for progress.
    brief: somebody else shows how far it is.

  Returns:
    The exit code, as `launcher.launch` gives it.
  """
  inputs.use_compilation_cache()
  try:
    job = read(directory)
    factories.search_last(job.get('folder') or os.curdir)
    config = config_lib.from_record(job['config'])
    datasets, runs = inputs.begin(config)
    mine = _order(runs, job['tasks'], task, job['help_others'])
    inputs.load_data(datasets, mine)
  except ValueError as e:
    print(plain.text(f'refused: {e}'), file=sys.stderr)
    return 2
  workdir = directory.parents[1]
  console = console or plain.make_console()
  shared = functools.partial(_time_left, workdir, mine) if job['help_others'] else None
  return local.run_all(mine, datasets, workdir / 'runs', console, job['resume'], brief, shared)


def _time_left(workdir: pathlib.Path, runs: list[Run]) -> float:
  """Seconds until all of some runs are done, whoever trains them; NaN if nothing is known."""
  from jaxbudget.lab.sweep import status  # which looks at the tasks of SLURM, and these are jobs

  ids = {run.run_id for run in runs}
  with contextlib.suppress(ValueError, OSError):  # e.g. a plan that is just being written
    return status.time_left([seen for seen in status.look(workdir) if seen.run_id in ids])
  return float('nan')


def _order(runs: list[Run], tasks: list[list[str]], task: int, help_others: bool) -> list[Run]:
  """The runs of a task, behind what they need; then, if wanted, those of the next tasks.

  These from behind, where their own worker comes last: else two would compile the same program at
  the same moment.
  """
  others = [*tasks[task + 1 :], *tasks[:task]] if help_others else []
  wanted = [*tasks[task], *(run_id for other in others for run_id in reversed(other))]
  by_id = {run.run_id: run for run in runs}
  missing = [run_id for run_id in wanted if run_id not in by_id]
  if missing:
    raise ValueError(
      f'run {missing[0]} of the job is not what its config describes any more: the code or the '
      'data have changed since; launch again'
    )
  return with_needed(by_id[run_id] for run_id in wanted)


def _stop_when_alone() -> None:
  """Waits until the launch that holds the other end of our input is gone, then stops."""
  sys.stdin.read()
  os.kill(os.getpid(), signal.SIGTERM)


def _main(directory: str, task: str, brief: str = '') -> int:
  """A worker of this host; the exit code."""
  process.guard_streams()
  process.collect_less()
  threading.Thread(target=_stop_when_alone, daemon=True).start()
  try:
    with process.answering():
      return work(pathlib.Path(directory), int(task), brief=bool(brief))
  except KeyboardInterrupt:
    return 130
  except process.Signalled as e:
    return 128 + e.number


if __name__ == '__main__':  # python -m jaxbudget.lab.sweep.jobs DIRECTORY TASK [brief]
  sys.exit(_main(*sys.argv[1:]))
