"""A small vision transformer.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; sizes of Touvron et al., "Training
data-efficient image transformers", 2021; initial values of timm.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbudget import types
from jaxbudget.models import network


class Attention(nnx.Module):
  """Softmax attention of every token to every token."""

  def __init__(self, width, heads, dtype, rngs):
    self.heads = heads
    self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
    self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

  def __call__(self, x):
    """Maps [n,tokens,D] to [n,tokens,D]."""
    n, tokens, width = x.shape
    query, key, value = jnp.moveaxis(self.qkv(x).reshape(n, tokens, 3, self.heads, -1), 2, 0)
    score = jnp.einsum('nqhd,nkhd->nhqk', query, key) * math.sqrt(self.heads / width)
    weight = jax.nn.softmax(score.astype(jnp.float32)).astype(value.dtype)
    return self.out(jnp.einsum('nhqk,nkhd->nqhd', weight, value).reshape(n, tokens, width))


class Block(nnx.Module):
  """Attention, then a two-layer perceptron, each around a shortcut, after LayerNorm."""

  def __init__(self, width, heads, hidden, dtype, rngs):
    self.norm1 = nnx.LayerNorm(width, rngs=rngs)
    self.attention = Attention(width, heads, dtype, rngs)
    self.norm2 = nnx.LayerNorm(width, rngs=rngs)
    self.hidden = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
    self.out = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)

  def __call__(self, x):
    """Maps f32[n,tokens,D] to f32[n,tokens,D]."""
    x = x + self.attention(self.norm1(x)).astype(jnp.float32)
    y = jax.nn.gelu(self.hidden(self.norm2(x)).astype(jnp.float32), approximate=False)
    return x + self.out(y).astype(jnp.float32)


class VisionTransformer(nnx.Module):
  """Patches and a class token, blocks, LayerNorm; the class token goes to a linear layer."""

  def __init__(self, width, depth, heads, hidden, patch, num_classes, image_shape, dtype):
    rngs = nnx.Rngs(0)
    height, wide, channels = image_shape
    self.patch, self.depth = patch, depth
    self.patches = nnx.Linear(patch * patch * channels, width, dtype=dtype, rngs=rngs)
    self.class_token = nnx.Param(jnp.zeros((1, 1, width), jnp.float32))
    tokens = 1 + height // patch * (wide // patch)
    self.position = nnx.Param(jnp.zeros((1, tokens, width), jnp.float32))
    for i in range(1, depth + 1):
      setattr(self, f'block{i}', Block(width, heads, hidden, dtype, rngs))
    self.norm = nnx.LayerNorm(width, rngs=rngs)
    self.linear = nnx.Linear(width, num_classes, rngs=rngs)

  def features(self, x, use_running_average, mask=None):
    """Maps images [n,h,w,c] to what the linear layer sees, f32[n,D]."""
    del use_running_average, mask  # no image touches another one
    n, height, width, channels = x.shape
    rows, columns = height // self.patch, width // self.patch
    x = x.reshape(n, rows, self.patch, columns, self.patch, channels).swapaxes(2, 3)
    x = self.patches(x.reshape(n, rows * columns, -1)).astype(jnp.float32)
    first = jnp.broadcast_to(self.class_token[...], (n, 1, x.shape[2]))
    x = jnp.concatenate([first, x], axis=1) + self.position[...]
    for i in range(1, self.depth + 1):
      x = getattr(self, f'block{i}')(x)
    return self.norm(x)[:, 0]

  def __call__(self, x, use_running_average, mask=None):
    """Maps images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self.features(x, use_running_average, mask))


def vit_tiny(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 192,
  depth: int = 12,
  heads: int = 3,
  patch: int = 4,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """ViT-Ti with patches of 4.

  Args:
    num_classes: C.
    image_shape: (height, width, channels); both sides multiples of `patch`.
    width: D, numbers of a token; the perceptrons have 4 D.
    depth: blocks.
    heads: of the attention; divides `width`.
    patch: side of the patches.
    compute_dtype: of the products. Parameters, softmax, LayerNorm,
      the sums over blocks and logits are float32 either way.
    conv: as for the other networks; there is no convolution here.

  Returns:
    The model; equal arguments give the identical object. It has no model state.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  network.whole(num_classes=num_classes, heads=heads, patch=patch)
  network.whole(network.WIDEST, width=width)
  network.whole(network.DEEPEST, depth=depth)
  if width % heads:
    raise ValueError(f'heads={heads}: allowed is a divisor of width={width}')
  if image_shape[0] % patch or image_shape[1] % patch:
    raise ValueError(f'patch={patch}: allowed is a divisor of both sides of {image_shape}')
  network.check_options(conv, compute_dtype)
  return _model(num_classes, tuple(image_shape), width, depth, heads, patch, compute_dtype)


@functools.cache
def _model(num_classes, image_shape, width, depth, heads, patch, compute_dtype):
  dtype = network.COMPUTE_DTYPES[compute_dtype]
  return network.as_model(
    lambda: VisionTransformer(
      width, depth, heads, 4 * width, patch, num_classes, image_shape, dtype
    ),
    _initial,
  )


def _initial(path, shape, fan_in):
  """timm's: kernels and positions N(0, 0.02^2), biases 0; patches as torch would."""
  if path[0] == 'patches':
    return network.torch_default(path, shape, fan_in)
  if path[-1] == 'class_token':
    return network.normal(1e-6)
  if path[-1] in ('kernel', 'position'):
    return network.normal(0.02)
  return network.constant(float(path[-1] == 'scale'))
