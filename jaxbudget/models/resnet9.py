"""ResNet-9: 94 % on CIFAR-10 within 24 epochs, the winner of DAWNBench in 2018.

Page, "How to Train Your ResNet", https://myrtle.ai/how-to-train-your-resnet-4-architecture,
and https://github.com/davidcpage/cifar10-fast (dawn.py).
"""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxbudget import types
from jaxbudget.models import network

LOGIT_SCALE = 1 / 8


class Layer(nnx.Module):
  """3x3 convolution, BatchNorm, ReLU."""

  def __init__(self, features_in, features, make_conv, rngs):
    self.conv = make_conv(features_in, features, 3, rngs=rngs)
    self.norm = network.norm(features, rngs=rngs)

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to f32[n,h,w,features]."""
    return nnx.relu(self.norm(self.conv(x), **norm_options))


class ResNet9(nnx.Module):
  """Four layers, pooled after each but the first; two residual layers after the 2nd and 4th."""

  def __init__(self, width, num_classes, channels, make_conv):
    rngs = nnx.Rngs(0)
    make = functools.partial(Layer, make_conv=make_conv, rngs=rngs)
    self.prep = make(channels, width)
    self.layer1, self.layer2, self.layer3 = (make(k * width, 2 * k * width) for k in (1, 2, 4))
    self.layer1_res1, self.layer1_res2 = (make(2 * width, 2 * width) for _ in range(2))
    self.layer3_res1, self.layer3_res2 = (make(8 * width, 8 * width) for _ in range(2))
    self.linear = nnx.Linear(8 * width, num_classes, use_bias=False, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps images [n,h,w,c] to f32[n,D], whose product with the weights is the logits."""
    return self._pooled(x, **norm_options) * LOGIT_SCALE

  def _pooled(self, x, **norm_options):
    def run(layer, x):
      return layer(x, **norm_options)

    x = run(self.prep, x)
    x = network.max_pool(run(self.layer1, x), 2)
    x = x + run(self.layer1_res2, run(self.layer1_res1, x))
    x = network.max_pool(run(self.layer2, x), 2)
    x = network.max_pool(run(self.layer3, x), 2)
    x = x + run(self.layer3_res2, run(self.layer3_res1, x))
    return jnp.max(x, (1, 2))

  def __call__(self, x, **norm_options):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self._pooled(x, **norm_options)) * LOGIT_SCALE


def resnet9(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 64,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The network of `dawn.py`: 64, 128, 256, 512 channels.

  Args:
    num_classes: C.
    image_shape: (height, width, channels).
    width: channels of the first layer; the others double it.
    compute_dtype: of the convolutions. Parameters, BatchNorm
      statistics and logits are float32 either way.
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model; equal arguments give the identical object.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  network.whole(num_classes=num_classes)
  network.whole(network.WIDEST, width=width)
  network.check_options(conv, compute_dtype)
  return _model(num_classes, image_shape[2], width, compute_dtype, conv)


@functools.cache
def _model(num_classes, channels, width, compute_dtype, conv):
  dtype = network.COMPUTE_DTYPES[compute_dtype]
  make_conv = functools.partial(network.conv, convolve=network.CONVS[conv], dtype=dtype)
  model = network.as_model(lambda: ResNet9(width, num_classes, channels, make_conv))
  return model._replace(head_bias=False)
