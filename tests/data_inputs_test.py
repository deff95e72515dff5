"""Features, tokens and numbers to predict: what is read of arrays, and what is refused."""

import numpy as np
import pytest

from jaxbudget import data

RANDOM = np.random.RandomState(0)
FEATURES = {
  'x_train': RANDOM.randn(12, 5), 'y_train': np.arange(12) % 3,
  'x_test': RANDOM.randn(6, 5), 'y_test': np.arange(6) % 3,
}  # fmt: skip
TOKENS = FEATURES | {
  'x_train': RANDOM.randint(0, 9, (12, 7)), 'x_test': RANDOM.randint(0, 11, (6, 7)),
}  # fmt: skip
NUMBERS = FEATURES | {'y_train': RANDOM.randn(12, 2) * 3, 'y_test': RANDOM.randn(6, 2)}


def load(tmp_path, arrays, **changes):
  np.savez(tmp_path / 'set.npz', **{k: v for k, v in {**arrays, **changes}.items()})
  return data.load(f'npz:{tmp_path}/set.npz')


def test_features_are_kept_as_they_are(tmp_path):
  found = load(tmp_path, FEATURES)
  assert found.info.kind == 'features' and found.info.image_shape == (5,)
  assert (found.info.mean, found.info.std, found.info.vocabulary) == ((), (), 0)
  assert found.train_image.dtype == np.float32 and found.info.dtype == 'float32'
  np.testing.assert_array_equal(found.train_image, FEATURES['x_train'].astype(np.float32))
  assert '5 features, float32' in data.describe(found)


def test_the_vocabulary_is_that_of_both_splits(tmp_path):
  found = load(tmp_path, TOKENS)
  assert found.info.kind == 'tokens' and found.info.image_shape == (7,)
  assert found.info.vocabulary == 1 + max(TOKENS['x_train'].max(), TOKENS['x_test'].max())
  assert found.test_image.dtype == np.int32 and found.info.dtype == 'int32'
  np.testing.assert_array_equal(found.test_image, TOKENS['x_test'])
  assert f'7 tokens of a vocabulary of {found.info.vocabulary}, int32' in data.describe(found)


@pytest.mark.parametrize('wide', [True, False])
def test_float_labels_are_numbers_with_their_mean_and_deviation(wide, tmp_path):
  changes = {} if wide else {key: NUMBERS[key][:, 0] for key in ('y_train', 'y_test')}
  found = load(tmp_path, NUMBERS, **changes)
  outputs = 2 if wide else 1
  assert found.info.num_classes == outputs and found.train_label.shape == (12, outputs)
  kept = NUMBERS['y_train'][:, :outputs]
  np.testing.assert_allclose(found.train_label, kept, rtol=1e-6)
  np.testing.assert_allclose(found.info.label_mean, kept.mean(0), rtol=1e-5)
  np.testing.assert_allclose(found.info.label_std, kept.std(0), rtol=1e-5)
  assert f'{outputs} numbers a sample' in data.describe(found)


def test_a_constant_number_has_the_deviation_1(tmp_path):
  assert load(tmp_path, NUMBERS, y_train=np.ones(12), y_test=np.ones(6)).info.label_std == (1.0,)


def test_a_validation_split_of_numbers_knows_no_classes(tmp_path):
  load(tmp_path, NUMBERS)
  found = data.load(f'npz:{tmp_path}/set.npz', validation=4)
  assert (found.info.num_train, found.info.num_test) == (8, 4)
  np.testing.assert_allclose(found.info.label_mean, found.train_label.mean(0), rtol=1e-5)
  both = np.concatenate([found.train_label, found.test_label])
  assert sorted(both[:, 0].tolist()) == sorted(np.float32(NUMBERS['y_train'][:, 0]).tolist())


@pytest.mark.parametrize(('arrays', 'changes', 'said'), [
  (FEATURES, {'x_test': TOKENS['x_test']}, 'training inputs are features but test inputs tokens'),
  (FEATURES, {'x_test': FEATURES['x_test'][:, :3]}, r'features have shape \(5,\) but .* \(3,\)'),
  (FEATURES, {'x_train': np.full((12, 5), np.inf)}, 'no numbers of 32 bits .it holds 60 NaN'),
  (FEATURES, {'x_train': FEATURES['x_train'] * 1e300}, 'holds features that are no numbers'),
  (FEATURES, {'x_train': np.zeros((12, 0))}, 'x_train is empty'),
  (FEATURES, {'x_train': FEATURES['x_train'][:7]}, 'x_train has 7 inputs but y_train 12 labels'),
  (TOKENS, {'x_train': -TOKENS['x_train']}, r'x_train holds tokens from -8 to 0, allowed'),
  (TOKENS, {'x_test': TOKENS['x_test'] + 10**12}, 'x_test holds tokens from 1000000000'),
  (NUMBERS, {'y_test': FEATURES['y_test']}, 'y_train holds numbers but y_test classes'),
  (FEATURES, {'y_test': NUMBERS['y_test']}, 'y_train holds classes but y_test numbers'),
  (NUMBERS, {'y_test': np.ones(6)}, 'y_train has 2 numbers a sample but y_test 1'),
  (NUMBERS, {'y_train': np.full(12, np.nan)}, 'finite floats, numbers to predict .it holds 12 NaN'),
  (NUMBERS, {'y_train': np.ones((12, 2, 2))}, r'allowed are \[N\] and \[N,1\], and of numbers'),
])  # fmt: skip
def test_faults_are_refused_by_name(arrays, changes, said, tmp_path):
  with pytest.raises(data.DataError, match=said):
    load(tmp_path, arrays, **changes)


def test_normalisation_is_for_images(tmp_path):
  load(tmp_path, FEATURES)
  with pytest.raises(data.DataError, match='mean=.* is for images, these are features'):
    data.load(f'npz:{tmp_path}/set.npz', mean=[0.5])


def test_lists_are_arrays():
  arrays = [FEATURES[key].tolist() for key in ('x_train', 'y_train', 'x_test', 'y_test')]
  found = data.from_arrays('set', *arrays)
  assert found.fingerprint == data.from_arrays('set', *FEATURES.values()).fingerprint
  with pytest.raises(data.DataError, match='set: x_train is no array'):
    data.from_arrays('set', [[1.0], [1.0, 2.0]], *arrays[1:])
