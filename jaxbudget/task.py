"""What the engine must know of a problem: what is trained on, what is told, what counts as good.

The engine asks the task, methods ask `scores`: nobody else looks into what a network says.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import factories, scores
from jaxbudget.data.dataset import Info
from jaxbudget.losses import cross_entropy, squared_error
from jaxbudget.types import Outputs


def as_it_is(output: jax.Array) -> jax.Array:
  """The `answer` of a task whose network speaks in the units of the labels, or of classes."""
  return output


class Task(NamedTuple):
  """A problem to learn, as pure functions of outputs f32[n,C] and targets f32[n,C].

  Attributes:
    name: of the task.
    score_name: what `score` is, for headings.
    capabilities: what methods may ask for, of `types.CAPABILITIES`.
    loss: `(output, target) -> f32[n]`, what methods select by and evaluation adds up; linear in
      the target where pictures are mixed.
    trained: `(output, target, loss) -> f32[n]`, the loss whose gradient is taken.
    told: `(output, target, loss) -> Outputs`, what a method is told of a batch.
    correct: `(output, target) -> bool[n]`; all false where nothing is right or wrong.
    rank: `(correct, loss) -> scalar`, of sums over a split: the better, the higher.
    score: `(correct, loss, count) -> float`, of the same sums over `count` samples, in percent.
    labels: what they must be, `classes` or `numbers`, see `check_labels`; empty takes both.
    answer: `output -> f32[n,C]`, of labels that are numbers what is predicted, in their units.
  """

  name: str
  score_name: str
  capabilities: tuple[str, ...]
  loss: Callable[[jax.Array, jax.Array], jax.Array]
  trained: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  told: Callable[[jax.Array, jax.Array, jax.Array], Outputs]
  correct: Callable[[jax.Array, jax.Array], jax.Array]
  rank: Callable[[jax.Array, jax.Array], jax.Array]
  score: Callable[[int, float, int], float]
  labels: str = ''
  answer: Callable[[jax.Array], jax.Array] = as_it_is

  @property
  def is_accuracy(self) -> bool:
    """Whether the score is a share of right answers."""
    return self.score_name == 'accuracy'


def classification(info: Info, *, label_smoothing: float = 0.0) -> Task:
  """One class for each sample: cross-entropy, scored by accuracy.

  Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
  <https://arxiv.org/abs/1512.00567>`_, 2016, section 7: a share of each target is spread over all
  classes. It is trained on so; methods select, and evaluation reports, by the plain loss.

  Args:
    info: of the data set.
    label_smoothing: in [0, 1), the share that is spread.

  Returns:
    The task.

  Raises:
    ValueError: the labels are no classes, or an option is out of range.
  """
  if info.label_mean:
    raise ValueError(f'task classification: the labels of {info.name} are numbers, not classes')
  if info.num_classes < 2:
    raise ValueError(f'task classification: {info.name} has one class only: give 2 or more')
  if not 0 <= label_smoothing < 1:
    raise ValueError(f'label_smoothing={label_smoothing!r} is refused: it must be in [0, 1)')
  return _classification(label_smoothing)


def regression(info: Info) -> Task:
  """Numbers for each sample: squared error in units of their variance, scored by R2.

  The network learns (label - mean) / std, of the training labels of each output; the loss is the
  mean of squares over outputs, and the score is 1 - that loss: R2 by the training set's mean
  and variance, in percent, below 0 for a network that is worse than the mean.

  Args:
    info: of the data set.

  Returns:
    The task.

  Raises:
    ValueError: the labels are classes.
  """
  if not info.label_mean:
    raise ValueError(f'task regression: the labels of {info.name} are classes, not numbers')
  return _regression(info.label_mean, info.label_std)


def make_task(name: str, info: Info, *, trusted: bool = True, **options: Any) -> Task:
  """Builds a task by name.

  Args:
    name: `classification`, `regression`, or `package.module:factory`.
    info: facts of the data set.
    trusted: whether others' packages may be imported.
    **options: of the task.

  Returns:
    The task; equal arguments give the identical functions.

  Raises:
    ValueError: unknown name or option, a value out of range, or other labels than it wants.
  """
  part = factories.find('task', name, trusted)
  return _make(part, info, tuple(part.fill(options).items()))


@functools.cache
def _make(part, info, options):
  return part.make(Task, info, **dict(options))


def _identity(output, target, loss):
  del output, target
  return loss


def _told_of_classes(output, target, loss):
  del target
  return Outputs(output, loss)


def _right_answers(correct, loss):
  del loss
  return correct


def _accuracy(correct, loss, count):
  del loss
  return 100 * correct / count


@functools.cache
def _classification(label_smoothing: float) -> Task:
  def smoothed(output, target, loss):
    del loss
    spread = label_smoothing / target.shape[-1]
    return cross_entropy(output, (1 - label_smoothing) * target + spread)

  return Task(
    name='classification',
    score_name='accuracy',
    capabilities=('probabilities', 'confidence', 'gradient_norm'),
    loss=cross_entropy,
    trained=smoothed if label_smoothing else _identity,
    told=_told_of_classes,
    correct=scores.same_class,
    rank=_right_answers,
    score=_accuracy,
    labels='classes',
  )


CLASSIFICATION = _classification(0.0)


@functools.cache
def _regression(mean: tuple[float, ...], std: tuple[float, ...]) -> Task:
  def standardised(target):
    centre, scale = (jnp.asarray(v, jnp.float32)[None] for v in (mean, std))
    return (target - centre) / scale

  def loss(output, target):
    return squared_error(output, standardised(target))

  def told(output, target, loss):
    # Nothing that a method could take for logits.
    norm = 2 / output.shape[-1] * jnp.linalg.norm(output - standardised(target), axis=-1)
    return Outputs(None, loss, part_loss=loss[:, None], gradient_norm=norm)

  def nothing_right(output, target):
    del target
    return jnp.zeros(output.shape[0], bool)

  def answer(output):
    centre, scale = (jnp.asarray(v, jnp.float32)[None] for v in (mean, std))
    return output * scale + centre

  return Task(
    name='regression',
    score_name='R2',
    capabilities=('gradient_norm',),
    loss=loss,
    trained=_identity,
    told=told,
    correct=nothing_right,
    rank=lambda correct, loss: -loss,
    score=lambda correct, loss, count: 100 * (1 - loss / count),
    labels='numbers',
    answer=answer,
  )


def check_labels(label: jax.Array, num_classes: int, task: Task = CLASSIFICATION) -> None:
  """Refuses labels that a task would misread: within a compiled step nobody could say so.

  `engine.prepare` does this. A loop of one's own does it once, before it trains: one-hot floats
  would all pass for class 0, and a class that there is not for none at all.

  Args:
    label: of a split, [N,...], on the host or on a device; its values are looked at.
    num_classes: C.
    task: what is learned.

  Raises:
    ValueError: other labels than the task wants, or a class out of range.
  """
  check_label_kind(label, task)
  if jnp.issubdtype(label.dtype, jnp.floating):
    return
  label = np.asarray(label)  # on the host, so that no program is made for it
  if label.size and not 0 <= label.min() <= label.max() < num_classes:
    raise ValueError(
      f'labels run from {label.min()} to {label.max()}, but the run was set up for a Spec of '
      f'num_classes={num_classes}: they must be in [0, {num_classes})'
    )


def check_label_kind(label: jax.Array, task: Task) -> None:
  """The part of `check_labels` that looks at type and shape only, so that it costs nothing."""
  if not hasattr(label, 'dtype'):
    raise ValueError(f'labels are a {type(label).__name__}: give a NumPy or JAX array')
  told, wanted = f'labels are {label.dtype}{list(label.shape)}', f'task {task.name!r} wants'
  rows = 'label.argmax(-1) if they are one-hot'
  if jnp.issubdtype(label.dtype, jnp.floating):
    if task.labels == 'classes':
      raise ValueError(
        f'{told}, numbers to predict, but {wanted} classes, whole numbers [N] in [0, C): give '
        f'{rows}, or task=regression'
      )
    if label.ndim != 2:
      raise ValueError(f'{told}: numbers to predict must be [N,C], as label[:, None] is')
    return
  if not jnp.issubdtype(label.dtype, jnp.integer) and label.dtype != bool:
    raise ValueError(f'{told}: they must be whole numbers [N] in [0, C), or floats [N,C]')
  if task.labels == 'numbers':
    raise ValueError(
      f'{told}, classes, but {wanted} numbers to predict, floats [N,C]: give them as float32, or '
      'task=classification'
    )
  if label.ndim != 1:
    raise ValueError(f'{told}: classes must be whole numbers [N], {rows}')
