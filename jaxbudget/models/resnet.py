"""CIFAR-style residual networks (He et al., 2016) behind the pure seam of `types.Model`.

No max-pooling, 3x3 first convolution of stride 1, initialised as torch 1.0.0 would
(fidelity.md 1.6). Flax NNX builds the network; nothing of it leaves this file: parameters
and model state are nested dicts of arrays.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxbudget import registry, types
from jaxbudget.models.cpu_conv import conv as cpu_conv

CONVS = {'lax': lax.conv_general_dilated, 'cpu': cpu_conv}
RUNNING_VARS = ('biased', 'unbiased')
GAMMA_INITS = {'uniform01': (0.0, 1.0), 'ones': (1.0, 1.0)}
_WIDEST = 2**12  # channels of the first stage; more are a mistake, and would fill the memory
COMPUTE_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


class Norm(nnx.BatchNorm):
  """BatchNorm as one factor and one summand a channel; statistics in float32.

  The function, parameters and statistics are those of `nnx.BatchNorm`. Its own
  `(x - mean) * factor + bias` keeps a second copy of every activation for the backward pass
  and passes over it more often (docs/performance.md).

  Attributes:
    unbiased: the running variance follows the unbiased estimate, as torch's does. It
      normalises by the biased one in training either way.
  """

  unbiased: bool = False

  def __call__(self, x, use_running_average, mask=None):
    """Normalises [n,h,w,c] over all but channels; `mask` bool[n,1,1,1] says which count."""
    x = x.astype(jnp.float32)
    mean, var = self.mean[...], self.var[...]
    if not use_running_average:
      mean = jnp.mean(x, (0, 1, 2), where=mask)
      var = jnp.maximum(0.0, jnp.mean(x * x, (0, 1, 2), where=mask) - mean**2)
      kept = var * _correction(x, mask) if self.unbiased else var
      self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
      self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * kept
    factor = self.scale[...] * lax.rsqrt(var + self.epsilon)
    summand = self.bias[...] - mean * factor
    return x * factor[None, None, None] + summand[None, None, None]


def _correction(x, mask):
  """What makes a biased variance unbiased: n / (n - 1) for the n values that count."""
  n, height, width, _ = x.shape
  examples = jnp.float32(n) if mask is None else jnp.sum(mask, dtype=jnp.float32)
  count = examples * (height * width)
  return count / jnp.maximum(count - 1, 1)


class Block(nnx.Module):
  """Basic residual block: two 3x3 convolutions, ReLU after the addition."""

  def __init__(self, features_in, features, stride, make_conv, make_norm, rngs):
    self.conv1 = make_conv(features_in, features, 3, stride, rngs=rngs)
    self.norm1 = make_norm(features, rngs=rngs)
    self.conv2 = make_conv(features, features, 3, 1, rngs=rngs)
    self.norm2 = make_norm(features, rngs=rngs)
    self.projects = stride != 1 or features_in != features
    if self.projects:
      self.shortcut_conv = make_conv(features_in, features, 1, stride, rngs=rngs)
      self.shortcut_norm = make_norm(features, rngs=rngs)

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to [n,h/stride,w/stride,features]."""
    y = nnx.relu(self.norm1(self.conv1(x), **norm_options))
    y = self.norm2(self.conv2(y), **norm_options)
    if self.projects:
      x = self.shortcut_norm(self.shortcut_conv(x), **norm_options)
    return nnx.relu(y + x.astype(y.dtype))


