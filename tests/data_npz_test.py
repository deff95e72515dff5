import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import data
from jaxbudget.augment import make_augment
from jaxbudget.data import npz
from jaxbudget.types import Data, plain_batch

random = np.random.RandomState(0)
GOOD = {
  'x_train': random.randint(0, 256, (12, 10, 9), np.uint8),
  'y_train': np.arange(12) % 3,
  'x_test': random.randint(0, 256, (6, 10, 9), np.uint8),
  'y_test': np.arange(6) % 3,
}


def save(tmp_path, **change):
  arrays = {k: v for k, v in (GOOD | change).items() if v is not None}
  np.savez(tmp_path / 'set.npz', **arrays)
  return f'npz:{tmp_path}/set.npz'


def test_grey_images_gain_a_channel(tmp_path):
  loaded = data.load(save(tmp_path))
  np.testing.assert_array_equal(loaded.train_image, GOOD['x_train'][..., None])
  np.testing.assert_array_equal(loaded.test_label, GOOD['y_test'])
  assert loaded.train_label.dtype == np.int32
  info = loaded.info
  assert (info.num_train, info.num_test, info.num_classes) == (12, 6, 3)
  assert info.image_shape == (10, 9, 1)
  np.testing.assert_allclose(info.mean, [(GOOD['x_train'] / 255).mean()])
  assert data.info(info.name) == info


@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint64])
def test_colour_images_and_column_labels(tmp_path, dtype):
  image = random.randint(0, 256, (12, 10, 9, 3), np.uint8)
  label = GOOD['y_train'].astype(dtype)[:, None]
  loaded = data.load(save(tmp_path, x_train=image, x_test=image[:6], y_train=label))
  np.testing.assert_array_equal(loaded.train_image, image)
  np.testing.assert_array_equal(loaded.train_label, GOOD['y_train'])


def test_normalisation_and_flip_may_be_given(tmp_path):
  name = save(tmp_path)
  info = data.load(name, mean=[0.5], flip=0.25).info
  assert (info.mean, info.flip) == ((0.5,), 0.25)
  assert info.std == data.info(name).std and data.info(name).flip == 0
  assert data.info(name, std=(2.0,)).std == (2.0,)
  with pytest.raises(data.DataError, match='3 faults: .*3 values for 1 ch.*std=.*flip=1.5'):
    data.load(name, mean=[0.5] * 3, std=[0.0], flip=1.5)


def test_whole_numbers_channels_first_and_one_hot_are_taken_with_a_note(tmp_path):
  image = random.randint(0, 256, (12, 10, 9, 3), np.uint8)
  first = image.transpose(0, 3, 1, 2).astype(np.int64)
  label = np.eye(3, dtype=np.float32)[GOOD['y_train']]
  loaded = data.load(save(tmp_path, x_train=first, x_test=first[:6], y_train=label))
  np.testing.assert_array_equal(loaded.train_image, image)
  np.testing.assert_array_equal(loaded.train_label, GOOD['y_train'])
  assert loaded.train_image.dtype == np.uint8 and loaded.train_label.dtype == np.int32
  assert loaded.notes == (
    'x_train and x_test: pixels of int64 in 0..255 were taken as uint8',
    'x_train and x_test: channels first were put last',
    'y_train: one-hot rows of 3 were taken as classes',
  )
  plain = data.load(save(tmp_path, x_train=image, x_test=image[:6]))
  assert plain.fingerprint == loaded.fingerprint and not plain.notes


def test_what_is_tested_on_where_there_is_no_test_split(tmp_path):
  split = {'x_test': None, 'y_test': None}
  with pytest.raises(data.DataError, match='nothing to test on; validation=N takes N'):
    data.load(save(tmp_path, **split))
  loaded = data.load(save(tmp_path, **split), validation=6)
  assert (loaded.info.num_train, loaded.info.num_test) == (6, 6)
  np.testing.assert_allclose(loaded.info.mean, [(loaded.train_image / 255).mean()], rtol=1e-12)
  np.testing.assert_allclose(loaded.info.std, [(loaded.train_image / 255).std()], rtol=1e-12)
  valid = {'x_val': GOOD['x_test'], 'y_val': GOOD['y_test']}
  loaded = data.load(save(tmp_path, **split, **valid))
  np.testing.assert_array_equal(loaded.test_image[..., 0], GOOD['x_test'])
  assert loaded.notes == ('there is no x_test: x_val and y_val take its place',)
  with pytest.raises(data.DataError, match='the first is class 1'):
    data.load(save(tmp_path, **split, y_train=GOOD['y_train'] * 2), validation=6)


