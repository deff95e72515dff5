"""A perceptron of some hidden layers, for features; it takes images too, pixel by pixel."""

import functools
import math

import jax
import jax.numpy as jnp

from jaxbudget.models.layers import linear, linear_init
from jaxbudget.models.network import DEEPEST, WIDEST, whole
from jaxbudget.types import Model


def mlp(
  num_classes: int, image_shape: tuple[int, ...], *, hidden: int = 128, depth: int = 2
) -> Model:
  """Linear layers with ReLU between them, for features; initialised as He et al. (2015).

  Args:
    num_classes: C, outputs.
    image_shape: of an input, which is laid out flat.
    hidden: numbers in a hidden layer.
    depth: hidden layers.

  Returns:
    The model; equal arguments give the identical object. It has no model state.

  Raises:
    ValueError: an option out of range.
  """
  whole(WIDEST, hidden=hidden)
  whole(DEEPEST, depth=depth)
  return _model(num_classes, math.prod(image_shape), hidden, depth)


@functools.cache
def _model(num_classes, size, hidden, depth):
  sizes = [size, *[hidden] * depth]
  names = [f'layer{i}' for i in range(1, depth + 1)]

  @jax.jit
  def init(key):
    keys = jax.random.split(key, depth + 1)
    layers = zip(names, keys[:-1], sizes[:-1], sizes[1:], strict=True)
    params = {name: linear_init(k, a, b, (2 / a) ** 0.5) for name, k, a, b in layers}
    return params | {'linear': linear_init(keys[-1], hidden, num_classes, hidden**-0.5)}, {}

  def features(params, model_state, image):
    del model_state
    x = image.reshape(image.shape[0], -1)
    for name in names:
      x = jax.nn.relu(linear(params[name], x))
    return x

  def apply(params, model_state, image, train, mask=None):
    del train, mask  # no sample touches another one
    output = linear(params['linear'], features(params, model_state, image))
    return output.astype(jnp.float32), model_state

  return Model(init, apply, features)
