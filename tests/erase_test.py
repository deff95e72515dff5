"""Cutout, random erasing and CutMix against NumPy; credit of who is in the picture."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mix_test import make_batch, numpy_parts
from scipy import stats

from jaxbudget.augment import cutmix, erase, named
from jaxbudget.data.dataset import Info


def ones(n=400, shape=(12, 10, 3)):
  return make_batch(7)._replace(image=jnp.ones((n, *shape), jnp.float32))


def holes(image):
  """First row and column, and rows and columns, of what is 0 in each image."""
  gone = np.asarray(image)[..., 0] == 0
  rows, columns = gone.any(2), gone.any(1)
  np.testing.assert_array_equal(gone, rows[:, :, None] & columns[:, None])  # rectangles
  return rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)


def test_cutout_is_centred_on_any_pixel_and_cut_at_the_border():
  row, column, tall, wide = holes(erase.cutout(4)(jax.random.key(0), ones()).image)
  # Along 12 pixels the square [c-2, c+2) is cut to 2, 3 pixels at c = 0, 1 and to 3 at c = 11.
  for seen, first, length in ((tall, row, 12), (wide, column, 10)):
    where = list(zip(first, seen, strict=True))
    starts = [(max(0, c - 2), min(length, c + 2) - max(0, c - 2)) for c in range(length)]
    assert set(where) == set(starts)
    assert stats.chisquare([where.count(start) for start in starts]).pvalue > 1e-3


def test_cutout_inside_is_whole():
  row, column, tall, wide = holes(erase.cutout(5, inside=True)(jax.random.key(0), ones()).image)
  assert set(tall) == set(wide) == {5}
  for first, length in ((row, 12), (column, 10)):
    assert stats.chisquare(np.bincount(first, minlength=length - 4)).pvalue > 1e-3


def test_cutout_takes_the_papers_side():
  """16 on CIFAR-10, 8 on CIFAR-100, 20 on SVHN; half of another data set's images."""
  for name, side, expected in (
    ('cifar10', 32, 16), ('cifar100', 32, 8), ('svhn', 32, 20), ('x', 8, 4),
  ):  # fmt: skip
    info = Info(name, 9, 9, 5, (side, side, 3), (0.5,) * 3, (0.5,) * 3, flip=0.0, pad=0)
    stage = named.cutout(info, inside=True).after
    assert set(holes(stage(jax.random.key(0), ones(3, (side, side, 3))).image)[2]) == {expected}
  with pytest.raises(ValueError, match='size=9: allowed is the side of the images, 8'):
    named.cutout(info, size=9)


def test_random_erasing_against_numpy():
  """Area and ratio of what fitted, tried until it does; half of the images stay whole."""
  shape = (3000, 32, 32, 3)
  draw = jax.jit(erase.draw_rectangles, static_argnums=(1, 2, 3, 4))
  low, size = draw(jax.random.key(1), shape, 0.5, (0.02, 0.33), (0.3, 3.3))
  low, size = np.asarray(low), np.asarray(size)
  erased = size[:, 0] > 0
  assert abs(erased.mean() - 0.5) < 0.04 and (size[~erased] == 0).all()
  size, low = size[erased], low[erased]
  assert (low >= 0).all() and (low + size <= 32).all() and (size < 32).all()
  rng = np.random.default_rng(0)
  share, ratio = rng.uniform(0.02, 0.33, 9000), np.exp(rng.uniform(*np.log([0.3, 3.3]), 9000))
  expected = np.round(np.sqrt(share * 1024 * np.stack([ratio, 1 / ratio])))
  expected = expected[:, (expected < 32).all(0)]
  for axis in (0, 1):
    assert stats.ks_2samp(size[:, axis], expected[axis]).pvalue > 1e-3
    room = 32 - size[:, axis]
    place = (low[:, axis] + rng.random(len(room))) / (room + 1)
    assert stats.kstest(place, stats.uniform.cdf).pvalue > 1e-3
  assert stats.ks_2samp(size.prod(1), expected.prod(0)).pvalue > 1e-3


