"""What the engine must know of a problem: what is trained on, what is told, what counts as good.

The engine asks the task, methods ask `scores`: nobody else looks into what a network says.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
    labels: what they must be, `classes` or `numbers`, see `checks.py`; empty takes both.
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
