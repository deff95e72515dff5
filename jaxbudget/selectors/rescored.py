"""Candidates scored now and then, or on smaller images, whatever the method: cheaper selection."""

import dataclasses
import functools
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget.ledger import Budget
from jaxbudget.losses import cross_entropy
from jaxbudget.selectors.refreshing import Rows
from jaxbudget.types import Outputs, Selector, Spec, State

_WHOLE = 1024  # units of price in a forward pass


class Scoring(NamedTuple):
  """How candidates are scored, whatever the method.

  Attributes:
    every: epochs that one scoring serves.
    size: height of the images that are scored; 0: as they are.
    price: what a pass of such an image costs, in 1/1024 of a forward pass.
  """

  every: int = 1
  size: int = 0
  price: int = _WHOLE

  def of(self, budget: Budget) -> Budget:
    """The budget of a method whose candidates are scored so."""
    return dataclasses.replace(budget, scoring=Fraction(self.price, _WHOLE), every=self.every)


def rescored(selector: Selector, spec: Spec, scoring: Scoring) -> Selector:
  """A method whose candidates are scored now and then, or on smaller images.

  Args:
    selector: any that scores candidates.
    spec: sizes of the run.
    scoring: how.

  Returns:
    A selector; `selector` itself if nothing is asked for.

  Raises:
    ValueError: the method plans to score no candidates.
  """
  if scoring == Scoring():
    return selector
  if not selector.facts.row_cost.scored:
    said = ', '.join(
      f'score_{key}={value}' for key, value in scoring._asdict().items()
      if key != 'price' and value != Scoring._field_defaults[key]
    )  # fmt: skip
    raise ValueError(
      f'{said} would change nothing of what is planned: this method plans no passes that score '
      'candidates in its rows'
    )
  if scoring.every > 1:
    selector = remembering(selector, spec, scoring.every)
  return shrunk(selector, spec, scoring) if scoring.size else selector


class Remembered(NamedTuple):
  """State of a method that reuses what the model said."""

  inner: State
  logits: jax.Array  # f32[N,C]  as last said of each sample when it was scored; 0: never
  measuring: jax.Array  # bool[]  this epoch scores
  current: jax.Array  # bool[N]  scored, and not trained on since


def remembering(selector: Selector, spec: Spec, every: int) -> Selector:
  """Lets a method score in every k-th epoch only; the epochs between reuse what was said there.

  Of a sample that was not scored then the model is taken to have said nothing: all classes are as
  likely. A picture of several samples is credited to each by its share, and recalled as the mean
  of its samples by their shares. Rows that only look (`refreshing.py`) pass over those whom they
  would tell less than is known: who was never scored, or was trained on since.

  Args:
    selector: calls `forward` on all candidates of a row, or not at all.
    spec: sizes of the run.
    every: k.

  Returns:
    A selector.
  """
  facts, scans = selector.facts, _scanned(selector.facts, spec)
  own = range(facts.epochs) if facts.scoring is None else facts.scoring
  due = tuple(e for e in own if e % every == 0)
  scored = facts.planned.scored - scans
  each, rest = divmod(scored, max(1, len(own)))
  most = facts.rows * facts.row_cost.scored  # of an epoch; not all score as many if there is a rest
  kept = min(scored, most * len(due)) if rest else each * len(due)
  cost = 'bound' if facts.cost == 'exact' and rest else facts.cost
  asks = tuple(dict.fromkeys((*facts.asks, 'probabilities')))  # what was said is kept as logits
  planned = facts.planned._replace(scored=scans + kept)
  facts = facts._replace(planned=planned, cost=cost, scoring=due, asks=asks)

  def init(key):
    logits = jnp.zeros((spec.num_examples, spec.num_classes), jnp.float32)
    never = jnp.zeros(spec.num_examples, bool)
    return Remembered(selector.init(key), logits, jnp.array(True), never)

  def plan(state, key, epoch):
    inner, planned = selector.plan(state.inner, key, epoch)
    return state._replace(inner=inner, measuring=epoch % every == 0), planned

  def scan(state, key, seen):
    return state._replace(inner=selector.scan(state.inner, key, seen))

  outer = _inside(selector, facts, init, plan, scan, _recalling(selector.select))
  return outer._replace(update=_outdating(outer.update))


