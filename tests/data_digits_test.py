import numpy as np
import pytest
from sklearn import datasets

from jaxbudget import data
from jaxbudget.data import dataset


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


def test_facts_match_the_arrays(digits):
  info = digits.info
  assert info == data.info('digits')
  assert digits.train_image.shape == (info.num_train, *info.image_shape) == (1437, 8, 8, 1)
  assert digits.test_image.shape == (info.num_test, *info.image_shape) == (360, 8, 8, 1)
  assert digits.train_image.dtype == digits.test_image.dtype == np.uint8
  assert digits.train_label.dtype == digits.test_label.dtype == np.int32
  pixels = digits.train_image / 255
  np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)), rtol=1e-9)
  assert (info.pad, info.flip) == (1, 0.0)


def test_split_is_stratified_and_loses_nothing(digits):
  np.testing.assert_array_equal(np.bincount(digits.test_label), np.full(10, 36))
  original = datasets.load_digits()
  image = np.concatenate([digits.train_image, digits.test_image]).reshape(1797, 64)
  label = np.concatenate([digits.train_label, digits.test_label])
  both = np.concatenate([np.rint(image * (16 / 255)), label[:, None]], 1)
  whole = np.concatenate([original.data, original.target[:, None]], 1)
  np.testing.assert_array_equal(both[np.lexsort(both.T)], whole[np.lexsort(whole.T)])


def test_fingerprint_is_that_of_the_content(digits):
  assert digits.fingerprint == '04593b0508148011'
  assert dataset.fingerprint(*digits[1:5]) == digits.fingerprint
  image = digits.train_image.copy()
  image[700, 3, 3] ^= 1
  assert dataset.fingerprint(image, *digits[2:5]) != digits.fingerprint


def test_fingerprint_ignores_memory_layout_and_byte_order():
  array = np.arange(24, dtype=np.int32).reshape(4, 6)
  same = dataset.fingerprint(array)
  assert dataset.fingerprint(np.asfortranarray(array)) == same
  assert dataset.fingerprint(array.astype('>i4')) == same
  assert dataset.fingerprint(array.reshape(6, 4)) != same
  assert dataset.fingerprint(array.astype(np.uint32)) != same


def test_pixel_statistics_of_several_blocks():
  image = np.random.RandomState(0).randint(0, 256, (5000, 3, 2, 3), np.uint8)
  image[..., 2] = 7
  mean, std = dataset.pixel_statistics(image)
  np.testing.assert_allclose(mean, (image / 255).mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(std[:2], (image / 255).std((0, 1, 2))[:2], rtol=1e-12)
  assert std[2] == 1  # constant channel: nothing to divide by


def test_validation_split_replaces_the_test_set(digits):
  split = data.load('digits', validation=105)
  np.testing.assert_array_equal(np.bincount(split.test_label), np.full(10, 10))
  assert split.info.num_train == len(split.train_image) == 1337
  assert split.info.num_test == len(split.test_image) == 100
  assert data.info('digits', validation=105) == split.info
  assert 'take the place of the test set' in split.notes[-1]
  assert split.fingerprint != digits.fingerprint
  # The rule of fidelity.md 1.7, re-derived: one RandomState(42), class by class.
  random = np.random.RandomState(42)
  held = []
  for c in range(10):
    position = np.where(digits.train_label == c)[0]
    random.shuffle(position)
    held.extend(position[:10])
  np.testing.assert_array_equal(split.test_image, digits.train_image[sorted(held)])
  rest = np.delete(digits.train_image, held, axis=0)
  np.testing.assert_array_equal(split.train_image, rest)


@pytest.mark.parametrize('validation', [9, -1, 1437])
def test_impossible_validation_split_is_refused(validation):
  with pytest.raises(data.DataError, match=f'validation={validation}.*10..1436'):
    data.load('digits', validation=validation)


def test_split_larger_than_a_class_is_refused():
  with pytest.raises(data.DataError, match='class 0 has 142 images, too few to hold out 142'):
    data.load('digits', validation=1420)


@pytest.mark.parametrize(
  ('name', 'close'),
  [
    ('digit', 'digits'),
    ('cifar-10', 'cifar10'),
    ('npy:x', 'npz:PATH'),
    ('npz:', 'npz:PATH'),
  ],
)
def test_unknown_name_shows_the_closest_and_all_known(name, close):
  with pytest.raises(ValueError, match=f"unknown dataset .* did you mean '{close}'.*svhn"):
    data.load(name)
