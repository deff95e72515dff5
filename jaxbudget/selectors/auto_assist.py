"""AutoAssist: a linear model learns which samples are worth training on.

Zhang, Yu and Dhillon, `AutoAssist: A Framework to Accelerate Training of Deep Neural Networks
<https://arxiv.org/abs/1905.03381>`_, 2019.
"""

import functools
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.sampling import present_first, shuffle
from jaxbudget.selectors import fifo
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Batch, Selector, Spec

_MEAN = 0.75  # decay of the mean loss that labels are made by
_RATE, _PENALTY = 0.01, 1e-3  # of the assistant's gradient steps
_SPREAD = 0.001  # of its first weights
_TRUST = 0.95  # decay of how often it was right
HARD = ('loss', 'misclassified')


class Assistant(NamedTuple):
  """A logistic model of pixels and class."""

  pixels: jax.Array  # f32[H*W*c]
  classes: jax.Array  # f32[C]
  total: jax.Array  # f32[]  running sum of losses
  count: jax.Array  # f32[]  and of how many
  right: jax.Array  # f32[]  running average from 0: how often it was right


class State(NamedTuple):
  """The assistant, and who waits if the method has a queue."""

  assistant: Assistant
  queue: fifo.Fifo | None
  opening: jax.Array  # bool[]  the first epoch, if that accepts everybody


def doubt(assistant: Assistant, batch: Batch) -> jax.Array:
  """What the assistant makes of pictures: the logit of their being hard, f32[n]."""
  image = batch.image.reshape(batch.image.shape[0], -1).astype(jnp.float32)
  shown = jnp.sum(batch.part_share * assistant.classes[batch.part_label], axis=1)
  return image @ assistant.pixels + shown


def chance(assistant: Assistant, batch: Batch, base: float | jax.Array) -> jax.Array:
  """The chance base + (1 - base) sigmoid(doubt): how likely pictures are accepted, f32[n]."""
  return base + (1 - base) * jax.nn.sigmoid(doubt(assistant, batch))


def learn(state: State, batch: Batch, outputs, label: str = 'loss') -> State:
  """A gradient step of the assistant on the batch.

  Args:
    state: before.
    batch: what was trained on.
    outputs: of the training pass.
    label: hard is by `loss` a loss above the running mean, `misclassified` what was not recognised.

  Returns:
    The state after.
  """
  assistant, real = state.assistant, (batch.weight > 0).astype(jnp.float32)
  total = _MEAN * assistant.total + jnp.sum(real * outputs.loss)
  count = _MEAN * assistant.count + jnp.sum(real)
  if label == 'loss':
    hard = outputs.loss > total / jnp.maximum(count, 1)
  else:
    hard = ~scores.same_class(outputs.logits, batch.target)
  agrees = ((doubt(assistant, batch) > 0) == hard).astype(jnp.float32)
  right = jnp.sum(real * agrees) / jnp.maximum(jnp.sum(real), 1)
  right = _TRUST * assistant.right + (1 - _TRUST) * right
  hard = hard.astype(jnp.float32)

  def objective(weights):
    logit = doubt(assistant._replace(pixels=weights[0], classes=weights[1]), batch)
    entropy = jax.nn.softplus(logit) - hard * logit
    # Of the pixels' weights once a batch, of a class's once for each sample of it; all over s.
    own = jnp.sum(batch.part_share * weights[1][batch.part_label] ** 2, axis=1)
    penalty = jnp.sum(weights[0] ** 2) + jnp.sum(real * own)
    return (jnp.sum(real * entropy) + _PENALTY / 2 * penalty) / jnp.maximum(jnp.sum(real), 1)

  weights = assistant.pixels, assistant.classes
  pixels, classes = jax.tree.map(lambda w, g: w - _RATE * g, weights, jax.grad(objective)(weights))
  return state._replace(assistant=Assistant(pixels, classes, total, count, right))


_learn = {label: functools.partial(learn, label=label) for label in HARD}


