"""CIFAR-style residual networks (He et al., 2016).

No max-pooling, 3x3 first convolution of stride 1, initialised as torch 1.0.0 would
(fidelity.md 1.6).
"""

import functools
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxbudget import registry, types
from jaxbudget.models import network

RUNNING_VARS = ('biased', 'unbiased')
GAMMA_INITS = {'uniform01': (0.0, 1.0), 'ones': (1.0, 1.0)}


class Block(nnx.Module):
  """Basic residual block: two 3x3 convolutions, ReLU after the addition."""

  expansion = 1  # channels that leave it, over its width

  def __init__(self, features_in, width, stride, make_conv, make_norm, rngs):
    self.conv1 = make_conv(features_in, width, 3, stride, rngs=rngs)
    self.norm1 = make_norm(width, rngs=rngs)
    self.conv2 = make_conv(width, width, 3, 1, rngs=rngs)
    self.norm2 = make_norm(width, rngs=rngs)
    make_shortcut(self, features_in, width, stride, make_conv, make_norm, rngs)

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to [n,h/stride,w/stride,width]."""
    y = nnx.relu(self.norm1(self.conv1(x), **norm_options))
    return add_shortcut(self, x, self.norm2(self.conv2(y), **norm_options), norm_options)


def make_shortcut(block, features_in, features, stride, make_conv, make_norm, rngs):
  """Gives a block its way around: the identity, or a projection where sizes change."""
  block.projects = stride != 1 or features_in != features
  if block.projects:
    block.shortcut_conv = make_conv(features_in, features, 1, stride, rngs=rngs)
    block.shortcut_norm = make_norm(features, rngs=rngs)


def add_shortcut(block, x, y, norm_options):
  """What leaves a block: ReLU of what came into it, x, and what it made of that, y."""
  if block.projects:
    x = block.shortcut_norm(block.shortcut_conv(x), **norm_options)
  return nnx.relu(y + x.astype(y.dtype))


class ResNet(nnx.Module):
  """A stem, stages of blocks (each later stage halves the image and doubles the width), a head."""

  def __init__(
    self, stages, num_classes, width, image_channels, makers, block=Block, stem=(3, 1), pool=None
  ):
    make_conv, make_norm, self.dtype = makers
    self.pool, rngs = pool, nnx.Rngs(0)
    self.conv = make_conv(image_channels, width, *stem, rngs=rngs)
    self.norm = make_norm(width, rngs=rngs)
    names, features = [], width
    for stage, blocks in enumerate(stages):
      for number in range(blocks):
        stride = 2 if stage > 0 and number == 0 else 1
        name = f'stage{stage + 1}_block{number + 1}'
        made = block(features, width * 2**stage, stride, make_conv, make_norm, rngs)
        setattr(self, name, made)
        features = block.expansion * width * 2**stage
        names.append(name)
    self.block_names = tuple(names)
    self.linear = nnx.Linear(features, num_classes, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps images [n,h,w,c] to what the linear layer sees, f32[n,D]."""
    x = x.astype(self.dtype)
    x = nnx.relu(self.norm(self.conv(x), **norm_options))
    if self.pool:
      x = self.pool(x.astype(self.dtype))
    for name in self.block_names:
      x = getattr(self, name)(x.astype(self.dtype), **norm_options)
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))

  def __call__(self, x, **norm_options):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self.features(x, **norm_options))


def resnet18(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 64,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  bn_gamma_init: Literal['uniform01', 'ones'] = 'uniform01',
  bn_running_var: Literal['biased', 'unbiased'] = 'biased',
  bn_ghost_size: int = 0,
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The paper's network: four stages of two blocks (fidelity.md 1.6).

  Args:
    num_classes: C.
    image_shape: (height, width, channels) of an image; only the channels shape the network.
    width: channels of the first stage; 64 gives 11,173,962 parameters at 10 classes.
    compute_dtype: of the convolutions. Parameters, BatchNorm statistics and logits are float32
      either way.
    bn_gamma_init: 'uniform01' (torch 1.0.0, the paper's) or 'ones' (torch >= 1.2).
    bn_running_var: which estimate of a batch's variance BatchNorm's running average follows,
      'biased' (Flax) or 'unbiased' (torch, the paper's).
    bn_ghost_size: neighbours in a batch that share statistics in training, a divisor of the batch;
      0: all of it. A device's share of a batch, or a divisor of that, spares several devices an
      exchange in each layer, and numbers still do not depend on how many there are.
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model; equal arguments give the identical object, so that compiled programs are
    found again.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  options = width, compute_dtype, bn_gamma_init, bn_running_var, bn_ghost_size, conv
  return _checked((2, 2, 2, 2), num_classes, image_shape, *options)


def resnet8(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 16,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  bn_gamma_init: Literal['uniform01', 'ones'] = 'uniform01',
  bn_running_var: Literal['biased', 'unbiased'] = 'biased',
  bn_ghost_size: int = 0,
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """A small network for small images: three stages of one block. See `resnet18`."""
  options = width, compute_dtype, bn_gamma_init, bn_running_var, bn_ghost_size, conv
  return _checked((1, 1, 1), num_classes, image_shape, *options)


def _checked(stages, num_classes, image_shape, width, compute_dtype, bn_gamma_init, *options):
  registry.check('bn_gamma_init', bn_gamma_init, GAMMA_INITS)
  channels = image_shape[-1]
  check_options(num_classes, channels, width, compute_dtype, *options)
  return _model(stages, num_classes, width, channels, compute_dtype, bn_gamma_init, *options)


def check_options(
  num_classes, channels, width, compute_dtype, bn_running_var, bn_ghost_size, conv
) -> None:
  """Checks what all residual networks have.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  network.whole(num_classes=num_classes, channels=channels)
  network.whole(network.WIDEST, width=width)
  network.check_options(conv, compute_dtype)
  registry.check('bn_running_var', bn_running_var, RUNNING_VARS)
  if bn_ghost_size:
    network.whole(bn_ghost_size=bn_ghost_size)


def makers(compute_dtype, bn_running_var, bn_ghost_size, conv):
  """What makes convolutions and BatchNorms, and the dtype of convolutions."""
  dtype = network.COMPUTE_DTYPES[compute_dtype]
  make_conv = functools.partial(network.conv, convolve=network.CONVS[conv], dtype=dtype)
  make_norm = functools.partial(
    network.norm, unbiased=bn_running_var == 'unbiased', ghost_size=bn_ghost_size
  )
  return make_conv, make_norm, dtype


@functools.cache
def _model(stages, num_classes, width, image_channels, compute_dtype, bn_gamma_init, *options):
  """The pure seam around a `ResNet`."""

  def initial(path, shape, fan_in):
    """As torch 1.0.0 draws (fidelity.md 1.6)."""
    if path[-1] == 'scale':
      return network.uniform(*GAMMA_INITS[bn_gamma_init])
    return network.torch_default(path, shape, fan_in)

  made = makers(compute_dtype, *options)
  return network.as_model(lambda: ResNet(stages, num_classes, width, image_channels, made), initial)
