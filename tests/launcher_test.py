"""The launcher end to end: files, JSON keys and exit codes that other tools rely on."""

import json
import os
import pathlib
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxbudget
from jaxbudget.lab import config, launcher
from jaxbudget.lab.report import contact_sheet
from jaxbudget.lab.sweep import progress

ROOT = pathlib.Path(__file__).parents[1]
TINY = {
  'dataset': 'digits', 'model': 'mlp', 'batch_size': 64, 'epochs': 2, 'budget': 0.5, 'seeds': 1,
}  # fmt: skip


def run(*arguments, **environment):
  """Runs launch.py in a process of its own."""
  return subprocess.run(
    [sys.executable, ROOT / 'launch.py', *arguments],
    capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ, **environment},
  )  # fmt: skip


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A workdir with two cells of two seeds, trained through the command line."""
  directory = tmp_path_factory.mktemp('launch')
  (directory / 'two.py').write_text(
    'from jaxbudget.lab import config\n'
    'def get_config(arg=None):\n'
    "  grid = ({'selector': 'unif_sgd'}, {'selector': 'p_sgd'})\n"
    f'  return config.defaults(**{{**{TINY}, "seeds": 2, "grid": grid}}, **config.parse_arg(arg))\n'
  )
  workdir = directory / 'work'
  done = run(f'--config={directory / "two.py"}', f'--workdir={workdir}', '--config.epochs=3')
  return directory, workdir, done


def test_files_and_keys_of_a_finished_launch(trained):
  _, workdir, done = trained
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr
  plan = json.loads((workdir / 'plan.json').read_text())
  assert len(plan['runs']) == 4
  keys = {
    'run_id', 'cell_id', 'seed', 'dataset', 'model', 'selector', 'augment', 'schedule', 'budget',
    'budget_unit', 'epochs', 'batch_size', 'fidelity', 'paper', 'planned',
  }  # fmt: skip
  costs = {'rows', 'forward_scored', 'forward_trained', 'backward', 'forward_equivalents'}
  for entry in plan['runs']:
    assert keys <= set(entry) and costs == set(entry['planned'])
    directory = workdir / 'runs' / entry['run_id']
    names = {
      'config.json',
      'metrics.jsonl',
      'result.json',
      'counts.npy',
      'params.msgpack',
      'best.msgpack',
    }
    assert names <= {path.name for path in directory.iterdir()}
    assert not list(directory.glob('*.ckpt')) and not list(directory.glob('.*tmp'))
    result = json.loads((directory / 'result.json').read_text())
    wanted = {
      'final_accuracy', 'best_accuracy', 'cost', 'realised_budget', 'entropy_nats', 'seconds',
      'seed', 'config_hash', 'versions', 'device',
    }  # fmt: skip
    assert wanted <= set(result)
    assert costs | {'forward_evaluated', 'flops'} == set(result['cost'])
    assert {key: result['cost'][key] for key in costs} == entry['planned']
    assert {'data', 'compile', 'train', 'evaluate'} == set(result['seconds'])
    assert 10 < result['final_accuracy'] <= result['best_accuracy'] <= 100
    lines = [json.loads(x) for x in (directory / 'metrics.jsonl').read_text().splitlines()]
    line_keys = {
      'epoch', 'rows', 'lr', 'train_loss', 'train_accuracy', 'test_accuracy', 'entropy_nats',
      'cost', 'seconds', 'selector',
    }  # fmt: skip
    assert [x['epoch'] for x in lines] == [1, 2, 3] and line_keys <= set(lines[0])
    assert lines[-1]['test_accuracy'] == result['final_accuracy']
    assert lines[-1]['cost'] == entry['planned']
    counts = np.load(directory / 'counts.npy', allow_pickle=False)
    assert counts.sum() == result['cost']['backward'] and counts.shape == (1437,)
  assert (workdir / 'report' / 'index.html').exists()
  assert list((workdir / 'report' / 'tables').glob('*.csv'))
  assert 'unif_sgd' in done.stdout and 'index.html' in done.stdout


def test_a_second_launch_trains_nothing_and_reports_again(trained):
  directory, workdir, _ = trained
  stamps = {path: path.stat().st_mtime_ns for path in (workdir / 'runs').rglob('*')}
  again = run(f'--config={directory / "two.py"}', f'--workdir={workdir}', '--config.epochs=3')
  assert again.returncode == 0 and 'index.html' in again.stdout
  assert stamps == {path: path.stat().st_mtime_ns for path in (workdir / 'runs').rglob('*')}


def test_only_narrows_every_stage_and_plan_trains_nothing(tmp_path, capsys):
  grid = tuple({'selector': name} for name in ('unif_sgd', 'p_sgd', 'c_sgd', 'scan_sgd'))
  values, work = config.defaults(**TINY, grid=grid), tmp_path / 'w'

  def planned():
    entries = json.loads((work / 'plan.json').read_text())['runs']
    return [entry['selector'] for entry in entries]

  assert launcher.launch(values, work, 'plan', only='selector=p_sgd|c_sgd') == 0
  shown = capsys.readouterr().out
  assert '2 cells, 2 runs' in shown and 'p_sgd' in shown and 'unif_sgd' not in shown
  assert planned() == ['p_sgd', 'c_sgd'] and not (work / 'runs').exists()
  assert launcher.launch(values, work, 'plan', only='selector=unif_sgd') == 0
  assert sorted(planned()) == ['c_sgd', 'p_sgd', 'unif_sgd'], 'what was asked for stays'
  capsys.readouterr()
  assert launcher.launch(None, work, 'status', only='selector=c_sgd') == 0
  assert '0 of 1 runs are done' in capsys.readouterr().out
  assert launcher.launch(None, work, 'status', only='selector=scan_sgd') == 2
  assert launcher.launch(None, work, 'report', only='selector=sgd') == 2
  assert launcher.launch(None, work, 'cancel', only='selector=sgd') == 2
  assert capsys.readouterr().err.count('(known: c_sgd, p_sgd, unif_sgd)') == 3
  assert launcher.launch(values, tmp_path / 'v', 'plan', only='selector=psgd') == 2
  assert launcher.launch(values, tmp_path / 'v', 'plan', only='selecter=p_sgd') == 2
  assert not (tmp_path / 'v').exists()
  assert "did you mean 'selector'" in capsys.readouterr().err


REFUSED = {
  'unknown selector': ({'selector': 'psgd'}, "did you mean 'p_sgd'"),
  'unknown augment': ({'augment': 'standart'}, "did you mean 'standard'"),
  'unknown schedule': ({'schedule': 'liner'}, "did you mean 'linear'"),
  'unknown model': ({'model': 'resnet80'}, 'did you mean'),
  'unknown dataset': ({'dataset': 'digit'}, "did you mean 'digits'"),
  'unknown fidelity': ({'fidelity': 'release'}, "did you mean 'released'"),
  'budget above 1': ({'budget': 1.01}, r'(0, 1]'),
  'budget 0': ({'budget': 0.0}, r'(0, 1]'),
  'no batch fits': ({'budget': 0.001}, 'no batch fits'),
  'batch larger than data': ({'batch_size': 5000}, 'larger than the 1437 training images'),
  'negative epochs': ({'epochs': -1}, 'epochs=-1'),
  'zero epochs': ({'epochs': 0}, 'epochs=0'),
  'step schedule too short': ({'schedule': 'step'}, 'at least 3 epochs'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_wrong_configs_are_refused_before_compute(case, tmp_path, capsys):
  values, message = REFUSED[case]
  workdir = tmp_path / 'work'
  assert launcher.launch(config.defaults(**{**TINY, **values}), workdir) == 2
  assert message in capsys.readouterr().err
  assert not workdir.exists()


def test_a_billion_workers_are_refused(tmp_path, capsys):
  assert launcher.launch(config.defaults(**TINY), tmp_path / 'w', workers=10**9) == 2
  assert '--workers=1000000000: at most' in capsys.readouterr().err
  assert not (tmp_path / 'w').exists()


def test_a_platform_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys):
  flags = [f'--config={ROOT}/configs/single.py:dataset=digits', f'--workdir={tmp_path / "w"}']
  for more in ('--stage=train', '--stage=plan --calibrate'):
    done = run(*flags, *more.split(), JAX_PLATFORMS='nonsense')
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    assert 'refused: JAX cannot start' in done.stderr and 'nonsense' in done.stderr

  # Where there is no card, JAX says of CUDA alone nothing but a bare AssertionError.
  for optimize in ('0', '2'):  # without assertions it stumbles over None
    if jax.default_backend() != 'gpu':
      done = run(*flags, JAX_PLATFORMS='cuda', PYTHONOPTIMIZE=optimize)
      assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
      assert 'refused: JAX cannot start' in done.stderr and 'cuda' in done.stderr

  def refuse():
    raise ValueError('JAX cannot start')

  monkeypatch.setattr(launcher.workers, 'check_platform', refuse)
  grid = ({'selector': 'unif_sgd'}, {'selector': 'p_sgd'})
  assert launcher.launch(config.defaults(**TINY, grid=grid), tmp_path / 'w', workers=2) == 2
  assert 'refused: JAX cannot start' in capsys.readouterr().err
  assert not (tmp_path / 'w').exists()


def test_want_of_memory_is_told_in_a_sentence(tmp_path, monkeypatch, capsys):
  def load(*arguments):
    np.empty(2**60, np.uint8)

  monkeypatch.setattr(launcher.inputs, 'load_data', load)
  assert launcher.launch(config.defaults(**TINY), tmp_path / 'w') == 1
  assert 'failed: not enough memory: Unable to allocate' in capsys.readouterr().err


def test_all_faults_come_in_one_message(tmp_path, capsys):
  values = {**TINY, 'selector': 'psgd', 'budget': 2.0, 'dataset': f'npz:{tmp_path / "no.npz"}'}
  assert launcher.launch(config.defaults(**values), tmp_path / 'w') == 2
  error = capsys.readouterr().err
  assert 'psgd' in error and 'budget=2.0' in error and 'no.npz' in error and '3 faults' in error


def test_what_a_process_is_set_to_hides_no_fault(tmp_path, capsys):
  values = {**TINY, 'threads': 5000, 'budget': 2.0, 'epochs': 0}
  assert launcher.launch(config.defaults(**values), tmp_path / 'w') == 2
  error = capsys.readouterr().err
  assert '3 faults' in error and all(f'{key}=' in error for key in ('threads', 'budget', 'epochs'))
  grid = ({'threads': 1}, {'threads': 2, 'budget': 2.0})
  assert launcher.launch(config.defaults(**TINY, grid=grid), tmp_path / 'w') == 2
  error = capsys.readouterr().err
  assert '2 faults' in error and 'threads=[1, 2]' in error and 'budget=2.0' in error


def test_fields_to_allow_are_checked_before_training(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(launcher.inputs, 'load_data', None)
  for stage in ('all', 'train', 'plan'):
    allow = ('device', 'devise', 'epoch')
    assert launcher.launch(config.defaults(**TINY), tmp_path / 'w', stage, allow=allow) == 2
    error = capsys.readouterr().err
    assert '2 faults' in error and "'devise'; did you mean 'device'?" in error
  assert not (tmp_path / 'w').exists()
  allow = ('device', 'epochs', 'optimizer_options')
  assert launcher.launch(config.defaults(**TINY), tmp_path / 'w', 'plan', allow=allow) == 0


def test_unwritable_workdir_is_refused(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert launcher.launch(config.defaults(**TINY), tmp_path / 'file' / 'w') == 2
  assert 'not a directory' in capsys.readouterr().err


def test_a_place_where_nobody_may_write_is_refused_before_planning(monkeypatch, capsys):
  monkeypatch.setattr(launcher.inputs, 'plan_runs', None)
  assert launcher.launch(config.defaults(**TINY), pathlib.Path('/proc/x')) == 2
  assert "refused: workdir '/proc/x' cannot be used: /proc is not writable" in (
    capsys.readouterr().err
  )


def test_a_path_is_said_once(tmp_path, capsys):
  for name in ('npz:/x', 'folder:/no/such'):
    assert launcher.launch(config.defaults(**TINY | {'dataset': name}), tmp_path / 'w') == 2
    assert capsys.readouterr().err.startswith(f'refused: dataset={name}: no such')


BEFORE_JAX = """
import os, signal, sys
class Watch:
  def find_spec(self, name, path=None, target=None):
    if name == 'jax':
      {act}
