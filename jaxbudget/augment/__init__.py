"""Augmentation on the device, inside the compiled epoch (fidelity.md 3, design.md 3)."""

import difflib
import functools
import inspect

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
  if name not in AUGMENTS:
    raise ValueError(f'unknown augment {name!r}{_closest(name, AUGMENTS)}')
  defaults = {
    key: parameter.default
    for key, parameter in inspect.signature(AUGMENTS[name]).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }
  for key in options:
    if key not in defaults:
      raise ValueError(f'unknown option {key!r} of augment {name!r}{_closest(key, defaults)}')
  _check_shapes(info)
  return _build(name, info, tuple({**defaults, **options}.items()))


def _closest(word, known):
  match = difflib.get_close_matches(word, known, n=1)
  hint = f'; did you mean {match[0]!r}?' if match else ';'
  return f'{hint} known: {", ".join(known) or "none"}'


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


def _standard_stages(info):
  return (
    random_crop(info.pad),
    random_flip(info.flip),
    on_image(normalize(info.mean, info.std)),
  )


def standard(info: Info) -> Augment:
  """Zero pad, random crop, random flip, normalise (fidelity.md 1.2)."""
  return Augment(train=chain(*_standard_stages(info)), test=normalize(info.mean, info.std))


AUGMENTS = {'standard': standard}
