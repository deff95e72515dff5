"""Scores by where samples lie among the others: features of a trained model, Euclidean."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.sampling import shuffle
from jaxbudget.types import Key

_READ = 2**33  # bytes of features that a call reads, about a second's work for a CPU


def kcenter_order(
  features: jax.Array,
  key: Key,
  samples: int,
  initial: int | None = None,
  between: Callable[[], None] = lambda: None,
) -> jax.Array:
  """Greedy k-centre: the next centre is the sample farthest from all centres so far.

  Coleman et al., `Selection via Proxy <https://arxiv.org/abs/1906.11829>`_, 2020, after Sener and
  Savarese, 2018.

  Args:
    features: f32[N,D]; distances are Euclidean.
    key: a typed key.
    samples: k <= N, centres to find.
    initial: centres drawn at random before the greedy ones; None: a fiftieth of the samples, the
      1000 of 50,000 of the paper.
    between: called between calls to the device; may raise to stop.

  Returns:
    i32[k], distinct, in the order found.
  """
  count = features.shape[0]
  initial = max(1, count // 50) if initial is None else initial
  first = shuffle(key, jnp.arange(count, dtype=jnp.int32))
  order = jnp.zeros(samples, jnp.int32)
  distance = jnp.full(count, jnp.inf, jnp.float32)
  step = max(1, _READ // features.nbytes)
  for start in range(0, samples, step):
    place = jnp.int32(start), jnp.int32(min(start + step, samples))
    order, distance = _add_centres(features, first, order, distance, jnp.int32(initial), *place)
    jax.block_until_ready(order)
    between()
  return order


@jax.jit
def _add_centres(features, first, order, distance, initial, start, stop):
  """Finds the centres from `start` on and before `stop`."""

  def add(k, carry):
    order, distance = carry
    farthest = jnp.argmax(distance).astype(jnp.int32)
    centre = jnp.where(k < initial, first[k], farthest)
    squared = jnp.sum((features - features[centre][None, :]) ** 2, axis=-1)
    # -1: a centre is never found again, not even among copies of itself.
    distance = jnp.minimum(distance, squared).at[centre].set(-1)
    return order.at[k].set(centre), distance

  return jax.lax.fori_loop(start, stop, add, (order, distance))


def moderate(features: np.ndarray, label: np.ndarray) -> np.ndarray:
  """Distance to the median of the sample's class, coordinate by coordinate.

  Xia et al., `Moderate Coreset <https://openreview.net/forum?id=7D5EECbOaf9>`_, 2023, keeps
  the middle of these.

  Args:
    features: f32[N,D].
    label: i32[N].

  Returns:
    f32[N].
  """
  features, label = np.asarray(features), np.asarray(label)
  distance = np.zeros(len(label), np.float32)
  for c in np.unique(label):
    own = features[label == c]
    distance[label == c] = np.linalg.norm(own - np.median(own, axis=0), axis=-1)
  return distance


@functools.partial(jax.jit, static_argnums=1)
def herding_order(features: jax.Array, samples: int) -> jax.Array:
  """Herding: the next sample keeps the mean of the chosen nearest to the mean of all.

  Rebuffi et al., `iCaRL <https://arxiv.org/abs/1611.07725>`_, 2017: with i samples chosen, the
  next is argmin_x ||(i+1) mu - sum(chosen) - x||.

  Args:
    features: f32[n,D], of one class.
    samples: k <= n.

  Returns:
    i32[k], distinct, in the order found.
  """
  mean = jnp.mean(features, axis=0)
  square = jnp.sum(features**2, axis=-1)

  def add(k, carry):
    order, wanted, taken = carry
    wanted = wanted + mean  # (i+1) mu - sum(chosen)
    along = jnp.matmul(features, wanted, precision='highest')
    # ||wanted - x||^2 without the part that is equal for all.
    away = jnp.where(taken, jnp.inf, square - 2 * along)
    found = jnp.argmin(away).astype(jnp.int32)
    return order.at[k].set(found), wanted - features[found], taken.at[found].set(True)

  start = jnp.zeros(samples, jnp.int32), jnp.zeros_like(mean), jnp.zeros(len(features), bool)
  return jax.lax.fori_loop(0, samples, add, start)[0]


def herding(features: np.ndarray, label: np.ndarray, samples: int) -> np.ndarray:
  """Scores by the rank in the herding order of the sample's class.

  Args:
    features: f32[N,D].
    label: i32[N].
    samples: that will be kept of all at most.

  Returns:
    f32[N]: 1 - (rank + 1/2)/n for rank r of n in the class, so that the highest of all classes
    together are the first of each in proportion; 0 from rank `samples` on.
  """
  label = np.asarray(label)
  score = np.zeros(len(label), np.float32)
  for c in np.unique(label):
    own = np.flatnonzero(label == c)
    order = herding_order(jnp.asarray(features[own]), min(samples, len(own)))
    score[own[np.asarray(order)]] = 1 - (np.arange(len(order)) + 0.5) / len(own)
  return score
