"""Self-paced learning, and MentorNet with its predefined curriculum: hard samples wait.

Kumar, Packer and Koller, `Self-Paced Learning for Latent Variable Models
<https://papers.nips.cc/paper/3923>`_, 2010. Jiang et al., `MentorNet: Learning Data-Driven
Curriculum for Very Deep Neural Networks on Corrupted Labels <https://arxiv.org/abs/1712.05055>`_,
2018. Both see samples uniformly and weigh them by the loss of the very pass that is trained on.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.selectors.infobatch import share_of
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.types import Selector, Spec

FORMS = ('pd', 'hard', 'focal')


class State(NamedTuple):
  """How far training is, and the level that losses are compared with."""

  level: jax.Array  # f32[]  A, running average of a quantile of the batch's losses
  step: jax.Array  # i32[]  taken
  steps: jax.Array  # i32[]  of the run


def quantile(
  loss: jax.Array, share: float | jax.Array, weight: jax.Array | None = None
) -> jax.Array:
  """The loss that a share of a batch does not exceed: the ceil(share*s)-th smallest.

  Args:
    loss: f32[s].
    share: in (0, 1].
    weight: f32[s]; examples of weight 0 are left out. None is all.

  Returns:
    f32[].
  """
  count = jnp.int32(loss.shape[0])
  if weight is not None:
    count = jnp.sum(weight > 0, dtype=jnp.int32)
    loss = jnp.where(weight > 0, loss, jnp.inf)
  place = jnp.float32(share) * count.astype(jnp.float32) - jnp.float32(1e-4)
  place = jnp.ceil(place).astype(jnp.int32) - 1
  return jnp.sort(loss)[jnp.clip(place, 0, jnp.maximum(count - 1, 0))]


def _level(state, loss, share, decay, weight=None):
  """A, with this batch in it."""
  return decay * state.level + (1 - decay) * quantile(loss, share, weight)


def _over_all(factor, weight):
  """Weights for a mean over all s, though the engine's is over those of positive weight."""
  weight = weight * factor
  count = jnp.sum((weight > 0).astype(jnp.float32))
  return weight * count / jnp.float32(weight.shape[0])


def progress(state: State) -> jax.Array:
  """floor(100 step/steps), in whole numbers: i32[], right for runs of up to 21 million steps."""
  return 100 * state.step // state.steps


def _begin(facts):
  def init(key):
    del key
    return State(jnp.float32(0), jnp.int32(0), jnp.int32(facts.epochs * facts.rows))

  return init


def _uniform(plain):
  def plan(state, key, epoch):
    return state, plain.plan((), key, epoch)[1]

  return plan


def _figures(state):
  return {'level': state.level}


@functools.cache
def _paced(start: float, until: float, decay: float):
  """`weigh` and `update` of self-paced learning; the same function objects for all budgets."""

  def share(state):
    done = state.step.astype(jnp.float32) / state.steps.astype(jnp.float32)
    return jnp.minimum(start + (1 - start) * done / until, 1)

  def level(state, loss, weight):
    # An average from 0 would find nobody easy for 1/(1 - decay) steps: it begins at the first one.
    fades = jnp.where(state.step > 0, jnp.float32(decay), jnp.float32(0))
    return _level(state, loss, share(state), fades, weight)

  def weigh(state, loss, weight):
    easy = loss <= level(state, loss, weight)
    everybody = state.step >= state.steps - share_of(state.steps, 1 - ledger.as_written(until))
    everybody |= start == 1
    return _over_all((easy | everybody).astype(jnp.float32), weight)

  def update(state, batch, outputs):
    now = level(state, outputs.loss, batch.weight)
    return state._replace(level=now, step=state.step + 1)

  return weigh, update