class ResNet(nnx.Module):
  """A stem, stages of blocks (each later stage halves the image and doubles the width), a head."""

  def __init__(self, stages, num_classes, width, image_channels, make_conv, make_norm, rngs, dtype):
    self.dtype = dtype
    self.conv = make_conv(image_channels, width, 3, 1, rngs=rngs)
    self.norm = make_norm(width, rngs=rngs)
    names = []
    features = width
    for stage, blocks in enumerate(stages):
      for block in range(blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        features_in, features = features, width * 2**stage
        name = f'stage{stage + 1}_block{block + 1}'
        setattr(self, name, Block(features_in, features, stride, make_conv, make_norm, rngs))
        names.append(name)
    self.block_names = tuple(names)
    self.linear = nnx.Linear(features, num_classes, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps images [n,h,w,c] to what the linear layer sees, f32[n,D]."""
    x = x.astype(self.dtype)
    x = nnx.relu(self.norm(self.conv(x), **norm_options))
    for name in self.block_names:
      x = getattr(self, name)(x.astype(self.dtype), **norm_options)
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))

  def __call__(self, x, **norm_options):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self.features(x, **norm_options))


def _make_conv(features_in, features, size, stride, *, conv, dtype, rngs):
  padding = size // 2
  return nnx.Conv(
    features_in,
    features,
    (size, size),
    strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),  # SAME would pad (0, 1) at stride 2
    use_bias=False,
    dtype=dtype,
    conv_general_dilated=conv,
    rngs=rngs,
  )


def _make_norm(features, *, unbiased, rngs):
  norm = Norm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)
  norm.unbiased = unbiased
  return norm


def resnet18(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 64,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  bn_gamma_init: Literal['uniform01', 'ones'] = 'uniform01',
  bn_running_var: Literal['biased', 'unbiased'] = 'biased',
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
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model; equal arguments give the identical object, so that compiled programs are
    found again.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  options = width, compute_dtype, bn_gamma_init, bn_running_var, conv
  return _checked((2, 2, 2, 2), num_classes, image_shape, *options)


def resnet8(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 16,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  bn_gamma_init: Literal['uniform01', 'ones'] = 'uniform01',
  bn_running_var: Literal['biased', 'unbiased'] = 'biased',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """A small network for small images: three stages of one block. See `resnet18`."""
  options = width, compute_dtype, bn_gamma_init, bn_running_var, conv
  return _checked((1, 1, 1), num_classes, image_shape, *options)


def _checked(
  stages, num_classes, image_shape, width, compute_dtype, bn_gamma_init, bn_running_var, conv
):
  channels = image_shape[-1]
  for key, value in (('num_classes', num_classes), ('width', width), ('channels', channels)):
    if not isinstance(value, int) or value < 1:
      raise ValueError(f'{key}={value!r}: must be a positive integer')
  if width > _WIDEST:
    raise ValueError(f'width={width!r} is refused: 1 to {_WIDEST} channels')
  registry.check('compute_dtype', compute_dtype, COMPUTE_DTYPES)
  registry.check('bn_gamma_init', bn_gamma_init, GAMMA_INITS)
  registry.check('bn_running_var', bn_running_var, RUNNING_VARS)
  registry.check('conv', conv, ('auto', *CONVS))
  if conv == 'auto':
    conv = 'cpu' if jax.default_backend() == 'cpu' else 'lax'
  options = compute_dtype, bn_gamma_init, bn_running_var, conv
  return _model(stages, num_classes, width, channels, *options)


def _draw(key, shapes, gamma_range):
  """Initial parameters as torch 1.0.0 draws them (fidelity.md 1.6).

  Uniform on +-1/sqrt(fan_in) for kernels and for the linear bias, BatchNorm's beta 0. All
  come from one draw of random numbers: one for each array takes many seconds to compile.
  """
  leaves, structure = jax.tree.flatten_with_path(shapes)
  sizes = [math.prod(leaf.shape) for _, leaf in leaves]
  draws = jnp.split(jax.random.uniform(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
  head_bound = shapes['linear']['kernel'].shape[0] ** -0.5

  def value_range(path, shape):
    *layers, name = (entry.key for entry in path)
    if name == 'kernel':
      bound = math.prod(shape[:-1]) ** -0.5
      return -bound, bound
    if layers == ['linear']:
      return -head_bound, head_bound
    return gamma_range if name == 'scale' else (0.0, 0.0)

  values = []
  for (path, leaf), draw in zip(leaves, draws, strict=True):
    low, high = value_range(path, leaf.shape)
    values.append((low + (high - low) * draw).reshape(leaf.shape))
  return jax.tree.unflatten(structure, values)


def _initial_statistics(shapes):
  return jax.tree.map_with_path(
    lambda path, leaf: jnp.full(leaf.shape, float(path[-1].key == 'var')), shapes
  )


@functools.cache
def _model(
  stages, num_classes, width, image_channels, compute_dtype, bn_gamma_init, bn_running_var, conv
):
  """The pure seam around a `ResNet`."""
  dtype = COMPUTE_DTYPES[compute_dtype]
  make_conv = functools.partial(_make_conv, conv=CONVS[conv], dtype=dtype)
  make_norm = functools.partial(_make_norm, unbiased=bn_running_var == 'unbiased')

  def build():
    network = ResNet(
      stages, num_classes, width, image_channels, make_conv, make_norm, nnx.Rngs(0), dtype
    )
    return nnx.split(network, nnx.Param, nnx.BatchStat)

  # Flax gives the structure; the values are drawn below, in one program that compiles fast.
  graph, params, stats = nnx.eval_shape(build)
  shapes, stat_shapes = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

  @jax.jit
  def init(key):
    return _draw(key, shapes, GAMMA_INITS[bn_gamma_init]), _initial_statistics(stat_shapes)

  def apply(params, model_state, image, train, mask=None):
    # copy=True: BatchNorm writes its statistics into a copy that belongs to this trace.
    network = nnx.merge(graph, params, model_state, copy=True)
    if mask is not None:
      mask = mask[:, None, None, None]
    logits = network(image, use_running_average=not train, mask=mask)
    if not train:
      return logits, model_state
    return logits, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))

  def features(params, model_state, image):
    network = nnx.merge(graph, params, model_state, copy=True)
    return network.features(image, use_running_average=True)

  return types.Model(init, apply, features)
