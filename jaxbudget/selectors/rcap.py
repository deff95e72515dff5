"""RCAP: samples drawn anew each epoch, by loss within a class, and by what a class has left.

Hassan et al., `RCAP: Robust, Class-Aware, Probabilistic Dynamic Dataset Pruning
<https://proceedings.mlr.press/v286/hassan25a.html>`_, 2025. It looks at no sample besides those
it trains on.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.sampling import sort_by
from jaxbudget.selectors.importance import Importance, importance_update, running_mean
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Needed, Selector, Spec


class Rcap(NamedTuple):
  """What is known of samples and classes."""

  importance: Importance  # the latest 1 - p(y) of each sample
  label: jax.Array  # i32[N]
  mass: jax.Array  # f32[C]  q of the samples last drawn from each class, summed


def losses(importance: Importance, num_classes: int) -> jax.Array:
  """The latest loss of each sample, log C at most and where there is none: f32[N]."""
  a, seen = running_mean(importance)
  most = jnp.log(jnp.float32(num_classes))
  return jnp.where(seen, jnp.minimum(-jnp.log1p(-a), most), most)


def log_q(loss: jax.Array, label: jax.Array, num_classes: int, temperature: float) -> jax.Array:
  """Log of q = softmax(loss / temperature) over the samples of a class.

  Args:
    loss: f32[N].
    label: i32[N].
    num_classes: C.
    temperature: beta.

  Returns:
    f32[N].
  """
  logit = loss / temperature
  z = logit - jax.ops.segment_max(logit, label, num_classes)[label]
  return z - jnp.log(jax.ops.segment_sum(jnp.exp(z), label, num_classes))[label]


def quotas(share: jax.Array, size: jax.Array, samples: int) -> jax.Array:
  """Samples of each class, in proportion to its share; what it does not have goes to others.

  Args:
    share: f32[C], not negative.
    size: f32[C], samples that there are.
    samples: to be drawn in all.

  Returns:
    i32[C], rounded up: the sum passes `samples` by less than C.
  """

  def hand_out(_, given):
    wanting = jnp.where(given < size, share, 0)
    total = jnp.sum(wanting)
    each = wanting * (samples - jnp.sum(given)) / jnp.where(total > 0, total, 1)
    return jnp.minimum(given + each, size)

  given = jax.lax.fori_loop(0, len(share), hand_out, jnp.zeros_like(share))
  return jnp.ceil(given).astype(jnp.int32)


def draw_in_classes(key, log_q: jax.Array, label: jax.Array, quota: jax.Array) -> jax.Array:
  """Draws each class's quota without replacement, with probability proportional to q.

  Args:
    key: a typed key.
    log_q: f32[N].
    label: i32[N].
    quota: i32[C].

  Returns:
    bool[N], who is drawn.
  """
  clock = log_q + jax.random.gumbel(key, log_q.shape, jnp.float32)
  index = jnp.arange(len(label), dtype=jnp.int32)
  of_class, _, order = jax.lax.sort((label, -clock, index), num_keys=2)
  first = jnp.searchsorted(of_class, jnp.arange(len(quota), dtype=jnp.int32)).astype(jnp.int32)
  drawn = index - first[of_class] < quota[of_class]
  return jnp.zeros(len(label), bool).at[order].set(drawn)


@functools.cache
def _update(credit: str):
  inner = importance_update(False, credit)

  def update(state, batch, outputs):
    return state._replace(importance=inner(state.importance, batch, outputs))

  return update


def report(state: Rcap) -> dict[str, jax.Array]:
  """Figures for the metrics line: mean loss by what is known, share of samples seen."""
  return {
    'mean_loss': jnp.mean(losses(state.importance, len(state.mass))),
    'seen': jnp.mean((state.importance.seen > 0).astype(jnp.float32)),
  }


def rcap(
  spec: Spec,
  budget: Budget | float,
  labels: Needed = None,
  *,
  temperature: float = 1.0,
  credit: Literal['aligned', 'first'] = 'aligned',
) -> Selector:
  """floor(N*B) samples an epoch, by loss within classes that get by loss mass and size.

  A class's share of the budget is sqrt(L_c N_c / N), with L_c the sum of q over the samples that
  were last drawn from it (1 at first), N_c its size; within it samples are drawn without
  replacement by q = softmax(loss / temperature), with the latest losses.

  Args:
    spec: sizes of the run.
    budget: B.
    labels: i32[N], classes of the samples; None gives a selector that can be planned, but not
      started.
    temperature: beta; the paper has 1/3 to 3. A large one draws uniformly in each class.
    credit: `aligned` or `first`, see `scores.credited`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('credit', credit, scores.CREDITS)
  if not temperature > 0:
    raise ValueError(f'temperature must be positive, got {temperature}')
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)._replace(
    uniform_on_ties=False, asks=('probabilities',)
  )
  padded = spec.num_examples // facts.candidates
  classes = spec.num_classes

  def init(key):
    del key
    if labels is None:
      raise ValueError('rcap cannot start without the labels')
    unseen = Importance(*(jnp.zeros(spec.num_examples, jnp.float32) for _ in range(2)))
    return Rcap(unseen, jnp.asarray(labels, jnp.int32), jnp.ones(classes, jnp.float32))

  def plan(state, key, epoch):
    del epoch
    draw_key, order_key = jax.random.split(key)
    chances = log_q(losses(state.importance, classes), state.label, classes, temperature)
    size = jax.ops.segment_sum(jnp.ones_like(chances), state.label, classes)
    quota = quotas(jnp.sqrt(state.mass * size / spec.num_examples), size, samples)
    drawn = draw_in_classes(draw_key, chances, state.label, quota)
    mass = jax.ops.segment_sum(jnp.where(drawn, jnp.exp(chances), 0), state.label, classes)
    # Those drawn come first, in random order: the surplus of the quotas is cut off at random.
    word = jax.random.bits(order_key, drawn.shape, jnp.uint32) >> 1
    word = jnp.where(drawn, word, word | jnp.uint32(1 << 31))
    index = sort_by(word, jnp.arange(spec.num_examples, dtype=jnp.int32))
    return state._replace(mass=mass), as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan, update=_update(credit), report=report)


rcap.needs = lambda options: (LABELS,)
