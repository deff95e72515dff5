"""The standard transform: pad, crop, flip, normalise, as a chain of pure stages.

A *stage* is a function `(key, batch) -> batch`. Every sample draws for itself, afresh each
time it is loaded.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbudget.types import Batch, Key

Stage = Callable[[Key, Batch], Batch]


class Stages(NamedTuple):
  """What an augmentation adds to the standard transform; None is nothing.

  Attributes:
    before: on uint8 images, before crop and flip.
    after: on normalised images, after it.
    parts: samples that one picture shows for each that it showed before.
  """

  before: Stage | None = None
  after: Stage | None = None
  parts: int = 1


def chain(*stages: Stage) -> Stage:
  """Applies stages in order, each with a key of its own.

  Args:
    *stages: functions `(key, batch) -> batch`.

  Returns:
    One such function; of no stages, the identity.
  """

  def apply(key, batch):
    for position, stage in enumerate(stages):
      batch = stage(jax.random.fold_in(key, position), batch)
    return batch

  return apply


def random_crop(pad: int) -> Stage:
  """Pads with black and crops back to the original size at a random place.

  Black is 0 *before* normalisation (fidelity.md 1.2). Row and column offsets are
  independent and uniform on {0, ..., 2 * pad}.

  Args:
    pad: pixels added on each side; 0 leaves the images alone.

  Returns:
    A stage for batches of uint8 images.

  Raises:
    ValueError: if `pad` is not a whole number >= 0.
  """
  if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
    raise ValueError(f'pad={pad!r}: allowed is a whole number of pixels >= 0')

  def stage(key, batch):
    offset = jax.random.randint(key, (batch.image.shape[0], 2), 0, 2 * pad + 1)
    return batch._replace(image=crop(batch.image, offset, pad))

  return stage if pad else chain()


def crop(image: jax.Array, offset: jax.Array, pad: int) -> jax.Array:
  """Crops each image of a batch out of its black-padded self.

  Args:
    image: u8[n,H,W,c].
    offset: i32[n,2], row and column of the crop's corner in the padded image.
    pad: pixels added on each side.

  Returns:
    u8[n,H,W,c].
  """
  # A mapped dynamic_slice copies whole rows: on CPU 4x faster than gathering by index maps,
  # 170x faster than selecting among all shifts.
  padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  zero = jnp.zeros((), offset.dtype)
  return jax.vmap(lambda one, at: lax.dynamic_slice(one, (at[0], at[1], zero), image.shape[1:]))(
    padded, offset
  )


def random_flip(probability: float) -> Stage:
  """Mirrors each image left to right with the given probability.

  Args:
    probability: in [0, 1]; 0 leaves the images alone.

  Returns:
    A stage.

  Raises:
    ValueError: if `probability` is outside [0, 1].
  """
  if not 0 <= probability <= 1:
    raise ValueError(f'flip={probability!r}: allowed is a probability in [0, 1]')

  def stage(key, batch):
    mirrored = jax.random.bernoulli(key, probability, batch.image.shape[:1])
    return batch._replace(image=flip(batch.image, mirrored))

  return stage if probability else chain()


def flip(image: jax.Array, mirrored: jax.Array) -> jax.Array:
  """Mirrors the chosen images left to right.

  Args:
    image: [n,H,W,c], any dtype.
    mirrored: bool[n].

  Returns:
    Images of the same shape and dtype.
  """
  return jnp.where(mirrored[:, None, None, None], image[:, :, ::-1], image)


def normalize(mean: Sequence[float], std: Sequence[float]) -> Callable[[jax.Array], jax.Array]:
  """Scales pixels to [0, 1], then subtracts the mean and divides by the deviation.

  Args:
    mean: per channel, of pixels in [0, 1].
    std: per channel, > 0.

  Returns:
    A function `u8[n,H,W,c] -> f32[n,H,W,c]`; it is also the transform for evaluation.

  Raises:
    ValueError: if the lengths differ or a deviation is not positive.
  """
  mean, std = tuple(mean), tuple(std)
  if len(mean) != len(std) or not all(value > 0 for value in std):
    raise ValueError(f'mean={mean}, std={std}: allowed is one of each per channel, std > 0')

  def apply(image):
    centre, scale = (jnp.asarray(v, jnp.float32)[None, None, None, :] for v in (mean, std))
    return (image.astype(jnp.float32) / 255 - centre) / scale

  return apply


def on_image(function: Callable[[jax.Array], jax.Array]) -> Stage:
  """Makes a stage of a deterministic function of the images."""
  return lambda key, batch: batch._replace(image=function(batch.image))
