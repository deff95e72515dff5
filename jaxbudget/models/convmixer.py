"""ConvMixer: depthwise and 1x1 convolutions at one resolution.

Trockman and Kolter, "Patches Are All You Need?", 2022, https://arxiv.org/abs/2201.09792, and
https://github.com/locuslab/convmixer-cifar10.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbudget import types
from jaxbudget.models import network


def depthwise_cpu(lhs, rhs, window_strides, padding, **plain):
  """A depthwise convolution of stride 1 as a sum over taps; the rest as `lax` has it.

  The gradients of the convolution itself take XLA:CPU a hundred times as long inside a loop.

  Args:
    lhs: images [n,h,w,c].
    rhs: kernel [k,k,1,c].
    window_strides: (1, 1).
    padding: 'SAME'.
    **plain: what else `lax.conv_general_dilated` is told, at its defaults.

  Returns:
    [n,h,w,c].
  """
  assert tuple(window_strides) == (1, 1) and padding == 'SAME' and rhs.shape[2] == 1
  del plain
  _, height, width, _ = lhs.shape
  taps = [(i, j) for i in range(rhs.shape[0]) for j in range(rhs.shape[1])]
  low = [(size - 1) // 2 for size in rhs.shape[:2]]
  high = [size // 2 for size in rhs.shape[:2]]
  x = jnp.pad(lhs.astype(jnp.float32), ((0, 0), *zip(low, high, strict=True), (0, 0)))
  kernel = rhs.astype(jnp.float32)
  y = sum(x[:, i : i + height, j : j + width] * kernel[i, j, 0][None, None, None] for i, j in taps)
  return y.astype(lhs.dtype)


# What stands in for a form of convolution where each channel has its own.
_DEPTHWISE = {
  network.CONVS['cpu']: depthwise_cpu,
  network.CONVS['auto']: network.suiting(depthwise_cpu),
}


class Mixer(nnx.Module):
  """A depthwise convolution with a shortcut, then one of 1x1; GELU and BatchNorm after each."""

  def __init__(self, features, size, make_conv, convolve, dtype, rngs):
    self.depthwise = nnx.Conv(
      features,
      features,
      (size, size),
      feature_group_count=features,
      dtype=dtype,
      conv_general_dilated=_DEPTHWISE.get(convolve, convolve),
      rngs=rngs,
    )
    self.norm1 = network.norm(features, rngs=rngs)
    self.pointwise = make_conv(features, features, 1, rngs=rngs)
    self.norm2 = network.norm(features, rngs=rngs)

  def __call__(self, x, **norm_options):
    """Maps f32[n,h,w,c] to f32[n,h,w,c]."""
    x = x + self.norm1(_gelu(self.depthwise(x)), **norm_options)
    return self.norm2(_gelu(self.pointwise(x)), **norm_options)


class ConvMixer(nnx.Module):
  """Patches, mixers, the mean over the image, a linear layer."""

  def __init__(self, width, depth, kernel, patch, num_classes, channels, convolve, dtype):
    rngs = nnx.Rngs(0)
    make_conv = functools.partial(network.conv, convolve=convolve, dtype=dtype, bias=True)
    self.patches = nnx.Conv(
      channels,
      width,
      (patch, patch),
      strides=(patch, patch),
      padding='VALID',
      dtype=dtype,
      conv_general_dilated=convolve,
      rngs=rngs,
    )
    self.norm = network.norm(width, rngs=rngs)
    self.depth = depth
    for i in range(1, depth + 1):
      setattr(self, f'mixer{i}', Mixer(width, kernel, make_conv, convolve, dtype, rngs))
    self.linear = nnx.Linear(width, num_classes, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps images [n,h,w,c] to what the linear layer sees, f32[n,D]."""
    x = self.norm(_gelu(self.patches(x)), **norm_options)
    for i in range(1, self.depth + 1):
      x = getattr(self, f'mixer{i}')(x, **norm_options)
    return jnp.mean(x, (1, 2))

  def __call__(self, x, **norm_options):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self.features(x, **norm_options))


def _gelu(x):
  return jax.nn.gelu(x.astype(jnp.float32), approximate=False)


_WIDEST_KERNEL = 99  # of a side; more is a mistake, and would fill the memory


def convmixer(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 256,
  depth: int = 8,
  kernel: int = 5,
  patch: int = 2,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """ConvMixer-256/8 with kernels of 5 and patches of 2.

  Args:
    num_classes: C.
    image_shape: (height, width, channels).
    width: channels.
    depth: mixing layers.
    kernel: side of the depthwise kernels.
    patch: side of the patches.
    compute_dtype: of the convolutions. Parameters, BatchNorm
      statistics and logits are float32 either way.
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model; equal arguments give the identical object.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  network.whole(num_classes=num_classes, patch=patch)
  network.whole(_WIDEST_KERNEL, kernel=kernel)
  network.whole(network.WIDEST, width=width)
  network.whole(network.DEEPEST, depth=depth)
  if patch > min(image_shape[:2]):
    raise ValueError(f'patch={patch}: allowed is the side of the {image_shape} images or less')
  network.check_options(conv, compute_dtype)
  return _model(num_classes, image_shape[2], width, depth, kernel, patch, compute_dtype, conv)


@functools.cache
def _model(num_classes, channels, width, depth, kernel, patch, compute_dtype, conv):
  convolve, dtype = network.CONVS[conv], network.COMPUTE_DTYPES[compute_dtype]
  return network.as_model(
    lambda: ConvMixer(width, depth, kernel, patch, num_classes, channels, convolve, dtype)
  )
