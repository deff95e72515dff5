"""The networks of airbench (Jordan, 2024): 94, 95 and 96 % on CIFAR-10 at the least cost.

Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", https://arxiv.org/abs/2404.00498,
and https://github.com/KellerJordan/cifar10-airbench. A frozen whitening layer, three groups
of convolutions whose first filters begin as identities, BatchNorm without a scale.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbudget import registry, types
from jaxbudget.models import network

PATCH = 2  # side of the whitened patches
LOGIT_SCALE = 1 / 9


class Frozen(nnx.Variable):
  """Computed from data before training, and never trained: part of the model state."""


class Whiten(nnx.Module):
  """Frozen filters of 2x2 patches, and a bias that is trained."""

  def __init__(self, channels, convolve, dtype):
    self.convolve, self.dtype = convolve, dtype
    filters = 2 * channels * PATCH**2
    self.kernel = Frozen(jnp.zeros((PATCH, PATCH, channels, filters), jnp.float32))
    self.bias = nnx.Param(jnp.zeros(filters, jnp.float32))

  def __call__(self, x):
    """Maps [n,h,w,c] to [n,h-1,w-1,8c]."""
    kernel, bias = (leaf[...].astype(self.dtype) for leaf in (self.kernel, self.bias))
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    x = self.convolve(x.astype(self.dtype), kernel, (1, 1), 'VALID', dimension_numbers=dimensions)
    return x + bias[None, None, None]


class Group(nnx.Module):
  """Convolutions at half the side; with three of them, a shortcut around the last two."""

  def __init__(self, features_in, features, depth, make_conv, make_norm, rngs):
    self.depth = depth
    for i in range(1, depth + 1):
      setattr(self, f'conv{i}', make_conv(features_in if i == 1 else features, features, rngs=rngs))
      setattr(self, f'norm{i}', make_norm(features, rngs=rngs))

  def __call__(self, x, **norm_options):
    """Maps [n,h,w,features_in] to [n,h/2,w/2,features]."""
    x = first = _gelu(self.norm1(network.max_pool(self.conv1(x), 2), **norm_options))
    for i in range(2, self.depth + 1):
      x = getattr(self, f'norm{i}')(getattr(self, f'conv{i}')(x), **norm_options)
      if i == 3:
        x = x + first
      x = _gelu(x)
    return x


class Airbench(nnx.Module):
  """Whitening, three groups, the maximum over what is left of the image, a linear layer."""

  def __init__(self, widths, depth, num_classes, channels, convolve, dtype, momentum, head):
    rngs = nnx.Rngs(0)
    make_conv = functools.partial(network.conv, size=3, convolve=convolve, dtype=dtype)

    def make_norm(features, *, rngs):
      return network.Norm(features, momentum=momentum, epsilon=1e-12, use_scale=False, rngs=rngs)

    self.whiten = Whiten(channels, convolve, dtype)
    features_in = 2 * channels * PATCH**2
    for i, features in enumerate(widths, start=1):
      setattr(self, f'group{i}', Group(features_in, features, depth, make_conv, make_norm, rngs))
      features_in = features
    self.scale = LOGIT_SCALE if head == 'torch' else 1 / features_in
    self.linear = nnx.Linear(features_in, num_classes, use_bias=False, rngs=rngs)

  def features(self, x, **norm_options):
    """Maps normalised images [n,h,w,c] to f32[n,D]; times the weights these are the logits."""
    return self._pooled(x, **norm_options) * self.scale

  def _pooled(self, x, **norm_options):
    x = _gelu(self.whiten(x).astype(jnp.float32))
    for group in (self.group1, self.group2, self.group3):
      x = group(x, **norm_options)
    return x.max((1, 2))

  def __call__(self, x, **norm_options):
    """Maps normalised images [n,h,w,c] to logits f32[n,C]."""
    return self.linear(self._pooled(x, **norm_options)) * self.scale


def _gelu(x):
  return jax.nn.gelu(x, approximate=False)


def whiten(images: jax.Array, epsilon: float = 5e-4) -> jax.Array:
  """Filters that turn the patches of images into uncorrelated numbers of variance below 1.

  Each is an eigenvector of the patches' covariance about 0 over sqrt(eigenvalue + epsilon);
  the large eigenvalues come first, then all of them again, negated. airbench looks at the
  first 5000 training images, normalised.

  Args:
    images: f32[n,h,w,c], normalised.
    epsilon: added to the eigenvalues.

  Returns:
    f32[2,2,c,8c], a kernel in the order of `Whiten`.
  """
  _, height, width, channels = images.shape
  patches = [
    images[:, i : height - PATCH + 1 + i, j : width - PATCH + 1 + j]
    for i in range(PATCH)
    for j in range(PATCH)
  ]
  patches = jnp.stack(patches, axis=3).reshape(-1, PATCH**2 * channels)
  covariance = jnp.matmul(patches.T, patches, precision='highest') / patches.shape[0]
  values, vectors = jnp.linalg.eigh(covariance)  # values rise; a vector is a column
  # An eigenvector's sign is free: its largest entry is made positive, on every machine.
  largest = jnp.take_along_axis(vectors, jnp.argmax(jnp.abs(vectors), axis=0)[None], axis=0)
  vectors = vectors * jnp.sign(largest) / jnp.sqrt(values + epsilon)[None]
  filters = jnp.concatenate([vectors[:, ::-1], -vectors[:, ::-1]], axis=1)
  return filters.reshape(PATCH, PATCH, channels, -1)


def prepare(params: Any, model_state: Any, images: jax.Array) -> tuple[Any, Any]:
  """Sets the whitening filters of a network: once, before it is trained.

  Args:
    params: of the network.
    model_state: of the network; its filters are NaN until they are set.
    images: f32[n,h,w,c], training images, normalised.

  Returns:
    (params, model_state), with filters.
  """
  return params, model_state | {'whiten': {'kernel': whiten(images)}}


def _initial(path, shape, fan_in):
  """Torch's default; the first filters of each 3x3 convolution pass one channel through."""
  fill = network.torch_default(path, shape, fan_in)
  if path[0] == 'whiten':
    return network.constant(0.0 if path[-1] == 'bias' else jnp.nan)
  if path[-1] != 'kernel' or len(shape) != 4:
    return fill
  features_in, features = shape[2:]

  def with_identities(draw):
    identities = jnp.zeros(shape, jnp.float32)
    identities = identities.at[1, 1].set(jnp.eye(features_in, features, dtype=jnp.float32))
    return jnp.where(jnp.arange(features, dtype=jnp.int32) < features_in, identities, fill(draw))

  return with_identities


