"""What a TPU computes in its own form is, bit for bit, what a CPU or GPU reads."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget import data, epoch
from jaxbudget.augment import mix, pillow, products
from jaxbudget.data.flat import FlatImages
from jaxbudget.evaluation import Evaluation, evaluate
from jaxbudget.selectors import make_selector, measuring


@pytest.mark.parametrize('channels', [1, 3])
def test_grey_levels_are_looked_up_and_counted_by_products(channels):
  rng = np.random.default_rng(channels)
  image = rng.integers(0, 256, (4, 7, 9, channels), dtype=np.uint8)
  image[0] = 255  # one level alone: the largest count there can be
  table = rng.integers(0, 256, (4, channels, 256), dtype=np.int32)
  got = jax.jit(jax.vmap(products.look_up))(table, image)
  np.testing.assert_array_equal(got, jax.vmap(pillow._look_up)(table, image))
  own = np.stack([[table[i, c][image[i, ..., c]] for c in range(channels)] for i in range(4)])
  np.testing.assert_array_equal(got, np.moveaxis(own, 1, -1))
  count = jax.jit(jax.vmap(products.histogram))(image)
  np.testing.assert_array_equal(count, jax.vmap(pillow._histogram)(image))
  own = [
    [np.bincount(each[..., c].ravel(), minlength=256) for c in range(channels)] for each in image
  ]
  np.testing.assert_array_equal(count, own)


@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_are_read_by_products(channels):
  rng = np.random.default_rng(channels)
  image = rng.integers(0, 256, (4, 7, 9, channels), dtype=np.uint8)
  row, col = (rng.integers(-side, 2 * side, (4, 7, 9), dtype=np.int32) for side in (7, 9))
  row[0], col[0] = row[0] % 7, col[0] % 9
  got = np.asarray(jax.jit(jax.vmap(products.read))(image, row, col))
  np.testing.assert_array_equal(got, jax.vmap(pillow._read)(image, row, col))
  np.testing.assert_array_equal(got[0], pillow._read_inside(jnp.asarray(image[0]), row[0], col[0]))
  inside = (row >= 0) & (row < 7) & (col >= 0) & (col < 9)
  own = np.stack([each[r % 7, c % 9] for each, r, c in zip(image, row, col, strict=True)])
  np.testing.assert_array_equal(got, np.where(inside[..., None], own, 0))


@pytest.mark.parametrize('shape', [(7, 8, 8, 3), (5, 6, 9, 1)])
def test_patches_by_products_are_those_by_places(shape):
  image = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
  by_products = jax.jit(mix.patch_by_products)
  for seed in range(12):
    draw = mix.draw_ricap(jax.random.key(seed), shape[0], shape[1:3], 0.3)
    np.testing.assert_array_equal(by_products(image, draw), mix.patch_by_places(image, draw))


def test_percentiles_are_those_of_a_search():
  rng = np.random.default_rng(0)
  loss = rng.integers(0, 9, 16).astype(np.float32) / 4  # with ties
  pool = np.concatenate([rng.permutation(np.tile(loss, 3)), np.full(10, np.inf, np.float32)])
  loss[3], pool[-2] = np.nan, np.nan  # of a run that diverges
  got = measuring.percentile(jnp.asarray(pool), jnp.int32(1), jnp.asarray(loss))
  np.testing.assert_array_equal(got, np.searchsorted(np.sort(pool), loss))
  np.testing.assert_array_equal(got, jnp.searchsorted(jnp.sort(pool), jnp.asarray(loss)))


def test_flat_images_train_and_evaluate_as_others_do():
  plain = toys.data()
  flat = plain._replace(image=FlatImages.of(plain.image))
  assert flat.image.shape == plain.image.shape and flat.image.nbytes == plain.image.nbytes
  np.testing.assert_array_equal(flat.image[5:9], plain.image[5:9])
  selector = make_selector('p_sgd', toys.SPEC, 0.5)
  root, stop, found = jax.random.key(0), jnp.int32(4), []
  for split in (plain, flat):
    program, state = toys.start(selector, 0.5)
    state = epoch.begin_epoch(selector, state, 0, root)
    state, _ = epoch.train_rows(program, state, split, toys.rates(state), root, stop)
    weights = state.params, state.model_state
    own = program.model, program.augment.test, 8, *weights, split, Evaluation.blank()
    found.append((state, evaluate(*own, jnp.int32(0), stop)))
  chex.assert_trees_all_equal(*found)


def test_only_a_tpu_is_given_flat_images(monkeypatch):
  monkeypatch.setattr(jax, 'device_put', lambda tree, device: tree)
  digits = data.load('digits')
  for platform in ('tpu', 'gpu'):
    place = types.SimpleNamespace(platform=platform, memory_stats=lambda: None)
    for split, images in zip(data.place(digits, place), (digits[1], digits[3]), strict=True):
      assert isinstance(split.image, FlatImages) == (platform == 'tpu')
      np.testing.assert_array_equal(split.image[:], images)