@pytest.mark.parametrize(
  ('shape', 'pad'), [((1, 40), 0), ((2, 40), 1), ((40, 1), 0), ((40, 40), 4)]
)
def test_images_one_pixel_high_are_not_padded(tmp_path, shape, pad):
  image = random.randint(0, 256, (12, *shape), np.uint8)
  info = data.load(save(tmp_path, x_train=image, x_test=image[:6])).info
  assert info.pad == pad
  augment = make_augment('standard', info)
  batch = plain_batch(
    Data(jnp.asarray(image[..., None]), jnp.zeros(12, jnp.int32)),
    jnp.arange(4, dtype=jnp.int32), jnp.ones(4, jnp.float32), 3,
  )  # fmt: skip
  assert augment.train(jax.random.key(0), batch).image.shape == (4, *shape, 1)


def with_value(key, value):
  changed = GOOD[key].copy()
  changed[1] = value
  return {key: changed}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'x_test': None}, 'lacks x_test .it has x_train'),
    ({'x_train': GOOD['x_train'] / 255}, 'x_train has dtype float64, give pixels as uint8'),
    ({'x_train': np.full((12, 10, 9), np.nan)}, '1080 NaN or infinite'),
    ({'x_train': GOOD['x_train'][0]}, 'x_train has 10 inputs but y_train 12 labels'),
    ({'x_train': np.zeros((12, 10, 9, 2), np.uint8)}, 'x_train has shape'),
    ({'x_test': GOOD['x_test'][:0], 'y_test': GOOD['y_test'][:0]}, 'x_test is empty'),
    ({'x_test': GOOD['x_test'][:, :5]}, r'train images have shape \(10, 9, 1\) but test images'),
    ({'y_train': GOOD['y_train'][:7]}, 'x_train has 12 images but y_train 7 labels'),
    (with_value('y_train', -1), 'y_train has negative labels .lowest -1'),
    (with_value('y_test', 3), r'y_test has label 3 out of range 0\.\.2'),
    (with_value('y_train', 10**9), '1000000000.* no training image, the first is class 3'),
    ({'y_train': np.arange(12) % 3 * 2}, 'the first is class 1'),
    ({'y_train': GOOD['y_train'] + 0.5}, 'y_train holds numbers but y_test classes'),
    ({'y_train': GOOD['y_train'] > 1}, 'y_train has dtype bool, give labels as integers'),
    ({'y_train': np.full(12, np.nan)}, '12 NaN'),
    ({'y_train': np.eye(3, dtype=int)[GOOD['y_train']] * 2}, r'y_train has shape \(12, 3\)'),
    ({'y_train': np.eye(3)[GOOD['y_train'] * 0]}, 'y_test has label 2 out of range'),
    ({'x_train': GOOD['x_train'] + np.int64(1)}, r'dtype int64.* \(it holds 1 to 25\d\)|uint8'),
    ({'x_train': GOOD['x_train'] - np.int16(99)}, r'dtype int16.* \(it holds -99 to 156\)'),
    ({'y_train': GOOD['y_train'].astype(object)}, 'y_train is an object array'),
    ({'x_train': GOOD['x_train'].astype(object)}, 'x_train is an object array'),
  ],
)
def test_fault_is_refused(tmp_path, change, message):
  with pytest.raises(data.DataError, match=message):
    data.load(save(tmp_path, **change))


def test_all_faults_in_one_message(tmp_path):
  name = save(tmp_path, x_test=None, x_train=GOOD['x_train'] / 1.0, y_test=GOOD['y_test'] - 1)
  with pytest.raises(data.DataError) as caught:
    data.load(name)
  message = str(caught.value)
  assert message.startswith(f'{name}: 3 faults: ')
  for part in ('lacks x_test', 'x_train has dtype float64', 'y_test has negative labels'):
    assert part in message


