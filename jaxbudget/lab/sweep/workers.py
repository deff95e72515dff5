"""Several worker processes on this host: one for each GPU, or as many as asked for.

Each worker has its share of the runs and then helps with the others'; locks see to it that no
run is trained twice. A worker sees only its own GPU. On CPU it keeps all threads, so that
results are, bit for bit, those of one process.
"""

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Hashable, Iterable

import jax
from ml_collections import ConfigDict
from rich.console import Console

from jaxbudget.lab import plain
from jaxbudget.lab.run import process as process_lib
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import jobs, status
from jaxbudget.registry import by_number

_DEVICES = pathlib.Path('/dev')


def visible_gpus() -> list[str]:
  """Names of the NVIDIA GPUs that this process may use, without starting JAX on them."""
  allowed = os.environ.get('CUDA_VISIBLE_DEVICES')
  if allowed is not None:
    return [name.strip() for name in allowed.split(',') if name.strip() not in ('', '-1')]
  found = (path.name.removeprefix('nvidia') for path in _DEVICES.glob('nvidia[0-9]*'))
  return sorted(found, key=by_number)


def usable_gpus() -> list[str]:
  """Names of the visible GPUs that JAX takes: it may be told not to, or be built without."""
  names, platforms = visible_gpus(), jax.config.jax_platforms or ''
  if not names or (platforms and not {'cuda', 'rocm', 'gpu'} & set(platforms.split(','))):
    return []
  return names[: _ask_jax(platforms)[0]]


def check_platform() -> None:
  """Refuses a platform that JAX does not have here, before workers are started on it.

  Raises:
    ValueError: it has not; why.
  """
  platforms = jax.config.jax_platforms
  fault = platforms and _ask_jax(platforms)[1]
  if fault:
    raise ValueError(f'JAX cannot start with JAX_PLATFORMS={platforms}: {fault}')


_QUESTION = """
import jax
from jaxbudget import parallel
parallel.all_devices()  # which says why there are none
print(jax.local_device_count() if jax.default_backend() == "gpu" else 0)
"""


@functools.cache
def _ask_jax(platforms: str) -> tuple[int, str]:
  """How many GPUs JAX uses, and why it cannot start.

  It is asked in a process of its own: in ours it would take their memory.
  """
  told = {'JAX_PLATFORMS': platforms, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  environment = {**os.environ, **process_lib.same_package(), **told}
  command = [sys.executable, '-c', _QUESTION]
  try:
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
  except (OSError, subprocess.TimeoutExpired) as e:
    return 0, str(e)
  if asked.returncode:
    return 0, (asked.stderr.strip().splitlines() or ['it says nothing'])[-1]
  return int(asked.stdout.split()[-1]), ''


def most() -> int:
  """How many workers can be asked for."""
  return max(64, 4 * (os.cpu_count() or 1))


def shares(runs: list[Run], count: int) -> list[list[str]]:
  """Divides runs among workers, such that few programs are compiled by more than one.

  Args:
    runs: of the plan.
    count: of workers.

  Returns:
    Run ids, for each worker its own, as many to each; no share is empty. Runs of one program stand
    together, in the order of the plan.
  """
  together: dict[Hashable, list[str]] = {}
  for run in runs:
    together.setdefault(run.program, []).append(run.run_id)
  ids = [run_id for group in together.values() for run_id in group]
  cuts = [round(i * len(ids) / count) for i in range(count + 1)]
  return [ids[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if a < b]


def run_all(
  config: ConfigDict,
  runs: list[Run],
  workdir: pathlib.Path,
  count: int,
  console: Console,
  resume: str = 'auto',
) -> int:
  """Trains what is not finished, in `count` processes.

  Args:
    config: of the launch.
    runs: of the plan, those wanted.
    workdir: of the launch.
    count: of workers.
    console: for what the workers say.
    resume: `auto` or `force`.

  Returns:
    0 all done; 1 a run failed or was refused; 2 all were refused; 128 + signal number when
    stopped by one.
  """
  tasks = shares(runs, count)
  directory = jobs.write(workdir, config, tasks, 'local', resume, help_others=True)
  with process_lib.collecting() as received, status.follow(workdir, console):
    brief = console.is_terminal  # which shows how far all of them are
    processes = [_start(directory, task, len(tasks), brief) for task in range(len(tasks))]
    readers = [threading.Thread(target=_forward, args=(p, console), daemon=True) for p in processes]
    for reader in readers:
      reader.start()
    codes = _wait(processes, received)
    for reader in readers:
      reader.join()
  if received:
    return 128 + received[0]
  return _joint(codes)


def _start(directory: pathlib.Path, task: int, count: int, brief: bool = False) -> subprocess.Popen:
  """Starts a worker, in a session of its own: Ctrl-C reaches it through us.

  It stops when its input ends, which is when we do, in whatever way.
  """
  environment = {**os.environ, **process_lib.same_package()}
  gpus = usable_gpus()
  if gpus:
    each = max(1, len(gpus) // count)
    mine = [gpus[(task * each + i) % len(gpus)] for i in range(each)]
    environment['CUDA_VISIBLE_DEVICES'] = ','.join(mine)
    sharing = -(-count // len(gpus))
    if sharing > 1:  # JAX would take most of a GPU's memory for the first of them
      environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', f'{0.9 / sharing:.3f}')
  command = [sys.executable, '-m', 'jaxbudget.lab.sweep.jobs', str(directory), str(task)]
  command += ['brief'] if brief else []
  return subprocess.Popen(
    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT, text=True, errors='backslashreplace', start_new_session=True,
  )  # fmt: skip


def _forward(process: subprocess.Popen, console: Console) -> None:
  """Prints what a worker says; reads on if that fails, for a full pipe would hold it up."""
  for line in process.stdout:
    with contextlib.suppress(OSError):
      plain.say(console, line.rstrip('\n'))


def _wait(processes: list[subprocess.Popen], received: list[int]) -> list[int]:
  """Waits for all workers; if we, or one of them, are told to stop, all of them stop."""
  told = False
  while any(process.poll() is None for process in processes):
    stopped = any((process.returncode or 0) > 128 for process in processes)
    if (received or stopped) and not told:
      told = True
      for process in processes:
        if process.poll() is None:
          process.send_signal(signal.SIGTERM)
    for process in processes:
      try:
        process.wait(0.1)
      except subprocess.TimeoutExpired:
        break
  return [process.returncode for process in processes]


def _joint(codes: Iterable[int]) -> int:
  """One exit code for many: a signal's, else the worst."""
  codes = set(codes)
  signalled = {128 - code if code < 0 else code for code in codes if code < 0 or code > 128}
  if signalled:
    return max(signalled)
  if codes == {2}:
    return 2
  return 1 if codes - {0} else 0
