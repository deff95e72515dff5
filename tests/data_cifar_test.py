"""CIFAR through tensorflow-datasets, on real archives and on small ones written here."""

import hashlib
import importlib.util
import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums as tfds_checksums

from jaxbudget import data
from jaxbudget.data import cache, prepared, tables

REAL = os.environ.get('JAXBUDGET_TEST_DATA')
needs_real = pytest.mark.skipif(
  not REAL, reason='set JAXBUDGET_TEST_DATA to a directory with the real CIFAR archives'
)
PREFIX = 'cifar-10-batches-bin/'
TRAIN_FILES = [f'data_batch_{i}.bin' for i in range(1, 6)]
CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'.split()


def direct_parse(archive, files, num_labels):
  """(labels, images) of the official records, parsed without any of the code under test."""
  with tarfile.open(archive) as tar:
    blob = b''.join(tar.extractfile(file).read() for file in files)
  rows = np.frombuffer(blob, np.uint8).reshape(-1, num_labels + 3072)
  planes = rows[:, num_labels:].reshape(-1, 3, 32, 32)
  return rows[:, num_labels - 1], np.stack([planes[:, c] for c in range(3)], axis=-1)


@needs_real
@pytest.mark.parametrize(
  ('name', 'train', 'test', 'num_labels'),
  [
    pytest.param(
      'cifar10', [PREFIX + f for f in TRAIN_FILES], [PREFIX + 'test_batch.bin'], 1,
      marks=pytest.mark.long,
    ),
    ('cifar100', ['cifar-100-binary/train.bin'], ['cifar-100-binary/test.bin'], 2),
  ],
)  # fmt: skip
def test_real_images_are_bit_equal(tmp_path, name, train, test, num_labels):
  manual = pathlib.Path(REAL)
  told = []
  loaded = data.load(
    name, tmp_path, REAL, manual / 'checksums.tsv', progress=lambda *what: told.append(what)
  )
  archive = manual / tables.ARCHIVES[name][0].filename
  for files, image, label in [
    (train, loaded.train_image, loaded.train_label),
    (test, loaded.test_image, loaded.test_label),
  ]:
    expected_label, expected_image = direct_parse(archive, files, num_labels)
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_array_equal(image, expected_image)
  info = data.info(name)
  assert loaded.info.mean == info.mean and loaded.info.flip == 0.5
  assert len(loaded.info.class_names) == loaded.info.num_classes == info.num_classes
  assert loaded.notes[0].startswith('subset:') and '50,000' in loaded.notes[0]
  total = len(loaded.train_label)
  assert (f'preparing {name} train', total, total) in told
  assert (f'decoding {name} train', total, total) in told

  # The stock builder reads what was prepared: what is there is the real TFDS data set.
  (home,) = (tmp_path / 'jaxbudget').glob('*.tfds')
  source = tfds.builder(name, data_dir=home, file_format='array_record').as_data_source('test')
  for example in source.__getitems__([0, 7, 1999]):
    at = int(example['id'].decode().removeprefix('test_'))
    np.testing.assert_array_equal(example['image'], loaded.test_image[at])
    assert example['label'] == loaded.test_label[at]


@needs_real
def test_subset_is_refused_without_its_checksums(tmp_path):
  with pytest.raises(data.DataError, match='cut short: 67,721,980 bytes, expected 170,052,171'):
    data.load('cifar10', tmp_path, REAL)
  assert not list(tmp_path.rglob('*.npy'))


def test_official_archives_are_those_of_tensorflow_datasets():
  known = dict(tfds_checksums.get_all_url_infos())
  known |= tfds.builder_cls('svhn_cropped').url_infos
  for archive in sum(tables.ARCHIVES.values(), ()):
    expected = known[archive.url]
    assert archive[1:] == (int(expected.size), expected.checksum, expected.filename)


def test_table_of_the_study():
  assert data.info('cifar100').mean == (0.5071, 0.4867, 0.4408)
  svhn = data.info('svhn')
  assert (svhn.num_train, svhn.num_test, svhn.flip, svhn.pad) == (73257, 26032, 0.0, 4)
  assert data.info('mini_imagenet').image_shape == (84, 84, 3)
  validated = data.info('cifar10', validation=5000)
  assert (validated.num_train, validated.num_test) == (45000, 5000)


