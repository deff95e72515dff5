"""A grid of 12 runs as a job array of a real SLURM that gets in the way.

One node, started for this test (`slurm_cluster.py`); skips where SLURM is not installed.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import campaign
import fault_grid
import faulty
import parts_test
import pytest
import slurm_cluster

from jaxbudget.lab import config, launcher
from jaxbudget.lab.run import lock
from jaxbudget.lab.sweep import jobs, plan_file, slurm, status

ROOT = pathlib.Path(__file__).parents[1]
GRID = 'cells=few,seeds=12,epochs=40'
CONFIG = f'--config={ROOT}/tests/fault_grid.py:{GRID}'
RESOURCES = {'gpus': 0, 'cpus': 1, 'memory_gb': 0.0, 'minutes': 1, 'runs_per_task': 4}
FLAGS = [f'--config.slurm.{key}={value}' for key, value in RESOURCES.items()]
TIMEOUT = 1800  # seconds for all of it, on a busy machine

pytestmark = pytest.mark.skipif(slurm_cluster.missing() != '', reason=slurm_cluster.missing())


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A directory, and a running cluster."""
  with contextlib.ExitStack() as stack:
    directory = stack.enter_context(campaign.place(tmp_path_factory, 'slurm'))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    for key, value in stack.enter_context(slurm_cluster.cluster()).items():
      patch.setenv(key, value)
    yield directory


def launch(workdir: pathlib.Path, *flags: str) -> str:
  """Launches, waits, and gives what was said."""
  command = [sys.executable, ROOT / 'launch.py', CONFIG, *FLAGS, f'--workdir={workdir}', *flags]
  ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT)
  assert ended.returncode == 0 and 'Traceback' not in ended.stderr, ended.stdout + ended.stderr
  return ended.stdout


def submit(workdir: pathlib.Path) -> str:
  """Submits what is left of the grid, from this process; gives what was said."""
  values, said = fault_grid.get_config(GRID), io.StringIO()
  config.apply(values, {'slurm': RESOURCES})
  with contextlib.chdir(ROOT), contextlib.redirect_stdout(said):
    code = launcher.launch(values, workdir, 'train', executor='slurm', yes=True)
  assert code == 0, said.getvalue()
  return said.getvalue()


def wait_for(condition, what: str):
  """Looks until a condition gives something."""
  until = time.monotonic() + TIMEOUT
  while time.monotonic() < until:
    found = condition()
    if found:
      return found
    time.sleep(0.2)
  raise TimeoutError(what)


def in_training(workdir: pathlib.Path, task: int, job: str = '0001') -> int | None:
  """The process that is at work on a run of a task."""
  for run_id in jobs.read(workdir / 'jobs' / job)['tasks'][task]:
    directory = workdir / 'runs' / run_id
    if any(directory.glob('metrics.jsonl')) and not (directory / 'result.json').exists():
      owner = lock.alive(directory)
      if owner:
        return owner['pid']
  return None


def array_of(workdir: pathlib.Path) -> str:
  (array,) = {task.name.partition('_')[0] for task in slurm.waiting(workdir).values()}
  return array


def warn(workdir: pathlib.Path) -> None:
  """Tells a task of the second job that its time is up; a fast machine would be done before."""
  wait_for(lambda: in_training(workdir, 0, '0002'), 'a task of the second array')
  subprocess.run(['scancel', '--signal=USR2', f'{array_of(workdir)}_0'], check=True)


def disturb(workdir: pathlib.Path) -> None:
  """Requeues a task, kills the process of another and cancels a third, in mid-training."""
  array = array_of(workdir)
  wait_for(lambda: in_training(workdir, 0), 'the first task')
  subprocess.run(['scontrol', 'requeue', f'{array}_0'], check=True)
  os.kill(wait_for(lambda: in_training(workdir, 1), 'the second task'), signal.SIGKILL)
  wait_for(lambda: in_training(workdir, 2), 'the third task')
  subprocess.run(['scancel', f'{array}_2'], check=True)


def drained(workdir: pathlib.Path) -> bool:
  return not slurm.waiting(workdir)


def logs(workdir: pathlib.Path) -> str:
  return '\n'.join(path.read_text() for path in sorted(workdir.glob('jobs/*/logs/*.out')))


@pytest.fixture(scope='module')
def disturbed(place):
  """The workdir of a grid that was disturbed, and what the launches said."""
  workdir = place / 'cluster'
  said = [submit(workdir), submit(workdir)]
  disturb(workdir)
  wait_for(lambda: drained(workdir), 'the array')
  left = [s for s in status.look(workdir) if s.state != 'done']
  said.append(submit(workdir))
  warn(workdir)
  wait_for(lambda: drained(workdir), 'the second array')
  said.append(submit(workdir))
  return workdir, said, left


