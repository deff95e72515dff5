"""Work shared out among processes: jobs, workers on this host, what a workdir says of itself."""

import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from faulty import linear_model, planned, settings, write_images  # noqa: F401  a fixture
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console

from jaxbudget.lab import cells, config, launcher
from jaxbudget.lab.run import files, lock
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import control, inputs, jobs, local, plan_file, status, workers

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize('name', ['single', 'quickstart', 'table2', 'table5', 'table6', 'figure1'])
def test_a_config_survives_json(name):
  values = importlib.import_module(f'configs.{name}').get_config()
  again = config.from_record(json.loads(json.dumps(values.to_dict())))
  assert config.seed_tuple(again.seeds) == config.seed_tuple(values.seeds)
  assert cells.lay_out(again) == cells.lay_out(values)


def test_programs_are_let_go_before_they_are_many(monkeypatch):
  programs, cleared = {}, []
  monkeypatch.setattr(local, '_PROGRAMS', 25)
  monkeypatch.setattr(jax, 'clear_caches', lambda: cleared.append(sum(programs.values())))
  names = 'unif_sgd', 'p_sgd', 'c_sgd', 'ordered_sgd'
  grid = [{'selector': name, 'learning_rate': rate} for name in names for rate in (0.1, 0.2)]
  values = dict(dataset='digits', model='resnet8', budget=0.3, epochs=10, seeds=2, grid=tuple(grid))
  _, runs = inputs.plan_runs(config.defaults(**values))
  for run in runs[:12]:  # p_sgd and c_sgd, and learning rates, share programs of rows, seeds all
    local._make_room(programs, run)
  assert sum(programs.values()) == 2 * 8 + 6 and not cleared
  for run in runs[12:]:
    local._make_room(programs, run)
  assert sum(programs.values()) == 8 + 2 and cleared == [22]


def real_runs(names, seeds):
  """Runs of a plan: stand-ins of ours would not notice that runs have changed."""
  values = dict(dataset='digits', model='resnet8', epochs=10, batch_size=32, budget=0.5)
  grid = tuple({'selector': name} for name in names)
  return inputs.plan_runs(config.defaults(**values, seeds=seeds, grid=grid))[1]


@pytest.fixture(scope='module')
def forty():
  return real_runs(['unif_sgd'], 40)


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_even_and_hold_every_run_once(forty, count, processes):
  runs = forty[:count]
  shares = workers.shares(runs, processes)
  assert [run_id for share in shares for run_id in share] == [run.run_id for run in runs]
  assert len(shares) == min(count, processes)
  assert not shares or max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_program_is_compiled_by_few_workers():
  runs = real_runs(['p_sgd', 'unif_sgd', 'ordered_sgd'], 2)
  by_seed = sorted(runs, key=lambda run: run.seed)
  p0, p1, u0, u1, o0, o1 = (run.run_id for run in runs)
  assert workers.shares(by_seed, 2) == [[p0, p1, u0], [u1, o0, o1]]
  assert workers.shares(by_seed, 3) == [[p0, p1], [u0, u1], [o0, o1]]


def test_a_worker_has_its_own_first_behind_what_they_need():
  digits = dict(dataset='digits', model='resnet8', epochs=10, seeds=2, batch_size=32)
  grid = {'selector': 'coreset'}, {'selector': 'unif_sgd'}
  _, runs = inputs.plan_runs(config.defaults(**digits, budget=0.3, grid=grid))
  first, a, b, c, d = (run.run_id for run in runs)
  assert runs[1].needs == runs[2].needs == (runs[0],)
  tasks = [[first, a], [c], [d, b]]
  order = lambda task, help_others: [r.run_id for r in jobs._order(runs, tasks, task, help_others)]
  assert order(2, False) == [d, first, b]
  assert order(1, True) == [c, first, b, d, a], 'those of others from behind'
  with pytest.raises(ValueError, match='run gone of the job'):
    jobs._order(runs, [['gone']], 0, False)


