"""A network that compiles in no time, for launches that are not about networks."""

import functools

import jax
import jax.numpy as jnp

from jaxbudget.types import Model


@functools.cache
def linear(num_classes, image_shape, *, scale: float = 0.1):
  """A linear classifier of 8x8 images that keeps a running mean, as BatchNorm does."""
  channels = image_shape[-1]

  def init(key):
    weights = scale * jax.random.normal(key, (16 * channels, num_classes))
    return {'w': weights, 'b': jnp.zeros(num_classes)}, {'mean': jnp.zeros(16 * channels)}

  def features(params, model_state, image):
    del params, model_state
    x = image.reshape(image.shape[0], 4, 2, 4, 2, channels).mean((2, 4))
    return x.reshape(x.shape[0], -1)

  def apply(params, model_state, image, train, mask=None):
    del mask
    x = features(params, model_state, image)
    logits = (x - model_state['mean'][None]) @ params['w'] + params['b'][None]
    mean = 0.9 * model_state['mean'] + 0.1 * jnp.mean(x, axis=0)
    return logits, {'mean': mean} if train else model_state

  return Model(init, apply, features)


def as_resnet(num_classes, image_shape, *, bn_running_var: str = 'biased'):
  """The linear classifier, where a config sets what the tables set of a ResNet."""
  del bn_running_var
  return linear(num_classes, image_shape)


@functools.cache
def hidden(num_classes, image_shape):
  """The same with a layer of eight units before: another network, so a proxy for it."""
  plain = linear(8, image_shape, scale=0.5)

  def init(key):
    below, above = jax.random.split(key)
    params, model_state = plain.init(below)
    top = 0.1 * jax.random.normal(above, (8, num_classes))
    return {'below': params, 'top': top}, model_state

  def features(params, model_state, image):
    return jax.nn.relu(plain.apply(params['below'], model_state, image, False)[0])

  def apply(params, model_state, image, train, mask=None):
    x, model_state = plain.apply(params['below'], model_state, image, train, mask)
    return jax.nn.relu(x) @ params['top'], model_state

  return Model(init, apply, features, head_bias=False)