def test_a_second_launch_submits_nothing_twice(disturbed):
  workdir, said, left = disturbed
  total = len(plan_file.entries(workdir))
  assert f'submitted: {total} runs as SLURM arrays' in said[0]
  assert 'runs are submitted already' in said[1] and 'nothing to submit' in said[1]
  assert {s.state for s in left} <= {'stopped', 'planned'} and 0 < len(left) < total
  assert f'submitted: {len(left)} runs as SLURM arrays' in said[2], 'what was killed or cancelled'
  assert 'nothing to submit' in said[3]


def test_every_run_is_done_and_was_trained_once(disturbed):
  workdir, _, _ = disturbed
  assert {s.state for s in status.look(workdir)} == {'done'}
  trained = Counter(campaign._TRAINED.findall(logs(workdir)))
  assert set(trained) <= {entry['run_id'] for entry in plan_file.entries(workdir)}
  assert max(trained.values()) == 1


def test_tasks_past_their_time_limit_saved_and_went_on(disturbed):
  workdir, _, _ = disturbed
  (warned,) = workdir.glob('jobs/0002/logs/*_0_0_log.out')
  # SLURM may end who asks for another go before that can say so: seen is that there was one.
  first, *again = warned.read_text().split('Starting with JobEnvironment')[1:]
  assert re.search(r'is saved at epoch \d+|is left as it was', first)  # if it had only begun
  assert 'Calling checkpoint method' in first and len(again) == 1


def test_the_results_are_those_of_one_process(disturbed, place):
  workdir, _, _ = disturbed
  found = campaign.outcomes(workdir)
  calmly = '--config.rows_per_call=0', '--config.checkpoint_every=300.0'  # the numbers are the same
  launch(place / 'alone', '--stage=train', '--only=seed=0|5|10', *calmly)  # one of each task
  alone = campaign.outcomes(place / 'alone')
  assert len(found) == 12 and len(alone) == 3
  often = {'rows_per_call', 'checkpoint_every'}  # how often it is saved
  for run in alone:
    assert faulty.differences(found[run], alone[run]) == ['config.json']
    one, other = (json.loads(outcome[run]['config.json']) for outcome in (found, alone))
    assert {key for key in one | other if one.get(key) != other.get(key)} == often


def test_tasks_import_parts_of_the_launch_folder(place):
  """Method, augmentation, network, data, schedule and optimizer of a package that is not ours."""
  folder = place / 'outside'
  folder.mkdir()
  parts_test.write(folder)
  given = ','.join(f'{key}={value}' for key, value in parts_test.VALUES.items())
  command = [
    sys.executable, ROOT / 'launch.py', f'--config={ROOT}/configs/single.py:{given}', *FLAGS,
    '--workdir=work', '--stage=train', '--executor=slurm', '--yes',
  ]  # fmt: skip
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  ended = subprocess.run(
    command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, cwd=folder
  )
  assert ended.returncode == 0 and 'submitted: 2 runs' in ended.stdout, ended.stderr
  wait_for(lambda: drained(folder / 'work'), 'the array of outside parts')
  assert [s.state for s in status.look(folder / 'work')] == ['done', 'done'], logs(folder / 'work')
  shutil.rmtree(folder / 'mine')
  ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
  assert ended.returncode == 2 and "there is no module 'mine'" in ended.stderr


def test_cancel_takes_queued_tasks_back(place):
  workdir = place / 'cancelled'
  assert 'submitted' in submit(workdir)
  assert any(s.state in ('queued', 'running') for s in status.look(workdir))
  assert launcher.launch(None, workdir, 'cancel') == 0
  wait_for(lambda: drained(workdir), 'the cancelled array')
  assert {s.state for s in status.look(workdir)} <= {'planned', 'stopped', 'done'}


def test_what_slurm_does_not_accept_is_said_and_leaves_no_job(place, capsys):
  values = config.defaults(dataset='digits', model='resnet8')
  config.apply(values, {'slurm': {**RESOURCES, 'partition': 'nowhere'}})
  workdir = place / 'refused'
  assert launcher.launch(values, workdir, 'train', executor='slurm', yes=True) == 1
  said = capsys.readouterr().err
  assert said.startswith('failed: SLURM does not accept the job') and 'partition' in said
  assert jobs.directories(workdir) == []


def test_two_tasks_train_each_run_together(place):
  workdir = place / 'together'
  grid = f'--config={ROOT}/tests/hosts_grid.py:model=tests.linear:linear,epochs=3'
  command = ['srun', '--ntasks=2', sys.executable, ROOT / 'launch.py', grid, '--distributed']
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  ended = subprocess.run(
    [*command, f'--workdir={workdir}', '--stage=train'],
    env=environment, capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT,
  )  # fmt: skip
  assert ended.returncode == 0, ended.stdout + ended.stderr
  planned = [entry['run_id'] for entry in plan_file.entries(workdir)]
  assert campaign._TRAINED.findall(ended.stdout) == planned, 'process 0 alone speaks'
  for run in campaign.outcomes(workdir).values():
    assert run['result.json']['status'] == 'done'
    assert run['result.json']['device']['devices'] == 2
