"""Optimizers of the CIFAR-10 speed records: groups of parameters with steps of their own.

Jordan, `94% on CIFAR-10 in 3.29 Seconds on a Single GPU <https://arxiv.org/abs/2404.00498>`_,
2024, and https://github.com/KellerJordan/cifar10-airbench. Its losses are sums over a batch of s;
here they are means, so that a rate there is s times as much here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxbudget.optimizers import check_options, trace
from jaxbudget.rows import Row, checked

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


def airbench_sgd(
  *,
  momentum: float = 0.85,
  weight_decay: float = 0.0153 / 11.5,
  norm_bias_scale: float = 64.0,
  whiten_share: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
  """Nesterov's SGD, with larger steps for the biases of BatchNorm and an end to whitening's.

  Args:
    momentum: in [0, 1), see `sgd`.
    weight_decay: >= 0, of all parameters, beside the gradient however that is scaled.
    norm_bias_scale: > 0, times the gradient of biases in normalisation layers.
    whiten_share: in [0, 1], of the run's rows, in which the bias of a whitening layer is trained.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  share_fits = 0 <= whiten_share <= 1
  wrong = [] if share_fits else [f'whiten_share={whiten_share!r} is refused: it must be in [0, 1]']
  check_options({'momentum': momentum}, {'norm_bias_scale': norm_bias_scale}, weight_decay, wrong)
  velocity = trace(momentum, nesterov=True)

  def update(gradient, state, params=None, *, progress=None, step=None, **row):
    scales = {'norm': norm_bias_scale}
    gradient = _scaled(gradient, params, scales, weight_decay)
    updates, state = velocity.update(gradient, state, params, **row)
    if whiten_share < 1:
      place = checked(Row(None, None, step, progress), 'optimizer airbench_sgd')
      updates = _whitening(updates, place.progress <= jnp.float32(whiten_share))
    return updates, state

  return optax.GradientTransformationExtraArgs(velocity.init, update)


def airbench_muon(
  *,
  filter_momentum: float = 0.6,
  momentum: float = 0.85,
  weight_decay: float = 0.004 / 0.24,
  bias_scale: float = 106 / 0.24,
  head_scale: float = 1340 / 0.24,
  whiten_share: float = 0.375,
  iterations: int = 3,
) -> optax.GradientTransformationExtraArgs:
  """Muon for the filters, whose norms are set before each step; Nesterov's SGD for the rest.

  A filter bank G, as a matrix of outputs by all else, is divided by its Frobenius norm and made
  nearly orthogonal by X <- aX + (bA + cA^2)X with A = XX^T; its weights are first set to the norm
  sqrt(outputs). The learning rate is that of the filters; other steps are multiples of it.

  Args:
    filter_momentum: in [0, 1), of the filters; none of a schedule's.
    momentum: in [0, 1), of the rest.
    weight_decay: see `airbench_sgd`, of the rest.
    bias_scale: times the gradient of biases; 0.053 * 2000 / 0.24 for batches of 2000.
    head_scale: times the gradient of matrices, the last layer's; 0.67 * 2000 / 0.24.
    whiten_share: in (0, 1], of the run's rows, over which the rate of a whitening layer's bias
      falls to 0 in a straight line.
    iterations: of Newton and Schulz.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  shares = {'momentum': momentum, 'filter_momentum': filter_momentum}
  positive = {'bias_scale': bias_scale, 'head_scale': head_scale, 'iterations': iterations}
  share_fits = 0 < whiten_share <= 1
  wrong = [] if share_fits else [f'whiten_share={whiten_share!r} is refused: it must be in (0, 1]']
  check_options(shares, positive, weight_decay, wrong)
  slow, fast = trace(momentum, nesterov=True), optax.trace(filter_momentum, nesterov=True)

  def init(params):
    return {'filters': fast.init(_only(params, 4)), 'rest': slow.init(_only(params, 4, rest=True))}

  def update(gradient, state, params=None, *, learning_rate=None, step=None, progress=None, **row):
    place = checked(Row(learning_rate, None, step, progress), 'optimizer airbench_muon')
    filters, bank = fast.update(_only(gradient, 4), state['filters'])
    filters = jax.tree.map(
      lambda g, p: orthogonal(g, iterations) + _renormed(p, learning_rate),
      filters,
      _only(params, 4),
    )
    scales = {'norm': bias_scale, 'whiten': bias_scale, 'matrix': head_scale}
    rest = _scaled(gradient, params, scales, weight_decay)
    rest, velocity = slow.update(_only(rest, 4, rest=True), state['rest'], params, **row)
    now = place.step.astype(jnp.float32)
    done = (now - 1) / now * place.progress  # of the run, before this row
    left = jnp.maximum(1 - done / jnp.float32(whiten_share), 0)
    rest = _whitening(rest, left / (1 - done))  # the schedule falls to 0 itself
    updates = jax.tree.map(
      lambda f, r: r if f is None else f, filters, rest, is_leaf=lambda x: x is None
    )
    return updates, {'filters': bank, 'rest': velocity}

  return optax.GradientTransformationExtraArgs(init, update)


def orthogonal(gradient: jax.Array, iterations: int) -> jax.Array:
  """The nearly orthogonal factor of a bank of filters, taken as a matrix [all else, outputs].

  Args:
    gradient: f32[...,outputs].
    iterations: of Newton and Schulz.

  Returns:
    f32[...,outputs], whose singular values are near 1 where they were not tiny.
  """
  a, b, c = NEWTON_SCHULZ
  x = gradient.reshape(-1, gradient.shape[-1])
  wide = x.shape[0] > x.shape[1]
  x = x.T if wide else x  # the product of the shorter sides is the smaller matrix
  x = x / (jnp.linalg.norm(x) + 1e-7)
  for _ in range(iterations):
    square = x @ x.T
    x = a * x + (b * square + c * square @ square) @ x
  return (x.T if wide else x).reshape(gradient.shape)


def _renormed(weights, learning_rate):
  """The update that sets a bank of filters to the norm sqrt(outputs), at any rate but 0."""
  wanted = weights * (weights.shape[-1] ** 0.5 / jnp.linalg.norm(weights))
  return jnp.where(learning_rate > 0, (weights - wanted) / learning_rate, 0)


def group(path: tuple[Any, ...], leaf: jax.Array) -> str:
  """Which group a parameter is of: `filters`, `matrix`, `whiten`, `norm` or `other`.

  Args:
    path: keys of the tree down to it, as `jax.tree_util` gives them.
    leaf: the parameter.
  """
  names = [str(getattr(key, 'key', getattr(key, 'name', key))) for key in path]
  if leaf.ndim >= 2:
    return 'filters' if leaf.ndim == 4 else 'matrix'
  if names[0] == 'whiten':
    return 'whiten'
  return 'norm' if names[-1] == 'bias' and any('norm' in name for name in names) else 'other'


def _scaled(gradient, params, scales, weight_decay):
  """Gradients by the scale of their group, with the decay beside."""
  return jax.tree_util.tree_map_with_path(
    lambda path, g, p: scales.get(group(path, p), 1.0) * g + weight_decay * p, gradient, params
  )


def _whitening(updates, factor):
  """Updates, those of a whitening layer's bias times a factor."""

  def times(path, u):
    return u * jnp.asarray(factor, u.dtype) if group(path, u) == 'whiten' else u

  return jax.tree_util.tree_map_with_path(times, updates)


def _only(tree, ndim, rest=False):
  """The arrays of so many dimensions, or all others; None in the place of what is left out."""
  return jax.tree.map(lambda x: x if (x.ndim == ndim) != rest else None, tree)