def test_a_builder_of_what_is_not_prepared_leaves_no_directory_behind(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  builder = prepared.make(tfds.builder, 'cifar10', data_dir=tmp_path / 'data')
  assert not prepared.is_prepared(builder) and list(tmp_path.iterdir()) == []


# --- small archives -------------------------------------------------------------------


def records(count, seed):
  random = np.random.RandomState(seed)
  rows = random.randint(0, 256, (count, 3073), np.uint8)
  rows[:, 0] = np.arange(count) % 10
  return rows


def write_archive(directory, change=None, name='cifar-10-binary.tar.gz'):
  """A CIFAR-10 archive of 5 x 20 + 20 images, and its checksum file."""
  directory.mkdir(exist_ok=True)
  files = {PREFIX + f: records(20, i).tobytes() for i, f in enumerate(TRAIN_FILES)}
  files[PREFIX + 'test_batch.bin'] = records(20, 9).tobytes()
  files[PREFIX + 'batches.meta.txt'] = '\n'.join(CLASSES).encode() + b'\n\n'
  files = {k: v for k, v in (files | (change or {})).items() if v is not None}
  with tarfile.open(directory / name, 'w:gz', compresslevel=1) as tar:
    for member, content in files.items():
      header = tarfile.TarInfo(member)
      header.size = len(content)
      tar.addfile(header, io.BytesIO(content))
  write_checksums(directory, (directory / name).read_bytes())
  return directory


def write_checksums(directory, content):
  url = tables.ARCHIVES['cifar10'][0].url
  fields = [url, str(len(content)), hashlib.sha256(content).hexdigest(), 'cifar-10-binary.tar.gz']
  (directory / 'checksums.tsv').write_text('\t'.join(fields) + '\n')


def load(root, archive_dir, **more):
  return data.load('cifar10', root, archive_dir, archive_dir / 'checksums.tsv', **more)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """(archive directory, data_dir) of a small data set that is prepared and cached."""
  directory = write_archive(tmp_path_factory.mktemp('archive') / 'a')
  root = tmp_path_factory.mktemp('root')
  load(root, directory)
  return directory, root


def test_warm_start_is_a_memory_map(small):
  directory, root = small
  again = load(root, directory)
  expected = np.concatenate([records(20, i) for i in range(5)])
  np.testing.assert_array_equal(again.train_label, expected[:, 0])
  planes = expected[:, 1:].reshape(-1, 3, 32, 32)
  np.testing.assert_array_equal(again.train_image, planes.transpose(0, 2, 3, 1))
  assert isinstance(again.train_image, np.memmap) and not again.train_image.flags.writeable
  assert again.info.class_names == tuple(CLASSES)


CHECK_TENSORFLOW = """
import sys
from jaxbudget import data
assert 'tensorflow_datasets' not in sys.modules
told = []
loaded = data.load('cifar10', *sys.argv[1:], progress=lambda *what: told.append(what[0]))
warm = 'tensorflow_datasets' not in sys.modules
assert 'tensorflow' not in sys.modules
print(loaded.fingerprint, 'warm' if warm else 'cold', 'preparing cifar10 train' in told)
"""


def run_loader(root, directory):
  command = [sys.executable, '-W', 'error', '-c', CHECK_TENSORFLOW]
  arguments = [root, directory, directory / 'checksums.tsv']
  return subprocess.Popen(
    [str(part) for part in [*command, *arguments]],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_tensorflow_is_not_there_and_two_processes_prepare_at_once(tmp_path, small):
  assert importlib.util.find_spec('tensorflow') is None
  directory, root = small
  both = [run_loader(tmp_path, directory) for _ in range(2)]
  outputs = [(process.communicate(timeout=120), process.returncode) for process in both]
  assert [code for _, code in outputs] == [0, 0], outputs
  words = [out.split() for (out, _), _ in outputs]
  assert words[0][0] == words[1][0] == load(root, directory).fingerprint
  assert sorted(word[2] for word in words) == ['False', 'True']  # prepared once
  assert 'cold' in [word[1] for word in words]
  assert not list(tmp_path.rglob('*.tmp-*')) and not list(tmp_path.rglob('incomplete*'))

  warm = run_loader(tmp_path, directory)
  out, _ = warm.communicate(timeout=120)
  assert out.split() == [words[0][0], 'warm', 'False']  # tensorflow-datasets is not even imported


def set_label(value):
  rows = records(20, 3)
  rows[7, 0] = value
  return {PREFIX + 'data_batch_4.bin': rows.tobytes()}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (set_label(10), r'label 10 of train image 67 is out of range 0\.\.9'),
    ({PREFIX + 'test_batch.bin': records(20, 9).tobytes()[:-5]}, 'not a multiple of 3073'),
    ({PREFIX + 'test_batch.bin': None}, 'lacks cifar-10-batches-bin/test_batch.bin'),
    ({'../../etc/passwd': b'x'}, 'a path that climbs out of its directory'),
    ({'/etc/passwd': b'x'}, 'a path that climbs out of its directory'),
    ({PREFIX + f: records(9, 0).tobytes() for f in TRAIN_FILES}, '1 of 10 classes.*is class 9'),
  ],
)
def test_bad_archive_is_refused(tmp_path, change, message):
  directory = write_archive(tmp_path / 'a', change)
  with pytest.raises(data.DataError, match=message):
    load(tmp_path / 'root', directory)
  left = {path.name for path in (tmp_path / 'root').rglob('*') if path.is_file()}
  assert not [name for name in left if name.endswith('.npy') or 'incomplete' in name]


