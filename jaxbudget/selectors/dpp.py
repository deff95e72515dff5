"""Determinantal point processes: mini-batches of samples that are unlike each other.

Zhang, Kjellstrom and Mandt, `Determinantal Point Processes for Mini-Batch Diversification
<https://arxiv.org/abs/1705.00607>`_, 2017. They act in the plan only, on features of a net that was
trained on the same data before.
"""

import jax
import jax.numpy as jnp

from jaxbudget.ledger import Budget
from jaxbudget.sampling import distinct_rows
from jaxbudget.selectors.poisson_disk import begin, needs, padded_rows
from jaxbudget.selectors.sgd import as_plan
from jaxbudget.types import Needed, Selector, Spec


def elementary(log_value: jax.Array, size: int) -> jax.Array:
  """Logarithms of elementary symmetric polynomials.

  Args:
    log_value: f32[K], logarithms of the numbers.
    size: k, the highest degree.

  Returns:
    f32[K+1,k+1]: of degree j in the first i numbers.
  """
  start = jnp.full(size + 1, -jnp.inf, jnp.float32).at[0].set(0)

  def add(below, value):
    shifted = jnp.concatenate([jnp.full(1, -jnp.inf, jnp.float32), below[:-1] + value])
    now = jnp.logaddexp(below, shifted)
    return now, now

  return jnp.concatenate([start[None], jax.lax.scan(add, start, log_value)[1]])


def k_dpp(key: jax.Array, kernel: jax.Array, size: int) -> jax.Array:
  """Draws s positions with probability in proportion to the determinant of their kernel.

  Kulesza and Taskar, `Determinantal Point Processes for Machine Learning
  <https://arxiv.org/abs/1207.6083>`_, 2012, section 5.2: first s eigenvectors, then positions.

  Args:
    key: a typed key.
    kernel: f32[K,K], symmetric, positive definite.
    size: s <= K.

  Returns:
    i32[s], distinct.
  """
  value, vector = jnp.linalg.eigh(kernel)
  log_value = jnp.log(jnp.maximum(value, jnp.finfo(jnp.float32).tiny))
  count = value.shape[0]
  table = elementary(log_value, size)
  vector_key, place_key = jax.random.split(key)
  coin = jnp.log(jax.random.uniform(vector_key, (count,), jnp.float32, 1e-30))

  def choose(left, i):  # from the last number down
    chance = log_value[i] + table[i, jnp.maximum(left - 1, 0)] - table[i + 1, left]
    taken = (left > 0) & ((coin[i] < chance) | (left > i))
    return left - taken.astype(jnp.int32), taken

  down = jnp.arange(count - 1, -1, -1, dtype=jnp.int32)
  taken = jax.lax.scan(choose, jnp.int32(size), down)[1][::-1]
  vector = jnp.where(taken[None], vector, 0)
  projection = jnp.matmul(vector, vector.T, precision='highest')

  def draw(carry, step):  # a Cholesky factor of those drawn grows by a column
    rest, factor, free = carry
    k, gumbel = step
    clock = jnp.where(free, jnp.log(jnp.maximum(rest, jnp.float32(1e-12))) + gumbel, -jnp.inf)
    i = jnp.argmax(clock).astype(jnp.int32)
    column = projection[:, i] - jnp.matmul(factor, factor[i], precision='highest')
    column = column / jnp.sqrt(jnp.maximum(rest[i], jnp.float32(1e-12)))
    rest = jnp.maximum(rest - column**2, 0)
    return (rest, factor.at[:, k].set(column), free.at[i].set(False)), i

  gumbels = jax.random.gumbel(place_key, (size, count), jnp.float32)
  start = jnp.diag(projection), jnp.zeros((count, size), jnp.float32), jnp.ones(count, bool)
  return jax.lax.scan(draw, start, (jnp.arange(size, dtype=jnp.int32), gumbels))[1]


def dpp(
  spec: Spec,
  budget: Budget | float,
  features: Needed = None,
  labels: Needed = None,
  *,
  balance: float = 0.5,
  ridge: float = 0.1,
  pool: int = 4,
) -> Selector:
  """Each batch is a determinantal point process: sets of unlike samples are likelier.

  Of a pool of candidates for each row; the kernel is the Gram matrix of [(1-a) f, a y], features
  of unit length beside one-hot classes. Batches are not weighed: they lean towards rare samples.
  Which eigenvectors stand for equal eigenvalues turns on the last bit, so that processors of
  another kind draw other batches from the same key; the law is the same.

  Args:
    spec: sizes of the run.
    budget: B; floor(N*B) samples an epoch.
    features: f32[N,D].
    labels: i32[N].
    balance: a, the weight of classes beside features.
    ridge: added to the kernel's diagonal, so that a batch may be larger than the features are
      many; large is uniform sampling.
    pool: candidates for each place of a batch.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the run for
      the features alone uses up.
  """
  if not 0 <= balance <= 1 or not 0 < ridge < float('inf'):
    raise ValueError(f'balance={balance} must be in [0, 1], ridge={ridge} positive')
  facts, candidates = begin(spec, budget, pool, features, 'dpp')

  def init(key):
    del key
    if features is None or labels is None:
      raise ValueError('dpp cannot start without features and labels')
    feature = jnp.asarray(features, jnp.float32)
    length = jnp.linalg.norm(feature, axis=1, keepdims=True)
    feature = feature / jnp.maximum(length, jnp.float32(1e-12))
    one_hot = jax.nn.one_hot(jnp.asarray(labels, jnp.int32), spec.num_classes, dtype=jnp.float32)
    return jnp.concatenate([(1 - balance) * feature, balance * one_hot], axis=1)

  def plan(feature, key, epoch):
    del epoch
    pool_key, row_key = jax.random.split(key)
    every = jnp.full(facts.rows, spec.num_examples, jnp.int32)
    pools = distinct_rows(pool_key, every, candidates)

    def row(given):
      own_key, index = given
      own = feature[index]
      alike = jnp.matmul(own, own.T, precision='highest')
      kernel = alike + jnp.float32(ridge) * jnp.eye(candidates, dtype=jnp.float32)
      return index[k_dpp(own_key, kernel, facts.candidates)]

    index = jax.lax.map(row, (jax.random.split(row_key, facts.rows), pools))
    return feature, as_plan(index.ravel(), facts.rows, facts.candidates, padded_rows(spec))

  return Selector(facts, init, plan)


dpp.needs = needs
