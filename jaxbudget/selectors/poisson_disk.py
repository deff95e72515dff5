"""Poisson-disk sampling: mini-batches of samples that keep a distance.

Zhang, Oztireli, Mandt and Salvi, `Active Mini-Batch Sampling using Repulsive Point Processes
<https://arxiv.org/abs/1804.02772>`_, 2019. It acts in the plan only, on features of a net that was
trained on the same data before.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.sampling import distinct_rows
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Need, Needed, Selector, Spec

FORMS = ('plain', 'easy', 'dense', 'anneal')
_NEIGHBOURS = 4
_LAST = 1e-30  # weight of who comes when all others are taken, in random order
_BLOCK = 256  # samples whose neighbours are looked for at a time


class State(NamedTuple):
  """What batches are spread by."""

  feature: jax.Array  # f32[N,D]
  mingling: jax.Array  # i32[N]  of the 4 nearest neighbours, how many are of another class


def _squared(a: jax.Array, b: jax.Array) -> jax.Array:
  """Squared distances of all pairs: f32[n,m]."""
  # Else a GPU rounds features to ten bits, and equal samples are apart.
  product = jnp.matmul(a, b.T, precision='highest')
  square = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None] - 2 * product
  return jnp.maximum(square, 0)


@jax.jit
def mingling(feature: jax.Array, label: jax.Array) -> jax.Array:
  """How many of the 4 nearest neighbours of each sample are of another class.

  Args:
    feature: f32[N,D].
    label: i32[N].

  Returns:
    i32[N], 0 to 4.
  """
  count = label.shape[0]
  near = min(_NEIGHBOURS, count - 1)

  def block(index):
    apart = _squared(feature[index], feature)
    apart = apart.at[jnp.arange(index.shape[0]), index].set(jnp.inf)
    _, found = jax.lax.top_k(-apart, near)
    return jnp.sum(label[found] != label[index][:, None], axis=1, dtype=jnp.int32)

  blocks = -(-count // _BLOCK)
  index = jnp.minimum(jnp.arange(blocks * _BLOCK, dtype=jnp.int32), count - 1)
  return jax.lax.map(block, index.reshape(blocks, _BLOCK)).ravel()[:count]


def spread(feature: jax.Array, radius: jax.Array, repels: jax.Array, size: int) -> jax.Array:
  """Takes candidates in their order, unless one is too near to one taken before.

  If that leaves fewer than s, those turned down fill up, in their order.

  Args:
    feature: f32[K,D], of the candidates.
    radius: f32[], who is not farther than this is too near.
    repels: bool[K]; others are always taken, and keep nobody off.
    size: s <= K.

  Returns:
    i32[s], positions among the candidates.
  """
  count = feature.shape[0]
  near = _squared(feature, feature) <= radius**2
  near = near & repels[:, None] & repels[None] & (radius > 0)

  def visit(k, taken):
    return taken.at[k].set(~jnp.any(near[k] & taken))

  taken = jax.lax.fori_loop(0, count, visit, jnp.zeros(count, bool))
  return jnp.argsort(~taken, stable=True)[:size].astype(jnp.int32)


def pool_weights(form: str, mingling: jax.Array, row: jax.Array) -> jax.Array:
  """Chances to come into a row's pool: of `dense` and `anneal`, by mingling first.

  Args:
    form: one of `FORMS`.
    mingling: i32[N].
    row: i32[], t: rows of the run so far; `anneal` turns from the easy ones to those of mingling
      3 alone. Those of 4 have no chance by its rule: they come when all others are taken.

  Returns:
    f32[N], not normalised.
  """
  values = jnp.arange(_NEIGHBOURS + 1, dtype=jnp.float32)
  size = jnp.zeros(_NEIGHBOURS + 1, jnp.float32).at[mingling].add(1)
  share = jnp.ones_like(values)  # every value of m as likely
  if form == 'anneal':
    easy = _NEIGHBOURS - values
    # In logs and by the likeliest there is: late in a run exp alone makes 0/0.
    share = jnp.log(easy) - row.astype(jnp.float32) * easy / 1000
    most = jnp.max(jnp.where(size > 0, share, -jnp.inf))
    share = jnp.exp(jnp.minimum(share - jnp.where(most > -jnp.inf, most, jnp.float32(0)), 0))
    share = jnp.where(easy > 0, jnp.maximum(share, jnp.float32(1e-6)), jnp.float32(_LAST))
  return (share / jnp.maximum(size, 1))[mingling]


def poisson_disk(
  spec: Spec,
  budget: Budget | float,
  features: Needed = None,
  labels: Needed = None,
  *,
  form: Literal['plain', 'easy', 'dense', 'anneal'] = 'easy',
  radius: float = 0.2,
  pool: int = 4,
) -> Selector:
  """Each batch is spread: its samples keep a distance in the space of a trained net's features.

  A row looks at a pool of distinct samples in random order (the original draws until it has
  enough, which may take for ever). Mingling is how many of a sample's 4 nearest neighbours are of
  another class.

  Args:
    spec: sizes of the run.
    budget: B; floor(N*B) samples an epoch.
    features: f32[N,D].
    labels: i32[N], but for `plain`.
    form: `plain`; `easy`: only samples of mingling 0 repel each other; `dense`: besides, the
      pool has as many of each mingling; `anneal`: first those of low mingling, at last those of
      mingling 3 alone (of 4 only if there are no others).
    radius: as a share of the features' standard deviation; 0 is unif_sgd, in independent rows.
    pool: candidates for each place of a batch.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the run for
      the features alone uses up.
  """
  registry.check('form', form, FORMS)
  if not 0 <= radius < float('inf'):
    raise ValueError(f'radius={radius} must be 0 or more')
  facts, candidates = begin(spec, budget, pool, features, 'poisson_disk', form != 'plain')

  def init(key):
    del key
    if features is None or (form != 'plain' and labels is None):
      raise ValueError('poisson_disk cannot start without features and labels')
    feature = jnp.asarray(features, jnp.float32)
    if form == 'plain':
      return State(feature, jnp.zeros(spec.num_examples, jnp.int32))
    return State(feature, mingling(feature, jnp.asarray(labels, jnp.int32)))

  def plan(state, key, epoch):
    far = jnp.float32(radius) * jnp.std(state.feature)
    repels = jnp.ones_like(state.mingling, bool) if form == 'plain' else state.mingling == 0
    pool_key, row_key = jax.random.split(key)
    keys = jax.random.split(row_key, facts.rows)
    every = jnp.full(facts.rows, spec.num_examples, jnp.int32)
    uniform = distinct_rows(pool_key, every, candidates)

    def row(given):
      own_key, order, number = given
      if form in ('dense', 'anneal'):
        weight = pool_weights(form, state.mingling, number)
        clock = jnp.log(weight) + jax.random.gumbel(own_key, weight.shape, jnp.float32)
        shuffled = jax.lax.top_k(clock, candidates)[1].astype(jnp.int32)
      else:
        shuffled = order[jnp.argsort(jax.random.bits(own_key, order.shape, jnp.uint32))]
      taken = spread(state.feature[shuffled], far, repels[shuffled], facts.candidates)
      return shuffled[taken]

    numbers = epoch * facts.rows + jnp.arange(facts.rows, dtype=jnp.int32)
    index = jax.lax.map(row, (keys, uniform, numbers))
    return state, as_plan(index.ravel(), facts.rows, facts.candidates, padded_rows(spec))

  return Selector(facts, init, plan)


def begin(spec, budget, pool, features, name, classes=True):
  """Facts, and how many candidates a row's pool has."""
  if not 1 <= pool <= 64:
    raise ValueError(f'pool={pool} must be 1 to 64 candidates for each place of a batch')
  facts = plain_facts(spec, spec.epochs, ledger.trainable(spec, budget, 0, name))
  even = features is None or bool(np.ptp(features) == 0)
  candidates = min(pool * spec.batch_size, spec.num_examples)
  asks = ('probabilities',) if classes else ()  # there are classes
  return facts._replace(distinct=False, uniform_on_ties=even, asks=asks), candidates


def padded_rows(spec):
  """Rows of a plan, those that do not exist among them."""
  return spec.num_examples // spec.batch_size


def needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  """Features of a full run, and the classes."""
  plain = options.get('form') == 'plain'
  return (Need('features', 'features'), *(() if plain else (LABELS,)))


poisson_disk.needs = needs
