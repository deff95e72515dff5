"""TrivialAugment, AutoAugment and AugMix against Pillow, and their published levels."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from pillow_operations import by_pillow
from randaugment_test import grey_images, real_images
from scipy import stats

from jaxbudget.augment import augmix, autoaugment, pillow, trivialaugment
from jaxbudget.types import Data, plain_batch

# Pillow computes these in floats and truncates, see randaugment_test.
ROUNDED = ('auto_contrast', *pillow.OTHERS)

apply_chosen = jax.jit(pillow.apply_chosen)


def expected_by_pillow(image, name, value):
  """One operation on u8[H,W,c]."""
  if name == 'identity':
    return image
  result = by_pillow(name, Image.fromarray(image.squeeze()), value, False, None)
  return np.asarray(result).reshape(image.shape)


@pytest.mark.parametrize('space', trivialaugment.SPACES)
def test_trivialaugment_equals_pillow(space):
  """Every operation at every level and sign, each on an image of its own."""
  cases = [
    (name, trivialaugment.value(space, name, level, negate))
    for name in trivialaugment.OPERATIONS
    for level in range(31)
    for negate in (False, True)
  ]
  image = np.resize(real_images(), (len(cases), 32, 32, 3))
  got = apply_chosen(
    jnp.asarray(image), trivialaugment.table(space, 32, 32), jnp.arange(len(cases))[None]
  )
  for one, result, (name, value) in zip(image, np.asarray(got), cases, strict=True):
    apart = np.abs(result.astype(int) - expected_by_pillow(one, name, value))
    assert apart.max() <= (1 if name in ROUNDED else 0), (name, value)
    assert (apart > 0).mean() < 0.05 or name == 'auto_contrast', (name, value)


def test_levels_of_trivialaugment_are_the_published_ones():
  level = np.arange(31)

  def values(space, name, negate=False):
    return [trivialaugment.value(space, name, i, negate) for i in level]

  strength = np.linspace(0, 1, 31)
  for name, wide, small in (('shear_x', 0.99, 0.3), ('translate_y', 32, 10), ('rotate', 135, 30)):
    whole = np.vectorize(lambda v: int(v + 1e-9))
    pixels = whole if name == 'translate_y' else np.asarray
    np.testing.assert_allclose(values('wide', name), pixels(wide * strength))
    np.testing.assert_allclose(values('wide', name, True), -pixels(wide * strength))
    theirs = np.asarray if name == 'shear_x' else whole
    np.testing.assert_allclose(values('official_wide', name), theirs(wide * strength))
    np.testing.assert_allclose(values('official_small', name), theirs(small * strength))
  for name in ('brightness', 'color', 'contrast', 'sharpness'):
    np.testing.assert_allclose(values('wide', name), 1 + 0.99 * strength)
    np.testing.assert_allclose(values('wide', name, True), 1 - 0.99 * strength)
    np.testing.assert_allclose(values('official_wide', name, True), 0.01 + 1.99 * strength)
    np.testing.assert_allclose(values('official_small', name), 0.1 + 1.8 * strength)
  np.testing.assert_array_equal(values('wide', 'posterize'), 8 - np.round(level / 5))
  np.testing.assert_array_equal(values('official_wide', 'posterize'), 8 - level * 6 // 30)
  np.testing.assert_array_equal(values('official_small', 'posterize'), 8 - level * 4 // 30)
  # The pixel at a threshold is inverted: a hair more would keep it.
  np.testing.assert_array_equal(values('wide', 'solarize'), np.linspace(255, 0, 31))
  np.testing.assert_array_equal(values('official_wide', 'solarize'), 256 - 256 * level // 30)
  assert trivialaugment.value('wide', 'translate_x', 30, False, 8) == 8  # a digit is 8 px wide


def test_autoaugment_equals_pillow():
  image = real_images()
  draw = autoaugment.draw(jax.random.key(3), len(image))
  chosen = autoaugment.positions(draw)
  got = apply_chosen(jnp.asarray(image), autoaugment.table(32, 32), chosen)
  policy, applied, negate = map(np.asarray, draw)
  for i, (one, result) in enumerate(zip(image, np.asarray(got), strict=True)):
    margin = 0
    for k, (name, _, level) in enumerate(autoaugment.POLICIES[policy[i]]):
      if applied[k, i]:
        # Rounding of the first operation passes through the second, which may stretch it.
        margin = 8 * margin + (name in ROUNDED)
        one = expected_by_pillow(one, name, autoaugment.value(name, level, negate[k, i], (32, 32)))
    apart = np.abs(result.astype(int) - one)
    assert np.quantile(apart, 0.95) <= margin, (i, autoaugment.POLICIES[policy[i]])
  assert set(policy) == set(range(25))


def test_levels_of_autoaugment_are_torchvisions():
  def values(name, negate=False, side=(32, 32)):
    return [autoaugment.value(name, level, negate, side) for level in range(10)]

  np.testing.assert_allclose(values('shear_x', True), -np.linspace(0, 0.3, 10))
  np.testing.assert_array_equal(values('translate_x'), [0, 1, 3, 4, 6, 8, 9, 11, 12, 14])
  np.testing.assert_array_equal(values('translate_y', side=(64, 32))[-1], 29)
  np.testing.assert_allclose(values('rotate'), np.linspace(0, 30, 10))
  np.testing.assert_allclose(values('color', True), 1 - np.linspace(0, 0.9, 10))
  np.testing.assert_array_equal(values('posterize'), [8, 8, 7, 7, 6, 6, 5, 5, 4, 4])
  np.testing.assert_array_equal(values('solarize'), [255 * (9 - k) / 9 for k in range(10)])
  assert values('solarize')[3::3] == [170, 85, 0]  # whole: the pixel at it is inverted
  assert len(autoaugment.POLICIES) == 25


def augmix_by_pillow(image, draw, i):
  """The paper's code, with recorded draws."""
  share, weight, depth, operation, level, negate = (np.asarray(field) for field in draw)
  mixed = np.zeros(image.shape)
  for chain in range(3):
    one = Image.fromarray(image.squeeze())
    width, height = one.size
    for step in range(depth[i, chain]):
      name = augmix.OPERATIONS[operation[step, i, chain]]
      v, sign = level[step, i, chain], -1 if negate[step, i, chain] else 1
      if name in ('auto_contrast', 'equalize'):
        one = getattr(ImageOps, name.replace('_', ''))(one)
      elif name == 'posterize':
        one = ImageOps.posterize(one, 4 - int(v * 4 / 10))
      elif name == 'solarize':
        one = ImageOps.solarize(one, 256 - int(v * 256 / 10))
      elif name == 'rotate':
        one = one.rotate(sign * int(v * 30 / 10), resample=Image.BILINEAR)
      else:
        matrix = {
          'shear_x': (1, sign * v * 0.3 / 10, 0, 0, 1, 0),
          'shear_y': (1, 0, 0, sign * v * 0.3 / 10, 1, 0),
          'translate_x': (1, 0, sign * int(v * (width / 3) / 10), 0, 1, 0),
          'translate_y': (1, 0, 0, 0, 1, sign * int(v * (height / 3) / 10)),
        }[name]
        one = one.transform(one.size, Image.AFFINE, matrix, resample=Image.BILINEAR)
    mixed += weight[i, chain] * np.asarray(one, float).reshape(image.shape)
  return (1 - share[i]) * image + share[i] * mixed


