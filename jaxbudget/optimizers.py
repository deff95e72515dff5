"""Optimizers: what turns gradients into updates, for a learning rate of 1."""

import functools

import optax


@functools.cache
def momentum_sgd(momentum: float, weight_decay: float) -> optax.GradientTransformation:
  """SGD with coupled weight decay on all parameters, no Nesterov (fidelity.md 1.4).

  Args:
    momentum: of the buffer, which holds gradients, not steps.
    weight_decay: added to the gradient as weight_decay * parameter.

  Returns:
    A transformation whose updates are to be scaled by -learning rate.
  """
  return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum))
