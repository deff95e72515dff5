"""What the networks share: BatchNorm, torch's initial values, and the seam of `types.Model`.

Flax NNX describes a network; nothing of it leaves this package: parameters and model state
are nested dicts of arrays.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxbudget import registry, types
from jaxbudget.models.channels import affine, moments
from jaxbudget.models.cpu_conv import conv as cpu_conv


def suiting(cpu: Callable) -> Callable:
  """A convolution by `cpu` on that backend and by `lax` elsewhere, asked when it is traced.

  So to make a network, as planning does, starts no device.
  """

  def convolve(*args, **options):
    on_cpu = jax.default_backend() == 'cpu'
    return (cpu if on_cpu else lax.conv_general_dilated)(*args, **options)

  return convolve


CONVS = {'lax': lax.conv_general_dilated, 'cpu': cpu_conv, 'auto': suiting(cpu_conv)}
COMPUTE_DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
WIDEST, DEEPEST = 2**12, 2**10  # channels and layers; more are a mistake, and fill the memory

Fill = Callable[[jax.Array], jax.Array]  # from uniform numbers in [0, 1) to initial values
Initial = Callable[[tuple[str, ...], tuple[int, ...], int | None], Fill]  # see `torch_default`


class Norm(nnx.BatchNorm):
  """BatchNorm as one factor and one summand a channel; statistics in float32.

  The function, parameters and statistics are those of `nnx.BatchNorm`. Its own
  `(x - mean) * factor + bias` keeps a second copy of every activation for the backward pass
  and passes over it more often (docs/performance.md).

  Attributes:
    unbiased: the running variance follows the unbiased estimate, as torch's does. It
      normalises by the biased one in training either way.
    ghost_size: neighbours in a batch that share statistics in training, `Train longer, generalize
      better <https://arxiv.org/abs/1705.08741>`_, section 4; 0, or no fewer than there are: all.
  """

  unbiased: bool = False
  ghost_size: int = 0

  def __call__(self, x, use_running_average, mask=None):
    """Normalises [n,h,w,c] over all but channels; `mask` bool[n,1,1,1] says which count."""
    x = x.astype(jnp.float32)
    if use_running_average:
      return self._normalised(x, self.mean[...], self.var[...])
    if self.ghost_size and x.shape[0] > self.ghost_size:
      x, mean, var = self._by_ghosts(x, mask)
    else:
      x, mean, var = self._by_own(x, mask)
    self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
    self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * var
    return x

  def _by_own(self, x, mask):
    """Normalises by what it measures; gives mean and variance for the running averages too."""
    mean, mean_of_squares = moments(x, mask)
    var = jnp.maximum(0.0, mean_of_squares - mean**2)
    kept = var * _correction(x, mask) if self.unbiased else var
    return self._normalised(x, mean, var), mean, kept

  def _by_ghosts(self, x, mask):
    """Ghost batches side by side; the running averages follow the mean of those not empty."""
    size = self.ghost_size
    if x.shape[0] % size:
      raise ValueError(f'bn_ghost_size={size} is refused: it does not divide {x.shape[0]} examples')
    split = lambda array: array.reshape(-1, size, *array.shape[1:])
    real = None if mask is None else split(mask)
    count = jnp.ones(x.shape[0] // size, jnp.float32)
    if mask is not None:
      count = jnp.any(real, (1, 2, 3, 4)).astype(jnp.float32)
      # All of an empty one count: none would make NaNs, which no weight of 0 undoes.
      real = real | ~jnp.any(real, 1, keepdims=True)
    images, mean, var = jax.vmap(self._by_own)(split(x), real)
    share = (count / jnp.maximum(jnp.sum(count), 1))[:, None]
    return images.reshape(x.shape), jnp.sum(share * mean, 0), jnp.sum(share * var, 0)

  def _normalised(self, x, mean, var):
    factor = lax.rsqrt(var + self.epsilon)
    if self.use_scale:
      factor = self.scale[...] * factor
    summand = self.bias[...] - mean * factor
    return affine(x, factor, summand)


def _correction(x, mask):
  """What makes a biased variance unbiased: n / (n - 1) for the n values that count."""
  n, height, width, _ = x.shape
  examples = jnp.float32(n) if mask is None else jnp.sum(mask, dtype=jnp.float32)
  count = examples * (height * width)
  return count / jnp.maximum(count - 1, 1)


def norm(features: int, *, rngs: nnx.Rngs, unbiased: bool = False, ghost_size: int = 0) -> Norm:
  """BatchNorm with torch's constants; `unbiased` and `ghost_size` as of `Norm`."""
  layer = Norm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)
  layer.unbiased, layer.ghost_size = unbiased, ghost_size
  return layer


def conv(
  features_in: int, features: int, size: int, stride: int = 1, *, convolve, dtype, rngs, bias=False
) -> nnx.Conv:
  """A square convolution that pads by half its kernel, as torch's networks do."""
  padding = size // 2
  return nnx.Conv(
    features_in,
    features,
    (size, size),
    strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),  # SAME would pad (0, 1) at stride 2
    use_bias=bias,
    dtype=dtype,
    conv_general_dilated=convolve,
    rngs=rngs,
  )