@pytest.mark.parametrize(
  'given, seen', [('0,1', ['0', '1']), ('', []), ('-1', []), ('GPU-5a, GPU-7', ['GPU-5a', 'GPU-7'])]
)
def test_gpus_are_those_that_this_process_may_use(given, seen, monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', given)
  assert workers.visible_gpus() == seen


def test_gpus_and_jobs_are_counted_not_spelled(tmp_path, monkeypatch):
  for number in (0, 1, 2, 9, 10, 11):
    (tmp_path / f'nvidia{number}').touch()
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setattr(workers, '_DEVICES', tmp_path)
  assert workers.visible_gpus() == ['0', '1', '2', '9', '10', '11']
  for number in (9_999, 10_000, 998):
    directory = tmp_path / jobs.DIRECTORY / f'{number:04d}'
    directory.mkdir(parents=True)
    (directory / jobs.FILE).touch()
  assert [path.name for path in jobs.directories(tmp_path)] == ['0998', '9999', '10000']


@pytest.fixture
def asked(monkeypatch):
  """Asks JAX anew."""
  workers._ask_jax.cache_clear()
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7')
  yield monkeypatch
  workers._ask_jax.cache_clear()


@pytest.mark.parametrize(
  'platforms, answer, usable',
  [
    ('', '2\n', ['5', '7']),
    ('', 'a note of some library\n1\n', ['5']),
    ('', '0\n', []),  # JAX is installed without GPUs
    ('', '', []),  # it fails
    ('cuda,cpu', '2\n', ['5', '7']),
    ('cpu', None, []),  # need not be asked
  ],
)
def test_jax_is_asked_whether_it_takes_the_gpus(platforms, answer, usable, asked):
  def run(command, env, **how):
    assert env['JAX_PLATFORMS'] == platforms and 'jax' in command[-1]
    return subprocess.CompletedProcess(command, 0 if answer else 1, answer, 'no driver\n')

  asked.setattr(workers.subprocess, 'run', None if answer is None else run)
  asked.setattr(workers.jax, 'config', types.SimpleNamespace(jax_platforms=platforms))
  assert workers.usable_gpus() == usable


def test_jax_is_really_asked(asked):
  expected = jax.local_device_count() if jax.default_backend() == 'gpu' else 0
  assert len(workers.usable_gpus()) == min(2, expected)
  asked.setattr(workers.jax, 'config', types.SimpleNamespace(jax_platforms='nonsense'))
  with pytest.raises(ValueError, match='JAX_PLATFORMS=nonsense: .*nonsense'):
    workers.check_platform()
  if jax.default_backend() != 'gpu':
    asked.setattr(workers.jax, 'config', types.SimpleNamespace(jax_platforms='cuda'))
    with pytest.raises(ValueError, match='JAX_PLATFORMS=cuda: RuntimeError: .*cuda'):
      workers.check_platform()


def environments(monkeypatch, gpus, count):
  started = []
  monkeypatch.setattr(workers, '_ask_jax', lambda platforms: (9, ''))
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', gpus)
  monkeypatch.setattr(workers.subprocess, 'Popen', lambda *a, env, **k: started.append(env))
  for task in range(count):
    workers._start(pathlib.Path('job'), task, count)
  return started


def test_each_worker_sees_its_own_gpus(monkeypatch):
  found = environments(monkeypatch, '4,5,6,7', 2)
  assert [env['CUDA_VISIBLE_DEVICES'] for env in found] == ['4,5', '6,7']
  assert 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in found[0]


def test_workers_on_one_gpu_share_its_memory(monkeypatch):
  found = environments(monkeypatch, '0,1', 3)
  assert [env['CUDA_VISIBLE_DEVICES'] for env in found] == ['0', '1', '0']
  assert {env['XLA_PYTHON_CLIENT_MEM_FRACTION'] for env in found} == {'0.450'}


@pytest.mark.parametrize(
  'codes, joint',
  [([0, 0], 0), ([0, 1], 1), ([2, 2], 2), ([0, 2], 1), ([0, 143], 143), ([1, -9], 137)],
)
def test_one_exit_code_for_all_workers(codes, joint):
  assert workers._joint(codes) == joint


def test_a_job_is_numbered_sealed_and_found_again(tmp_path):
  values = config.defaults(dataset='digits')
  first = jobs.write(tmp_path, values, [['a'], ['b']], 'local', 'auto')
  second = jobs.write(tmp_path, values, [['c']], 'slurm', 'force')
  assert jobs.directories(tmp_path) == [first, second]
  assert jobs.read(second)['tasks'] == [['c']] and jobs.read(second)['resume'] == 'force'
  (second / jobs.FILE).write_text((second / jobs.FILE).read_text().replace('"c"', '"d"'))
  with pytest.raises(ValueError, match='job.json is damaged'):
    jobs.read(second)


def test_a_worker_refuses_a_job_whose_runs_have_changed(tmp_path, capsys):
  job = jobs.write(tmp_path, config.defaults(dataset='digits'), [['no-such-run']], 'local', 'auto')
  assert jobs.work(job, 0) == 2
  assert 'launch again' in capsys.readouterr().err
  assert not (tmp_path / 'runs').exists()


@pytest.fixture
def workdir(linear_model, tmp_path):  # noqa: F811
  """Five runs of one cell: done, diverged, broken off by an error, stopped, planned."""
  runs, _ = planned(settings(write_images(tmp_path / 'tiny.npz'), seeds=5))
  plan_file.write(runs, tmp_path, 'a test')
  done, diverged, broken, stopped, _ = (tmp_path / 'runs' / run.run_id for run in runs)
  for directory in (done, diverged, broken, stopped):
    directory.mkdir(parents=True)
    line = {'epoch': 2, 'seconds': {'train': 20.0, 'evaluate': 10.0}}
    (directory / files.METRICS).write_text(2 * files.json_line(line) + '{"epoch": 3, "sec')
    files.write_json(directory / files.CONFIG, {})
  result = {'status': 'done', 'final_accuracy': 90.0, 'best_accuracy': 91.0, 'cost': {}}
  files.write_sums(done, files.json_bytes(result))
  files.write_json(done / files.RESULT, result)
  files.write_json(diverged / files.RESULT, {'status': 'failed', 'error': 'not finite'})
  (broken / files.ERROR).write_text('Traceback\n  ...\nRuntimeError: [0] is odd\n')
  return tmp_path


def test_status_is_read_from_the_files(workdir):
  standings = status.look(workdir)
  assert [s.state for s in standings] == ['done', 'failed', 'failed', 'stopped', 'planned']
  assert [s.error for s in standings][1:3] == ['not finite', 'RuntimeError: [0] is odd']
  console = Console(width=200, record=True)
  console.print(status.table(standings))
  shown = console.export_text()
  assert '1 of 5 runs are done' in shown and 'seed 2: RuntimeError: [0] is odd' in shown
  assert 'in progress' not in shown, 'nobody is at work, so no time is told'


def test_a_run_with_an_owner_is_running_and_its_end_foreseen(workdir):
  stopped = status.look(workdir)[3]
  with lock.own(workdir / 'runs' / stopped.run_id):
    running = status.look(workdir)[3]
  assert running.state == 'running' and f'process {os.getpid()}' in running.where
  assert running.left == 2 * 30.0, 'two epochs of four are left, at 30 seconds each'
  assert status._now(running) == 'seed 3: epoch 3 of 4, 60.0 s left'
  assert status.look(workdir)[3].state == 'stopped'


def test_time_left_is_by_the_work_that_was_planned():
  seen = lambda state, epoch, work, seconds: status.Standing(
    'c-s0', 'c', state, '', epoch, 4, float('nan'), '', work, seconds
  )
  done, half = seen('done', 4, 100, 50.0), seen('running', 2, 300, 100.0)
  # 150 seconds for 100 + 150 of work; 150 + 40 are left, shared by two that are at work.
  left = status.time_left([done, half, seen('running', 0, 0, 0.0), seen('planned', 0, 40, 0.0)])
  assert left == pytest.approx(150 / 250 * 190 / 2)
  assert status._headline([done, half]) == '1 of 2 runs are done, 1 in progress, 90.0 s left'
  assert np.isnan(status.time_left([seen('running', 0, 10, 0.0)]))


def test_status_of_nothing_is_refused(tmp_path, capsys):
  assert launcher.launch(None, tmp_path, 'status') == 2
  assert 'holds no plan' in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_a_damaged_plan_is_told_from_none(workdir, monkeypatch, capsys):
  (workdir / plan_file.FILE).write_text('{"runs": [')
  asked = []
  monkeypatch.setattr(control.slurm, 'cancel', lambda *arguments: asked.append(arguments))
  for stage in ('status', 'cancel'):
    assert launcher.launch(None, workdir, stage) == 2
    said = capsys.readouterr().err
    assert f'{plan_file.FILE} is damaged' in said and 'no plan' not in said
  assert asked == [], 'what is refused has done nothing'


def test_files_of_wrong_types_stop_no_stage(workdir, capsys):
  path = workdir / plan_file.FILE
  plan = json.loads(path.read_text())
  del plan['checksum'], plan['runs'][0]['cell_id']
  wrong = {'cell_id': [1], 'epochs_run': [1], 'planned': 3, 'paper': 5, 'needs': 7}
  plan['runs'][1] |= wrong
  plan['runs'][2] |= {'epochs_run': 'x', 'planned': {'forward_equivalents': 'y'}}
  plan['runs'].append({'run_id': 5})
  path.write_text(json.dumps(plan))
  metrics = workdir / 'runs' / plan['runs'][3]['run_id'] / files.METRICS
  metrics.write_text('{"epoch": "3"}\n{"epoch": 2, "seconds": "x"}\n[1]\n{"epoch": [4]}\n')
  standings = status.look(workdir)
  assert [s.state for s in standings] == ['done', 'failed', 'failed', 'stopped', 'planned']
  assert [s.cell_id for s in standings][:2] == [entry['run_id'] for entry in plan['runs'][:2]]
  assert standings[1].epochs == standings[2].work == 0 and standings[3].epoch == 2
  for stage in ('status', 'cancel', 'report'):
    assert launcher.launch(None, workdir, stage, only='seed=0|1|2|3', figures='none') == 0
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5))
  plan_file.write(runs, workdir, 'again')


