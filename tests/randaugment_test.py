"""RandAugment's operations against Pillow, image by image, and against fidelity.md 3.4."""

import functools
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pillow_operations import by_pillow
from scipy import stats

from jaxbudget.augment import make_augment, operations, pillow
from jaxbudget.augment import randaugment as ra
from jaxbudget.data.dataset import Info
from jaxbudget.types import Data, plain_batch

IMAGES = 200
FOLDER = os.environ.get('JAXBUDGET_TEST_DATA')
SOURCE = 'cifar10' if FOLDER else 'digits_enlarged_as_JAXBUDGET_TEST_DATA_is_not_set'
INFO = Info('toy', 64, 1, 5, (32, 32, 3), (0.5,) * 3, (0.5,) * 3, flip=0.5, pad=4)

AFFINE = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')
# Pillow computes these in floats and truncates: where the exact result is a whole number, it
# may come out one below (brightness at m = 7; auto_contrast's white, often 254).
ROUNDED = ('auto_contrast', 'color', 'contrast', 'brightness', 'sharpness')


@functools.cache
def real_images():
  """u8[200,32,32,3]."""
  if FOLDER:
    with tarfile.open(Path(FOLDER, 'cifar-10-binary.tar.gz')) as archive:
      member = next(m for m in archive.getmembers() if m.name.endswith('data_batch_1.bin'))
      record = np.frombuffer(archive.extractfile(member).read(3073 * IMAGES), np.uint8)
    return record.reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  large = [Image.fromarray(d[..., 0]).resize((32, 32), Image.BICUBIC) for d in grey_images()]
  large = np.stack([np.asarray(image) for image in large]).astype(int)
  color = np.random.default_rng(0).integers(60, 256, (IMAGES, 2, 1, 1, 3))
  mixed = (large[..., None] * color[:, 0] + (255 - large[..., None]) * color[:, 1]) // 255
  return mixed.astype(np.uint8)


@functools.cache
def grey_images():
  """u8[200,8,8,1]."""
  from sklearn import datasets

  return np.rint(datasets.load_digits().images[:IMAGES] * (255 / 16)).astype(np.uint8)[..., None]


@functools.cache
def draws():
  """Signs and centres in the unit square, for each image."""
  rng = np.random.default_rng(1)
  return rng.random(IMAGES) < 0.5, rng.random((IMAGES, 2))


def value_of(name, m, side=32):
  low, high = operations.RANGES[name]
  in_pixels = name == 'cutout' or name.startswith('translate')
  return (low + m / 30 * (high - low)) * (min(1, side / 32) if in_pixels else 1)


apply_jitted = jax.jit(jax.vmap(ra.apply_operation, in_axes=(None, 0, 0, 0, 0)))


def on_device(name, image, m):
  parameters = jax.tree.map(jnp.asarray, operations.make_parameters(m, image.shape[1:]))
  operation = jnp.full(IMAGES, operations.OPERATIONS.index(name), jnp.int32)
  negate, centre = draws()
  centre = jnp.asarray(1 + centre * (image.shape[1] - 1), jnp.float32)
  return np.asarray(
    apply_jitted(parameters, jnp.asarray(image), operation, jnp.asarray(negate), centre)
  )


def all_by_pillow(name, image, m):
  value = value_of(name, m, image.shape[1])
  negate, centre = draws()
  centre = np.float32(1 + centre * (image.shape[1] - 1)).astype(float)
  results = [
    by_pillow(name, Image.fromarray(one.squeeze()), value, *draw)
    for one, *draw in zip(image, negate, centre, strict=True)
  ]
  return np.stack([np.asarray(result) for result in results]).reshape(image.shape)


@pytest.mark.parametrize('images', [SOURCE, 'digits_grey_8x8'])
@pytest.mark.parametrize('m', [4, 17, 30])
@pytest.mark.parametrize('name', operations.OPERATIONS)
def test_operation_equals_pillow(name, m, images):
  image = grey_images() if images == 'digits_grey_8x8' else real_images()
  got, expected = on_device(name, image, m), all_by_pillow(name, image, m)
  apart = np.abs(got.astype(int) - expected)
  assert apart.max() <= (1 if name in ROUNDED else 0)
  assert (apart > 0).mean() < 0.01 or name == 'auto_contrast'


