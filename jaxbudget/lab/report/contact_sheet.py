"""A contact sheet: what every augmentation does to eight images of a data set.

python -m jaxbudget.lab.report.contact_sheet --dataset=digits --path=contact_sheet.png
"""

import pathlib
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxbudget import registry
from jaxbudget.augment import make_augment, operations, pillow
from jaxbudget.augment import randaugment as ra
from jaxbudget.data import Dataset, load
from jaxbudget.lab import plain
from jaxbudget.lab.report import picture
from jaxbudget.types import Data, plain_batch, with_epoch

IMAGES = 8
M = 4  # RandAugment's magnitude in the paper


class Strip(NamedTuple):
  """A row of the sheet."""

  title: str
  image: np.ndarray  # u8[k,H,W,c]
  captions: list[str]  # of each image; lines of `label weight`


def contact_sheet(dataset: Dataset, path: str | pathlib.Path, seed: int = 0) -> None:
  """Draws training images under each augmentation and each RandAugment operation.

  Args:
    dataset: what to show; 8 of its training images are drawn by the seed.
    path: of the PNG to write.
    seed: of the choice and of all draws.

  Raises:
    ValueError: if the images have neither 1 nor 3 channels.
  """
  with picture.settings():
    _draw(dataset.info.name, make_strips(dataset, seed)).savefig(path, format='png', dpi=130)


def make_strips(dataset: Dataset, seed: int = 0) -> list[Strip]:
  """The rows of the sheet: originals, augmentations, operations; arguments as above."""
  augments = {
    name: make_augment(name, dataset.info) for name in registry.names('augment') if name != 'none'
  }
  count = min(IMAGES, len(dataset.train_label))
  chosen = np.random.default_rng(seed).choice(len(dataset.train_label), count, replace=False)
  label = jnp.asarray(dataset.train_label[chosen], jnp.int32)
  image = dataset.train_image
  data = Data(jnp.asarray(image.read(chosen) if dataset.is_encoded else image[chosen]), label)
  key = jax.random.key(seed)
  names = dataset.info.class_names or [str(c) for c in range(dataset.info.num_classes)]
  original = Strip('original', np.asarray(data.image), [_short(names[c]) for c in label.tolist()])
  augmented = [_augmented(name, a, dataset.info, data, key, names) for name, a in augments.items()]
  return [original, *augmented, *_operations(data.image, key)]


def _augmented(name, augment, info, data, key, names):
  """Image j as it comes out of batch j: mixing has one draw per batch, so eight are shown."""
  position = jnp.arange(len(data.label), dtype=jnp.int32)
  batch = plain_batch(data, position, jnp.ones(len(position), jnp.float32), info.num_classes)
  first = lambda key, batch: with_epoch(augment.train, key, jnp.int32(0), batch)
  train = jax.jit(jax.vmap(first, in_axes=(0, None)))
  batches = train(jax.random.split(key, len(position)), batch)
  batch = jax.tree.map(lambda x: np.asarray(x)[position, position], batches)
  mean, std = (np.float32(v) for v in (info.mean, info.std))
  image = np.rint((batch.image * std + mean) * 255).clip(0, 255).astype(np.uint8)
  captions = [
    '\n'.join(f'{_short(names[c])} {w:.2f}' for c, w in zip(label, share, strict=True) if w > 0)
    for label, share in zip(batch.part_label, batch.part_share, strict=True)
  ]
  return Strip(name, image, captions)


def _operations(image, key):
  """Each RandAugment operation on the same images; signs alternate."""
  count, *shape = image.shape
  draw = ra.draw_operations(key, 1, image.shape)
  parameters = jax.tree.map(jnp.asarray, operations.make_parameters(M, tuple(shape)))
  negate = jnp.arange(count) % 2 == 1
  apply = jax.vmap(ra.apply_operation, in_axes=(None, 0, None, 0, 0))
  apply = jax.jit(jax.vmap(apply, in_axes=(None, None, 0, None, None)))
  operation = jnp.arange(len(operations.OPERATIONS), dtype=jnp.int32)
  results = np.asarray(apply(parameters, image, operation, negate, draw.centre[0]))
  strips = []
  for name, result in zip(operations.OPERATIONS, results, strict=True):
    strips.append(Strip(_title(name, operations.magnitude(name, M, tuple(shape[:2]))), result, []))
  return strips


def _title(name, value):
  """An operation with its value, as it acts."""
  if operations.RANGES[name] == (0, 1):
    return name
  shown = {
    'rotate': f'±{value:.3g}°',
    'posterize': f'to {max(1, int(value))} bit',
    'solarize': f'from {np.ceil(value):.0f}',
    'solarize_add': f'{int(value)}',
  }.get(name, ('±' if name in pillow.WARPS else '') + f'{value:.3g}')
  return f'{name}\n{shown}' + (' px' if name in operations.IN_PIXELS else '')


def _draw(name, strips):
  """Two columns of strips, of about the same height."""
  heights = [1.06 + 0.15 * max((1 + c.count('\n') for c in s.captions), default=0) for s in strips]
  total = sum(heights)
  half = min(range(len(strips)), key=lambda k: abs(2 * sum(heights[:k]) - total))
  columns = [(strips[:half], heights[:half]), (strips[half:], heights[half:])]
  inches = max(sum(height) for _, height in columns) + 0.7
  figure = Figure(figsize=(17.4, inches), facecolor='#cfd8e3')
  figure.suptitle(
    f'{picture.words(name)}: training images under each augmentation, and under each RandAugment'
    f' operation at m = {M}\nbelow: label and weight; mixing has one draw per batch, so each'
    ' image is from a batch of its own',
    fontsize=11,
    y=1 - 0.08 / inches,
  )
  for left, (column, height) in zip((0.065, 0.565), columns, strict=True):
    bottom = inches - 0.65
    for strip, h in zip(column, height, strict=True):
      bottom -= h
      _draw_strip(figure.add_axes((left, bottom / inches, 0.43, h / inches)), strip)
  return figure


def _draw_strip(axes: Axes, strip: Strip):
  count, height, width, _ = strip.image.shape
  gap = max(1, width // 16)
  for k, image in enumerate(strip.image):
    x = k * (width + gap)
    axes.imshow(image.squeeze(), cmap='gray', vmin=0, vmax=255, extent=(x, x + width, height, 0))
    if strip.captions:
      place = (x + width / 2, height * 1.04)
      axes.text(*place, strip.captions[k], ha='center', va='top', fontsize=7, linespacing=1.1)
  axes.set(xlim=(0, IMAGES * (width + gap)), ylim=(height, 0), aspect='equal', anchor='NW')
  axes.set_axis_off()
  axes.text(-gap, height / 2, strip.title, ha='right', va='center', fontsize=9)


def _short(name):
  """A class name that fits under an image."""
  name = picture.words(name)
  return name if len(name) <= 12 else name[:11] + '…'


def main(argv):
  """Writes the sheet of a data set that `jaxbudget.data.load` can find."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  try:
    contact_sheet(load(FLAGS.dataset, FLAGS.data_dir), FLAGS.path, FLAGS.seed)
  except ValueError as e:
    sys.exit(plain.text(f'refused: {e}'))
  print(plain.text(FLAGS.path))


if __name__ == '__main__':
  FLAGS = flags.FLAGS
  flags.DEFINE_string('dataset', 'digits', 'as in the config')
  flags.DEFINE_string('data_dir', None, 'prepared data; none: the usual directory')
  flags.DEFINE_string('path', 'contact_sheet.png', 'PNG to write')
  flags.DEFINE_integer('seed', 0, 'of the choice of images and of all draws')
  app.run(main)
