"""Optimizers: what turns gradients into a direction.

The step multiplies it by -learning rate, the row's of the schedule: no rate makes a program of
its own. Every one can clip the gradient first, and decay all parameters or only the matrices.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import optax

from jaxbudget import factories


def sgd(
  *,
  momentum: float = 0.9,
  weight_decay: float = 1e-4,
  decay_mask: Literal['all', 'matrices'] = 'all',
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """SGD with momentum and coupled weight decay, no Nesterov (fidelity.md 1.4).

  Args:
    momentum: in [0, 1), of the buffer, which holds gradients, not steps.
    weight_decay: >= 0, added to the gradient as weight_decay * parameter.
    decay_mask: `all` parameters decay, or the `matrices`, arrays of two dimensions and more.
    clip_norm: the most that the norm of the whole gradient may be, without the decay.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  return _momentum(momentum, weight_decay, decay_mask, clip_norm, nesterov=False)


def nesterov(
  *,
  momentum: float = 0.9,
  weight_decay: float = 1e-4,
  decay_mask: Literal['all', 'matrices'] = 'all',
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """SGD with Nesterov's momentum, as PyTorch has it: gradient + momentum * buffer. See `sgd`."""
  return _momentum(momentum, weight_decay, decay_mask, clip_norm, nesterov=True)


def adamw(
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.01,
  decay_mask: Literal['all', 'matrices'] = 'all',
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """AdamW; the decay is times the learning rate (Loshchilov and Hutter, 2019; as in PyTorch).

  Args:
    b1: in [0, 1), of the mean of the gradients.
    b2: in [0, 1), of the mean of their squares.
    eps: > 0, added to the root of the latter.
    weight_decay: see `sgd`; it is added to the update, not to the gradient.
    decay_mask: see `sgd`.
    clip_norm: see `sgd`.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  check_options({'b1': b1, 'b2': b2}, {'eps': eps, 'clip_norm': clip_norm}, weight_decay)
  decay = _decay(weight_decay, decay_mask)
  return _counting(_clipped(clip_norm, optax.scale_by_adam(b1, b2, eps), decay))


def lion(
  *,
  b1: float = 0.9,
  b2: float = 0.99,
  weight_decay: float = 1e-3,
  decay_mask: Literal['all', 'matrices'] = 'all',
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Lion: the sign of an interpolated momentum (Chen et al., 2023, algorithm 2).

  Args:
    b1: in [0, 1), share of the momentum in what the sign is taken of.
    b2: in [0, 1), of the momentum.
    weight_decay: see `adamw`.
    decay_mask: see `sgd`.
    clip_norm: see `sgd`.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  check_options({'b1': b1, 'b2': b2}, {'clip_norm': clip_norm}, weight_decay)
  return _clipped(clip_norm, optax.scale_by_lion(b1, b2), _decay(weight_decay, decay_mask))


def muon(
  *,
  momentum: float = 0.95,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  decay_mask: Literal['all', 'matrices'] = 'all',
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Muon: orthogonalised Nesterov momentum for matrices (Jordan et al., 2024), Adam for the rest.

  A kernel of more than two dimensions is taken as the matrix of its last one by all others. The
  first and the last layer are matrices too. Adam has Nesterov's momentum, and the same rate.

  Args:
    momentum: in [0, 1), of the matrices.
    b1: in [0, 1), of Adam.
    b2: in [0, 1), of Adam.
    eps: > 0, of both.
    weight_decay: see `adamw`.
    decay_mask: see `sgd`.
    clip_norm: see `sgd`.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  shares = {'momentum': momentum, 'b1': b1, 'b2': b2}
  check_options(shares, {'eps': eps, 'clip_norm': clip_norm}, weight_decay)

  def both(beta):
    return optax.contrib.muon(
      learning_rate=-1.0,  # optax's own sign is that of a step
      beta=beta,
      eps=eps,
      adam_b1=b1,
      adam_b2=b2,
      weight_decay=weight_decay,
      adam_weight_decay=weight_decay if decay_mask == 'all' else 0.0,
      muon_weight_dimension_numbers=_as_matrices,
    )

  def update(gradient, state, params=None, *, momentum=momentum, **others):
    del others
    return both(momentum).update(gradient, state, params)

  stage = optax.GradientTransformationExtraArgs(both(momentum).init, update)
  return _counting(_clipped(clip_norm, stage))


def make_optimizer(name: str = 'sgd', **options) -> optax.GradientTransformation:
  """Builds an optimizer by name.

  Args:
    name: a known one, or `package.module:factory`.
    **options: of the optimizer.

  Returns:
    A transformation whose updates are to be scaled by -learning rate; equal arguments give
    the identical object, so that compiled programs are found again.

  Raises:
    ValueError: unknown name or option, or a value out of range.
  """
  part = factories.find('optimizer', name)
  return _make(part, tuple(part.fill(options).items()))


@functools.cache
def _make(part, options):
  return part.make(optax.GradientTransformation, **dict(options))


def _momentum(momentum, weight_decay, decay_mask, clip_norm, nesterov):
  check_options({'momentum': momentum}, {'clip_norm': clip_norm}, weight_decay)
  decay = _decay(weight_decay, decay_mask)
  return _clipped(clip_norm, decay, trace(momentum, nesterov=nesterov))


def trace(momentum: float, nesterov: bool) -> optax.GradientTransformationExtraArgs:
  """`optax.trace`, whose momentum is the row's where its schedule sets one."""
  own = optax.trace(momentum, nesterov)

  def update(gradient, state, params=None, *, momentum=None, **others):
    del others
    at = own if momentum is None else optax.trace(momentum, nesterov)
    return at.update(gradient, state, params)

  return optax.GradientTransformationExtraArgs(own.init, update)


def _clipped(clip_norm, *stages):
  """Stages in order, behind a clip of the gradient if there is one."""
  if clip_norm is None:
    return optax.chain(*stages)
  return optax.chain(optax.clip_by_global_norm(clip_norm), *stages)


def _decay(weight_decay, decay_mask):
  return optax.add_decayed_weights(weight_decay, None if decay_mask == 'all' else _matrices)


def _matrices(params: Any) -> Any:
  """Who is a matrix: a truth value for each array."""
  return jax.tree.map(lambda p: p.ndim > 1, params)


def _as_matrices(params: Any) -> Any:
  """How Muon reads each array: as a matrix [product of all other dimensions, last], or not."""

  def axes(p):
    if p.ndim < 2:
      return None
    *others, last = range(p.ndim)
    return optax.contrib.MuonDimensionNumbers(tuple(others), (last,))

  return jax.tree.map(axes, params)


def _counting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Lets optax raise a float to its whole number of steps where types do not promote."""

  optimizer = optax.with_extra_args_support(optimizer)

  def update(gradient, state, params=None, **row):
    with jax.numpy_dtype_promotion('standard'):
      return optimizer.update(gradient, state, params, **row)

  return optax.GradientTransformationExtraArgs(optimizer.init, update)


def check_options(
  shares: Mapping[str, float],
  positive: Mapping[str, float | None],
  weight_decay: float,
  others: Iterable[str] = (),
) -> None:
  """Refuses options that are out of range, all of them in one message.

  Args:
    shares: by name, in [0, 1).
    positive: positive and finite, or None.
    weight_decay: >= 0 and finite.
    others: faults that were found already.

  Raises:
    ValueError: a line for each.
  """
  endless = float('inf')
  faults = [
    f'{name}={value!r} is refused: it must be {allowed}'
    for values, fits, allowed in (
      (shares, lambda x: 0 <= x < 1, 'in [0, 1)'),
      ({'weight_decay': weight_decay}, lambda x: 0 <= x < endless, '>= 0 and finite'),
      (positive, lambda x: x is None or 0 < x < endless, 'positive and finite'),
    )
    for name, value in values.items()
    if not fits(value)
  ]
  if faults := [*faults, *others]:
    raise ValueError('\n'.join(faults))
