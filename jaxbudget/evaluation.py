"""The evaluation pass over a split: how many share a forward pass, what views it looks at."""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import checks, parallel, registry
from jaxbudget.feeding import fetch
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import Data, Model, Spec, as_target


class Evaluation(NamedTuple):
  """Sums over a split, or over its first batches."""

  correct: jax.Array  # i32[]  0 where nothing is right or wrong
  loss: jax.Array  # f32[]
  by_class: jax.Array  # i32[C]  correct ones of each class; [0] if nobody asks

  @classmethod
  def blank(cls, num_classes: int = 0) -> 'Evaluation':
    """Sums over nothing; by class too if there are any."""
    return cls(jnp.int32(0), jnp.float32(0), jnp.zeros(num_classes, jnp.int32))


@partial(jax.jit, static_argnums=(0, 1, 2), static_argnames=('mesh', 'task'))
def evaluate(
  model: Model,
  transform,
  batch_size: int,
  params: Any,
  model_state: Any,
  data: Data,
  sums: Evaluation,
  start: jax.Array,
  stop: jax.Array,
  mesh: jax.sharding.Mesh | None = None,
  task: Task = CLASSIFICATION,
) -> Evaluation:
  """Runs the model over batches of a split in eval mode.

  Results do not depend on how a split is cut into calls, only on the size of a batch.

  Args:
    model: static.
    transform: static, `Augment.test`.
    batch_size: static, examples in a forward pass; the last batch is padded.
    params: of the model.
    model_state: of the model.
    data: the split, n examples; or of its images a `feeding.Chunk` that holds those batches.
    sums: over the batches before `start`; `Evaluation.blank(C)` at first.
    start: i32[], the first batch to look at.
    stop: i32[], the batch to stop before: ceil(n / batch_size) for the rest of the split.
    mesh: static, devices to split batches over.
    task: static, what is learned.

  Returns:
    Correct predictions and summed losses of the batches before `stop`.

  Raises:
    ValueError: the labels are not of the type that the task wants.
  """
  checks.check_label_kind(data.label, task)
  total = data.label.shape[0]

  def body(i, sums):
    position = i * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    real = position < total
    index = jnp.minimum(position, total - 1)
    image = parallel.split(fetch(data.image, i, index), mesh)
    output, _ = model.apply(params, model_state, transform(image), train=False)
    output = output.astype(jnp.float32)
    target = as_target(data.label[index], output.shape[-1])
    loss = jnp.where(real, task.loss(output, target), 0.0)
    hit = task.correct(output, target) & real
    by_class = sums.by_class
    if by_class.size:
      by_class += jnp.sum(jnp.where(hit[:, None], target, 0.0), 0).astype(jnp.int32)
    correct = sums.correct + jnp.sum(hit, dtype=jnp.int32)
    return Evaluation(correct, sums.loss + jnp.sum(loss), by_class)

  return jax.lax.fori_loop(start, stop, body, sums)


_PLACES = 2**18  # 256 images of 32x32, whose forward pass takes 0.3 GB in a ResNet-18


def forward_batch(size: int, spec: Spec, bound: int = 0) -> int:
  """Chooses how many examples of a split share a forward pass where nothing is trained.

  As many as there are, but they take no more memory than the rows of training do, or than 256
  images of 32x32 where these are more: pixels, tokens and features count alike. It follows from
  shapes alone: what memory happens to be free must not decide how sums are rounded.

  Args:
    size: n, examples of the split.
    spec: of the run; the backward pass of its batches takes more memory than their forward pass.
    bound: the most there may be; 0 is no bound.

  Returns:
    1 to n.
  """
  fitting = max(spec.batch_size, _PLACES // math.prod(spec.image_shape[:2]))
  return min(size, fitting, bound or size)


# Test-time augmentations, and the forward passes that each takes for an image.
TEST_TIME = {'none': 1, 'mirror': 2, 'mirror_translate': 6}


def num_views(name: str, mirrored: bool = True) -> int:
  """Forward passes that a test-time augmentation takes for an image.

  Args:
    name: a key of `TEST_TIME`.
    mirrored: see `test_time`.
  """
  return TEST_TIME[name] if mirrored or name == 'none' else TEST_TIME[name] // 2


@cache
def test_time(model: Model, name: str, mirrored: bool = True) -> Model:
  """A network that looks at several views of each image when it is evaluated.

  Jordan, `94% on CIFAR-10 in 3.29 Seconds on a Single GPU <https://arxiv.org/abs/2404.00498>`_,
  2024: the mean output of an image and its mirror; with `mirror_translate` half of it, and half of
  that of the image shifted by a pixel up left and down right, mirrored at its border.

  Args:
    model: a network for images.
    name: `none`, `mirror` or `mirror_translate`.
    mirrored: whether a mirror image means the same; else it is no view (`flip=0` of a data set).

  Returns:
    The network; `model` itself for `none`.

  Raises:
    ValueError: an unknown name.
  """
  registry.check('tta', name, TEST_TIME)
  if name == 'none':
    return model

  def apply(params, model_state, image, train, mask=None):
    if train:
      return model.apply(params, model_state, image, train, mask)
    look = lambda view: model.apply(params, model_state, view, train)[0]
    both = lambda view: (look(view) + look(view[:, :, ::-1])) / 2 if mirrored else look(view)
    output = both(image)
    if name == 'mirror_translate':
      height, width = image.shape[1:3]
      padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), 'reflect')
      shifted = (padded[:, :height, :width], padded[:, 2:, 2:])
      output = output / 2 + sum(map(both, shifted)) / 4
    return output, model_state

  return model._replace(apply=apply)
