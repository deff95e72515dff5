"""Valid configs are accepted, whatever their parts and options; one fault is refused by name."""

import pathlib
import subprocess
import sys

import faulty
import fuzzing
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from hypothesis import HealthCheck, Phase, given, settings

from jaxbudget import factories
from jaxbudget.lab import config

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def common(tmp_path_factory):
  """A config that is small and fits."""
  dataset = faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')
  return {'dataset': dataset, 'batch_size': 8, 'epochs': 12, 'evaluate_batch': 16, 'seeds': 1}


def fuzz(count, **more):
  return settings(
    deadline=None, max_examples=count, derandomize=True, **more,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
  )  # fmt: skip


def test_every_key_and_every_option_of_every_part_is_drawn():
  assert set(fuzzing.KEYS) == set(config.defaults())
  for kind in fuzzing.NAMES:
    for name in faulty.OURS[kind]:
      part = factories.find(kind, name)
      for option in part.options:
        valid, invalid = fuzzing.values(kind, part, option)
        assert invalid, (kind, name, option)
        assert valid or name == 'replay', (kind, name, option)
      assert set(fuzzing.OPTIONS[kind].get(name, {})) <= set(part.options), (kind, name)


@fuzz(80)
@given(drawn=fuzzing.valid())
def test_a_valid_config_is_accepted(linear_model, common, tmp_path, drawn):  # noqa: F811
  outcome, said = fuzzing.attempt(common, drawn, tmp_path / 'work', 'plan')
  assert outcome == 'planned', (drawn, said)


@fuzz(5, phases=[Phase.generate])  # to shrink what is trained would take minutes
@given(drawn=fuzzing.valid())
def test_a_valid_config_is_trained(linear_model, common, tmp_path, drawn):  # noqa: F811
  small = {'model': 'linear', 'epochs': 12, 'batch_size': 16, 'seeds': 1}
  drawn = {k: v for k, v in drawn.items() if not k.startswith('model_')} | small
  outcome, said = fuzzing.attempt(common, drawn, tmp_path / 'work')
  assert outcome in ('trained', 'diverged'), (drawn, said)


@fuzz(120)
@given(case=fuzzing.mutated())
def test_one_fault_is_refused_by_its_key(linear_model, common, tmp_path, case):  # noqa: F811
  drawn, key = case
  outcome, said = fuzzing.attempt(common, drawn, tmp_path / 'work', 'plan')
  assert outcome == 'refused' and fuzzing.names(key, said), (drawn, key, said)


@pytest.mark.parametrize('key', fuzzing.KEYS)
def test_what_does_not_fit_is_refused_by_name(linear_model, common, tmp_path, key):  # noqa: F811
  for value in fuzzing.KEYS[key][1]:
    drawn = {'model': 'linear', key: value}
    outcome, said = fuzzing.attempt(common, drawn, tmp_path / 'work', 'plan')
    assert outcome == 'refused', (key, value, said)
    shown = key == 'dataset' and str(value) in said
    assert fuzzing.names(key, said) or shown, (key, value, said)


def test_the_path_of_a_data_set_is_an_option(linear_model, common, tmp_path):  # noqa: F811
  given = {'model': 'linear', 'dataset': 'npz'}
  path = common['dataset'].partition(':')[2]
  told = {path: '', 3: 'path=3', None: 'path=None', '/x': 'npz:/x: no such file'}
  for value, wanted in told.items():
    drawn = {**given, 'dataset_options.path': value}
    outcome, said = fuzzing.attempt(common, drawn, tmp_path / 'work', 'plan')
    assert outcome == ('refused' if wanted else 'planned') and wanted in said, (value, said)
  outcome, said = fuzzing.attempt(common, given, tmp_path / 'work', 'plan')
  assert outcome == 'refused' and 'npz needs its option path' in said


@pytest.mark.parametrize('text', ['def get_config(arg=None)\n', 'import no_such_module\n', '1/0\n'])
def test_a_config_file_that_is_broken_is_refused(text, tmp_path):
  (tmp_path / 'broken.py').write_text(text)
  command = [sys.executable, ROOT / 'launch.py', f'--config={tmp_path}/broken.py']
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert done.stderr.startswith('refused: ') and 'Error' in done.stderr
  assert not (tmp_path / 'runs').exists()
