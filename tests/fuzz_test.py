"""Whatever people write into a config, it is trained or refused by name; never a traceback."""

import pathlib
import subprocess
import sys

import faulty
import fuzzing
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from hypothesis import HealthCheck, given, settings

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def common(tmp_path_factory):
  """A config that is small and fits."""
  dataset = faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')
  values = {'dataset': dataset, 'model': 'linear', 'selector': 'unif_sgd'}
  sizes = {'batch_size': 8, 'epochs': 3, 'budget': 0.5, 'evaluate_batch': 16, 'seeds': 1}
  return {**values, **sizes}


@settings(
  deadline=None, max_examples=50, derandomize=True,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(drawn=fuzzing.SETTINGS)
def test_any_config_is_trained_or_refused(linear_model, common, tmp_path, drawn):  # noqa: F811
  fuzzing.attempt(common, drawn, tmp_path / 'work')


@pytest.mark.parametrize('key', fuzzing.VALUES)
def test_what_does_not_fit_is_refused_by_name(linear_model, common, tmp_path, key):  # noqa: F811
  for value in fuzzing.VALUES[key][1]:
    outcome = fuzzing.attempt(common, {key: value}, tmp_path / 'work')
    assert outcome == 'refused', (key, value)


@pytest.mark.parametrize('text', ['def get_config(arg=None)\n', 'import no_such_module\n', '1/0\n'])
def test_a_config_file_that_is_broken_is_refused(text, tmp_path):
  (tmp_path / 'broken.py').write_text(text)
  command = [sys.executable, ROOT / 'launch.py', f'--config={tmp_path}/broken.py']
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert done.stderr.startswith('refused: ') and 'Error' in done.stderr
  assert not (tmp_path / 'runs').exists()