def least(state: State, base: float, trusted: bool) -> float | jax.Array:
  """The least chance to be accepted, which an assistant may have to lower by being right.

  Args:
    state: of the method.
    base: what it does not fall below.
    trusted: from the start.

  Returns:
    `base`; else 1 in the first epoch, then 1 less how often it was right lately, `base` at least.
  """
  if trusted:
    return base
  earned = jnp.maximum(jnp.float32(base), 1 - state.assistant.right)
  return jnp.where(state.opening, jnp.float32(1), earned)


@functools.cache
def _take_exactly(size: int, base: float, trusted: bool):
  """`select` that takes s of the K candidates; the same function object for all budgets."""

  def select(state, key, batch, forward):
    del forward
    accept = chance(state.assistant, batch, least(state, base, trusted))
    clock = jnp.log(accept) + jax.random.gumbel(key, accept.shape, jnp.float32)
    top = present_first(batch.weight, -clock)[:size]
    return state, jax.tree.map(lambda x: x[top], batch), {'scored': jnp.int32(0)}

  return select


@functools.cache
def _take_accepted(base: float, trusted: bool):
  """`select` that queues whom the assistant accepts, and trains once there are s of them."""

  def select(state, key, batch, forward):
    del forward
    accept = chance(state.assistant, batch, least(state, base, trusted))
    accepted = jax.random.uniform(key, accept.shape, jnp.float32) < accept
    accepted &= batch.weight > 0
    queue, chosen = fifo.exchange(state.queue, batch, accepted)
    return state._replace(queue=queue), chosen, {'scored': jnp.int32(0)}

  return select


def auto_assist(
  spec: Spec,
  budget: Budget | float,
  *,
  base: float = 0.3,
  label: Literal['loss', 'misclassified'] = 'loss',
  trusted: bool = True,
  exact: bool = True,
) -> Selector:
  """Candidates are accepted with a chance that a small model gives, which learns from the losses.

  The assistant sees the pixels and the class, and learns at once from every batch (the original:
  on another processor, with some delay). Its own work, a product with H*W*c weights for each
  candidate, is not charged: it is millionths of a forward pass.

  Args:
    spec: sizes of the run.
    budget: B.
    base: the least chance; 1 accepts everybody.
    label: what is hard, see `learn`.
    trusted: False is the authors' form for translation: the first epoch accepts everybody, then the
      least chance is 1 less the share of its answers that were right lately, `base` at least.
    exact: of each K = floor(N/rows) candidates s are taken, without replacement in proportion to
      their chances: floor(N*B) samples an epoch. False: all candidates in turn, the accepted
      queue up, and the run ends where its budget does.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 < base <= 1:
    raise ValueError(f'base={base} must be in (0, 1]')
  registry.check('label', label, HARD)
  count, size = spec.num_examples, spec.batch_size
  samples = ledger.share(count, budget)
  facts = plain_facts(spec, spec.epochs, samples if exact else count)
  if exact:
    facts = facts._replace(candidates=count // facts.rows)
  else:
    cap = ledger.share(spec.epochs * count, budget)
    most = min(cap // size * size, facts.planned.trained)
    planned = facts.planned._replace(trained=most, backward=most)
    facts = facts._replace(planned=planned, cost='bound')
  if label == 'misclassified':
    facts = facts._replace(asks=('probabilities', 'confidence'))
  size_of_image = math.prod(spec.image_shape)

  def init(key):
    pixel_key, class_key = jax.random.split(key)
    pixels = _SPREAD * jax.random.normal(pixel_key, (size_of_image,), jnp.float32)
    classes = _SPREAD * jax.random.normal(class_key, (spec.num_classes,), jnp.float32)
    assistant = Assistant(pixels, classes, *(jnp.float32(0) for _ in range(3)))
    return State(assistant, None if exact else fifo.empty(spec), jnp.array(not trusted))

  def plan(state, key, epoch):
    state = state._replace(opening=(epoch == 0) & (not trusted))
    index = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    return state, as_plan(index, facts.rows, facts.candidates, count // facts.candidates)

  who = float(base), bool(trusted)
  select = _take_exactly(size, *who) if exact else _take_accepted(*who)
  return Selector(facts, init, plan, select=select, update=_learn[label], report=_report)


def _report(state):
  assistant = state.assistant
  return {'mean_loss': assistant.total / jnp.maximum(assistant.count, 1)}
