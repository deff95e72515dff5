"""The decoded cache, the lock, full disks, and the way to the device."""

import os
import re
import subprocess
import threading
import types

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxbudget import data
from jaxbudget.data import arrays, cache, device, memory

random = np.random.RandomState(0)


def tiny(seed=0, count=40):
  image = np.random.RandomState(seed).randint(0, 256, (count, 8, 8, 3), np.uint8)
  label = np.arange(count) % 4
  return arrays.from_arrays('tiny', image, label, image[:9], label[:9], notes=('a note',))


def test_round_trip(tmp_path):
  dataset = tiny()
  assert cache.read(tmp_path / 'c') == (None, '')
  cache.write(tmp_path / 'c', dataset, 'made from this')
  read, reason = cache.read(tmp_path / 'c', 'made from this')
  assert reason == ''
  for old, new in zip(dataset[1:5], read[1:5], strict=True):
    np.testing.assert_array_equal(old, new)
    assert old.dtype == new.dtype
  assert read.info == dataset.info and read.notes == dataset.notes
  assert read.fingerprint == dataset.fingerprint and read.where == str(tmp_path / 'c')
  assert cache.read(tmp_path / 'c', 'something newer') == (None, '')


def test_replaced_cache_leaves_former_readers_alone(tmp_path):
  cache.write(tmp_path / 'c', tiny(0))
  former, _ = cache.read(tmp_path / 'c')
  (tmp_path / 'c.tmp-killed').mkdir()  # of a process that died
  cache.write(tmp_path / 'c', tiny(1))
  np.testing.assert_array_equal(former.train_image, tiny(0).train_image)
  assert cache.read(tmp_path / 'c')[0].fingerprint == tiny(1).fingerprint
  assert [path.name for path in tmp_path.iterdir()] == ['c']


@pytest.mark.parametrize('file', ['train_image', 'train_label', 'test_image', 'test_label'])
def test_every_array_is_verified(tmp_path, file):
  cache.write(tmp_path / 'c', tiny())
  path = tmp_path / 'c' / f'{file}.npy'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  assert cache.read(tmp_path / 'c') == (None, 'its content does not match its hash')


def test_lock_lets_one_in_and_says_that_the_other_waits(tmp_path):
  order, told = [], []
  inside, waiting = threading.Event(), threading.Event()

  def first():
    with cache.lock(tmp_path / 'c', lambda *what: None):
      inside.set()
      waiting.wait(20)
      order.append('first')

  thread = threading.Thread(target=first)
  thread.start()
  assert inside.wait(20)
  with cache.lock(tmp_path / 'c', lambda task, *_: (told.append(task), waiting.set())):
    order.append('second')
  thread.join()
  assert order == ['first', 'second']
  assert told == ['waiting for another process that prepares c']