def max_pool(x: jax.Array, size: int) -> jax.Array:
  """Maxima of squares side by side; what does not fill a square is left out.

  Args:
    x: [n,h,w,c].
    size: side of the squares; along an axis that is shorter, all of it.

  Returns:
    [n,h/size,w/size,c].
  """
  n, height, width, channels = x.shape
  tall, wide = min(size, height), min(size, width)
  rows, columns = height // tall, width // wide
  x = x[:, : rows * tall, : columns * wide].reshape(n, rows, tall, columns, wide, channels)
  return x.max((2, 4))


# Initial values


def uniform(low: float, high: float) -> Fill:
  """Uniform on [low, high)."""
  return lambda draw: low + (high - low) * draw


def normal(deviation: float) -> Fill:
  """Normal with mean 0."""
  # The middle of the step of 2^-23 that a draw stands for: never 0 or 1, whose tails are endless.
  return lambda draw: deviation * jax.scipy.special.ndtri(draw + 2.0**-24)


def constant(value: float) -> Fill:
  """One value everywhere."""
  return lambda draw: jnp.full_like(draw, value)


def torch_default(path: tuple[str, ...], shape: tuple[int, ...], fan_in: int | None) -> Fill:
  """What torch gives to convolutions, linear layers and BatchNorm unless told otherwise.

  Args:
    path: names of the layers and of the array in its layer.
    shape: of the array.
    fan_in: inputs of an output of the array's layer; None if the layer has no kernel.

  Returns:
    How to fill the array: kernels and their biases uniform on +-1/sqrt(fan_in).
  """
  del shape
  if fan_in is None:
    return constant(float(path[-1] in ('scale', 'var')))
  return uniform(-(fan_in**-0.5), fan_in**-0.5)


# The seam


def whole(most: int | None = None, **values: int) -> None:
  """Refuses sizes that are no whole numbers from 1 to the most that is no mistake.

  Args:
    most: the largest value allowed.
    **values: by name.

  Raises:
    ValueError: with name, value and what is allowed.
  """
  for key, value in values.items():
    fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits or value < 1 or (most and value > most):
      raise ValueError(
        f'{key}={value!r} is refused: it must be a whole number from 1'
        + (f' to {most}' if most else '')
      )


def check_options(conv: str, compute_dtype: str) -> None:
  """Checks the two options that every network has."""
  registry.check('compute_dtype', compute_dtype, COMPUTE_DTYPES)
  registry.check('conv', conv, CONVS)


def as_model(
  build: Callable[[], nnx.Module],
  initial: Initial = torch_default,
) -> types.Model:
  """The pure seam around a network.

  Args:
    build: makes the network; only its structure counts. Called with images [n,h,w,c],
      `use_running_average` and `mask` it returns logits f32[n,C], and so does its method
      `features` with f32[n,D]. Its `nnx.Param` are parameters, all else is model state.
    initial: `(path, shape, fan_in) -> how to fill` an array of parameters or model state.

  Returns:
    The model.
  """

  def split():
    return nnx.split(build(), nnx.Param, ...)

  # Flax gives the structure; the values are drawn below, in one program that compiles fast. A plan
  # of hundreds of runs asks for neither.
  @functools.cache
  def structure():
    graph, params, model_state = nnx.eval_shape(split)
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(model_state)

  @jax.jit
  def init(key):
    _, shapes, state_shapes = structure()
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), state_shapes)
    return draw(key, shapes, initial), fill(zeros, initial)

  def apply(params, model_state, image, train, mask=None):
    # copy=True: BatchNorm writes its statistics into a copy that belongs to this trace.
    network = nnx.merge(structure()[0], params, model_state, copy=True)
    if mask is not None:
      mask = mask[:, None, None, None]
    logits = network(image, use_running_average=not train, mask=mask)
    if not train:
      return logits, model_state
    return logits, nnx.to_pure_dict(nnx.state(network, nnx.Not(nnx.Param)))

  def features(params, model_state, image):
    network = nnx.merge(structure()[0], params, model_state, copy=True)
    return network.features(image, use_running_average=True)

  return types.Model(init, apply, features)


def draw(key, shapes, initial):
  """Fills a tree from one draw of random numbers: one for each array takes seconds to compile."""
  leaves, structure = jax.tree.flatten(shapes)
  sizes = [math.prod(leaf.shape) for leaf in leaves]
  draws = jnp.split(jax.random.uniform(key, (sum(sizes),), jnp.float32), np.cumsum(sizes)[:-1])
  draws = [one.reshape(leaf.shape) for one, leaf in zip(draws, leaves, strict=True)]
  return fill(jax.tree.unflatten(structure, draws), initial)


def fill(draws, initial, path=()):
  """Turns a tree of uniform numbers into initial values."""
  kernel = draws.get('kernel')
  fan_in = None if kernel is None else math.prod(kernel.shape[:-1])
  return {
    name: fill(child, initial, (*path, name))
    if isinstance(child, dict)
    else initial((*path, name), child.shape, fan_in)(child)
    for name, child in draws.items()
  }