@pytest.mark.parametrize('name', AFFINE)
def test_affine_reads_the_floor_of_the_inverse_map(name):
  """Fidelity.md's formula in float64; Pillow's fixed point decides only exact ties."""
  image, (negate, _) = real_images(), draws()
  got, value = on_device(name, image, 4), value_of(name, 4)
  y, x = np.mgrid[:32, :32] + 0.5
  wrong = ties = 0
  for one, result, v in zip(image, got, np.where(negate, -value, value), strict=True):
    t = np.radians(-v)
    col, row = {
      'rotate': (
        np.cos(t) * (x - 16) + np.sin(t) * (y - 16) + 16,
        -np.sin(t) * (x - 16) + np.cos(t) * (y - 16) + 16,
      ),
      'shear_x': (x + v * y, y),
      'shear_y': (x, y + v * x),
      'translate_x': (x + v, y),
      'translate_y': (x, y + v),
    }[name]
    tie = (np.abs(col - np.rint(col)) < 1e-3) | (np.abs(row - np.rint(row)) < 1e-3)
    i, j = np.floor(row).astype(int), np.floor(col).astype(int)
    inside = (i >= 0) & (i < 32) & (j >= 0) & (j < 32)
    expected = np.where(inside[..., None], one[i.clip(0, 31), j.clip(0, 31)], 0)
    wrong += (expected != result).any(-1)[~tie].sum()
    ties += tie.sum()
  assert wrong == 0
  assert ties / (IMAGES * 32 * 32) < 0.05


def test_tables_at_m_4_are_those_of_fidelity():
  u = np.arange(256)
  tables = operations.make_parameters(4, (32, 32, 3)).setting.table[:, 0]
  table = dict(zip(operations.OPERATIONS, tables, strict=True))
  added = np.minimum(255, u + 14)
  np.testing.assert_array_equal(table['invert'], 255 - u)
  np.testing.assert_array_equal(table['posterize'], u & 128)
  np.testing.assert_array_equal(table['solarize'], np.where(u <= 34, u, 255 - u))
  np.testing.assert_array_equal(table['solarize_add'], np.where(added < 128, added, 255 - added))