@pytest.fixture
def small_disk(tmp_path):
  """A disk of one megabyte."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('a full disk can only be tried where a tmpfs can be mounted (as root)')
  yield disk
  subprocess.run(['umount', '-l', str(disk)], check=True)


def test_full_disk_leaves_the_old_cache_intact(small_disk):
  cache.write(small_disk / 'c', tiny())
  with pytest.raises(data.DataError, match='no space left on the disk; .*data_dir'):
    cache.write(small_disk / 'c', tiny(1, 20000))
  assert cache.read(small_disk / 'c')[0].fingerprint == tiny().fingerprint
  assert [path.name for path in small_disk.iterdir()] == ['c']


def test_disk_that_fills_while_preparing(small_disk, tmp_path):
  import tensorflow_datasets as tfds

  from jaxbudget.data import prepared

  class Noise(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(32, 32, 3))})
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for i in range(800):
        yield i, {'image': prepared.encode_png(random.randint(0, 256, (32, 32, 3), np.uint8))}

  builder = prepared.make(Noise, data_dir=small_disk, file_format='array_record')
  with pytest.raises(data.DataError, match='no space left on the disk'):
    prepared.prepare(builder)
  assert not prepared.is_prepared(builder)
  assert [path for path in small_disk.rglob('*') if path.is_file()] == []


def test_prepared_images_beyond_the_padding_of_their_ids_stay_in_their_order(tmp_path):
  import tensorflow_datasets as tfds

  from jaxbudget.data import prepared

  class Many(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = {
        'id': tfds.features.Text(),
        'image': tfds.features.Image(shape=(2, 2, 3)),
        'label': tfds.features.ClassLabel(num_classes=12),
      }
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in ('train', 'test')}

    def _generate_examples(self, split):
      for i in range(12):
        image = prepared.encode_png(np.full((2, 2, 3), i, np.uint8))
        yield i, {'id': f'{split}_{99_994 + i:05d}', 'image': image, 'label': i}

  builder = prepared.make(Many, data_dir=tmp_path, file_format='array_record')
  prepared.prepare(builder)
  (train, train_label, test, _), _ = prepared.read(builder, lambda *what: None)
  np.testing.assert_array_equal(train_label, np.arange(12))
  np.testing.assert_array_equal(test[:, 0, 0, 0], np.arange(12))


def test_data_dir_that_is_a_file(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(FileExistsError):
    with cache.lock(tmp_path / 'file' / 'c', lambda *what: None):
      pass


# --- device ---------------------------------------------------------------------------


def test_place_puts_uint8_on_the_device():
  dataset = tiny()
  train, test = data.place(dataset)
  np.testing.assert_array_equal(train.image, dataset.train_image)
  np.testing.assert_array_equal(test.label, dataset.test_label)
  assert train.image.dtype == np.uint8 and train.label.dtype == np.int32
  second = jax.devices()[1]
  assert data.place(dataset, second)[0].image.devices() == {second}


def test_place_refuses_what_does_not_fit():
  needed = sum(array.nbytes for array in tiny()[1:5])
  stats = {'bytes_limit': 9000, 'bytes_in_use': 1000}
  small = types.SimpleNamespace(platform='gpu', memory_stats=lambda: stats)
  with pytest.raises(data.DataError, match=f'needs {needed:,} bytes, 8,000 are free'):
    data.place(tiny(), small)


GROUPS = {
  'no groups': ({}, 12 * 1024),
  'version 2': (
    {
      'proc/self/cgroup': '0::/a/b\n',
      'groups/a/b/memory.max': 'max\n',
      'groups/a/b/memory.current': '4\n',
      'groups/a/memory.max': '9000\n',
      'groups/a/memory.current': '5000\n',
      'groups/a/memory.stat': 'anon 17\ninactive_file 300\n',
    },
    4300,
  ),
  'version 1': (
    {
      'proc/self/cgroup': '5:devices:/\n4:cpu,memory:/job\n0::/\n',
      'groups/memory/job/memory.limit_in_bytes': '7000\n',
      'groups/memory/job/memory.usage_in_bytes': '8000\n',
      'groups/memory/job/memory.stat': 'total_inactive_file 1500\n',
      'groups/memory/memory.limit_in_bytes': '9223372036854771712\n',
      'groups/memory/memory.usage_in_bytes': '5\n',
    },
    500,
  ),
  'more than there is': (
    {'proc/self/cgroup': '0::/\n', 'groups/memory.max': '99999\n', 'groups/memory.current': '0\n'},
    12 * 1024,
  ),
}


@pytest.mark.parametrize('case', GROUPS)
def test_free_memory_is_what_the_host_and_its_groups_allow(case, monkeypatch, tmp_path):
  written, free = GROUPS[case]
  meminfo = {'proc/meminfo': 'MemTotal: 99 kB\nMemAvailable:     12 kB\n'}
  for name, content in {**meminfo, **written}.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
  monkeypatch.setattr(memory, '_PROC', tmp_path / 'proc')
  monkeypatch.setattr(memory, '_GROUPS', tmp_path / 'groups')
  host = types.SimpleNamespace(platform='cpu', memory_stats=lambda: None)
  assert device.free_bytes(host) == free
  monkeypatch.setattr(memory, '_PROC', tmp_path / 'nothing')
  assert device.free_bytes(host) is None


# --- words ----------------------------------------------------------------------------


def test_describe():
  rows = dict(re.split('  +', line, maxsplit=1) for line in data.describe(tiny()).splitlines())
  assert rows['training images'] == '40 (10 of each class)'
  assert rows['test images'] == '9 (2 to 3 of each class)'
  assert rows['image'] == '8 x 8 x 3, uint8'
  mean = tiny().train_image[..., 0].mean() / 255
  assert f'{mean:.4f}' in rows['mean']
  assert rows['note 1'] == 'a note'


def test_progress_bars_are_quiet_unless_on_a_terminal(capsys):
  with data.progress_bars(Console(stderr=True, force_terminal=False)) as progress:
    progress('reading', 1, 2)
    progress('reading', 2, 2)
    progress('waiting', 0, None)
  assert capsys.readouterr() == ('', '')
  with data.progress_bars(Console(stderr=True, force_terminal=True)) as progress:
    progress('reading', 2, 2)
  assert 'reading' in capsys.readouterr().err
