"""Floating-point operations per sample, counted by the shapes of products.

A multiply-add is two operations; a convolution counts the products with its padding, as the
field does. A backward pass is two forward ones, as in the cost model (fidelity.md section 6).
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxbudget import factories
from jaxbudget.data import Info
from jaxbudget.models import for_data
from jaxbudget.state import weight_shapes
from jaxbudget.types import Model


def model_flops(
  name: str,
  info: Info,
  batch_size: int,
  options: Mapping[str, Any] | None = None,
  image_shape: tuple[int, ...] | None = None,
) -> tuple[float, float]:
  """What one sample costs.

  Args:
    name: of a network.
    info: of the data set.
    batch_size: s.
    options: of the network.
    image_shape: of what the network, made for the data set, is given; the data set's if None.

  Returns:
    (a forward pass, a training step: forward and backward), FLOPs a sample.
  """
  plain, part = dict(options or {}), factories.find('model', name)
  if 'conv' in part.options and not part.outside:
    plain['conv'] = 'lax'  # another form of convolution has other products
  forward = _flops(name, info, tuple(plain.items()), batch_size, image_shape or info.image_shape)
  return forward, 3 * forward


@functools.cache
def _flops(name, info, options, batch_size, image_shape):
  model = for_data(name, info, **dict(options))
  dtype = 'float32' if info.kind == 'images' else info.dtype
  return 2 * forward_macs(model, image_shape, batch_size, dtype)


def forward_macs(
  model: Model, image_shape: tuple[int, ...], batch_size: int = 1, dtype: str = 'float32'
) -> float:
  """Multiply-adds of a forward pass of one input.

  Args:
    model: the network, with plain convolutions (`conv='lax'`).
    image_shape: (height, width, channels) of images, or of other inputs.
    batch_size: inputs that are looked at together.
    dtype: of what the network is given.

  Returns:
    Their number, a whole one where inputs do not share any.
  """
  params, model_state = weight_shapes(model)
  image = jax.ShapeDtypeStruct((batch_size, *image_shape), dtype)
  apply = functools.partial(model.apply, train=False)
  return count_macs(apply, params, model_state, image) / batch_size


def count_macs(function: Callable, *arguments) -> int:
  """Multiply-adds of the convolutions and matrix products of a function.

  Args:
    function: traced, never run. The body of a loop of unknown length counts once.
    *arguments: pytrees of arrays or of their shapes.

  Returns:
    Their number.
  """
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr):
  total = 0
  for equation in jaxpr.eqns:
    out = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      total += out * math.prod(shape[axis] for axis in contracted)
    elif equation.primitive.name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      out_features = equation.params['dimension_numbers'].rhs_spec[0]
      total += out * math.prod(kernel) // kernel[out_features]
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else (value,):
        inner = getattr(inner, 'jaxpr', inner)  # closed or not
        if hasattr(inner, 'eqns'):
          total += _count(inner) * equation.params.get('length', 1)  # of a scan
  return total
