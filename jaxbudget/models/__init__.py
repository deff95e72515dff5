"""Networks by name, and out of anybody's Flax module."""

import functools

from jaxbudget import factories, types
from jaxbudget.data.dataset import Info

__all__ = ['for_data', 'from_linen', 'from_nnx', 'make_model']


_FOR_FEATURES = ('mlp',)  # of ours


def make_model(
  name: str,
  num_classes: int,
  image_shape: tuple[int, ...],
  *,
  trusted: bool = True,
  **options,
) -> types.Model:
  """Builds a network by name.

  Args:
    name: a known network, or `package.module:factory`.
    num_classes: C.
    image_shape: (height, width, channels) of an augmented image; (D,) or (L,) of features, tokens.
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


def for_data(name: str, info: Info, *, trusted: bool = True, **options) -> types.Model:
  """Builds a network for a data set.

  Args:
    name: as for `make_model`.
    info: of the data set; a network with an option `vocabulary` is given that of tokens, unless
      one is given.
    trusted: as for `make_model`.
    **options: of the network.

  Returns:
    The model.

  Raises:
    ValueError: as for `make_model`, or the network takes other inputs.
  """
  part = factories.find('model', name, trusted)
  takes_tokens = 'vocabulary' in part.options
  if takes_tokens != bool(info.vocabulary):
    wanted = 'tokens' if takes_tokens else 'no tokens'
    hint = ', such as transformer' if info.vocabulary else ''
    raise ValueError(
      f'model {name!r} takes {wanted}, but the inputs of {info.name} are {info.kind}: allowed is a '
      f'network {"with" if info.vocabulary else "without"} an option vocabulary{hint}'
    )
  if info.kind == 'features' and not part.outside and part.short not in _FOR_FEATURES:
    raise ValueError(
      f'model {name!r} is for images, but the inputs of {info.name} are features: allowed is '
      f'{" or ".join(_FOR_FEATURES)}, or package.module:factory'
    )
  if takes_tokens:
    vocabulary = options.get('vocabulary') or info.vocabulary
    if vocabulary < info.vocabulary:
      raise ValueError(
        f'vocabulary={vocabulary} is refused: the tokens of {info.name} go up to '
        f'{info.vocabulary - 1}'
      )
    options = {**options, 'vocabulary': vocabulary}
  return make_model(name, info.num_classes, info.image_shape, trusted=trusted, **options)


@functools.cache
def _make(part, num_classes, image_shape, options):
  return part.make(types.Model, num_classes, image_shape, **dict(options))


def __getattr__(name):
  if name in ('from_nnx', 'from_linen'):  # Flax takes half a second to import
    from jaxbudget.models import from_flax

    return getattr(from_flax, name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