def test_auto_contrast_is_exactly_the_formula():
  image = real_images().astype(int)
  low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
  expected = np.where(high > low, (image - low) * 255 // np.maximum(high - low, 1), image)
  np.testing.assert_array_equal(on_device('auto_contrast', real_images(), 4), expected)


def test_a_constant_image_survives_auto_contrast_and_equalize():
  image = np.full((IMAGES, 32, 32, 3), 77, np.uint8)
  for name in ('auto_contrast', 'equalize'):
    np.testing.assert_array_equal(on_device(name, image, 4), image)


@pytest.mark.parametrize('name', ['color', 'contrast', 'brightness', 'sharpness'])
def test_blend_is_truncated_exactly(name):
  """All pairs of grey levels at every whole m against rational arithmetic."""
  a, b = np.mgrid[:256, :256]
  for m in range(31):
    setting = operations.make_parameters(m, (32, 32, 3)).setting
    factor = setting.factor[operations.OPERATIONS.index(name), 0]
    fiftieths = 5 + 3 * m  # 0.1 + 1.8 m / 30 in units of 1/50
    assert abs(factor - fiftieths / 50) < 1e-6
    expected = np.clip((50 * a + fiftieths * (b - a)) // 50, 0, 255)
    got = pillow._blend(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.uint8), jnp.float32(factor))
    np.testing.assert_array_equal(got, expected)


def test_pixels_scale_below_32_only():
  """13 px of shift at 32 and at 84; a quarter of it at 8, where 13 would blank the image."""
  place = operations.OPERATIONS.index
  shift = {}
  for side in (8, 32, 84):
    affine = operations.make_parameters(4, (side, side, 3)).setting.affine
    shift[side] = affine[place('translate_x'), 0, 2] >> 16
    expected = operations.make_parameters(4, (32, 32, 3)).setting.affine[11]
    np.testing.assert_array_equal(affine[place('shear_x')], expected)
  assert shift == {8: 3, 32: 13, 84: 13}
  assert on_device('translate_x', grey_images(), 4).any((1, 2, 3)).all()


def test_cutout_is_six_by_six_or_clipped():
  cut = on_device('cutout', np.zeros((IMAGES, 32, 32, 3), np.uint8), 4)
  rows, cols = cut.any((2, 3)).sum(1), cut.any((1, 3)).sum(1)
  assert rows.max() == cols.max() == 6 and rows.min() >= 1
  # Square centres lie in 1..32 and near edges at most 2.67 before them: clipped are those
  # within the last three or so pixels.
  assert 0.75 < (rows == 6).mean() < 1
  assert set(map(tuple, cut[cut.any(-1)])) == {(125, 123, 114)}


def test_draws_have_their_laws():
  draw = ra.draw_operations(jax.random.key(0), 2, (4000, 20, 32, 3))
  operation, negate, centre = map(np.asarray, draw)
  pairs = np.bincount(operation[0] * 16 + operation[1], minlength=256)
  assert stats.chisquare(pairs).pvalue > 1e-3  # both uniform, and independent
  signed = np.bincount(operation[0] * 2 + negate[0], minlength=32)
  assert stats.chisquare(signed).pvalue > 1e-3
  for axis, side in enumerate((32, 20)):  # x by the width, y by the height
    law = stats.uniform(1, side - 1)
    assert stats.kstest(centre[..., axis].ravel(), law.cdf).pvalue > 1e-3


def test_operations_follow_one_another():
  image = jnp.asarray(real_images()[:8])
  draw = ra.draw_operations(jax.random.key(5), 3, image.shape)
  got = ra.apply_operations(image, draw, 4)
  parameters = jax.tree.map(jnp.asarray, operations.make_parameters(4, (32, 32, 3)))
  for drawn in zip(*draw, strict=True):
    image = apply_jitted(parameters, image, *drawn)
  np.testing.assert_array_equal(got, image)
  chex.assert_type(got, jnp.uint8)


@pytest.mark.parametrize('shape', [(32, 32, 3), (8, 8, 1), (7, 2, 3)])
def test_whole_augmentation(shape):
  """RandAugment on uint8, then standard; same key same batch; jit equals no jit."""
  channels = shape[-1]
  info = replace(INFO, image_shape=shape, mean=(0.5,) * channels, std=(0.5,) * channels, pad=0)
  image = np.random.default_rng(0).integers(0, 256, (16, *shape)).astype(np.uint8)
  data = Data(jnp.asarray(image), jnp.zeros(16, jnp.int32))
  batch = plain_batch(data, jnp.arange(16, dtype=jnp.int32), jnp.ones(16), 5)
  augment = make_augment('randaugment', info, n=2, m=4)
  got, again = (jax.jit(augment.train)(jax.random.key(2), batch) for _ in range(2))
  chex.assert_trees_all_equal(got, again)
  chex.assert_trees_all_close(got, augment.train(jax.random.key(2), batch), atol=1e-6)
  # The same, step by step, from the keys that `chain` derives.
  key = jax.random.key(2)
  draw = ra.draw_operations(jax.random.fold_in(key, 0), 2, image.shape)
  drawn = np.asarray(ra.apply_operations(batch.image, draw, 4))
  mirrored = jax.random.bernoulli(jax.random.fold_in(key, 2), 0.5, (16,))
  drawn = np.where(np.asarray(mirrored)[:, None, None, None], drawn[:, :, ::-1], drawn)
  np.testing.assert_allclose(got.image, np.float32(drawn) / 127.5 - 1, atol=1e-6)
  chex.assert_trees_all_equal(got._replace(image=0), batch._replace(image=0))
  assert augment.parts == 1


@pytest.mark.parametrize(
  'options, words',
  [
    ({'n': 0}, 'n=0'),
    ({'n': 1.5}, 'n=1.5'),
    ({'n': 20240501}, 'n=20240501: .* 1 to 100'),
    ({'n': True}, 'n=True'),
    ({'m': -1}, 'm=-1'),
    ({'m': 31}, 'm=31'),
    ({'m': 'x'}, "m='x'"),
    ({'m': float('nan')}, 'm=nan'),
    ({'magnitude': 4}, "option of randaugment 'magnitude'"),
  ],
)
def test_bad_input_is_refused(options, words):
  with pytest.raises(ValueError, match=words):
    make_augment('randaugment', INFO, **options)


def test_two_channels_are_refused():
  info = replace(INFO, image_shape=(32, 32, 2), mean=(0.5,) * 2, std=(0.5,) * 2)
  with pytest.raises(ValueError, match='1 or 3 channels'):
    make_augment('randaugment', info)
