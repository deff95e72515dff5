"""Optimizers: what turns gradients into updates, for a learning rate of 1."""

import functools

import optax

from jaxbudget import factories


def sgd(*, momentum: float = 0.9, weight_decay: float = 1e-4) -> optax.GradientTransformation:
  """SGD with coupled weight decay on all parameters, no Nesterov (fidelity.md 1.4).

  Args:
    momentum: in [0, 1), of the buffer, which holds gradients, not steps.
    weight_decay: >= 0, added to the gradient as weight_decay * parameter.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.

  Raises:
    ValueError: an option out of range.
  """
  if not 0 <= momentum < 1:
    raise ValueError(f'momentum={momentum!r} is refused: it must be in [0, 1)')
  if not 0 <= weight_decay < float('inf'):
    raise ValueError(f'weight_decay={weight_decay!r} is refused: it must be >= 0 and finite')
  return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum))


def make_optimizer(name: str = 'sgd', **options) -> optax.GradientTransformation:
  """Builds an optimizer by name.

  Args:
    name: `sgd`, or `package.module:factory`.
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
