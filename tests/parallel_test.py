"""Several devices and several processes give what one gives."""

import dataclasses
import json
import math
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.sharding import NamedSharding, PartitionSpec
from selectors_common_test import OTHERS, PATHS

from jaxbudget import data, engine, epoch, parallel
from jaxbudget.data.flat import FlatImages
from jaxbudget.lab import config
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import grid
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data

WORKER = pathlib.Path(__file__).with_name('parallel_worker.py')


def start(*arguments):
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, str(WORKER), *map(str, arguments)]
  return subprocess.Popen(
    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def wait(*processes):
  for process in processes:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said


def assert_same(one, several):
  assert one['row'] == several['row']
  assert one['exact'] == several['exact']
  np.testing.assert_allclose(one['loss'], several['loss'], atol=1e-4)
  np.testing.assert_allclose(one['close'], several['close'], atol=1e-4)


@pytest.mark.parametrize(
  'variants', [PATHS, pytest.param(OTHERS, marks=pytest.mark.long)], ids=['paths', 'others']
)
def test_a_chunk_of_rows_is_the_same_on_1_2_and_4_devices(variants, tmp_path):
  wait(start('devices', tmp_path / 'found.json', *variants))
  found = json.loads((tmp_path / 'found.json').read_text())
  assert set(found) == set(variants)
  for variant, by_count in found.items():
    one = by_count['1']
    rows = min(10, one['planned'])  # a few classes make fewer, where whole epochs are in proportion
    assert one['row'] == rows > 2 and np.count_nonzero(one['loss']) > 2, variant
    for count in ('2', '4'):  # on 4 the images are split, on 2 each device has them all
      assert_same(one, by_count[count])
      assert by_count[count]['compiled'] <= 1, variant  # 0: methods that share a row program


def test_two_processes_train_like_one(tmp_path):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  outs = [tmp_path / f'{name}.json' for name in ('alone', 'first', 'second')]
  wait(start('process', outs[1], 2, 0, port), start('process', outs[2], 2, 1, port))
  wait(start('process', outs[0], 1, 0, port))
  alone, first, second = (json.loads(out.read_text()) for out in outs)
  assert first == second
  for images in ('split', 'fed'):
    assert_same(alone[images], first[images])


@pytest.mark.parametrize('name', ['p_sgd', 'selective_backprop'])
def test_nothing_that_grows_with_the_data_is_exchanged(name):
  """Of all that devices tell each other in a row, most are the pictures of a batch, once."""
  spec = dataclasses.replace(toys.SPEC, num_examples=2**12)
  mesh = parallel.make_mesh(2, spec.batch_size)
  options = {'staleness': 2} if name == 'selective_backprop' else {}
  selector = make_selector(name, spec, 0.75, options)
  program, *shapes = engine.row_shapes(
    spec, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), 0.75
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), shapes
  )
  text = epoch.train_rows.lower(program._replace(mesh=mesh), *shapes).compile().as_text()
  kinds = 'all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all'
  results = re.findall(rf'= (.*?) (?:{kinds})(?:-start)?\(', text)
  counts = [
    math.prod(int(d) for d in dimensions.split(',') if d)
    for result in results
    for dimensions in re.findall(r'\w\[([\d,]*)\]', result)
  ]
  pictures = spec.batch_size * math.prod(spec.image_shape)
  assert counts and max(counts) <= pictures
  assert counts.count(pictures) <= (name == 'selective_backprop')


def test_no_mesh_for_one_device_and_a_row_of_devices_for_several():
  assert parallel.make_mesh(1, 8) is None
  mesh = parallel.make_mesh(0, 8)
  assert mesh.shape == {'batch': jax.device_count()}


@pytest.mark.parametrize('devices', [-1, 1000])
def test_refuses_devices_that_are_not_there(devices):
  with pytest.raises(ValueError, match=f'devices={devices} is refused: 0'):
    parallel.make_mesh(devices, 8)


def test_refuses_to_leave_a_process_without_devices(monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(ValueError, match=r'devices=1 is refused: with 2 processes .* only be 0'):
    parallel.make_mesh(1, 8)


def test_refuses_batches_that_cannot_be_shared():
  with pytest.raises(ValueError, match='batch_size=7 cannot be shared evenly by 2 devices'):
    parallel.make_mesh(2, 7)


def test_large_images_are_split_and_small_ones_copied():
  mesh = parallel.make_mesh(2, 8)
  odd = Data(toys.data().image[:47], toys.data().label[:47])
  copied = parallel.place_data(odd, mesh)
  assert copied.image.is_fully_replicated and copied.image.shape[0] == 47
  shared = parallel.place_data(odd, mesh, split_bytes=100)
  assert [shard.data.shape[0] for shard in shared.image.addressable_shards] == [24, 24]
  assert shared.label.is_fully_replicated
  np.testing.assert_array_equal(shared.image[:47], odd.image)
  flat = parallel.place_data(odd._replace(image=FlatImages.of(odd.image)), mesh, split_bytes=100)
  assert [s.data.shape[0] for s in flat.image.pixels.addressable_shards] == [24, 24]
  np.testing.assert_array_equal(flat.image[:47], odd.image)


def test_without_a_mesh_nothing_moves():
  tree = {'a': jnp.arange(3)}
  assert parallel.replicate(tree, None)['a'] is tree['a']
  assert parallel.split(tree, None) is tree
  assert parallel.everywhere(tree, None) is tree


@pytest.fixture(scope='module')
def whole_runs(tmp_path_factory):
  """Two runs of a launch's plan, on one device and on two, and what each had to compile."""
  found = {}
  for devices in (1, 2):
    settings = {'dataset': 'digits', 'model': 'mlp', 'selector': 'p_sgd'}
    values = {'budget': 0.5, 'epochs': 4, 'batch_size': 32, 'seeds': 1, 'devices': devices}
    (run,) = grid.make_runs(config.defaults(**settings, **values))
    before = epoch.train_rows._cache_size()
    placed = data.place(data.load('digits'))
    result = train(run, *placed, tmp_path_factory.mktemp('run'))
    found[devices] = run, result, epoch.train_rows._cache_size() - before
  return found


@pytest.mark.long
def test_a_whole_run_agrees_within_seed_noise(whole_runs):
  (run, one, _), (same_run, two, _) = whole_runs.values()
  assert run.run_id == same_run.run_id, 'the number of devices is no part of an experiment'
  assert one['cost'] == two['cost']
  assert abs(one['final_accuracy'] - two['final_accuracy']) < 5
  assert (one['device']['devices'], two['device']['devices']) == (1, 2)


def test_a_run_compiles_its_row_program_once(whole_runs):
  assert [compiled for _, _, compiled in whole_runs.values()] == [1, 1]


def test_only_what_jax_says_without_devices_is_put_in_words(monkeypatch):
  def raising(error):
    def devices():
      raise error

    monkeypatch.setattr(parallel.jax, 'devices', devices)

  for nothing in (AssertionError(), AttributeError("'NoneType' object has no attribute 'devices'")):
    raising(nothing)
    with pytest.raises(RuntimeError, match='no backend of JAX_PLATFORMS='):
      parallel.make_mesh(0, 8)
  for other in (AttributeError("module 'jax' has no attribute 'lib'"), AssertionError('two')):
    raising(other)
    with pytest.raises(type(other), match=str(other)):
      parallel.make_mesh(0, 8)
