"""Floating-point operations per sample, from XLA's cost analysis of the plain model.

Read off un-looped programs with plain convolutions: XLA counts a loop body once, so a
compiled epoch says nothing. Products with padding are left out (docs/performance.md).
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from jaxbudget.data import Info
from jaxbudget.losses import cross_entropy
from jaxbudget.models import make_model


def model_flops(cell: FrozenConfigDict, info: Info) -> tuple[float, float]:
  """What one sample costs.

  Args:
    cell: config of a run.
    info: of its data set.

  Returns:
    (a forward pass in eval mode, a training step: forward and backward), FLOPs a sample.
  """
  return _flops(cell.model, info.num_classes, info.image_shape, cell.width or None, cell.batch_size)


@functools.cache
def _flops(name, num_classes, image_shape, width, batch_size):
  model = make_model(name, num_classes, image_shape, width=width, conv='lax')
  params, model_state = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
  target = jax.ShapeDtypeStruct((batch_size, num_classes), jnp.float32)

  def forward(params, model_state, image):
    return model.apply(params, model_state, image, train=False)[0]

  def step(params, model_state, image, target):
    def objective(params):
      logits, _ = model.apply(params, model_state, image, train=True)
      return jnp.mean(cross_entropy(logits, target))

    return jax.grad(objective)(params)

  def count(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()['flops'] / batch_size

  return (
    count(forward, params, model_state, image),
    count(step, params, model_state, image, target),
  )