def test_truncated_and_altered_archives_are_refused_and_the_cache_stays(tmp_path, small):
  directory, root = small
  before = load(root, directory).fingerprint
  good = (directory / 'cifar-10-binary.tar.gz').read_bytes()
  bad = tmp_path / 'bad'
  bad.mkdir()
  archive = bad / 'cifar-10-binary.tar.gz'
  write_checksums(bad, good)
  archive.write_bytes(good[:-1000])
  with pytest.raises(data.DataError, match='is cut short'):
    load(tmp_path / 'root', bad)
  archive.write_bytes(good[:500] + b'?' + good[501:])
  with pytest.raises(data.DataError, match='has the wrong checksum'):
    load(tmp_path / 'root', bad)
  archive.write_bytes(good[:-1000])
  write_checksums(bad, good[:-1000])  # now the checksum is right, but the tar is not
  with pytest.raises(data.DataError, match='cut short or damaged'):
    load(root, bad)
  assert load(root, directory).fingerprint == before


def test_damaged_cache_is_found_by_its_hash_and_rebuilt(tmp_path, small):
  directory, _ = small
  loaded = load(tmp_path, directory)
  expected = np.array(loaded.train_image)
  path = pathlib.Path(loaded.where) / 'train_image.npy'
  del loaded
  for damage in (
    lambda old: old[:5000] + bytes([old[5000] ^ 1]) + old[5001:],
    lambda old: old[:99],
  ):
    path.write_bytes(damage(path.read_bytes()))
    again = load(tmp_path, directory)
    np.testing.assert_array_equal(again.train_image, expected)
  (path.parent / 'meta.json').write_text('{"format": 1')
  assert load(tmp_path, directory).fingerprint == again.fingerprint


