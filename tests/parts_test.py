"""Parts of a package outside the project, those of docs/parts.md: named, launched, edited."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxbudget import factories, load, registry
from jaxbudget.averaging import make_averaging
from jaxbudget.lab import config, launcher
from jaxbudget.lab.run import files
from jaxbudget.lab.sweep import grid, jobs, outside, plan_file
from jaxbudget.rows import Row

ROOT = pathlib.Path(__file__).parents[1]
NAMES = {
  'selector': 'mine.rank:rank',
  'augment': 'mine.negative:negative+mixup',
  'model': 'mine.perceptron:perceptron',
  'dataset': 'mine.stripes:stripes',
  'schedule': 'mine.sawtooth:sawtooth',
  'task': 'mine.gce:gce',
  'optimizer': 'mine.adam:adam',
  'averaging': 'mine.swa:swa',
}
VALUES = {
  **NAMES, 'batch_size': 8, 'epochs': 4, 'budget': 0.5, 'seeds': 2, 'learning_rate': 0.01,
  'evaluate_batch': 64,
}  # fmt: skip


def write(folder: pathlib.Path) -> None:
  """The package of docs/parts.md."""
  blocks = re.findall(
    r'```python\n# (mine/\S+)\n(.*?)```', (ROOT / 'docs/parts.md').read_text(), re.S
  )
  assert len(blocks) == len(registry.KINDS)
  for name, text in blocks:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (path.parent / '__init__.py').touch()


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """A launch folder with the package in it, known to this process for the time of a test."""
  write(tmp_path)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PYTHONPATH', str(ROOT))  # of the processes that tests start
  monkeypatch.setattr(sys, 'path', list(sys.path))
  yield tmp_path
  for name in [name for name in sys.modules if name.partition('.')[0] == 'mine']:
    del sys.modules[name]


def values(**changes):
  """For this process, whose types never promote: optax's Adam counts steps in int32."""
  return config.defaults(**{**VALUES, 'optimizer': 'sgd', **changes})


def launch(folder: pathlib.Path, *flags: str, code: int = 0, stage: str = 'train') -> str:
  """Launches in a process of its own, as people do."""
  given = ','.join(f'{k}={v}' for k, v in VALUES.items())
  command = [sys.executable, ROOT / 'launch.py', f'--config={ROOT}/configs/single.py:{given}']
  command += ['--workdir=work', f'--stage={stage}', *flags]
  environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
  done = subprocess.run(
    command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300
  )
  assert done.returncode == code and 'Traceback' not in done.stderr, done.stdout + done.stderr
  return done.stdout + done.stderr


def results(folder: pathlib.Path) -> dict[str, dict]:
  """By run id what a run came to."""
  found = {}
  for path in (folder / 'work/runs').glob('*/result.json'):
    result = json.loads(path.read_text())
    found[path.parent.name] = {k: result[k] for k in ('status', 'final_accuracy', 'cost')}
    found[path.parent.name] |= {'threads': result['conditions']['threads']}
  return found


def test_the_examples_are_parts_and_short(mine):
  factories.search_last(mine)
  for kind, name in NAMES.items():
    part = factories.chain(kind, name)[0]
    assert part.outside and part.options and part.factory.__doc__
    lines = pathlib.Path(part.factory.__code__.co_filename).read_text().splitlines()
    code = [x for x in lines if x.strip() and not x.startswith(('import', 'from', '#'))]
    assert len(code) <= 10, kind


def test_the_average_leaves_whole_numbers_of_a_network_alone(mine):
  factories.search_last(mine)
  average = make_averaging(NAMES['averaging'], start=0.25)
  weights = {'w': jnp.ones(2)}, {'steps': jnp.int32(3)}
  row = Row(jnp.float32(0.1), step=jnp.int32(2), progress=jnp.float32(0.5))
  after, _ = average.update(average.init(weights), weights, row)
  shapes = jax.tree.map(jax.typeof, (weights, after[0]))
  assert shapes[0] == shapes[1] and int(after[0][1]['steps']) == 3


def test_one_process_two_workers_and_an_edit(mine):
  """What local executors make of outside parts; prose renames nothing, arithmetic does."""
  flags = ('--config.selector_options.noise=0.5', '--config.threads=1')
  launch(mine, *flags)
  first = results(mine)
  assert [(r['status'], r['threads']) for r in first.values()] == 2 * [('done', 1)]
  assert all('mine.rank_rank-mine.negative_negative_mixup-mine.sawtooth' in r for r in first)
  (mine / 'work').rename(mine / 'alone')
  rank = mine / 'mine/rank.py'
  rank.write_text('"""Words."""\n' + rank.read_text().replace('unseen ones first', 'or not'))
  launch(mine, *flags, '--workers=2')
  assert results(mine) == first, 'the same runs, and in two workers the same bits and threads'
  rank.write_text(rank.read_text().replace('-loss - noise', '-loss + noise'))
  launch(mine, *flags, '--config.seeds=1')
  assert len(results(mine)) == 3 and first.items() <= results(mine).items(), 'trained again'


