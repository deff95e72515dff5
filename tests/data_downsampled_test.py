"""Downsampled ImageNet: npz batches as published, tiny ones written here."""

import errno
import os

import numpy as np
import pytest

from jaxbudget import data
from jaxbudget.data import downsampled
from jaxbudget.lab import config
from jaxbudget.lab.run.run import must_be_read
from jaxbudget.lab.sweep import grid

random = np.random.RandomState(0)


def save(directory, side=8, **change):
  """All files of one side; what `change` says of a file goes over what it would hold."""
  directory.mkdir(exist_ok=True, parents=True)
  images = {}
  for name in (*downsampled.TRAIN, *downsampled.TEST):
    n = 5 if name == 'val_data.npz' else 3
    pixels = random.randint(0, 256, (n, 3 * side**2), np.uint8)
    content = {'data': pixels, 'labels': random.randint(1, 1001, n)}
    if n == 3:
      content['mean'] = pixels.mean(0)
    content |= change.get(name, {})
    np.savez(directory / name, **content)
    images[name] = content
  return images


def load(name, root, directory):
  return data.load(name, root / 'root', str(directory) if directory else None)


def test_planes_become_pixels_and_labels_begin_at_0(tmp_path):
  images = save(tmp_path / 'manual' / 'Imagenet8_train')
  loaded = load('imagenet8', tmp_path, tmp_path / 'manual')
  assert (loaded.info.num_train, loaded.info.num_test, loaded.info.num_classes) == (30, 5, 1000)
  assert isinstance(loaded.train_image, np.memmap)
  second = images['train_data_batch_2.npz']
  for channel in range(3):
    plane = second['data'][1, 64 * channel : 64 * (channel + 1)].reshape(8, 8)
    np.testing.assert_array_equal(loaded.train_image[4, :, :, channel], plane)
  np.testing.assert_array_equal(loaded.train_label[3:6], second['labels'] - 1)
  np.testing.assert_array_equal(loaded.test_label, images['val_data.npz']['labels'] - 1)
  assert loaded.notes == (
    'subset: 30 and 5 training and test images instead of 1,281,167 and 50,000',
  )
  # The cache is what the batches were moved into: nothing else is left on the disk.
  (kept,) = [path for path in (tmp_path / 'root' / 'jaxbudget').iterdir() if path.is_dir()]
  assert sorted(path.name for path in kept.iterdir()) == [
    'meta.json', 'test_image.npy', 'test_label.npy', 'train_image.npy', 'train_label.npy',
  ]  # fmt: skip
  again = load('imagenet8', tmp_path, tmp_path / 'manual')
  assert again.fingerprint == loaded.fingerprint


def test_sides_share_names_and_are_told_apart_by_their_width(tmp_path):
  for side in (8, 16):
    save(tmp_path / 'manual' / f'side{side}', side)
  for side in (8, 16):
    loaded = load(f'imagenet{side}', tmp_path, tmp_path / 'manual')
    assert loaded.info.image_shape == (side, side, 3) == loaded.test_image.shape[1:]
  with pytest.raises(data.DataError, match='lacks train_data_batch_1.npz.*12,288 bytes.*pickled'):
    load('imagenet64', tmp_path, tmp_path / 'manual')
  save(tmp_path / 'manual')
  with pytest.raises(data.DataError, match='train_data_batch_1.npz is there twice'):
    load('imagenet8', tmp_path, tmp_path / 'manual')


def test_faults_are_named(tmp_path):
  first = 'train_data_batch_1.npz'
  for number, (change, words) in enumerate(
    (
      ({'labels': np.arange(3)}, 'labels are 0 to 2, expected 1 to 1000'),
      ({'labels': np.ones(2, int)}, r'labels is int64\[2\], expected 3 numbers'),
      ({'data': np.zeros((3, 192))}, r'data is float64\[3, 192\]'),
    )
  ):
    directory = tmp_path / str(number)
    save(directory, **{first: change})
    with pytest.raises(data.DataError, match=f'{first}.*{words}'):
      load('imagenet8', tmp_path, directory)
  (directory / first).write_bytes((directory / first).read_bytes()[:400])
  with pytest.raises(data.DataError, match=f'{first} cannot be read'):
    load('imagenet8', tmp_path, directory)
  save(directory)
  content = bytearray((directory / first).read_bytes())
  for mark, method in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)):
    content[content.index(mark) + method] = 9  # Deflate64, which zipfile does not know
  (directory / first).write_bytes(content)
  with pytest.raises(data.DataError, match=f'{first} cannot be read: .*compression'):
    load('imagenet8', tmp_path, directory)


def test_a_full_disk_is_met_before_anything_is_written(tmp_path, monkeypatch):
  save(tmp_path / 'manual')

  def full(*arguments):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(data.DataError, match='no space left on the disk'):
    load('imagenet8', tmp_path, tmp_path / 'manual')
  assert not [path for path in (tmp_path / 'root' / 'jaxbudget').iterdir() if path.is_dir()]


def test_it_is_planned_without_being_there():
  cell = config.defaults(dataset='imagenet32', seeds=1)
  (run,) = grid.make_runs(cell)
  assert run.info.num_train == 1_281_167 and not must_be_read(run.cell)
  assert must_be_read(config.defaults(dataset='imagenet32', data_manual_dir='/somewhere'))