sys.meta_path.insert(0, Watch())
sys.argv[1:] = {arguments}
from jaxbudget.__main__ import main
main()
"""


def test_help_is_answered_without_jax():
  program = BEFORE_JAX.format(act="raise ImportError('jax')", arguments=['--help'])
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
  assert (done.returncode, done.stderr) == (0, '')
  assert '--workdir' in done.stdout and all(len(line) <= 80 for line in done.stdout.splitlines())


def test_an_interrupt_while_modules_are_loaded_is_no_traceback(tmp_path):
  act = 'os.kill(os.getpid(), signal.SIGINT)'
  program = BEFORE_JAX.format(act=act, arguments=[f'--workdir={tmp_path}', '--stage=status'])
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
  assert (done.returncode, done.stderr) == (130, 'stopped\n')


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='there is no /dev/full')
def test_an_answer_that_cannot_be_written_is_a_failure():
  program = BEFORE_JAX.format(act='pass', arguments=['--help'])
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [sys.executable, '-c', program], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
  assert (done.returncode, done.stderr) == (
    1, 'failed: standard output: No space left on device\n'
  )  # fmt: skip


def test_the_version_is_that_of_the_package():
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  assert jaxbudget.__version__ == project['version']


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--config=configs/single.py:datset=digits'], "did you mean 'dataset'"),
    (['--config=configs/quickstart.py', '--config.budgte=1'], "did you mean 'budget'"),
    (['--config=configs/quickstart.py', '--config.budget=much'], 'budget'),
    (['--config=configs/tabel2.py'], 'there is no such file; did you mean configs/table2.py?\n'),
    (['--config=configs/quickstart.py', '--stage=trian'], 'stage'),
    ([], '--config is missing'),
    (
      ['--config=configs/quickstart.py', '--stage=plan', '--only=method=p_sgd'],
      "unknown key of --only 'method'; did you mean 'selector'?",
    ),
  ],
)
def test_wrong_command_lines_exit_2_without_traceback(arguments, message):
  done = run(*arguments)
  assert done.returncode == 2
  assert message in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize(
  ('arg', 'flags', 'told'),
  [
    (
      'selectr=p_sgd,budgt=0.3,dataset=cifar1,model=resnet19',
      ['--config.epochs=-3', '--config.moddel=mlp'],
      ["'selectr'; did you mean 'selector'?", "'budgt'; did you mean 'budget'?",
       "'moddel'; did you mean 'model'?", 'epochs=-3 is', "unknown dataset 'cifar1'",
       "unknown model 'resnet19'"],
    ),
    (
      'dataset=digits,seeds=0,budget=2.0,weight_decay=-1',
      ['--config.optimizer_options.clip_norm=-3', '--config.selector_options.warmup=1'],
      ['seeds=0: give 1 to', "unknown option of unif_sgd 'warmup'", 'budget=2.0 is',
       'weight_decay=-1.0 is', 'clip_norm=-3.0 is'],
    ),
    (
      'dataset=digits',
      ['--grid=selectr=p_sgd|sgd', '--config.epochs=-3', '--config.seeds=abc'],
      ["'selectr'; did you mean 'selector'?", "seeds='abc': give 1 to", 'epochs=-3 is'],
    ),
  ],
)  # fmt: skip
def test_what_the_command_line_says_hides_no_fault(arg, flags, told, tmp_path):
  done = run(f'--config=single:{arg}', *flags, f'--workdir={tmp_path / "w"}')
  lines = done.stderr.splitlines()
  assert done.returncode == 2 and len(lines) == len(told), done.stderr
  assert all(t in line for t, line in zip(told, lines, strict=True)), done.stderr
  assert not (tmp_path / 'w').exists()


def test_a_workdir_tells_its_command_where_the_config_is_missing(tmp_path, capsys):
  work = tmp_path / 'w'
  command = f"python launch.py '--config=single:x=(1, 2)' --workdir={work} --stage=plan"
  assert launcher.launch(config.defaults(**TINY), work, 'plan', command=command) == 0
  done = run(f'--workdir={work}', '--stage=retry')
  again = f"python launch.py '--config=single:x=(1, 2)' --workdir={work} --stage=retry"
  assert done.returncode == 2
  assert done.stderr == f'refused: --config is missing; the command for {work} is: {again}\n'
  done = run(f'--workdir={tmp_path / "none"}', '--stage=retry')
  assert done.stderr == 'refused: --config is missing, e.g. --config=quickstart\n'


def test_own_npz_trains_and_is_known_by_its_content(tmp_path):
  rng = np.random.RandomState(0)
  arrays = {
    'x_train': rng.randint(0, 256, (64, 8, 8), np.uint8), 'y_train': np.arange(64) % 2,
    'x_test': rng.randint(0, 256, (16, 8, 8), np.uint8), 'y_test': np.arange(16) % 2,
  }  # fmt: skip
  values = {**TINY, 'dataset': f'npz:{tmp_path / "mine.npz"}', 'batch_size': 16, 'epochs': 1}
  for seed in range(2):
    arrays['x_train'] = rng.randint(0, 256, (64, 8, 8), np.uint8)
    np.savez(tmp_path / 'mine.npz', **arrays)
    assert launcher.launch(config.defaults(**values), tmp_path / 'w', 'train') == 0
    assert len(list((tmp_path / 'w' / 'runs').iterdir())) == seed + 1


def test_stage_data_shows_what_is_asked_for_and_draws_only_images(tmp_path, capsys, monkeypatch):
  """Features have no contact sheet and are no fault; `--only` narrows this stage too."""
  rng, drawn = np.random.RandomState(0), []
  monkeypatch.setattr(contact_sheet, 'contact_sheet', lambda data, path: drawn.append(path.name))
  labels = {'y_train': np.arange(64) % 2, 'y_test': np.arange(16) % 2}
  for name, shape in (('images', (8, 8)), ('others', (8, 8)), ('features', (5,))):
    x = {
      f'x_{k}': rng.randint(0, 256, (n, *shape), np.uint8) for k, n in (('train', 64), ('test', 16))
    }
    x = {k: v.astype(np.float32) for k, v in x.items()} if name == 'features' else x
    np.savez(tmp_path / f'{name}.npz', **x, **labels)
  grid = tuple(
    {'dataset': f'npz:{tmp_path / name}.npz', 'augment': 'none', 'model': model}
    for name, model in (('features', 'mlp'), ('images', 'resnet8'), ('others', 'resnet8'))
  )
  values, work = config.defaults(**{**TINY, 'batch_size': 16, 'grid': grid}), tmp_path / 'w'
  assert launcher.launch(values, work, 'data', only=f'dataset={grid[0]["dataset"]}') == 0
  shown = capsys.readouterr().out
  assert 'no contact sheet' in shown and 'has no images' in shown and not work.exists()
  assert launcher.launch(values, work, 'data', only=f'dataset={grid[2]["dataset"]}') == 0
  assert len(drawn) == 1 and 'others.npz' in capsys.readouterr().out
  assert launcher.launch(values, work, 'data') == 0
  assert len(drawn) == 3


def test_messages_of_runs_are_neither_wrapped_nor_taken_for_markup(capsys):
  line = 'failed: ' + 40 * 'long ' + '[red]devices=[0, 1][/red]'
  progress.show(Console(width=40)).say(line)
  assert capsys.readouterr().out == line + '\n'
