"""Networks by name."""

import inspect

from jaxbudget import registry, types
from jaxbudget.models.resnet import resnet8, resnet18

_FACTORIES = {'resnet18': resnet18, 'resnet8': resnet8}
MODELS = tuple(_FACTORIES)


def make_model(
  name: str,
  num_classes: int,
  image_shape: tuple[int, int, int],
  width: int | None = None,
  **options,
) -> types.Model:
  """Builds a network by name.

  Args:
    name: one of `MODELS`.
    num_classes: C.
    image_shape: (height, width, channels) of an augmented image.
    width: channels of the first stage; None is the network's own.
    **options: `compute_dtype`, `bn_gamma_init` and `conv`, as for `resnet.resnet18`.

  Returns:
    The model; equal arguments give the identical object.

  Raises:
    ValueError: naming what is unknown or not allowed, with the closest match.
  """
  registry.check('model', name, MODELS)
  factory = _FACTORIES[name]
  known = [key for key in inspect.signature(factory).parameters if key not in _FIXED]
  for option in options:
    registry.check('model option', option, known)
  if width is not None:
    options['width'] = width
  return factory(num_classes, image_channels=image_shape[-1], **options)


_FIXED = ('num_classes', 'width', 'image_channels')
