"""Trained networks come back from their directories."""

import json
import shutil

import faulty
import jax.numpy as jnp
import numpy as np
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console

import jaxbudget
from jaxbudget.lab.run import files
from jaxbudget.lab.sweep import local
from jaxbudget.task import as_it_is, regression


@pytest.fixture(scope='module')
def finished(linear_model, tmp_path_factory):  # noqa: F811
  """(directory of a run, its data set)."""
  directory = tmp_path_factory.mktemp('run')
  values = faulty.settings(faulty.write_images(directory / 'tiny.npz'), selector='p_sgd')
  runs, datasets = faulty.planned(values)
  assert local.run_all(runs, datasets, directory, Console(quiet=True)) == 0
  return directory / runs[0].run_id, next(iter(datasets.values()))


@pytest.mark.parametrize('which, key', [('last', 'final_accuracy'), ('best', 'best_accuracy')])
def test_a_loaded_network_has_the_accuracy_of_the_result(finished, which, key):
  directory, dataset = finished
  network = jaxbudget.load(str(directory), which)
  found = np.asarray(network(dataset.test_image)).argmax(-1)
  accuracy = 100 * np.mean(found == dataset.test_label)
  assert accuracy == pytest.approx(files.read_json(directory / 'result.json')[key])
  assert network.config.selector == 'p_sgd'


def test_what_cannot_be_loaded_is_refused(finished, tmp_path):
  directory, _ = finished
  with pytest.raises(ValueError, match="did you mean 'last'"):
    jaxbudget.load(directory, 'lost')
  with pytest.raises(ValueError, match='not a finished run'):
    jaxbudget.load(tmp_path)
  with pytest.raises(ValueError, match='not a finished run'):
    jaxbudget.load(tmp_path / 'nowhere')


@pytest.mark.parametrize(
  'name, content',
  [
    ('config.json', b'{}'),
    ('config.json', b'not json'),
    ('params.msgpack', b''),
    ('params.msgpack', b'\x80'),
    ('params.msgpack', b'garbage' * 99),
  ],
)
@pytest.mark.parametrize('sums', [True, False])
def test_damaged_files_are_refused_with_or_without_checksums(
  finished, name, content, sums, tmp_path
):
  shutil.copytree(finished[0], tmp_path / 'copy')
  (tmp_path / 'copy' / name).write_bytes(content)
  if not sums:
    (tmp_path / 'copy' / 'SHA256SUMS').unlink()
  with pytest.raises(ValueError, match=f'{name}|params.msgpack'):
    jaxbudget.load(tmp_path / 'copy')


def test_a_foreign_config_names_no_code(finished, tmp_path):
  shutil.copytree(finished[0], tmp_path / 'copy')
  (tmp_path / 'copy' / 'SHA256SUMS').unlink()
  file = tmp_path / 'copy' / 'config.json'
  config = json.loads(file.read_text())
  file.write_text(json.dumps({**config, 'model': 'os.system'}))
  with pytest.raises(ValueError, match='os.system'):
    jaxbudget.load(tmp_path / 'copy')


def raw(info):
  """Learns numbers in their own units."""
  return regression(info)._replace(name='raw', answer=as_it_is)


def other_loss(info):
  """Learns standardised numbers by another loss."""
  task = regression(info)
  return task._replace(name='other', trained=lambda output, target, loss: loss**0.5)


@pytest.mark.parametrize(('task', 'answered'), [
  ('regression', 28), ('loading_test:raw', 9), ('loading_test:other_loss', 28),
])  # fmt: skip
def test_what_is_predicted_is_what_the_task_says(finished, task, answered, tmp_path, monkeypatch):
  shutil.copytree(finished[0], tmp_path / 'copy')
  (tmp_path / 'copy' / 'SHA256SUMS').unlink()
  file = tmp_path / 'copy' / 'config.json'
  config = json.loads(file.read_text())
  count = config['data']['num_classes']
  config['data'] |= {'label_mean': [10.0] * count, 'label_std': [2.0] * count}
  file.write_text(json.dumps({**config, 'task': task, 'task_options': {}}))
  if ':' in task:
    with pytest.raises(ValueError, match=r"task 'loading_test.*on trust; load\(..., trust=True"):
      jaxbudget.load(tmp_path / 'copy')
  network = jaxbudget.load(tmp_path / 'copy', trust=True)
  nine = lambda *given, **named: (jnp.full((2, count), 9, jnp.float32), ())
  network = network._replace(model=network.model._replace(apply=nine))
  np.testing.assert_array_equal(network(finished[1].test_image[:2]), np.full((2, count), answered))