def test_train_and_retry_agree_on_damage(linear_model, tmp_path, capsys):  # noqa: F811
  values, work = settings(write_images(tmp_path / 'tiny.npz'), epochs=2), tmp_path / 'work'
  assert launcher.launch(values, work, 'train') == 0
  ((run_id,), runs) = [e['run_id'] for e in plan_file.entries(work)], work / 'runs'
  for name in (files.COUNTS, files.SUMS, files.METRICS):
    if name == files.METRICS:
      (runs / run_id / name).write_text('{}')  # a look does not see it, for it does not read
    else:
      (runs / run_id / name).unlink()
      assert status.look(work)[0].state == 'corrupt'
      assert f'{name} is missing' in status.look(work)[0].error
    assert launcher.launch(values, work, 'train') == 1
    assert 'damaged: ' in capsys.readouterr().out
    assert launcher.launch(values, work, 'retry') == 0
    assert 'nothing has failed' not in capsys.readouterr().out
    assert status.look(work)[0].state == 'done'
  assert launcher.launch(values, work, 'train') == 0


def test_retry_takes_what_failed_or_was_left_and_forgets_why(workdir):
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5))
  again = control.failed(runs, workdir)
  assert [run.seed for run in again] == [1, 2, 3]
  control.forget_failures(again, workdir)
  states = [s.state for s in status.look(workdir)]
  assert states == ['done', 'stopped', 'stopped', 'stopped', 'planned']


