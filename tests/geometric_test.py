"""The standard transform against NumPy."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget.augment import Stages, assemble, chain, geometric, make_augment
from jaxbudget.augment.geometric import crop, flip, normalize, random_crop, random_flip
from jaxbudget.data.dataset import Info
from jaxbudget.types import Data, plain_batch

INFO = Info(
  name='toy',
  num_train=64,
  num_test=1,
  num_classes=5,
  image_shape=(8, 8, 3),
  mean=(0.4914, 0.4822, 0.4465),
  std=(0.2023, 0.1994, 0.2010),
  flip=0.5,
  pad=2,
)


def make_batch(n=6, side=8, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  data = Data(
    image=jnp.asarray(rng.integers(0, 256, (n, side, side, channels)), jnp.uint8),
    label=jnp.asarray(rng.integers(0, 5, n), jnp.int32),
  )
  return plain_batch(data, jnp.arange(n, dtype=jnp.int32), jnp.ones(n, jnp.float32), 5)


def test_crop_is_a_window_of_the_black_padded_image():
  image = np.asarray(make_batch(9).image)
  offset = np.array([(row, col) for row in (0, 2, 4) for col in (0, 1, 4)])
  padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))
  expected = [p[r : r + 8, c : c + 8] for p, (r, c) in zip(padded, offset, strict=True)]
  np.testing.assert_array_equal(crop(jnp.asarray(image), jnp.asarray(offset), 2), expected)


def test_reflecting_crop_is_a_window_of_the_mirrored_image():
  batch = make_batch(25)
  got = random_crop(2, 'reflect')(jax.random.key(0), batch)
  offset = np.asarray(jax.random.randint(jax.random.key(0), (25, 2), 0, 5))
  padded = np.pad(np.asarray(batch.image), ((0, 0), (2, 2), (2, 2), (0, 0)), mode='reflect')
  expected = [p[r : r + 8, c : c + 8] for p, (r, c) in zip(padded, offset, strict=True)]
  np.testing.assert_array_equal(got.image, expected)
  assert set(offset.ravel()) == {0, 1, 2, 3, 4}


def test_a_tpu_selects_the_same_crops():
  padded = jnp.pad(make_batch(25).image, ((0, 0), (2, 2), (3, 3), (0, 0)))
  offset = jnp.asarray([(row, col) for row in range(5) for col in (0, 1, 3, 5, 6)])
  selected, sliced = (
    f(padded, offset, (8, 8, 3)) for f in (geometric.crop_by_selection, geometric.crop_by_slices)
  )
  np.testing.assert_array_equal(selected, sliced)


def test_alternating_flip_shows_both_sides_in_turn():
  batch = make_batch(64)._replace(index=jnp.arange(100, 164, dtype=jnp.int32))
  stage = geometric.alternating_flip()
  shown = [stage(jax.random.key(e), jnp.int32(e), batch).image for e in range(4)]
  np.testing.assert_array_equal(shown[0], shown[2])
  np.testing.assert_array_equal(shown[1], shown[0][:, :, ::-1])  # mirror images
  np.testing.assert_array_equal(shown[3], shown[1])
  # A sample's side is its own, wherever it stands in a batch, and a fair coin.
  side = np.asarray(geometric.alternating_side(jnp.arange(4000), jnp.int32(0)))
  turned = np.asarray(geometric.alternating_side(jnp.arange(4000)[::-1], jnp.int32(1)))
  np.testing.assert_array_equal(side, ~turned[::-1])
  assert abs(side.mean() - 0.5) < 0.04 and abs(np.corrcoef(side[1:], side[:-1])[0, 1]) < 0.08
  other = np.asarray(geometric.alternating_side(jnp.arange(4000), jnp.int32(0), seed=1))
  assert abs((side == other).mean() - 0.5) < 0.04


def test_alternating_flip_leaves_alone_what_has_no_mirror_image():
  augments = [
    make_augment(name, replace(INFO, flip=0.0)) for name in ('standard', 'alternating_flip')
  ]
  batch = make_batch(8)
  for key in jax.random.split(jax.random.key(0), 2):
    standard, alternating = (augment.train(key, batch).image for augment in augments)
    np.testing.assert_array_equal(standard, alternating)


def test_flip_mirrors_left_and_right_only_where_asked():
  image = make_batch(4).image
  mirrored = np.array([True, False, False, True])
  expected = np.where(mirrored[:, None, None, None], np.asarray(image)[:, :, ::-1], image)
  np.testing.assert_array_equal(flip(image, jnp.asarray(mirrored)), expected)


def test_standard_is_crop_then_flip_then_normalise():
  info = INFO
  batch = make_batch(64)
  augment = make_augment('standard', info)
  got = augment.train(jax.random.key(3), batch)
  # The draws, taken again from the keys that `chain` derives.
  key = jax.random.key(3)
  offset = np.asarray(jax.random.randint(jax.random.fold_in(key, 0), (64, 2), 0, 5))
  mirrored = np.asarray(jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (64,)))
  padded = np.pad(np.asarray(batch.image), ((0, 0), (2, 2), (2, 2), (0, 0)))
  expected = []
  for one, (row, col), mirror in zip(padded, offset, mirrored, strict=True):
    one = one[row : row + 8, col : col + 8]
    expected.append(one[:, ::-1] if mirror else one)
  expected = (np.float32(expected) / 255 - np.float32(info.mean)) / np.float32(info.std)
  np.testing.assert_allclose(got.image, expected, rtol=1e-6, atol=1e-6)
  assert 0 < mirrored.sum() < 64 and set(offset.ravel()) == {0, 1, 2, 3, 4}
  chex.assert_trees_all_equal(got._replace(image=0), batch._replace(image=0))


def test_padding_is_black_before_normalisation():
  # SVHN's constants: a padded pixel becomes -1, not 0 (fidelity.md 1.2).
  info = replace(INFO, mean=(0.5,) * 3, std=(0.5,) * 3, flip=0.0)
  white = make_batch()._replace(image=jnp.full((6, 8, 8, 3), 255, jnp.uint8))
  image = make_augment('standard', info).train(jax.random.key(0), white).image
  assert set(np.unique(image)) == {-1.0, 1.0}


def test_evaluation_only_normalises():
  info = INFO
  image = make_batch().image
  got = make_augment('standard', info).test(image)
  expected = (np.float32(image) / 255 - np.float32(info.mean)) / np.float32(info.std)
  np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
  chex.assert_type(got, jnp.float32)


@pytest.mark.parametrize('channels', [1, 3])
def test_jit_equals_no_jit_and_keys_decide(channels):
  info = replace(INFO, image_shape=(8, 8, channels), mean=(0.3,) * channels, std=(0.4,) * channels)
  batch = make_batch(16, channels=channels)
  train = make_augment('standard', info).train
  plain, again, other = (train(jax.random.key(seed), batch) for seed in (1, 1, 2))
  chex.assert_trees_all_equal(plain, again)
  assert not np.array_equal(plain.image, other.image)
  chex.assert_trees_all_close(plain, jax.jit(train)(jax.random.key(1), batch), atol=1e-6)


def test_translate_is_the_crop_of_a_chain():
  batch, key = make_batch(32), jax.random.key(4)
  info = replace(INFO, flip=0.0)
  got = make_augment('translate+cutout', info, pad=3, size=1).train(key, batch)
  shifted = random_crop(3, 'reflect')(jax.random.fold_in(key, 0), batch).image
  expected = normalize(info.mean, info.std)(shifted)
  changed = np.any(np.asarray(got.image != expected), axis=-1)
  np.testing.assert_array_equal(changed.sum((1, 2)), 1)  # one pixel, which is 0 in the middle
  np.testing.assert_array_equal(np.asarray(got.image)[changed], 0)
  with pytest.raises(ValueError, match='replace the crop'):
    assemble(info, Stages(crop=chain()), Stages(crop=chain()))
  for cut in ('ricap+cutmix', 'cutmix+mixup+ricap'):
    with pytest.raises(ValueError, match='two of these augmentations cut pictures'):
      make_augment(cut, info)
  assert make_augment('mixup+cutmix', info).parts == 4
  with pytest.raises(ValueError, match='pad=8'):
    make_augment('translate', info, pad=8)


def test_nothing_to_draw_leaves_images_alone():
  batch = make_batch()
  for stage in (chain(), random_crop(0), random_flip(0.0)):
    chex.assert_trees_all_equal(stage(jax.random.key(0), batch), batch)


def test_stages_of_a_chain_draw_independently():
  batch = make_batch(32)
  once = random_flip(0.5)
  got = chain(once, once)(jax.random.key(0), batch)
  assert not np.array_equal(got.image, batch.image)  # one key for both would undo the flip


def test_same_arguments_give_the_identical_object():
  assert make_augment('standard', INFO) is make_augment('standard', replace(INFO))
  assert make_augment('standard', INFO) is not make_augment('standard', replace(INFO, pad=1))


@pytest.mark.parametrize(
  'build, words',
  [
    (lambda: make_augment('standart', INFO), ('standart', "'standard'")),
    (lambda: make_augment('standard', INFO, alpha=1), ("'alpha'", 'option of standard')),
    (lambda: make_augment('standard', replace(INFO, pad=-1)), ('pad', '-1')),
    (lambda: make_augment('standard', replace(INFO, pad=8)), ('pad=8', '8x8')),
    (lambda: make_augment('standard', replace(INFO, flip=1.5)), ('flip', '1.5')),
    (lambda: random_crop(2, 'reflct'), ("'reflct'", "'reflect'")),
    (lambda: make_augment('standard', replace(INFO, mean=(0.5,))), ('mean', '3 here')),
    (lambda: normalize((0.5,), (0.0,)), ('std', '> 0')),
  ],
)
def test_bad_input_is_refused(build, words):
  with pytest.raises(ValueError) as error:
    build()
  assert all(word in str(error.value) for word in words), error.value
