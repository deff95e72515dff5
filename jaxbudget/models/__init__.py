"""Networks by name, and out of anybody's Flax module."""

import functools

from jaxbudget import factories, types

__all__ = ['from_linen', 'from_nnx', 'make_model']


def make_model(
  name: str,
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  trusted: bool = True,
  **options,
) -> types.Model:
  """Builds a network by name.

  Args:
    name: a known network, or `package.module:factory`.
    num_classes: C.
    image_shape: (height, width, channels) of an augmented image.
    trusted: whether others' packages may be imported.
    **options: of the network, such as `width` of `resnet18`.

  Returns:
    The model, whose `init(key)` gives (params, state); equal arguments give the identical
    object.

  Raises:
    ValueError: naming what is unknown or not allowed, with the closest match.
  """
  part = factories.find('model', name, trusted)
  return _make(part, num_classes, tuple(image_shape), tuple(part.fill(options).items()))


@functools.cache
def _make(part, num_classes, image_shape, options):
  return part.make(types.Model, num_classes, image_shape, **dict(options))


def __getattr__(name):
  if name in ('from_nnx', 'from_linen'):  # Flax takes half a second to import
    from jaxbudget.models import from_flax

    return getattr(from_flax, name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
