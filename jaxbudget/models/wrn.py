"""Pre-activation residual networks, narrow and wide.

He et al., "Identity Mappings in Deep Residual Networks", 2016; Zagoruyko and Komodakis,
"Wide Residual Networks", 2016, without dropout. Shortcuts that change shape start after the
block's first BatchNorm and ReLU and have no BatchNorm of their own. Initial values:
https://github.com/xternalz/WideResNet-pytorch and, for the narrow ones,
https://github.com/stanford-futuredata/selection-via-proxy.
"""

import functools
import math
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from jaxbudget import types
from jaxbudget.models import network


class Block(nnx.Module):
  """Two times BatchNorm, ReLU, 3x3 convolution."""

  def __init__(self, features_in, features, stride, make_conv, rngs):
    self.norm1 = network.norm(features_in, rngs=rngs)
    self.conv1 = make_conv(features_in, features, 3, stride, rngs=rngs)
    self.norm2 = network.norm(features, rngs=rngs)
    self.conv2 = make_conv(features, features, 3, rngs=rngs)
    self.projects = stride != 1 or features_in != features
    if self.projects:
      self.shortcut = make_conv(features_in, features, 1, stride, rngs=rngs)

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to [n,h/stride,w/stride,features]."""
    y = nnx.relu(self.norm1(x, **norm_options))
    if self.projects:
      x = self.shortcut(y)
    y = nnx.relu(self.norm2(self.conv1(y), **norm_options))
    return self.conv2(y) + x


class PreActResNet(nnx.Module):
  """A 3x3 convolution, three stages of blocks at falling sides, BatchNorm and ReLU, a mean."""

  def __init__(self, stem, widths, blocks, num_classes, channels, make_conv):
    rngs = nnx.Rngs(0)
    self.conv = make_conv(channels, stem, 3, rngs=rngs)
    names = []
    features_in = stem
    for stage, features in enumerate(widths, start=1):
      for block in range(1, blocks + 1):
        stride = 2 if stage > 1 and block == 1 else 1
        name = f'stage{stage}_block{block}'
        setattr(self, name, Block(features_in, features, stride, make_conv, rngs))
        names.append(name)
        features_in = features
    self.block_names = tuple(names)
    self.norm = network.norm(features_in, rngs=rngs)
    self.linear = nnx.Linear(features_in, num_classes, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps images [n,h,w,c] to what the linear layer sees, f32[n,D]."""
    x = self.conv(x)
    for name in self.block_names:
      x = getattr(self, name)(x, **norm_options)
    return jnp.mean(nnx.relu(self.norm(x, **norm_options)), (1, 2))

  def __call__(self, x, **norm_options):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self.features(x, **norm_options))


def wrn(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  depth: int = 28,
  width: int = 10,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """WRN-d-k: 16 channels, then 16k, 32k and 64k.

  Args:
    num_classes: C.
    image_shape: (height, width, channels).
    depth: d, 6n + 4 for n blocks a stage.
    width: k, the factor that widens a stage.
    compute_dtype: of the convolutions and the sums over blocks.
      Parameters, BatchNorm statistics and logits are float32 either way.
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model; equal arguments give the identical object.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  network.whole(num_classes=num_classes)
  network.whole(network.WIDEST // 16, width=width)
  blocks = _blocks(depth, 4)
  widths = (16 * width, 32 * width, 64 * width)
  network.check_options(conv, compute_dtype)
  return _model(num_classes, image_shape[2], 16, widths, blocks, True, compute_dtype, conv)


def preact_resnet(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  depth: int = 20,
  width: int = 16,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """Pre-activation ResNet-d, d = 6n + 2: the proxy of Coleman et al., 2020.

  Coleman et al., "Selection via Proxy: Efficient Data Selection for Deep Learning". Stages
  of `width`, twice and four times as many channels. See `wrn` for the rest.
  """
  network.whole(num_classes=num_classes)
  network.whole(network.WIDEST, width=width)
  blocks = _blocks(depth, 2)
  widths = (width, 2 * width, 4 * width)
  network.check_options(conv, compute_dtype)
  return _model(num_classes, image_shape[2], width, widths, blocks, False, compute_dtype, conv)


def _blocks(depth, others):
  """Blocks of a stage, of a network with so many layers beside them."""
  network.whole(network.DEEPEST, depth=depth)
  blocks, rest = divmod(depth - others, 6)
  if rest or blocks < 1:
    raise ValueError(f'depth={depth}: allowed is 6n + {others}, n >= 1')
  return blocks


@functools.cache
def _model(num_classes, channels, stem, widths, blocks, zero_bias, compute_dtype, conv):
  dtype = network.COMPUTE_DTYPES[compute_dtype]
  make_conv = functools.partial(network.conv, convolve=network.CONVS[conv], dtype=dtype)

  def initial(path, shape, fan_in):
    """Convolutions by fan-out (He et al., 2015), the rest torch's default."""
    if len(shape) == 4:
      return network.normal(math.sqrt(2 / math.prod((*shape[:2], shape[3]))))
    if zero_bias and path == ('linear', 'bias'):
      return network.constant(0.0)
    return network.torch_default(path, shape, fan_in)

  return network.as_model(
    lambda: PreActResNet(stem, widths, blocks, num_classes, channels, make_conv), initial
  )