def test_what_is_wrong_with_one_array_hides_nothing_of_others(tmp_path):
  wrong = {'x_test': GOOD['x_test'] / 1.0, 'y_train': GOOD['y_train'] * 2}
  with pytest.raises(data.DataError) as caught:
    data.load(save(tmp_path, **wrong))
  told = ('x_test has dtype float64', '2 of 5 classes (labels 0..4) have no training image')
  assert ': 2 faults: ' in str(caught.value) and all(t in str(caught.value) for t in told)
  with pytest.raises(data.DataError) as caught:
    data.load(save(tmp_path, x_test=GOOD['x_test'][:, :5], y_test=GOOD['y_test'] - 1))
  told = ('train images have shape', 'y_test has negative labels')
  assert ': 2 faults: ' in str(caught.value) and all(t in str(caught.value) for t in told)


def test_arrays_larger_than_memory_are_refused_unread(tmp_path, monkeypatch):
  name = save(tmp_path)
  monkeypatch.setattr(npz, 'host_free_bytes', lambda: 100)
  monkeypatch.setattr(npz, '_read', None)
  with pytest.raises(data.DataError, match=r'holds [\d,]+ bytes of arrays, but 100 bytes are free'):
    data.load(name)


def test_a_header_that_promises_too_much_is_a_fault_of_the_file(tmp_path):
  name = save(tmp_path, x_train=None)
  with zipfile.ZipFile(tmp_path / 'set.npz', 'a') as archive:
    content = io.BytesIO()
    header = {'descr': '|u1', 'fortran_order': False, 'shape': (2**50, 8, 8)}
    np.lib.format.write_array_header_1_0(content, header)
    archive.writestr('x_train.npy', content.getvalue())
  with pytest.raises(data.DataError, match='x_train (does not fit|is not a NumPy array)'):
    data.load(name)


def test_object_array_is_never_unpickled(tmp_path):
  class Bomb:
    def __reduce__(self):
      return (open, (str(tmp_path / 'exploded'), 'w'))

  name = save(tmp_path, y_train=np.array([Bomb()] * 12))
  with pytest.raises(data.DataError, match='object array'):
    data.load(name)
  assert not (tmp_path / 'exploded').exists()


def test_files_that_are_no_npz(tmp_path):
  with pytest.raises(data.DataError, match='no such file'):
    data.load(f'npz:{tmp_path}/none.npz')
  name = save(tmp_path)
  path = tmp_path / 'set.npz'
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(data.DataError, match='not an npz file'):
    data.load(name)
  at = whole.index(GOOD['x_train'].tobytes())
  path.write_bytes(whole[:at] + bytes(50) + whole[at + 50 :])
  with pytest.raises(data.DataError, match='x_train cannot be read: Bad CRC'):
    data.load(name)
  path.write_bytes(b'XX' + whole[2:])
  with pytest.raises(data.DataError, match='not an npz file'):
    data.load(name)
  path.write_bytes(np.lib.format.magic(1, 0) + whole)
  with pytest.raises(data.DataError, match='not an npz file|a single array'):
    data.load(name)


@pytest.mark.parametrize(('field', 'value', 'said'), [(8, 9, 'compression'), (6, 1, 'encrypted')])
def test_members_that_cannot_be_unpacked_are_faults(tmp_path, field, value, said):
  name = save(tmp_path)
  path = tmp_path / 'set.npz'
  content = bytearray(path.read_bytes())
  for mark, shift in ((b'PK\x03\x04', 0), (b'PK\x01\x02', 2)):  # its own header, the directory's
    at = content.index(mark)
    content[at + field + shift] = value  # method 9 is Deflate64, bit 0 of the flags encryption
  path.write_bytes(content)
  with pytest.raises(data.DataError, match=f'x_train cannot be read: .*{said}'):
    data.load(name)


def test_mirror_images_are_an_option(tmp_path):
  name = save(tmp_path)
  assert data.load(name, options={'flip': 0.5}).info.flip == 0.5
  for flip, said in ((1.5, 'not a probability'), (-0.1, 'not a probability')):
    with pytest.raises(data.DataError, match=f'flip={flip} is {said}'):
      data.load(name, options={'flip': flip})
  tokens = {'x_train': GOOD['x_train'][..., 0].astype(int), 'x_test': GOOD['x_test'][..., 0]}
  name = save(tmp_path, **tokens | {'x_test': tokens['x_test'].astype(int)})
  with pytest.raises(data.DataError, match='flip=0.5 is for images, these are tokens'):
    data.load(name, options={'flip': 0.5})
