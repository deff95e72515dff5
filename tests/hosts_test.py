"""Several processes train runs together: whole launches, disturbed in one of the processes."""

import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import campaign
import hosts_grid
import pytest
from faulty import linear_model  # noqa: F401  a fixture

from jaxbudget.lab import launcher
from jaxbudget.lab.run import hosts

TESTS = pathlib.Path(__file__).parent
COUNT = 2
ARGUMENTS = f'--config={TESTS}/hosts_grid.py', '--stage=train'


def start(*arguments):
  """Starts the processes of a launch, each with one device; the first is process 0."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  common = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}', 'JAX_NUM_PROCESSES': str(COUNT)}
  common |= {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(TESTS.parent), 'COLUMNS': '200'}
  common |= {'JAX_NUM_CPU_DEVICES': '1'}
  return [
    subprocess.Popen(
      [sys.executable, TESTS / 'hosts_worker.py', *(a.format(i) for a in arguments)],
      env={**os.environ, **common, 'JAX_PROCESS_ID': str(i)}, cwd=TESTS.parent,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for i in range(COUNT)
  ]  # fmt: skip


def launch(workdir):
  return start('launch', '--distributed', *ARGUMENTS, f'--workdir={workdir}')


def launch_alone(workdir, only=''):
  """One process with as many devices, this one: (exit code, what it said)."""
  said, values = io.StringIO(), hosts_grid.get_config()
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    code = launcher.launch(values, workdir, 'train', only=only)
  return code, said.getvalue()


def finish(processes):
  """Waits for a launch: (exit codes, what process 0 said); the others say nothing."""
  said = [process.communicate(timeout=300)[0] for process in processes]
  codes = [process.returncode for process in processes]
  assert 'Traceback' not in ''.join(said), said
  return codes, said[0]


def wait_for_checkpoint(processes, workdir, run):
  while not list(workdir.glob(f'runs/{run}/*.ckpt')):
    assert all(process.poll() is None for process in processes), finish(processes)
    time.sleep(0.01)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  with campaign.place(tmp_path_factory, 'hosts') as directory:
    yield directory


@pytest.fixture(scope='module')
def expected(place):
  """The outcomes of two processes that nobody disturbs."""
  codes, said = finish(launch(place / 'whole'))
  assert codes == [0, 0], said
  return campaign.outcomes(place / 'whole')


def test_a_process_that_died_is_told_from_one_that_is_slow(tmp_path):
  processes = start('wait', str(tmp_path / '{}.json'))
  codes, said = finish(processes)
  assert codes == [0, -signal.SIGKILL], said
  slow, gone = json.loads((tmp_path / '0.json').read_text())
  assert slow == 'slow'
  assert 'another process of this launch is gone (process 1 gave no sign of life for' in gone


def test_what_fails_in_one_process_fails_in_all(tmp_path):
  codes, said = finish(start('talk', str(tmp_path / '{}.json')))
  assert codes == [0, 0], said
  first, second = (json.loads((tmp_path / f'{i}.json').read_text()) for i in range(COUNT))
  only_first = [['did it'], ['at the end', None]]
  assert [line for line in first if line in only_first] == only_first
  first = [line for line in first if line not in only_first]
  same = [
    ['agree', {'number': 0, 'path': None}],
    ['any_of', [True, 0, 15]],
    ['union', ['a', 'b', 'c']],
    ['differing', {'me': [0, 1]}],
    ['first', None],
  ]
  assert first == [
    *same,
    ['ours', 'Elsewhere', 'process 1: ValueError: of 1'],
    ['at the end', 'Elsewhere', 'process 1: OSError: late'],
    ['on first', 'OSError', 'disk'],
    ['both', 'ValueError', 'own 0'],
    ['nested', 'ValueError', 'inside'],
    ['in step again', 0],
  ]
  assert second == [
    *same,
    ['ours', 'ValueError', 'of 1'],
    ['at the end', 'OSError', 'late'],
    ['on first', 'Elsewhere', 'process 0: OSError: disk'],
    ['both', 'ValueError', 'own 1'],
    ['nested', 'Elsewhere', 'process 0: ValueError: inside'],
    ['in step again', 0],
  ]


def test_one_process_meets_nobody():
  assert hosts.count() == 1 and hosts.is_first()
  value = object()
  assert hosts.agree(value) is value and hosts.any_of(value) is value
  assert hosts.union({'b', 'a'}) == ['a', 'b'] and hosts.differing({'a': value}) == {}
  with pytest.raises(KeyError), hosts.together():
    raise KeyError


@pytest.mark.usefixtures('linear_model')
def test_disturbed_launches_of_two_processes_lose_nothing(place, expected):
  workdir, (one, other) = place / 'disturbed', sorted(expected)
  blocked = workdir / 'runs' / one / 'metrics.jsonl'
  blocked.mkdir(parents=True)  # process 0 cannot write there
  processes = launch(workdir)
  wait_for_checkpoint(processes, workdir, other)
  processes[1].terminate()  # and only this one
  codes, said = finish(processes)
  assert codes == [143, 143], said
  assert f'failed: {one}: Is a directory' in said and said.count('failed') == 1
  assert f'{other} is saved' in said

  code, said = launch_alone(workdir, only='seed=1')
  assert code == 2 and 'processes: 2 then, 1 now' in said, said

  blocked.rmdir()
  processes = launch(workdir)
  wait_for_checkpoint(processes, workdir, one)
  processes[1].kill()
  codes, said = finish(processes)
  assert codes == [1, -signal.SIGKILL] and 'another process of this launch is gone' in said, said

  codes, said = finish(launch(workdir))
  assert codes == [0, 0], said
  campaign.assert_same(workdir, expected)


@pytest.mark.usefixtures('linear_model')
def test_two_processes_train_like_one_with_two_devices(place, expected):
  code, said = launch_alone(place / 'alone')
  assert code == 0, said
  alone = campaign.outcomes(place / 'alone')
  assert set(alone) == set(expected)
  for run_id, two in expected.items():
    one, two = alone[run_id]['result.json'], two['result.json']
    assert one['cost'] == two['cost'] and one['realised_budget'] == two['realised_budget']
    assert abs(one['final_accuracy'] - two['final_accuracy']) < 3
    assert (one['device']['devices'], two['device']['devices']) == (2, 2)
    assert (one['device'].get('processes'), two['device'].get('processes')) == (None, 2)