def test_random_erasing_gives_up_on_what_never_fits():
  stage = jax.jit(erase.random_erasing(1.0, area=(0.9, 1.0), ratio=(3.0, 3.3)))
  np.testing.assert_array_equal(stage(jax.random.key(0), ones(50)).image, ones(50).image)
  _, _, tall, wide = holes(jax.jit(erase.random_erasing(1.0))(jax.random.key(0), ones(50)).image)
  assert (tall > 0).all() and (wide > 0).all()


def test_rectangle_of_cutmix_is_the_papers():
  low, high = cutmix.rectangle(jnp.float32(0.5), jnp.asarray([16, 16]), (32, 32))
  assert tuple(low) == (5, 5) and tuple(high) == (27, 27)
  batch = make_batch(7, 32)
  drawn = cutmix.Draw(low, high, jnp.asarray([1, 2, 3, 4, 5, 6, 0]))
  np.testing.assert_allclose(cutmix.apply(batch, drawn).part_share[:, 0], 0.52734, atol=1e-5)


def test_cutmix_against_numpy():
  batch = make_batch(7, 8)
  apply = jax.jit(cutmix.apply)
  draw = jax.jit(cutmix.draw, static_argnums=(1, 2, 3))
  for seed, probability in ((0, 1.0), (1, 1.0), (2, 0.0)):
    key = jax.random.key(seed)
    drawn = draw(key, 7, (8, 8), 1.0, probability)
    (i, j), (k, m), partner = (np.asarray(field) for field in drawn)
    assert sorted(partner) == list(range(7))
    image = np.array(batch.image)
    image[:, i:k, j:m] = np.asarray(batch.image)[partner, i:k, j:m]
    pasted = np.float32((k - i) * (m - j)) / np.float32(64)
    got = apply(batch, drawn)
    np.testing.assert_array_equal(got.image, image)
    expected = numpy_parts(batch, [np.arange(7), partner], [1 - pasted, pasted])
    chex.assert_trees_all_equal((got.target, *got[5:]), expected)
    chex.assert_trees_all_equal((got.index, got.label), (batch.index, batch.label))
    assert (pasted > 0) == (probability > 0)
  stage = cutmix.cutmix(probability=0.0)  # draws with the key it is given
  chex.assert_trees_all_equal(jax.jit(stage)(key, batch), got)


def test_draws_of_cutmix_have_their_laws():
  keys = jax.random.split(jax.random.key(0), 4000)
  low, high, _ = jax.jit(jax.vmap(lambda k: cutmix.draw(k, 2, (16, 16), 1.0, 0.5)))(keys)
  area = np.asarray((high - low).prod(1))
  rng = np.random.default_rng(0)
  half = (16 * np.sqrt(1 - rng.random(4000))).astype(int) // 2
  centre = rng.integers(0, 16, (2, 4000))
  sides = np.clip(centre + half, 0, 16) - np.clip(centre - half, 0, 16)
  expected = np.where(rng.random(4000) < 0.5, sides.prod(0), 0)
  assert abs((area == 0).mean() - (expected == 0).mean()) < 0.05
  assert stats.ks_2samp(area[area > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda: erase.cutout(0), 'size=0'),
    (lambda: erase.cutout(True), 'size=True'),
    (lambda: erase.random_erasing(1.5), 'probability=1.5'),
    (lambda: erase.random_erasing(area=(0.5, 0.2)), r'area=\(0.5, 0.2\)'),
    (lambda: erase.random_erasing(area=(0.5, 2.0)), r'area=\(0.5, 2.0\)'),
    (lambda: erase.random_erasing(ratio=(0.0, 1.0)), r'ratio=\(0.0, 1.0\)'),
    (lambda: cutmix.cutmix(0), 'alpha=0'),
    (lambda: cutmix.cutmix(probability=float('nan')), 'probability=nan'),
  ],
)
def test_bad_input_is_refused(call, words):
  with pytest.raises(ValueError, match=words):
    call()