def masked_crc(content: bytes) -> bytes:
  """CRC32C bit by bit, masked as TFRecord files have it."""
  crc = 0xFFFFFFFF
  for byte in content:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  crc ^= 0xFFFFFFFF
  return struct.pack('<I', (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def copy_of_prepared(root, home, edit=lambda info: None):
  """Moves prepared data to where the official data would be."""
  (found,) = root.glob('jaxbudget/*.tfds/cifar10/3.0.2')
  target = home / 'cifar10' / '3.0.2'
  target.mkdir(parents=True)
  for file in found.iterdir():
    (target / file.name).write_bytes(file.read_bytes())
  facts_of_it = json.loads((target / 'dataset_info.json').read_text())
  edit(facts_of_it)
  (target / 'dataset_info.json').write_text(json.dumps(facts_of_it))
  return target


def test_prepared_subset_is_not_taken_for_the_official_data(tmp_path, small):
  copy_of_prepared(small[1], tmp_path)
  with pytest.raises(data.DataError, match='holds 100 training and 20 test images instead'):
    data.load('cifar10', tmp_path)


def test_existing_caches_are_read_through_tfds_name(tmp_path, small):
  directory, root = small
  expected = load(root, directory)
  copy_of_prepared(root, tmp_path / 'array_record')
  read = data.load('tfds:cifar10', tmp_path / 'array_record')
  np.testing.assert_array_equal(read.train_image, expected.train_image)
  np.testing.assert_array_equal(read.test_label, expected.test_label)
  np.testing.assert_allclose(read.info.mean, (expected.train_image / 255).mean((0, 1, 2)))
  assert read.info.name == 'tfds:cifar10' and read.info.class_names == tuple(CLASSES)
  halves = data.load('tfds:cifar10', tmp_path / 'array_record', options={'image_size': 16})
  total = expected.train_image.reshape(-1, 16, 2, 16, 2, 3).sum((2, 4), int)
  np.testing.assert_array_equal(halves.train_image, (total + 2) // 4)
  assert isinstance(halves.train_image, np.memmap) and halves.info.num_test == read.info.num_test

  def to_tfrecord(info):
    info['fileFormat'] = 'tfrecord'
    for split in info['splits']:
      split.pop('filepathTemplate', None)

  target = copy_of_prepared(root, tmp_path / 'tfrecord', to_tfrecord)
  for path in target.glob('*array_record*'):
    builder = prepared.make(tfds.builder, 'cifar10', data_dir=tmp_path / 'array_record')
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    split = 'train' if 'train' in path.name else 'test'
    source = builder.as_data_source(split, deserialize_method=raw)
    out = target / path.name.replace('array_record', 'tfrecord')
    with out.open('wb') as file:
      for record in source.__getitems__(list(range(len(source)))):
        length = struct.pack('<Q', len(record))
        file.write(length + masked_crc(length) + bytes(record) + masked_crc(bytes(record)))
    path.unlink()
  again = data.load('tfds:cifar10', tmp_path / 'tfrecord')
  assert again.fingerprint == read.fingerprint

  whole = out.read_bytes()
  builder = prepared.make(tfds.builder, 'cifar10', data_dir=tmp_path / 'tfrecord')
  flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, 9, 40, -1)]
  for damaged in (whole[:-10], whole[:7], *flipped):
    out.write_bytes(damaged)
    with pytest.raises(data.DataError, match='is cut short|does not match its checksum'):
      list(prepared.tfrecords(out))
  with pytest.raises(data.DataError, match='does not match its checksum'):
    prepared.read(builder, lambda *what: None)


def test_read_only_data_dir_is_read_without_a_cache(tmp_path, small, monkeypatch):
  copy_of_prepared(small[1], tmp_path)

  def refuse(*arguments):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(cache, 'lock', refuse)
  for _ in range(2):
    loaded = data.load('tfds:cifar10', tmp_path)
    assert loaded.notes[-1] == (
      f'the images are decoded again at every start: {tmp_path}/jaxbudget/tfds-cifar10 cannot be '
      'written (Permission denied)'
    )
  assert [path.name for path in tmp_path.iterdir()] == ['cifar10']


def test_damaged_prepared_files_are_named(tmp_path, small):
  target = copy_of_prepared(small[1], tmp_path)
  (file,) = target.glob('*train.array_record*')
  whole = file.read_bytes()
  for damaged in (whole[: len(whole) // 2], whole[:5000] + bytes(5000) + whole[10000:], b''):
    file.write_bytes(damaged)
    with pytest.raises(data.DataError, match=f'{target}, split train: cannot be read|fewer than'):
      data.load('tfds:cifar10', tmp_path)


def test_tfds_name_that_is_unknown_or_not_prepared(tmp_path):
  with pytest.raises(data.DataError, match='tfds:no_such_set'):
    data.load('tfds:no_such_set', tmp_path)
  with pytest.raises(data.DataError, match='not prepared in .*tfds build mnist'):
    data.load('tfds:mnist', tmp_path)


@pytest.mark.parametrize(
  'line',
  ['only one field', 'http://x\t12\tabc\tcifar-10-binary.tar.gz', 'u\tx\t' + 'a' * 64 + '\tf'],
)
def test_malformed_checksum_file_is_refused(tmp_path, line):
  (tmp_path / 'checksums.tsv').write_text(f'# comment\n{line}\n')
  with pytest.raises(data.DataError, match='checksums.tsv, line 2: expected url, size, sha256'):
    data.check('cifar10', data_checksums=tmp_path / 'checksums.tsv')


def test_check_names_missing_paths(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(data.DataError, match='data_manual_dir=.*none: no such directory'):
    data.check('cifar10', data_manual_dir=tmp_path / 'none')
  with pytest.raises(data.DataError, match='data_checksums=.*none: cannot be read'):
    data.check('cifar10', data_checksums=tmp_path / 'none')
  with pytest.raises(data.DataError, match='data_dir=.* is a file'):
    data.check('cifar10', data_dir=tmp_path / 'file')
  with pytest.raises(data.DataError, match='folder:/no/such: no such directory'):
    data.check('folder:/no/such')