def _unit(path, shape, fan_in):
  """The same with a last layer of variance 1."""
  if path[0] == 'linear':
    return network.uniform(-(3**0.5), 3**0.5)
  return _initial(path, shape, fan_in)


def airbench94(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 64,
  depth: Literal[2, 3] = 2,
  head: Literal['torch', 'unit'] = 'torch',
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The network of airbench94: 64, 256, 256 channels.

  Args:
    num_classes: C.
    image_shape: (height, width, channels); made for sides of 32.
    width: channels of the first group; the others keep their proportion to it.
    depth: convolutions of a group, 2 or 3.
    head: the last layer, `torch`: its default, outputs by 9; `unit`: weights of variance 1, outputs
      by the number of features, as airbench94_muon has it.
    compute_dtype: of the convolutions. Parameters, BatchNorm
      statistics and logits are float32 either way.
    conv: 'lax', 'cpu' (gradients that are fast on the CPU backend) or 'auto' (what suits
      `jax.default_backend()`). Parameters do not depend on it.

  Returns:
    The model, whose `prepare` whitens; equal arguments give the identical object.

  Raises:
    ValueError: naming an argument that is not allowed.
  """
  return _checked(num_classes, image_shape, width, (1, 4, 4), depth, 0.6, compute_dtype, conv, head)


def airbench95(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 128,
  depth: Literal[2, 3] = 2,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The network of airbench95: 128, 384, 384 channels. See `airbench94`."""
  return _checked(num_classes, image_shape, width, (1, 3, 3), depth, 0.6, compute_dtype, conv)


def airbench96(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 128,
  depth: Literal[2, 3] = 3,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The network of airbench96: 128, 384, 512 channels, a shortcut in each group.

  See `airbench94`.
  """
  return _checked(num_classes, image_shape, width, (1, 3, 4), depth, 0.9, compute_dtype, conv)


def airbench_proxy(
  num_classes: int,
  image_shape: tuple[int, int, int],
  *,
  width: int = 32,
  depth: Literal[2, 3] = 2,
  compute_dtype: Literal['float32', 'bfloat16'] = 'float32',
  conv: Literal['auto', 'lax', 'cpu'] = 'auto',
) -> types.Model:
  """The small network that chooses for airbench96: 32, 64, 64 channels. See `airbench94`."""
  return _checked(num_classes, image_shape, width, (1, 2, 2), depth, 0.9, compute_dtype, conv)


def _checked(
  num_classes, image_shape, width, ratios, depth, momentum, compute_dtype, conv, head='torch'
):
  registry.check('head', head, ('torch', 'unit'))
  network.whole(num_classes=num_classes)
  network.whole(network.WIDEST, width=width)
  if depth not in (2, 3):
    raise ValueError(f'depth={depth!r}: allowed is 2 or 3 convolutions a group')
  if min(image_shape[:2]) < PATCH:
    raise ValueError(f'image_shape={image_shape}: allowed are sides of {PATCH} or more')
  network.check_options(conv, compute_dtype)
  widths = tuple(width * ratio for ratio in ratios)
  return _model(num_classes, image_shape[2], widths, depth, momentum, compute_dtype, conv, head)


@functools.cache
def _model(num_classes, channels, widths, depth, momentum, compute_dtype, conv, head):
  convolve, dtype = network.CONVS[conv], network.COMPUTE_DTYPES[compute_dtype]
  options = widths, depth, num_classes, channels, convolve, dtype, momentum, head
  model = network.as_model(lambda: Airbench(*options), _initial if head == 'torch' else _unit)
  return model._replace(prepare=prepare, head_bias=False)