def test_retry_trains_again_what_failed(linear_model, tmp_path, capsys):  # noqa: F811
  values = settings(write_images(tmp_path / 'tiny.npz'), epochs=2, seeds=2)
  work = tmp_path / 'work'
  assert launcher.launch(values, work, 'train') == 0
  assert launcher.launch(values, work, 'retry') == 0
  assert 'nothing has failed' in capsys.readouterr().out
  entry = plan_file.entries(work)[1]
  path = work / 'runs' / entry['run_id'] / files.RESULT
  whole = path.read_bytes()
  files.write_json(path, {'status': 'failed', 'error': 'a cosmic ray'})
  assert launcher.launch(values, work, 'train') == 1, 'a failed run is not tried again'
  assert launcher.launch(values, work, 'retry') == 0
  strip = lambda content: {k: v for k, v in json.loads(content).items() if k != 'seconds'}
  assert strip(path.read_bytes()) == strip(whole)


def test_cancel_stops_who_is_at_work_here(workdir, capsys):
  stopped = status.look(workdir)[3].run_id
  script = (
    'import pathlib, sys, time\nfrom jaxbudget.lab.run import lock\n'
    'with lock.own(pathlib.Path(sys.argv[1])):\n  print("owned", flush=True)\n  time.sleep(60)\n'
  )
  directory = workdir / 'runs' / stopped
  owner = subprocess.Popen([sys.executable, '-c', script, directory], stdout=subprocess.PIPE)
  try:
    assert owner.stdout.readline() == b'owned\n'
    assert launcher.launch(None, workdir, 'cancel') == 0
    assert owner.wait(20) == -signal.SIGTERM
  finally:
    owner.kill()
    owner.stdout.close()
  assert f'stopped: process {owner.pid}' in capsys.readouterr().out
  assert launcher.launch(None, workdir, 'cancel') == 0
  assert 'nothing is queued or running' in capsys.readouterr().out