def test_a_stopped_run_goes_on_in_the_same_bits(mine):
  """In one process: stopped after a checkpoint, resumed by a launch that imports anew."""
  work = mine / 'work'
  assert launcher.launch(values(seeds=1), mine / 'whole', 'train') == 0
  stopped = values(seeds=1, checkpoint_every=1e-9, rows_per_call=1)
  assert launcher.launch(stopped, work, 'plan') == 0
  (entry,) = plan_file.entries(work)
  script = (
    'import signal, sys, os\n'
    'from jaxbudget.lab.run import checkpoint\n'
    'save = checkpoint.save\n'
    'def once(*a):\n  path = save(*a)\n  os.kill(os.getpid(), signal.SIGTERM)\n  return path\n'
    'checkpoint.save = once\n'
    'from jaxbudget.lab import config, launcher\n'
    f'sys.exit(launcher.launch(config.from_record({stopped.to_dict()!r}), '
    f'__import__("pathlib").Path({str(work)!r}), "train"))\n'
  )
  done = subprocess.run([sys.executable, '-c', script], cwd=mine, capture_output=True, text=True)
  assert done.returncode == 143, done.stderr
  assert list((work / 'runs' / entry['run_id']).glob('*.ckpt'))
  assert launcher.launch(stopped, work, 'train') == 0
  name = f'runs/{entry["run_id"]}/params.msgpack'
  assert (work / name).read_bytes() == (mine / 'whole' / name).read_bytes()


def test_what_workers_cannot_import_is_refused_before_anything_is_written(mine, capsys):
  hidden = mine / 'hidden'
  hidden.mkdir()
  (mine / 'mine').rename(hidden / 'mine')
  sys.path.insert(0, str(hidden))  # as a config file might
  assert launcher.launch(values(), mine / 'work', 'train', workers=2) == 2
  said = capsys.readouterr().err
  assert "selector 'mine.rank:rank' is not found by workers as it is here" in said
  assert "there is no module 'mine'" in said and f'the launch folder, {mine}' in said
  assert not (mine / 'work').exists()


def test_a_function_of_a_notebook_is_for_one_process(mine, capsys, monkeypatch):
  factories.search_last(mine)
  rank = factories.find('selector', 'mine.rank:rank').factory
  assert config.defaults(selector=rank).selector == 'mine.rank:rank'
  monkeypatch.setattr(rank, '__module__', '__main__')
  monkeypatch.setattr(sys.modules['__main__'], 'rank', rank, raising=False)
  assert launcher.launch(values(selector=rank), mine / 'work', 'train', workers=2) == 2
  assert 'put it into a module' in capsys.readouterr().err
  assert launcher.launch(values(selector=rank, seeds=1), mine / 'work', 'train') == 0
  with pytest.raises(ValueError, match='define it at the top of a module'):
    config.defaults(selector=lambda spec, budget: None)


