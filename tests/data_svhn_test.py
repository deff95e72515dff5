"""SVHN from `.mat` files of the official form, written here."""

import hashlib

import numpy as np
import pytest
import scipy.io

from jaxbudget import data
from jaxbudget.data import tables


def content(count, seed):
  random = np.random.RandomState(seed)
  label = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # 10 is the digit zero
  return {'X': random.randint(0, 256, (32, 32, 3, count), np.uint8), 'y': label}


def write(directory, train, test):
  lines = []
  for archive, arrays in zip(tables.ARCHIVES['svhn'], (train, test), strict=True):
    path = directory / archive.filename
    if isinstance(arrays, bytes):
      path.write_bytes(arrays)
    else:
      scipy.io.savemat(path, arrays)
    blob = path.read_bytes()
    digest = hashlib.sha256(blob).hexdigest()
    lines.append(f'{archive.url}\t{len(blob)}\t{digest}\t{archive.filename}\n')
  (directory / 'checksums.tsv').write_text(''.join(lines))


def load(directory):
  return data.load('svhn', directory / 'root', directory, directory / 'checksums.tsv')


def test_images_labels_and_constants(tmp_path):
  train, test = content(30, 0), content(20, 1)
  write(tmp_path, train, test)
  loaded = load(tmp_path)
  for arrays, image, label in [
    (train, loaded.train_image, loaded.train_label),
    (test, loaded.test_image, loaded.test_label),
  ]:
    for i in range(len(label)):
      np.testing.assert_array_equal(image[i], arrays['X'][:, :, :, i])
    np.testing.assert_array_equal(label, arrays['y'][:, 0] % 10)
  assert loaded.info.mean == loaded.info.std == (0.5, 0.5, 0.5)
  assert loaded.info.class_names == tuple('0123456789')
  assert 'instead of 73,257 and 26,032' in loaded.notes[0]
  assert not list(tmp_path.rglob('*extra_*'))  # 1.3 GB that the study does not use


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'y': np.full((30, 1), 11, np.uint8)}, 'label 11 is out of range 1..10'),
    ({'y': np.zeros((30, 1), np.uint8)}, 'label 0 is out of range 1..10'),
    ({'y': np.ones((29, 1), np.uint8)}, '30 images but 29 labels'),
    ({'X': np.zeros((32, 32, 3, 30))}, r'X is float64\(32, 32, 3, 30\), expected uint8'),
    ({'X': np.zeros((30, 32, 32, 3), np.uint8)}, r'X is uint8\(30, 32, 32, 3\)'),
    ({'y': None}, 'lacks y'),
  ],
)
def test_bad_content_is_refused(tmp_path, change, message):
  arrays = {k: v for k, v in (content(30, 0) | change).items() if v is not None}
  write(tmp_path, arrays, content(20, 1))
  with pytest.raises(data.DataError, match=message):
    load(tmp_path)


def test_damaged_file_is_refused(tmp_path):
  write(tmp_path, content(30, 0), content(20, 1))
  blob = (tmp_path / 'train_32x32.mat').read_bytes()
  for bad in (blob[: len(blob) // 2], b'MATLAB 5.0' + bytes(300), b'nonsense'):
    write(tmp_path, bad, content(20, 1))
    with pytest.raises(data.DataError, match='cut short or damaged|lacks'):
      load(tmp_path)
