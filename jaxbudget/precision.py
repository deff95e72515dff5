"""How exactly products of float32 are computed, as a part of a network and an optimizer.

JAX's own setting is one for a whole process, and what was compiled does not tell it. Here it is
bound to the functions it is for: whoever holds the network has its precision too.
"""

import functools

import jax
import optax

from jaxbudget.types import Model, as_initialised

# As JAX calls them: coarse to exact, each by two names. '' is what JAX itself is set to.
PRECISIONS = ('', 'default', 'bfloat16', 'high', 'tensorfloat32', 'highest', 'float32')


@functools.lru_cache(maxsize=64)
def of_model(model: Model, precision: str) -> Model:
  """A network whose products, those of the backward pass included, are of a precision.

  Args:
    model: the network.
    precision: of `PRECISIONS`; '' leaves the network as it is.

  Returns:
    The network; equal arguments give the identical object.
  """
  if not precision:
    return model
  prepare = model.prepare
  return model._replace(
    init=_at(precision, model.init),
    apply=_at(precision, model.apply),
    features=model.features and _at(precision, model.features),
    prepare=prepare if prepare is as_initialised else _at(precision, prepare),
  )


def of_optimizer(
  optimizer: optax.GradientTransformation, precision: str
) -> optax.GradientTransformation:
  """An optimizer whose products (of Muon) are of a precision.

  Args:
    optimizer: to wrap.
    precision: of `PRECISIONS`; '' leaves the optimizer as it is.

  Returns:
    The optimizer.
  """
  if not precision:
    return optimizer
  return optimizer._replace(update=_at(precision, optimizer.update))  # told the row if it was


@functools.lru_cache(maxsize=256)
def _at(precision, function):
  """The identical object for equal arguments: programs are found by their functions."""

  @functools.wraps(function)
  def within(*args, **kwargs):
    # A gradient is computed as its product was: each holds its own precision from here on.
    with jax.default_matmul_precision(precision):
      return function(*args, **kwargs)

  return within