@functools.lru_cache(maxsize=64)
def _recalling(inner_select):
  """`select` of `remembering`; the same function object for all budgets."""

  def select(state, key, batch, forward):
    shown = jnp.sum(batch.part_share[..., None] * state.logits[batch.part_index], axis=1)
    recalled = Outputs(shown, cross_entropy(shown, batch.target))

    def recall(asked):
      if asked.index.shape != batch.index.shape:
        raise ValueError('score_every wants a method that scores all candidates of a row at once')
      return recalled

    # Whether a row scores does not depend on what is said there: so this run tells it.
    wanted = inner_select(state.inner, key, batch, recall)[2]['scored'] > 0
    fresh = state.measuring & wanted
    outputs = jax.lax.cond(fresh, lambda: forward(batch), lambda: recalled)
    told = batch
    if isinstance(state.inner, Rows):  # who has weight in a row that looks is noted
      known = jnp.all(state.current[batch.part_index] | (batch.part_share == 0), axis=1)
      passed = wanted & ~fresh & ~known
      told = batch._replace(weight=jnp.where(passed, jnp.float32(0), batch.weight))
    inner, chosen, info = inner_select(state.inner, key, told, lambda asked: outputs)
    said = jnp.where(fresh, _credit(state.logits, batch, outputs.logits), state.logits)
    current = state.current | (fresh & _shown(batch, state.current.shape[0]))
    state = state._replace(inner=inner, logits=said, current=current)
    return state, chosen, {**info, 'scored': jnp.where(fresh, info['scored'], 0)}

  return select


@functools.lru_cache(maxsize=64)
def _outdating(inner_update):
  """`update` of `remembering`; the same function object for all budgets."""

  def update(state, batch, outputs):
    state = inner_update(state, batch, outputs)
    return state._replace(current=state.current & ~_shown(batch, state.current.shape[0]))

  return update


def _shown(batch, count):
  """Who is in the pictures of a batch that are no padding: bool[N]."""
  share = batch.part_share * (batch.weight > 0).astype(jnp.float32)[:, None]
  return jnp.zeros(count, jnp.float32).at[batch.part_index.ravel()].add(share.ravel()) > 0


def _credit(table, batch, logits):
  """Writes what was said of pictures into the table, to each sample by its share."""
  index, share = batch.part_index.ravel(), batch.part_share.ravel()
  said = jnp.repeat(logits, batch.part_index.shape[1], axis=0)
  total = jnp.zeros_like(table).at[index].add(share[:, None] * said)
  seen = jnp.zeros(table.shape[0], jnp.float32).at[index].add(share)[:, None]
  return jnp.where(seen > 0, total / jnp.where(seen > 0, seen, 1), table)


class Owed(NamedTuple):
  """State of a method that scores smaller images."""

  inner: State
  owed: jax.Array  # i32[]  less than one forward pass that is not in the books yet, in 1/1024


def shrunk(selector: Selector, spec: Spec, scoring: Scoring) -> Selector:
  """Lets a method score smaller images, and charges what these cost.

  The books hold whole forward passes: what is left over is carried to the next row.

  Args:
    selector: any.
    spec: sizes of the run.
    scoring: height and price.

  Returns:
    A selector.
  """
  facts, scans = selector.facts, _scanned(selector.facts, spec)
  most = facts.row_cost.scored * scoring.price
  facts = facts._replace(
    planned=facts.planned._replace(
      scored=scans + (facts.planned.scored - scans) * scoring.price // _WHOLE
    ),
    row_cost=facts.row_cost._replace(scored=(most + _WHOLE - 1) // _WHOLE),
  )
  height, width, channels = spec.image_shape
  shape = (scoring.size, max(1, round(width * scoring.size / height)), channels)

  def init(key):
    return Owed(selector.init(key), jnp.int32(0))

  def plan(state, key, epoch):
    inner, planned = selector.plan(state.inner, key, epoch)
    return state._replace(inner=inner), planned

  def scan(state, key, seen):
    return state._replace(inner=selector.scan(state.inner, key, seen))

  select = _shrinking(selector.select, shape, scoring.price)
  return _inside(selector, facts, init, plan, scan, select)


@functools.lru_cache(maxsize=64)
def _shrinking(inner_select, shape, price):
  """`select` of `shrunk`; the same function object for all budgets."""

  def select(state, key, batch, forward):
    def small(asked):
      image = jax.image.resize(asked.image, (asked.image.shape[0], *shape), 'linear')
      return forward(asked._replace(image=image))

    inner, chosen, info = inner_select(state.inner, key, batch, small)
    owed = state.owed + info['scored'] * price
    return Owed(inner, owed % _WHOLE), chosen, {**info, 'scored': owed // _WHOLE}

  return select


def _scanned(facts, spec):
  """Forward passes that scans cost, which no wrapper changes."""
  return sum(facts.scan.due(e) for e in range(facts.epochs)) * spec.num_examples


def _inside(selector, facts, init, plan, scan, select):
  """A method whose state holds that of another one as `inner`."""
  hooks = _inner_hooks(selector.weigh, selector.update, selector.report, selector.scores)
  weigh, update, report, scores = hooks
  return selector._replace(
    facts=facts, init=init, plan=plan, scan=scan,
    select=select, weigh=weigh, update=update, report=report, scores=scores,
  )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _inner_hooks(weigh, update, report, scores):
  """Hooks that see the inner state only; the same function objects for all budgets."""
  return (
    lambda state, loss, weight: weigh(state.inner, loss, weight),
    lambda state, batch, outputs: state._replace(inner=update(state.inner, batch, outputs)),
    lambda state: report(state.inner),
    lambda state: scores(state.inner),
  )