def self_paced(
  spec: Spec,
  budget: Budget | float,
  *,
  start: float = 0.5,
  until: float = 0.8,
  decay: float = 0.0,
) -> Selector:
  """Trains on the easiest share of each batch, which grows until it is all.

  The level of a loss that counts is a quantile of the batch's losses, so that no scale need be
  guessed (the original raises a fixed level by a factor).

  Args:
    spec: sizes of the run.
    budget: B, of uniform samples; nothing is saved.
    start: share of a batch that counts at first; 1 is unif_sgd.
    until: share of the run after which everything counts.
    decay: of the running average of the level, from the first batch's on; 0 is each batch's own.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  if not 0 < start <= 1 or not 0 < until <= 1 or not 0 <= decay < 1:
    raise ValueError(f'start={start}, until={until} must be in (0, 1], decay={decay} in [0, 1)')
  plain = unif_sgd(spec, budget)
  weigh, update = _paced(float(start), float(until), float(decay))
  return plain._replace(
    init=_begin(plain.facts), plan=_uniform(plain), weigh=weigh, update=update, report=_figures
  )


def mentor_weight(form: str, loss: jax.Array, level: jax.Array, done: jax.Array) -> jax.Array:
  """v, what MentorNet gives a sample.

  Args:
    form: `pd`: up to 18% of training 1, up to 89% whether the loss is at most the level, then
      1 - (loss - level) within [0, 1]; `hard` whether it is at least the level; `focal`
      (1 - e^-loss)^2.
    loss: f32[s].
    level: f32[].
    done: i32[], percent of the run.

  Returns:
    f32[s] in [0, 1].
  """
  apart = loss - level
  if form == 'hard':
    return (apart >= 0).astype(jnp.float32)
  if form == 'focal':
    return (1 - jnp.exp(-loss)) ** 2
  easy = (apart <= 0).astype(jnp.float32)
  late = jnp.clip(1 - apart, 0, 1)
  return jnp.where(done <= 18, jnp.ones_like(loss), jnp.where(done <= 89, easy, late))


@functools.cache
def _mentored(form: str, share: float, decay: float, drop: float, later_drop: float):
  """The row hooks of MentorNet; the same function objects for all budgets."""

  def select(state, key, batch, forward):
    del forward
    size = batch.index.shape[0]
    rate = jnp.where(progress(state) < 17, jnp.float32(drop), jnp.float32(later_drop))
    kept = jnp.maximum(jnp.floor(size * (1 - rate) + jnp.float32(1e-4)), 1).astype(jnp.int32)
    place = jnp.argsort(jax.random.bits(key, (size,), jnp.uint32)).astype(jnp.int32)
    weight = jnp.where(place < kept, batch.weight, jnp.float32(0))
    return state, batch._replace(weight=weight), {'scored': jnp.int32(0)}

  def weigh(state, loss, weight):
    level = _level(state, loss, share, decay)
    return _over_all(mentor_weight(form, loss, level, progress(state)), weight)

  def update(state, batch, outputs):
    del batch
    level = _level(state, outputs.loss, share, decay)
    return state._replace(level=level, step=state.step + 1)

  return select, weigh, update


def mentornet(
  spec: Spec,
  budget: Budget | float,
  *,
  form: Literal['pd', 'hard', 'focal'] = 'pd',
  share: float = 0.7,
  decay: float = 0.5,
  drop: float = 0.5,
  later_drop: float = 0.05,
) -> Selector:
  """MentorNet's predefined curriculum: all, then the easy ones, then the hard ones softly.

  The rule itself is applied (the original trains a small net to imitate it). Weight decay is not
  scaled by the mean of v.

  Args:
    spec: sizes of the run.
    budget: B, of uniform samples; nothing is saved.
    form: `pd`, `hard` or `focal`, see `mentor_weight`.
    share: quantile of the batch's losses that the level follows.
    decay: of the level's running average, which begins at 0.
    drop: share of each batch that is left out at random until 17% of the run.
    later_drop: the same afterwards (the published flags leave out all in the last 5%).

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('form', form, FORMS)
  if not 0 < share <= 1 or not 0 <= decay < 1:
    raise ValueError(f'share={share} must be in (0, 1], decay={decay} in [0, 1)')
  if not 0 <= drop < 1 or not 0 <= later_drop < 1:
    raise ValueError(f'drop={drop} and later_drop={later_drop} must be in [0, 1)')
  plain = unif_sgd(spec, budget)
  select, weigh, update = _mentored(
    form, float(share), float(decay), float(drop), float(later_drop)
  )
  facts = plain.facts._replace(asks=('probabilities',) if form == 'focal' else ())
  return plain._replace(
    facts=facts, init=_begin(facts), plan=_uniform(plain),
    select=select, weigh=weigh, update=update, report=_figures,
  )  # fmt: skip
