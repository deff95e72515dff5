"""Augmentation on the device, inside the compiled epoch (fidelity.md 3, design.md 3)."""

import functools
import inspect

from jaxbudget import registry
from jaxbudget.augment import mix, operations, randaugment
from jaxbudget.augment.geometric import Stage, chain, normalize, on_image, random_crop, random_flip
from jaxbudget.data.dataset import Info
from jaxbudget.types import Augment

__all__ = ['AUGMENTS', 'Stage', 'chain', 'make_augment', 'normalize']


def make_augment(name: str, info: Info, **options) -> Augment:
  """Builds an augmentation for a data set.

  The same arguments give the identical object: compiled programs are found again by the
  identity of the functions in them.

  Args:
    name: one of `AUGMENTS`.
    info: facts of the data set; read are `image_shape`, `mean`, `std`, `flip`, `pad`.
    **options: of the named augmentation, e.g. `n` and `m` of `randaugment`.

  Returns:
    The augmentation.

  Raises:
    ValueError: for an unknown name or option, or a value out of range.
  """
  registry.check('augment', name, AUGMENTS)
  parameters = inspect.signature(AUGMENTS[name]).parameters.values()
  defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
  for option in options:
    registry.check(f'option of {name}', option, defaults)
  _check_shapes(info)
  return _build(name, info, tuple({**defaults, **options}.items()))


def _check_shapes(info):
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
def _build(name, info, options):
  return AUGMENTS[name](info, **dict(options))


def _standard(info):
  """Zero pad, random crop, random flip, normalise (fidelity.md 1.2)."""
  return _around_standard(info)


def _randaugment(info, *, n=2, m=4):
  """N random operations of magnitude m on the uint8 image, then standard (fidelity.md 3.4)."""
  first = randaugment.randaugment(n, m)
  operations.make_parameters(m, info.image_shape)  # refuses unfit images before any compile
  return _around_standard(info, first=first)


def _mixup(info, *, alpha=0.3, mix_image=True, fold=False):
  """Standard, then mixup of pairs (fidelity.md 3.2)."""
  return _around_standard(info, last=mix.mixup(alpha, mix_image=mix_image, fold=fold), parts=2)


def _ricap(info, *, alpha=0.3):
  """Standard, then patches of four samples (fidelity.md 3.3)."""
  return _around_standard(info, last=mix.ricap(alpha), parts=mix.RICAP_PARTS)


def _around_standard(info, first=None, last=None, parts=1):
  to_float = normalize(info.mean, info.std)
  standard = random_crop(info.pad), random_flip(info.flip), on_image(to_float)
  stages = [stage for stage in (first, *standard, last) if stage]
  return Augment(chain(*stages), to_float, parts)


AUGMENTS = {
  'standard': _standard,
  'randaugment': _randaugment,
  'mixup': _mixup,
  'ricap': _ricap,
}
