"""Anybody's Flax module as a `Model`: two pure functions of plain arrays."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from jaxbudget.types import Model

_TRAINING = ('train', 'training', 'is_training')
_EVALUATING = ('deterministic', 'use_running_average', 'eval')


def from_nnx(build: Callable[[nnx.Rngs], nnx.Module], *, head_bias: bool = True) -> Model:
  """Makes a model of an NNX module.

  Its `nnx.Param` are trained; all other variables (batch statistics, dropout's random keys) are
  the model's state. The module is switched by `train()` and `eval()`, and by an argument
  `train`, `deterministic` or the like if its call has one. What its method `features` gives, if
  there is one, are the features.

  Args:
    build: `rngs -> module`, a module that maps images f32[n,H,W,c] to logits [n,C]. An argument
      `mask` bool[n] of its call is given the examples that count, see `Model`.
    head_bias: whether logits are features times weights and a bias, see `Model`.

  Returns:
    The model.
  """
  graph, *shapes = nnx.eval_shape(lambda: nnx.split(build(nnx.Rngs(0)), nnx.Param, ...))
  shapes = [nnx.to_pure_dict(part) for part in shapes]

  def merged(params, model_state, train):
    states = [
      _restored(shape, part) for shape, part in zip(shapes, (params, model_state), strict=True)
    ]
    module = nnx.merge(graph, *states, copy=True)  # its writes stay in this trace
    module.train() if train else module.eval()
    return module

  @jax.jit
  def init(key):
    _, params, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
    return _plain(nnx.to_pure_dict(params)), _plain(nnx.to_pure_dict(rest))

  def apply(params, model_state, image, train, mask=None):
    module = merged(params, model_state, train)
    options = _call_options(module.__call__, train, mask, bool(nnx.state(module, nnx.BatchStat)))
    logits = module(image, **options).astype(jnp.float32)
    if not train:
      return logits, model_state
    return logits, _plain(nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param))))

  def features(params, model_state, image):
    module = merged(params, model_state, False)
    return module.features(image, **_call_options(module.features, False)).astype(jnp.float32)

  has_features = _has_features(nnx.eval_shape(build, nnx.Rngs(0)))
  return Model(init, apply, features if has_features else None, head_bias=head_bias)


def from_linen(
  module: linen.Module,
  image_shape: tuple[int, ...],
  dtype: Any = jnp.float32,
  *,
  head_bias: bool = True,
) -> Model:
  """Makes a model of a Linen module.

  The collection `params` is trained; all others, and a random key for dropout, are the model's
  state. The module is told to train by an argument `train`, `deterministic` or the like of its
  call. What its method `features` gives, if there is one, are the features.

  Args:
    module: maps images f32[n,H,W,c] to logits [n,C]; as for `from_nnx`.
    image_shape: (height, width, channels) of an image; (D,) or (L,) of features, tokens.
    dtype: of what it is given; `jnp.int32` of tokens.
    head_bias: as for `from_nnx`.

  Returns:
    The model.
  """

  @jax.jit
  def init(key):
    first, second, dropout = jax.random.split(key, 3)
    rngs = {'params': first, 'dropout': second}
    image = jnp.zeros((1, *image_shape), dtype)
    variables = dict(module.init(rngs, image, **_call_options(module.__call__, False)))
    params = variables.pop('params', {})
    return params, {'collections': variables, 'dropout': jax.random.key_data(dropout)}

  def apply(params, model_state, image, train, mask=None):
    collections = model_state['collections']
    options = _call_options(module.__call__, train, mask, 'batch_stats' in collections)
    variables = {'params': params, **collections}
    if not train:
      return module.apply(variables, image, **options).astype(jnp.float32), model_state
    now, later = jax.random.split(jax.random.wrap_key_data(model_state['dropout']))
    logits, collections = module.apply(
      variables, image, rngs={'dropout': now}, mutable=list(collections), **options
    )
    later = jax.random.key_data(later)
    return logits.astype(jnp.float32), {'collections': dict(collections), 'dropout': later}

  def features(params, model_state, image):
    variables = {'params': params, **model_state['collections']}
    options = _call_options(module.features, False)
    return module.apply(variables, image, method='features', **options).astype(jnp.float32)

  return Model(init, apply, features if _has_features(module) else None, head_bias=head_bias)


def _has_features(module: Any) -> bool:
  return callable(getattr(module, 'features', None))


def _call_options(
  call: Callable, train: bool, mask: jax.Array | None = None, batch_statistics: bool = False
) -> dict[str, Any]:
  """Arguments of a module's call that say whether it trains, and which examples count.

  Raises:
    ValueError: some examples do not count, and batch statistics would count them.
  """
  names = inspect.signature(call).parameters
  options: dict[str, Any] = {name: train for name in _TRAINING if name in names}
  options |= {name: not train for name in _EVALUATING if name in names}
  if mask is not None and 'mask' in names:
    options['mask'] = mask
  elif mask is not None and batch_statistics:
    raise ValueError(
      'this network has batch statistics and no argument `mask` to leave padding out of them: it '
      'cannot be trained on batches that are not full'
    )
  return options


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
  """Nested dicts that files can hold: keys as strings, random keys as numbers."""
  if isinstance(tree, dict):
    return {str(key): _plain(value) for key, value in tree.items()}
  return jax.random.key_data(tree) if _is_key(tree) else tree


def _restored(shape: Any, tree: Any) -> Any:
  """What `_plain` made plain, as it was; places in lists are numbers again."""
  if isinstance(shape, dict):
    return {key: _restored(value, tree[str(key)]) for key, value in shape.items()}
  return jax.random.wrap_key_data(tree) if _is_key(shape) else tree