@pytest.mark.parametrize('images', [real_images, grey_images])
def test_augmix_equals_pillow(images):
  image = images()[:60]
  # Levels as in the paper, and for the second images all that there are.
  draw = augmix.draw(jax.random.key(1), len(image), 3.0 if images is real_images else 10.0)
  got = jax.jit(augmix.apply)(jnp.asarray(image), draw)
  expected = np.stack([augmix_by_pillow(one, draw, i) for i, one in enumerate(image)])
  apart = np.abs(np.asarray(got) - expected)
  # A grey level of rounding may be stretched by a later auto_contrast or equalize.
  assert np.quantile(apart, 0.99) <= 1 and apart.mean() < 0.1
  assert chex.assert_type(got, jnp.float32) is None


def test_draws_of_augmix_have_their_laws():
  draw = jax.jit(functools.partial(augmix.draw, size=4000))(jax.random.key(0))
  assert stats.kstest(draw.share, stats.uniform.cdf).pvalue > 1e-3
  for chain in range(3):  # one of three Dirichlet weights is Beta(1, 2)
    assert stats.kstest(draw.weight[:, chain], stats.beta(1, 2).cdf).pvalue > 1e-3
  np.testing.assert_allclose(draw.weight.sum(1), 1, rtol=1e-5)
  other = jax.eval_shape(functools.partial(augmix.draw, size=4000, alpha=2.0), jax.random.key(0))
  chex.assert_trees_all_equal_shapes_and_dtypes(draw, other)
  assert stats.chisquare(np.bincount(draw.depth.ravel(), minlength=4)[1:]).pvalue > 1e-3
  assert stats.chisquare(np.bincount(draw.operation.ravel(), minlength=9)).pvalue > 1e-3
  assert stats.kstest(draw.level.ravel(), stats.uniform(0.1, 2.9).cdf).pvalue > 1e-3


def test_other_draws_have_their_laws():
  seen = np.bincount(trivialaugment.draw(jax.random.key(0), 30_000), minlength=14 * 31 * 2)
  assert stats.chisquare(seen).pvalue > 1e-3
  draw = autoaugment.draw(jax.random.key(0), 30_000)
  assert stats.chisquare(np.bincount(draw.policy, minlength=25)).pvalue > 1e-3
  for k in range(2):
    for policy, pair in enumerate(autoaugment.POLICIES):
      applied = np.asarray(draw.applied)[k, np.asarray(draw.policy) == policy]
      deviation = np.sqrt(pair[k][1] * (1 - pair[k][1]) / len(applied))
      assert abs(applied.mean() - pair[k][1]) <= 4.5 * deviation
    assert abs(np.asarray(draw.negate)[k].mean() - 0.5) < 0.015


@pytest.mark.parametrize('make', [trivialaugment.trivialaugment, autoaugment.autoaugment])
def test_stages_change_images_alone_and_keys_decide(make):
  stage = jax.jit(make())
  data = Data(jnp.asarray(grey_images()[:16]), jnp.zeros(16, jnp.int32))
  batch = plain_batch(data, jnp.arange(16, dtype=jnp.int32), jnp.ones(16), 5)
  got, again, other = (stage(jax.random.key(seed), batch) for seed in (2, 2, 3))
  chex.assert_trees_all_equal(got, again)
  assert not np.array_equal(got.image, other.image) and got.image.dtype == jnp.uint8
  chex.assert_trees_all_equal(got._replace(image=0), batch._replace(image=0))


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda: trivialaugment.trivialaugment('wider'), "did you mean 'wide'"),
    (lambda: augmix.augmix(severity=0.1), 'severity=0.1'),
    (lambda: augmix.augmix(alpha=0), 'alpha=0'),
    (lambda: pillow.check_channels((8, 8, 2)), '1 or 3 channels'),
  ],
)
def test_bad_input_is_refused(call, words):
  with pytest.raises(ValueError, match=words):
    call()
