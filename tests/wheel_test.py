"""The package without its repository: what the wheel holds is all that a launch needs."""

import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from jaxbudget.lab import command
from jaxbudget.lab.run import process
from jaxbudget.lab.sweep import slurm

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
PIP = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check', '--no-input']


def did(*arguments, **options) -> str:
  """Runs a program to its end; what it said."""
  ended = subprocess.run(arguments, capture_output=True, text=True, timeout=300, **options)
  assert ended.returncode == 0, ended.stdout + ended.stderr
  return ended.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder that the wheel is installed into, over the packages that there are."""
  source, place = (tmp_path_factory.mktemp(name) for name in ('source', 'place'))
  for name in ('README.md', 'LICENSE', 'pyproject.toml'):
    shutil.copy(ROOT / name, source)
  shutil.copytree(ROOT / 'jaxbudget', source / 'jaxbudget')
  wheel = [*PIP, 'wheel', '--no-deps', '--no-index', '--no-build-isolation', '-w', source, source]
  did(*wheel)
  (built,) = source.glob('*.whl')
  did(*PIP, 'install', '--no-deps', '--no-index', '--target', place, built)
  return place


def test_an_installed_package_plans_and_trains_with_workers(installed, tmp_path):
  # A repository in the folder of the launch must not be taken for the package.
  (tmp_path / 'jaxbudget').mkdir()
  (tmp_path / 'jaxbudget' / '__init__.py').write_text('raise SystemExit("the wrong package")')
  environment = {**os.environ, 'PYTHONPATH': str(installed)}
  launch = [
    installed / 'bin' / 'jaxbudget',
    '--config=single:dataset=digits,model=mlp,batch_size=64,epochs=1,budget=0.1',
    '--config.seeds=2',
  ]
  options = {'cwd': tmp_path, 'env': environment}
  did(*launch, '--stage=train', '--workers=2', **options)
  workdir = tmp_path / 'runs' / 'single'
  plan = json.loads((workdir / 'plan.json').read_text())
  assert plan['command'].startswith('jaxbudget --config=single:')
  results = [workdir / 'runs' / run['run_id'] / 'result.json' for run in plan['runs']]
  assert len(results) == 2
  for path in results:
    assert json.loads(path.read_text())['versions']['commit'] == ''  # of no repository


def test_tasks_of_slurm_import_the_package_that_submitted_them(tmp_path):
  (tmp_path / 'jaxbudget').mkdir()  # the folder of the launch, where a task starts
  (tmp_path / 'jaxbudget' / '__init__.py').touch()
  ask = 'import importlib.util as u; print(u.find_spec("jaxbudget").origin)'
  setup = slurm._exports(process.same_package())
  found = did('bash', '-c', '\n'.join([*setup, f"{sys.executable} -c '{ask}'"]), cwd=tmp_path)
  assert found.strip() == str(ROOT / 'jaxbudget' / '__init__.py')


def test_the_wheel_has_every_file_of_the_package(installed):
  def held(folder):
    paths = (path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
    return {path for path in paths if path.suffix != '.pyc'}

  assert held(ROOT / 'jaxbudget') == held(installed / 'jaxbudget')


def test_configs_of_the_repository_are_the_packaged_ones():
  packaged = {path.stem for path in (ROOT / 'jaxbudget/lab/configs').glob('[!_]*.py')}
  assert packaged == set(CONFIGS)
  for name in CONFIGS:
    ours = importlib.import_module(f'configs.{name}')
    assert ours.get_config is importlib.import_module(f'jaxbudget.lab.configs.{name}').get_config


def test_a_bare_name_is_a_packaged_config_unless_there_is_a_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  place = pathlib.Path(command.__file__).parent / 'configs'
  assert command._packaged('table2:scale=rehearsal') == f'{place}/table2.py:scale=rehearsal'
  with pytest.raises(ValueError, match="unknown config 'tabel2'; did you mean 'table2'"):
    command._packaged('tabel2')
  with pytest.raises(ValueError, match='no file configs/table2.py here; --config=table2'):
    command._packaged('configs/table2.py:scale=rehearsal')
  (tmp_path / 'table2').write_text('')
  assert command._packaged('table2') == 'table2'
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'mine.py').write_text('')
  assert command._packaged('~/mine.py:data_dir=~') == f'{tmp_path}/mine.py:data_dir=~'
  with pytest.raises(ValueError, match='mnie.py: there is no such file; did you mean mine.py'):
    command._packaged('mnie.py')
