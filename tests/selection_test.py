"""Recorded selection: packed and back, nothing else is taken for one."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxbudget import recording
from jaxbudget.lab.run import checkpoint, record


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int32, st.integers(1, 40), elements=st.integers(0, 1000)))
def test_pack_and_unpack(count):
  planes = recording.pack(count)
  assert planes.shape == (int(count.max()).bit_length(), -(-count.size // 8))
  np.testing.assert_array_equal(recording.unpack(planes, count.size), count)


def test_a_file_takes_less_than_two_bits_and_numpy_reads_it(tmp_path):
  rng = np.random.default_rng(0)
  epochs = [rng.integers(0, 3, 50_000) * (rng.random(50_000) < 0.5) for _ in range(4)]
  content = recording.to_bytes([recording.pack(e) for e in epochs], 50_000)
  assert 8 * len(content) < 2 * 4 * 50_000
  assert content == recording.to_bytes([recording.pack(e) for e in epochs], 50_000)
  (tmp_path / recording.FILE).write_bytes(content)
  np.testing.assert_array_equal(recording.read(tmp_path), np.stack(epochs))
  assert recording.read(tmp_path / recording.FILE).dtype == np.uint8
  with np.load(tmp_path / recording.FILE, allow_pickle=False) as arrays:  # as documented
    low, high = np.unpackbits(arrays['epoch_0002'], axis=1, count=50_000)
    np.testing.assert_array_equal(low + 2 * high, epochs[1])


def test_epochs_beyond_the_padding_stay_in_their_order(tmp_path):
  counts = np.arange(10_002)[:, None] % [3, 7]
  planes = [recording.pack(count) for count in counts]
  (tmp_path / recording.FILE).write_bytes(recording.to_bytes(planes, 2))
  np.testing.assert_array_equal(recording.read(tmp_path), counts)


def test_a_checkpoint_of_many_epochs_leaves_them_in_their_order(tmp_path):
  planes = {f'{e:04d}': np.full((1, 1), e % 251, np.uint8) for e in range(9_998, 10_003)}
  books = dataclasses.asdict(record.Books(selection=planes))
  checkpoint.save(tmp_path, {}, books, {})
  restored = record.Books(**checkpoint.load(tmp_path).record)
  np.testing.assert_array_equal(restored.recorded, list(planes.values()))


def written(path, **arrays):
  np.savez(path, **arrays)
  return path


def bomb(path):
  """A member of a few bytes that says it is a gigabyte."""
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {'descr': '|u1', 'fortran_order': False, 'shape': (1 << 15, 1 << 15)}
  )
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    buffer = io.BytesIO()
    np.save(buffer, np.int64(48))
    archive.writestr('num_examples.npy', buffer.getvalue())
    archive.writestr('epoch_0001.npy', header.getvalue() + bytes(1 << 20))
  return path


@pytest.mark.parametrize(
  'make, match',
  [
    (lambda p: p / 'none.npz', 'does not exist'),
    (lambda p: p, 'does not exist'),
    (lambda p: (p / 'x.npz').write_text('text') and p / 'x.npz', 'damaged or no recording'),
    (lambda p: written(p / 'x.npz', a=np.zeros(3)), 'num_examples'),
    (lambda p: written(p / 'x.npz', num_examples=48), 'no epochs'),
    (lambda p: written(p / 'x.npz', num_examples=48, epoch_1=np.zeros((1, 5), np.uint8)), 'u8'),
    (lambda p: written(p / 'x.npz', num_examples=48, epoch_1=np.zeros((1, 6))), 'u8'),
    (
      lambda p: written(p / 'x.npz', num_examples=48, epoch_0002=np.zeros((1, 6), np.uint8)),
      'epoch 1',
    ),
    (lambda p: written(p / 'x.npz', num_examples=48, epoch_1=np.array([{}])), 'pickle|u8'),
    (lambda p: bomb(p / 'x.npz'), 'more than 48 counts take'),
  ],
)
def test_anything_else_is_refused(make, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    recording.read(make(tmp_path))


@pytest.mark.parametrize('position', range(0, 100, 7))
def test_a_damaged_file_never_gives_other_counts(position, tmp_path):
  count = np.arange(48) % 3
  content = bytearray(recording.to_bytes([recording.pack(count)] * 2, 48))
  content[position * len(content) // 100] ^= 16
  (tmp_path / recording.FILE).write_bytes(content)
  try:
    found = recording.read(tmp_path)
  except ValueError as e:
    assert str(tmp_path) in str(e)
  else:  # a byte that says nothing of the content, such as a date
    np.testing.assert_array_equal(found, np.stack([count, count]))
