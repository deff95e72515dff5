"""ResNet-50 for photographs (He et al., 2016), in the form that the field calls v1.5.

A 7x7 convolution and max-pooling, each of stride 2; bottleneck blocks whose stride is in the 3x3
convolution; initial values as torchvision has them: He's normal ones by outputs for convolutions
(He et al., "Delving Deep into Rectifiers", 2015), torch's default for the linear layer.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxbudget import registry, types
from jaxbudget.models import network, resnet

GAMMA_INITS = ('ones', 'zero_last')


class Bottleneck(nnx.Module):
  """A 1x1, a 3x3 and a 1x1 convolution, each with BatchNorm; ReLU after the addition too."""

  expansion = 4  # channels that leave it, over its width

  def __init__(self, features_in, width, stride, make_conv, make_norm, rngs):
    features = self.expansion * width
    self.conv1 = make_conv(features_in, width, 1, rngs=rngs)
    self.norm1 = make_norm(width, rngs=rngs)
    self.conv2 = make_conv(width, width, 3, stride, rngs=rngs)
    self.norm2 = make_norm(width, rngs=rngs)
    self.conv3 = make_conv(width, features, 1, rngs=rngs)
    self.norm3 = make_norm(features, rngs=rngs)
    resnet.make_shortcut(self, features_in, features, stride, make_conv, make_norm, rngs)

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to [n,h/stride,w/stride,4*width]."""
    y = nnx.relu(self.norm1(self.conv1(x), **norm_options))
    y = nnx.relu(self.norm2(self.conv2(y), **norm_options))
    return resnet.add_shortcut(self, x, self.norm3(self.conv3(y), **norm_options), norm_options)


def max_pool_3x3(x: jax.Array) -> jax.Array:
  """Maxima of overlapping 3x3 squares, two pixels apart; nothing lies beyond the border.

  Args:
    x: [n,h,w,c].

  Returns:
    [n,ceil(h/2),ceil(w/2),c].
  """
  padding = ((0, 0), (1, 1), (1, 1), (0, 0))
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


def resnet50(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 64,
  blocks: tuple[int, ...] = (3, 4, 6, 3),
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  bn_gamma_init: Literal['ones', 'zero_last'] = 'ones',
  bn_running_var: Literal['biased', 'unbiased'] = 'biased',
  bn_ghost_size: int = 0,
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The network of ImageNet: bottlenecks with the stride in the 3x3 convolution ("v1.5").

  Args:
    num_classes: C.
    image_shape: (height, width, channels) of an image; only the channels shape the network.
    width: channels of the stem; 64 gives 25,557,032 parameters at 1000 classes.
    blocks: in each stage; (3, 4, 23, 3) is ResNet-101, (3, 8, 36, 3) ResNet-152.
    compute_dtype: as of `resnet18`.
    bn_gamma_init: 'ones', or 'zero_last': 0 in the last BatchNorm of each block, so that blocks
      begin as identities (Goyal et al., `Accurate, Large Minibatch SGD
      <https://arxiv.org/abs/1706.02677>`_, 2017, section 5.1).
    bn_running_var: as of `resnet18`.
    bn_ghost_size: as of `resnet18`.
    conv: as of `resnet18`.

  Returns:
    The model; equal arguments give the identical object, so that compiled programs are
    found again.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  channels = image_shape[-1]
  if not 1 <= len(blocks) <= 5:
    raise ValueError(f'blocks={blocks!r} is refused: it must name 1 to 5 stages')
  for count in blocks:
    network.whole(network.DEEPEST, blocks=count)
  registry.check('bn_gamma_init', bn_gamma_init, GAMMA_INITS)
  options = compute_dtype, bn_running_var, bn_ghost_size, conv
  resnet.check_options(num_classes, channels, width, *options)
  return _model(tuple(blocks), num_classes, width, channels, bn_gamma_init, *options)


@functools.cache
def _model(blocks, num_classes, width, channels, bn_gamma_init, *options):
  """The pure seam around a network of bottlenecks."""

  def initial(path, shape, fan_in):
    """As torchvision draws."""
    if path[-1] == 'kernel' and len(shape) == 4:
      return network.normal(math.sqrt(2 / (shape[0] * shape[1] * shape[3])))
    if bn_gamma_init == 'zero_last' and path[-2:] == ('norm3', 'scale'):
      return network.constant(0.0)
    return network.torch_default(path, shape, fan_in)

  shape = (blocks, num_classes, width, channels, resnet.makers(*options))
  return network.as_model(
    lambda: resnet.ResNet(*shape, block=Bottleneck, stem=(7, 2), pool=max_pool_3x3), initial
  )