def test_nothing_that_a_workdir_names_is_imported_without_trust(mine, capsys):
  assert launcher.launch(values(seeds=1), mine / 'work', 'all') == 0
  (run,) = (mine / 'work/runs').iterdir()
  job = jobs.write(mine / 'work', values(seeds=1), [[run.name]], 'local', 'auto')
  for path in (mine / 'mine').glob('*.py'):
    path.write_text(f'open({str(mine / "touched")!r}, "w")\n' + path.read_text())
  script = (
    'import sys\nfrom jaxbudget import load\nfrom jaxbudget.lab import launcher\nimport pathlib\n'
    'sys.path.append(".")\n'
    'for stage in ("report", "status", "cancel"):\n'
    '  assert launcher.launch(None, pathlib.Path("work"), stage) == 0, stage\n'
    'try:\n  load(sys.argv[1])\n'
    'except ValueError as e:\n  print(e)\n'
    'assert not pathlib.Path("touched").exists()\n'
    'load(sys.argv[1], trust=True)\n'
    'assert pathlib.Path("touched").exists()\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, run], cwd=mine, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert 'load(..., trust=True) imports it' in done.stdout
  assert jobs.read(job)['folder'] == str(mine)


FAULTY = {
  'selector': ('def f(spec, budget):\n  return 3\n', 'made a int, not a Selector'),
  'model': (
    'from jaxbudget import Model\n'
    'def f(num_classes, image_shape):\n'
    '  return Model(lambda key: ({}, {}), lambda p, s, x, train, mask=None: (x, s))\n',
    'logits is float32[8, 8, 8, 1], float32[8, 2] is needed',
  ),
  'augment': (
    'from jaxbudget.augment import Stages\n'
    'def f(info):\n  return Stages(after=lambda key, batch: batch, parts=2)\n',
    'part_index is int32[8, 1], int32[8, 2] is needed',
  ),
  'dataset': ('def f(where):\n  return 1 / 0\n', 'raised ZeroDivisionError: division by zero'),
  'schedule': ('def f(epochs, rows, learning_rate, final):\n  pass\n', 'made a NoneType'),
  'task': ('def f(info):\n  return 3\n', 'made a int, not a Task'),
  'averaging': ('def f():\n  return 3\n', 'made a int, not a Averaging'),
  'optimizer': (
    'def f(*, b: int):\n  pass\n',
    'f needs its option b, which must be a whole number',
  ),
}


@pytest.mark.parametrize('kind', FAULTY)
def test_what_does_not_fit_is_refused_with_its_name(mine, kind, capsys):
  text, said = FAULTY[kind]
  (mine / 'mine/wrong.py').write_text(text)
  assert launcher.launch(values(**{kind: 'mine.wrong:f'}), mine / 'work', 'train') == 2
  error = capsys.readouterr().err
  assert said in error and 'f' in error and not (mine / 'work').exists()


def test_options_with_the_names_of_ours_are_their_owners(mine):
  """No preset touches them, and none of them is left out of a run's identity."""
  (mine / 'mine/own.py').write_text(
    'from jaxbudget.selectors.sgd import unif_sgd\n'
    'def replay(spec, budget, *, credit: str = "x", warmup: int = 3, recording: str = ""):\n'
    '  """Has options that ours have too."""\n'
    '  return unif_sgd(spec, budget)\n'
  )
  factories.search_last(mine)
  given = {'dataset': 'digits', 'selector': 'mine.own:replay', 'seeds': 1}
  ids = set()
  for recording in ('a', 'b'):
    for fidelity in ('released', 'corrected'):
      changes = {'fidelity': fidelity, 'selector_options.recording': recording}
      (run,) = grid.make_runs(values(**given, augment='mixup', **changes))
      wanted = {'credit': 'x', 'warmup': 3, 'recording': recording}
      assert run.parts.options['selector'] == wanted
      ids.add(run.run_id)
  assert len(ids) == 2


def test_a_network_without_features_is_no_match_for_who_wants_them(mine, capsys):
  centres = values(selector='coreset', **{'selector_options.score': 'kcenter'})
  assert launcher.launch(centres, mine / 'work', 'train') == 2
  assert "model 'mine.perceptron:perceptron' has no `features`" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('mine.rank:rnk', "has no attribute 'rnk'; did you mean 'rank'"),
    ('mine.ranc:rank', "there is no module 'mine.ranc' (known: "),
    ('recent_losss:recent_loss', "there is no module 'recent_losss' (known: "),
    ('repay:recording', "no module 'repay'; did you mean 'replay:RECORDING'? (known: "),
    ('mine.broken:f', 'importing it raised SyntaxError'),
    ('mine.needs:f', "importing it raised ModuleNotFoundError: No module named 'absent'"),
    ('mine.leaves:f', 'importing it raised SystemExit'),
    ('mine.rank:jnp', 'is a module, not a factory'),
    ('mine/rank.py:rank', 'or package.module:factory'),
  ],
)
def test_names_that_cannot_be_followed(mine, name, said):
  (mine / 'mine/broken.py').write_text('def f(:\n')
  (mine / 'mine/needs.py').write_text('import absent\n')
  (mine / 'mine/leaves.py').write_text('import sys\nsys.exit(3)\n')
  factories.search_last(mine)
  with pytest.raises(ValueError) as fault:
    factories.find('selector', name)
  assert said in str(fault.value)


def test_the_launch_folder_is_searched_last(mine, monkeypatch):
  monkeypatch.setattr(sys, 'path', ['', str(mine), '/elsewhere', str(mine)])
  factories.search_last(mine)
  assert sys.path == ['/elsewhere', str(mine)]


def test_a_fresh_process_that_fails_is_no_proof(mine, monkeypatch):
  monkeypatch.setattr(outside.subprocess, 'run', lambda *a, **k: subprocess.CompletedProcess(
    a, 1, stdout='', stderr='Killed\n'
  ))  # fmt: skip
  assert outside._in_a_fresh_process([('model', 'a:b')]) == {'model=a:b': 'Killed'}


def test_a_config_record_holds_all_options(mine):
  assert launcher.launch(values(seeds=1), mine / 'work', 'train') == 0
  (run,) = (mine / 'work/runs').iterdir()
  kept = files.read_json(run / files.CONFIG)
  assert kept['augment_options'] == {
    'negative': {'probability': 0.5}, 'mixup': {'alpha': 0.3, 'mix_image': True, 'fold': False},
  }  # fmt: skip
  assert kept['dataset_options'] == {'size': 64} and kept['parts'] == 2
  assert load(run, trust=True).config.model_options.hidden == 32
