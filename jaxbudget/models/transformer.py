"""A small transformer for sequences of tokens.

Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017, with
normalisation before each sublayer (Xiong et al., 2020) and learned positions. Kernels begin with a
variance of 1/inputs, smaller where their outputs add to the stream of activations, as in GPT-2.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from jaxbudget.models.layers import layer_norm, layer_norm_init, linear, linear_init
from jaxbudget.models.network import DEEPEST, WIDEST, whole
from jaxbudget.types import Model


def transformer(
  num_classes: int,
  image_shape: tuple[int, ...],
  *,
  vocabulary: int = 0,
  width: int = 64,
  depth: int = 2,
  heads: int = 4,
  head: Literal['mean', 'last'] = 'mean',
) -> Model:
  """Pre-norm blocks of attention of every token to every token, for sequences of equal length.

  Args:
    num_classes: C, outputs.
    image_shape: (L,), tokens of an input.
    vocabulary: V, tokens there are; 0 is those of the data set.
    width: numbers for a token; the perceptron of a block has four times as many.
    depth: blocks.
    heads: of the attention; they divide the width.
    head: what the outputs are computed from: the `mean` of all tokens, or the `last` one.

  Returns:
    The model; equal arguments give the identical object. It has no model state.

  Raises:
    ValueError: an option out of range.
  """
  whole(2**20, vocabulary=vocabulary)
  whole(WIDEST, width=width)
  whole(DEEPEST, depth=depth, heads=heads)
  if width % heads:
    raise ValueError(f'heads={heads!r} is refused: it must divide width={width}')
  if len(image_shape) != 1:
    raise ValueError(f'a transformer takes tokens [L], not inputs of shape {image_shape}')
  return _model(num_classes, image_shape[0], vocabulary, width, depth, heads, head)


@functools.cache
def _model(num_classes, length, vocabulary, width, depth, heads, head):
  blocks = [f'block{i}' for i in range(1, depth + 1)]

  def block_init(key):
    keys = jax.random.split(key, 4)
    added = (2 * depth) ** -0.5
    return {
      'norm1': layer_norm_init(width),
      'qkv': linear_init(keys[0], width, 3 * width, width**-0.5),
      'out': linear_init(keys[1], width, width, added * width**-0.5),
      'norm2': layer_norm_init(width),
      'up': linear_init(keys[2], width, 4 * width, width**-0.5),
      'down': linear_init(keys[3], 4 * width, width, added * (4 * width) ** -0.5),
    }

  def table(key, rows):
    return width**-0.5 * jax.random.normal(key, (rows, width), jnp.float32)

  @jax.jit
  def init(key):
    tokens, places, last, *each = jax.random.split(key, depth + 3)
    params = {
      'embedding': table(tokens, vocabulary),
      'position': table(places, length),
      **{name: block_init(k) for name, k in zip(blocks, each, strict=True)},
      'norm': layer_norm_init(width),
      'linear': linear_init(last, width, num_classes, width**-0.5),
    }
    return params, {}

  def features(params, model_state, image):
    del model_state
    x = params['embedding'][image] + params['position'][None]
    for name in blocks:
      block = params[name]
      x = x + attention(block, layer_norm(block['norm1'], x), heads)
      hidden = jax.nn.gelu(linear(block['up'], layer_norm(block['norm2'], x)))
      x = x + linear(block['down'], hidden)
    x = layer_norm(params['norm'], x)
    return jnp.mean(x, 1) if head == 'mean' else x[:, -1]

  def apply(params, model_state, image, train, mask=None):
    del train, mask  # no sample touches another one
    return linear(params['linear'], features(params, model_state, image)), model_state

  return Model(init, apply, features)


def attention(params: dict, x: jax.Array, heads: int) -> jax.Array:
  """Softmax attention of every token to every token.

  Args:
    params: `qkv` and `out`, of linear layers.
    x: f32[n,L,D].
    heads: that share D.

  Returns:
    f32[n,L,D].
  """
  n, length, width = x.shape
  qkv = linear(params['qkv'], x).reshape(n, length, 3, heads, width // heads)
  query, key, value = (qkv[:, :, i] for i in range(3))
  score = jnp.einsum('nqhd,nkhd->nhqk', query, key) * (width // heads) ** -0.5
  mixed = jnp.einsum('nhqk,nkhd->nqhd', jax.nn.softmax(score, axis=-1), value)
  return linear(params['out'], mixed.reshape(n, length, width))
