"""Floating-point operations per sample, from XLA's cost analysis of the plain model.

Read off un-looped programs with plain convolutions: XLA counts a loop body once, so a
compiled epoch says nothing. Products with padding are left out (docs/performance.md).
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxbudget import factories
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.task import CLASSIFICATION, Task


def model_flops(
  name: str,
  info: Info,
  batch_size: int,
  options: Mapping[str, Any] | None = None,
  task: Task = CLASSIFICATION,
) -> tuple[float, float]:
  """What one sample costs.

  Args:
    name: of a network.
    info: of the data set.
    batch_size: s.
    options: of the network.
    task: what is learned.

  Returns:
    (a forward pass in eval mode, a training step: forward and backward), FLOPs a sample.
  """
  plain, part = dict(options or {}), factories.find('model', name)
  if 'conv' in part.options and not part.outside:
    plain['conv'] = 'lax'
  return _flops(name, info.num_classes, info.image_shape, tuple(plain.items()), batch_size, task)


@functools.cache
def _flops(name, num_classes, image_shape, options, batch_size, task):
  model = make_model(name, num_classes, image_shape, **dict(options))
  params, model_state = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((batch_size, *image_shape), jnp.float32)
  target = jax.ShapeDtypeStruct((batch_size, num_classes), jnp.float32)

  def forward(params, model_state, image):
    return model.apply(params, model_state, image, train=False)[0]

  def step(params, model_state, image, target):
    def objective(params):
      output, _ = model.apply(params, model_state, image, train=True)
      return jnp.mean(task.loss(output, target))

    return jax.grad(objective)(params)

  def count(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis().get('flops', 0.0) / batch_size

  return (
    count(forward, params, model_state, image),
    count(step, params, model_state, image, target),
  )
