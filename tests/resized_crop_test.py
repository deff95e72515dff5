"""Random resized crops: torchvision's law of the boxes, Pillow's pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from mix_test import make_batch
from scipy import stats

from jaxbudget.augment import resized_crop
from jaxbudget.augment.resized_crop import draw_boxes, resize_boxes
from jaxbudget.data.crops import middle

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
draw_boxes = jax.jit(draw_boxes, static_argnums=(1, 2, 3, 4))
resize_boxes = jax.jit(resize_boxes)


def numpy_boxes(rng, n, shape, scale, ratio):
  """torchvision's rule, one image after another."""
  height, width = shape
  for _ in range(n):
    for _ in range(10):
      area = height * width * rng.uniform(*scale)
      wide = np.exp(rng.uniform(*np.log(ratio)))
      w, h = round(np.sqrt(area * wide)), round(np.sqrt(area / wide))
      if 0 < w <= width and 0 < h <= height:
        yield rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
        break
    else:
      yield sum(middle(shape, ratio), ())


@pytest.mark.parametrize('shape', [(24, 24), (10, 40)])
def test_boxes_have_torchvisions_law(shape):
  """In a wide image nearly all large boxes fail, and the middle is taken."""
  n = 4000
  ours = np.concatenate(draw_boxes(jax.random.key(3), n, shape, SCALE, RATIO), 1)
  theirs = np.array(list(numpy_boxes(np.random.default_rng(0), n, shape, SCALE, RATIO)))
  assert (ours >= 0).all() and (ours[:, :2] + ours[:, 2:] <= shape).all() and ours[:, 2:].min() > 0
  for a, b in zip(ours.T, theirs.T, strict=True):
    assert stats.ks_2samp(a, b).pvalue > 1e-3
  taken = np.all(ours == sum(middle(shape, RATIO), ()), 1)
  assert (taken.mean() > 0.01) == (shape == (10, 40))


def test_the_middle_is_torchvisions_fallback():
  assert middle((10, 40), RATIO) == ((0, 13), (10, 13))
  assert middle((40, 10), RATIO) == ((13, 0), (13, 10))
  assert middle((8, 9), RATIO) == ((0, 0), (8, 9))
  assert middle((1, 1), (3.0, 4.0)) == ((0, 0), (1, 1))
  # A range that no box of the area fits leaves the middle alone.
  boxes = draw_boxes(jax.random.key(0), 5, (10, 40), (1.0, 1.0), (1.0, 1.0))
  np.testing.assert_array_equal(boxes[0], 5 * [[0, 15]])
  np.testing.assert_array_equal(boxes[1], 5 * [[10, 10]])


def test_pixels_are_pillows_within_a_level():
  rng = np.random.default_rng(1)
  image = rng.integers(0, 256, (40, 12, 9, 3), np.uint8)
  corner, size = draw_boxes(jax.random.key(1), 40, (12, 9), SCALE, RATIO)
  ours = resize_boxes(jnp.asarray(image), corner, size)
  assert ours.dtype == np.uint8 and ours.shape == image.shape
  boxes = np.asarray(corner), np.asarray(size), np.asarray(ours)
  for one, (top, left), (tall, wide), found in zip(image, *boxes, strict=True):
    box = (int(left), int(top), int(left + wide), int(top + tall))
    picture = PIL.Image.fromarray(one).crop(box).resize((9, 12), PIL.Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(picture, int) - np.asarray(found, int)).max() <= 1
  whole = resize_boxes(jnp.asarray(image), jnp.zeros_like(corner), 0 * size + jnp.array([[12, 9]]))
  np.testing.assert_array_equal(whole, image)


def test_the_stage_changes_images_alone():
  batch = make_batch(6)
  batch = batch._replace(image=jnp.arange(6 * 8 * 8 * 3, dtype=jnp.int32).astype(jnp.uint8).reshape(
    6, 8, 8, 3
  ))  # fmt: skip
  stage = resized_crop.random_resized_crop()
  made = jax.jit(stage)(jax.random.key(0), batch)
  assert np.any(made.image != batch.image)
  for field in set(batch._fields) - {'image'}:
    np.testing.assert_array_equal(getattr(made, field), getattr(batch, field))
  for options in ({'scale': (0.5, 0.1)}, {'ratio': (0.0, 1.0)}, {'scale': (0.1, 1.1)}):
    with pytest.raises(ValueError, match=next(iter(options))):
      resized_crop.random_resized_crop(**options)