def test_submitting_much_is_asked_about(workdir, monkeypatch, capsys):
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5))
  console, seconds = Console(width=300), {'each': 7200}
  estimate = lambda runs, calibration: {run.run_id: seconds['each'] for run in runs}
  monkeypatch.setattr(control.calibrate, 'estimate', estimate)
  measured = {'device': 'a device'}
  with open(os.devnull) as nobody:
    monkeypatch.setattr(sys, 'stdin', nobody)
    control.confirm(runs, measured, False, console)
    assert 'about 10.0 device-hours as a device' in capsys.readouterr().out
    seconds['each'] = 7300
    control.confirm(runs, measured, True, console)
    for known in (measured, None):
      with pytest.raises(ValueError, match='give --yes'):
        control.confirm(runs, known, False, console)


@pytest.mark.usefixtures('linear_model')
def test_what_is_not_wanted_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
  values, work = settings(write_images(tmp_path / 'tiny.npz')), tmp_path / 'work'
  monkeypatch.setattr(launcher, '_check_executor', lambda runs, options: None)
  with open(os.devnull) as nobody:
    monkeypatch.setattr(sys, 'stdin', nobody)
    assert launcher.launch(values, work, 'train', executor='slurm') == 2
  assert 'give --yes' in capsys.readouterr().err and not work.exists()
  monkeypatch.setattr(control.slurm, 'submit', lambda *arguments: ['7'])
  assert launcher.launch(values, work, 'train', executor='slurm', yes=True) == 0
  assert 'submitted: 1 runs as SLURM arrays 7' in capsys.readouterr().out


def test_finish_time_counts_tasks_at_a_time(workdir):
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5))
  assert control._parallel(runs) == 5
  two = {'slurm.runs_per_task': 2}
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5, **two))
  assert control._parallel(runs) == 3
  runs, _ = planned(settings(f'npz:{workdir / "tiny.npz"}', seeds=5, **{'slurm.parallel': 2}))
  assert control._parallel(runs) == 2


def test_resources_are_no_part_of_an_experiment(workdir):
  name = f'npz:{workdir / "tiny.npz"}'
  few, many = planned(settings(name)), planned(settings(name, **{'slurm.gpus': 8}))
  assert [run.run_id for run in few[0]] == [run.run_id for run in many[0]]
  assert isinstance(few[0][0], Run)


def test_status_leaves_out_what_is_damaged(workdir):
  stopped = status.look(workdir)[3]
  path = workdir / 'runs' / stopped.run_id / files.METRICS
  whole = files.json_line({'epoch': 1, 'seconds': {'train': 20.0, 'evaluate': None}})
  path.write_text(whole + '{"epoch": x}\n[2]\n{"ep')
  with lock.own(path.parent):
    running = status.look(workdir)[3]
  assert (running.epoch, running.left) == (1, 60.0)


@pytest.mark.parametrize('content', ['', '[]', '{"tasks": ["1_0"], "checksum": "0"}'])
def test_damaged_names_of_tasks_are_refused_by_name(content, workdir, capsys):
  job = jobs.write(workdir, config.defaults(dataset='digits'), [['a']], 'slurm', 'auto')
  (job / 'tasks.json').write_text(content)
  for stage in ('status', 'cancel'):
    assert launcher.launch(None, workdir, stage) == 2
    assert f'{job / "tasks.json"} is damaged' in capsys.readouterr().err
