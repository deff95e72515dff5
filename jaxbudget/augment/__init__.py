"""Augmentation on the device, inside the compiled epoch (fidelity.md 3)."""

import functools
import math
from typing import Any

from jaxbudget import factories
from jaxbudget.augment.geometric import (
  Stage,
  Stages,
  chain,
  normalize,
  on_image,
  random_crop,
  random_flip,
)
from jaxbudget.data.dataset import Info
from jaxbudget.types import Augment

__all__ = ['Stage', 'Stages', 'chain', 'make_augment', 'normalize']


def make_augment(name: str, info: Info, *, trusted: bool = True, **options: Any) -> Augment:
  """Builds an augmentation for a data set.

  Of a chain, the stages on uint8 images come first, then one crop and flip, stages on what was
  cropped, one normalisation, and the stages on normalised images, each in the order of the names.
  Samples in a picture multiply. The same arguments give the identical object: compiled programs
  are found again by the identity of the functions in them.

  Args:
    name: a known augmentation, `package.module:factory`, or several joined by `+`.
    info: facts of the data set; read are `image_shape`, `mean`, `std`, `flip`, `pad`.
    trusted: whether others' packages may be imported.
    **options: of the named augmentations, e.g. `n` and `m` of `randaugment`; an option that
      two of a chain have is given as `mixup={'alpha': 0.3}`.

  Returns:
    The augmentation.

  Raises:
    ValueError: for an unknown name or option, or a value out of range.
  """
  parts = factories.chain('augment', name, trusted)
  divided, unknown = factories.divide(parts, options)
  if unknown:
    raise ValueError('\n'.join(factories.unknown_option(parts, path) for path in unknown))
  _check_inputs(parts, info)
  filled = [part.fill(given) for part, given in zip(parts, divided, strict=True)]
  return _build(tuple(parts), info, tuple(tuple(each.items()) for each in filled))


def _check_inputs(parts, info):
  """Refuses augmentations for images on other inputs, and images they would miss."""
  ours = [part.name for part in parts if not part.outside and part.short != 'none']
  if info.kind != 'images':
    if ours:
      raise ValueError(
        f'augment {"+".join(ours)!r} is for images, but the inputs of {info.name} are {info.kind}: '
        "allowed is 'none'"
      )
    return
  height, width, channels = info.image_shape
  if info.pad >= min(height, width):
    raise ValueError(
      f'pad={info.pad}: allowed is less than the side of the {height}x{width} images,'
      ' or a crop could miss the image'
    )
  if not len(info.mean) == len(info.std) == channels:
    raise ValueError(
      f'mean={info.mean}, std={info.std}: allowed is one of each per channel, {channels} here'
    )


@functools.cache
def _build(parts, info, options):
  made = [
    part.make((Stages, Augment), info, **dict(given))
    for part, given in zip(parts, options, strict=True)
  ]
  whole = [part.name for part, one in zip(parts, made, strict=True) if isinstance(one, Augment)]
  if whole and len(parts) > 1:
    raise ValueError(f'augment {whole[0]!r} is a whole augmentation and cannot be chained by +')
  return made[0] if whole else assemble(info, *made)


def assemble(info: Info, *stages: Stages) -> Augment:
  """Puts stages around the standard transform; of other inputs than images, one behind another.

  Args:
    info: of the data set.
    *stages: what each augmentation adds.

  Returns:
    The augmentation.

  Raises:
    ValueError: more than one replaces the crop, or the flip, or cuts pictures together: of what is
      cut twice the shares would not be areas.
  """
  parts = math.prod(one.parts for one in stages)
  crops = [one.crop for one in stages if one.crop]
  flips = [one.flip for one in stages if one.flip]
  for what, found in (('crop', crops), ('flip', flips)):
    if len(found) > 1:
      raise ValueError(f'two of these augmentations replace the {what}: allowed is one')
  if sum(one.cuts for one in stages) > 1:
    raise ValueError(
      'two of these augmentations cut pictures together, so that targets would not be the areas '
      'that are shown: allowed is one, and mixup beside it'
    )
  to_float, standard = (lambda image: image), []
  if info.kind == 'images':
    to_float = normalize(info.mean, info.std)
    crops, flips = crops or [random_crop(info.pad)], flips or [random_flip(info.flip)]
    standard = [on_image(to_float)]
  order = [
    *(one.before for one in stages),
    *crops,
    *flips,
    *(one.between for one in stages),
    *standard,
    *(one.after for one in stages),
  ]
  train = chain(*(stage for stage in order if stage is not None))
  return Augment(train, to_float, parts)
