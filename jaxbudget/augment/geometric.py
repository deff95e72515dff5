"""The standard transform: pad, crop, flip, normalise, as a chain of pure stages.

A *stage* is a function `(key, batch) -> batch`, or `(key, epoch, batch) -> batch`. Every sample
draws for itself, afresh each time it is loaded. What a stage draws in loops of unknown length can
be drawn for it, see `types.draw_ahead`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxbudget import registry
from jaxbudget.types import Batch, draw_ahead, takes_epoch, with_epoch

PADDINGS = {'black': 'constant', 'reflect': 'reflect'}  # as NumPy calls them

Stage = Callable[..., Batch]


class Stages(NamedTuple):
  """What an augmentation adds to the standard transform; None is nothing.

  Attributes:
    before: on uint8 images, before crop and flip.
    crop: on uint8 images, instead of the random crop.
    flip: on uint8 images, instead of the random flip.
    between: on uint8 images after crop and flip; makes grey levels, float32 if need be.
    after: on normalised images.
    parts: samples that one picture shows for each that it showed before.
    cuts: whether these have places in the picture of their own, which a second cut would miss.
  """

  before: Stage | None = None
  crop: Stage | None = None
  flip: Stage | None = None
  between: Stage | None = None
  after: Stage | None = None
  parts: int = 1
  cuts: bool = False


def chain(*stages: Stage) -> Stage:
  """Applies stages in order, each with a key of its own.

  Args:
    *stages: functions `(key, batch) -> batch` or `(key, epoch, batch) -> batch`.

  Returns:
    One such function, told the epoch if one of the stages is; of no stages, the identity.
  """
  nothing = (None,) * len(stages)

  def apply(key, epoch, batch, drawn=nothing):
    for position, (stage, given) in enumerate(zip(stages, drawn, strict=True)):
      batch = with_epoch(stage, jax.random.fold_in(key, position), epoch, batch, given)
    return batch

  def draw(key, size):
    keys = (jax.random.fold_in(key, position) for position in range(len(stages)))
    return tuple(draw_ahead(stage, k, size) for stage, k in zip(stages, keys, strict=True))

  def without_epoch(key, batch, drawn=nothing):
    return apply(key, None, batch, drawn)

  chained = apply if any(map(takes_epoch, stages)) else without_epoch
  if any(hasattr(stage, 'draw') for stage in stages):
    chained.draw = draw
  return chained


def random_crop(pad: int, mode: str = 'black') -> Stage:
  """Pads and crops back to the original size at a random place.

  Black is 0 *before* normalisation (fidelity.md 1.2). Row and column offsets are
  independent and uniform on {0, ..., 2 * pad}.

  Args:
    pad: pixels added on each side; 0 leaves the images alone.
    mode: `black`, or `reflect`: the image mirrored at its border, the border pixel not repeated.

  Returns:
    A stage for batches of uint8 images.

  Raises:
    ValueError: if `pad` is not a whole number >= 0, or there is no such mode.
  """
  if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
    raise ValueError(f'pad={pad!r}: allowed is a whole number of pixels >= 0')
  registry.check('mode', mode, PADDINGS)

  def stage(key, batch):
    offset = jax.random.randint(key, (batch.image.shape[0], 2), 0, 2 * pad + 1, jnp.int32)
    return batch._replace(image=crop(batch.image, offset, pad, mode))

  return stage if pad else chain()


def crop(image: jax.Array, offset: jax.Array, pad: int, mode: str = 'black') -> jax.Array:
  """Crops each image of a batch out of its padded self.

  Args:
    image: u8[n,H,W,c].
    offset: i32[n,2], row and column of the crop's corner in the padded image.
    pad: pixels added on each side.
    mode: as for `random_crop`.

  Returns:
    u8[n,H,W,c].
  """
  padded = jnp.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=PADDINGS[mode])
  shape = image.shape[1:]
  # A TPU runs the slices one image after another, and selects fast; a CPU is 60x faster at them.
  return lax.platform_dependent(
    padded,
    offset,
    tpu=functools.partial(crop_by_selection, shape=shape),
    default=functools.partial(crop_by_slices, shape=shape),
  )


def crop_by_slices(padded: jax.Array, offset: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """Crops `shape` out of each image at i32[n,2]; copies whole rows."""
  zero = jnp.zeros((), offset.dtype)
  return jax.vmap(lambda one, at: lax.dynamic_slice(one, (at[0], at[1], zero), shape))(
    padded, offset
  )


def crop_by_selection(
  padded: jax.Array, offset: jax.Array, shape: tuple[int, int, int]
) -> jax.Array:
  """The same as one choice among all shifts along each axis."""
  for axis in (1, 2):
    shifts = range(padded.shape[axis] - shape[axis - 1] + 1)
    at = offset[:, axis - 1, None, None, None]
    moved = [lax.slice_in_dim(padded, k, k + shape[axis - 1], axis=axis) for k in shifts]
    padded = functools.reduce(
      lambda out, k, at=at, moved=moved: jnp.where(at == k, moved[k], out), shifts[1:], moved[0]
    )
  return padded


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
    mirrored = jax.random.bernoulli(key, jnp.float32(probability), batch.image.shape[:1])
    return batch._replace(image=flip(batch.image, mirrored))

  return stage if probability else chain()


def alternating_flip(seed: int = 42) -> Stage:
  """Shows each image one way round in even epochs and the other way in odd ones.

  Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024. Two epochs in a row never show
  the same view twice, as independent coins do half the time. Which way an image begins is a
  hash of its index, a fair coin for each, and the same in every run, as published.

  Args:
    seed: of the hash.

  Returns:
    A stage `(key, epoch, batch) -> batch`.
  """

  def stage(key, epoch, batch):
    del key  # the run's key changes from row to row; a sample keeps its coin
    return batch._replace(image=flip(batch.image, alternating_side(batch.index, epoch, seed)))

  return stage


def alternating_side(index: jax.Array, epoch: jax.Array, seed: int = 42) -> jax.Array:
  """Which images are mirrored in an epoch.

  Args:
    index: i32[n], of the samples.
    epoch: i32[], 0-based.
    seed: of the hash.

  Returns:
    bool[n].
  """
  half, root = jnp.float32(0.5), jax.random.key(seed)
  coin = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(root, i), half))
  return coin(index) ^ (epoch % 2 == 1)


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
