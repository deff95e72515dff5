"""Random orders and draws of samples: every method that draws does it by these.

Words of 64 bits are used inside functions only; what goes in and comes out is of 32 bits, so
that callers need not know (`jax_enable_x64` stays as it is).
"""

import jax
import jax.numpy as jnp

from jaxbudget.types import Key

_TINY = 1e-10  # stands in for probability zero when a draw would be infeasible
_SUM_BITS = 62  # of a table of cumulative weights: the sum is less than 2^62


def sort_by(word: jax.Array, index: jax.Array) -> jax.Array:
  """Sorts indices by 32-bit words.

  As one sort of 64-bit integers, each a word and its index: on CPU that is 4 times as fast
  as sorting pairs, for which XLA has no kernel of its own (docs/performance.md).

  Args:
    word: u32[n].
    index: i32[n], not negative.

  Returns:
    i32[n], by rising word, equal words by rising index.
  """
  with jax.enable_x64(True):
    high = jax.lax.shift_left(word.astype(jnp.uint64), jnp.uint64(32))
    return jax.lax.sort(high | index.astype(jnp.uint64), is_stable=False).astype(jnp.int32)


def shuffle(key: Key, index: jax.Array) -> jax.Array:
  """Shuffles by one sort of random words (`jax.random.permutation` sorts several times).

  Args:
    key: a typed key.
    index: i32[n], not negative.

  Returns:
    i32[n], in random order.
  """
  return sort_by(jax.random.bits(key, index.shape, jnp.uint32), index)


def present_first(weight: jax.Array, by: jax.Array | None = None) -> jax.Array:
  """Orders the candidates of a row; who is not there, of weight 0, comes last.

  Args:
    weight: f32[n], `Batch.weight`.
    by: f32[n], by which the order rises, NaN last; None leaves it as it is.

  Returns:
    i32[n], positions; of equals the first comes first.
  """
  absent = weight <= 0
  return jnp.lexsort((absent,) if by is None else (by, absent)).astype(jnp.int32)


def draw(key: Key, weight: jax.Array, samples: int, replacement: bool = False) -> jax.Array:
  """Draws samples with probability proportional to weight, in uniformly random order.

  Without replacement this is successive (Plackett-Luce) sampling, the law of NumPy's
  `choice(replace=False, p=p)`, by Gumbel top-k (fidelity.md 2.4). With replacement it is the
  inverse of the cumulative weights, exact to 2^-61 (see `cumulative`).

  Args:
    key: a typed key.
    weight: f32[N], non-negative; all zero means uniform. What is not finite, as the loss of a
      sample on which a run diverges, weighs as much as the heaviest that is.
    samples: n, draws.
    replacement: draw independently, so that a sample may come twice.

  Returns:
    i32[n].
  """
  draw_key, order_key = jax.random.split(key)
  weight = _finite(weight.astype(jnp.float32))
  weight = jnp.where(jnp.any(weight > 0), weight, jnp.float32(1))
  if replacement:
    point = jax.random.bits(draw_key, (2, samples), jnp.uint32)
    return at_points(cumulative(weight), point)
  index = jnp.arange(weight.shape[0], dtype=jnp.int32)
  infeasible = jnp.sum(weight > 0, dtype=jnp.int32) < samples
  floor = jnp.where(infeasible, jnp.log(jnp.float32(_TINY)), -jnp.inf)
  log_weight = jnp.where(weight > 0, jnp.log(weight / jnp.sum(weight)), floor)
  clock = log_weight + jax.random.gumbel(draw_key, weight.shape, jnp.float32)
  chosen = sort_by(~_rising_word(clock), index)[:samples]
  return shuffle(order_key, chosen)


def _finite(weight):
  """Weights with the largest finite one in place of what is not: NaN would spoil every chance."""
  known = jnp.isfinite(weight)
  return jnp.where(known, weight, jnp.max(jnp.where(known, weight, 0)))


def _rising_word(x):
  """Maps f32 to u32 so that the order stays: IEEE numbers sort like sign and magnitude."""
  word = jax.lax.bitcast_convert_type(x, jnp.uint32)
  sign = jnp.uint32(1 << 31)
  return jnp.where(word < sign, word | sign, ~word)


def cumulative(weight: jax.Array) -> jax.Array:
  """Cumulative weights in fixed point: float32 sums would leave samples out of their turn.

  With total Q, the last entry, a sample of weight w of W in sum has a share of Q within
  (1 + N w/W) / Q of w/W; Q is at least 2^61 less N. Who has weight has a share, who has none
  has none.

  Args:
    weight: f32[N], finite and non-negative, not all zero; N < 2^31.

  Returns:
    u64[N], for use under `jax.enable_x64(True)` only.
  """
  count = weight.shape[0]
  with jax.enable_x64(True):
    word = jax.lax.bitcast_convert_type(weight, jnp.uint32) & jnp.uint32(0x7FFFFFFF)
    exponent, fraction = word >> 23, word & jnp.uint32(0x7FFFFF)
    mantissa = jnp.where(exponent > 0, fraction | jnp.uint32(1 << 23), fraction)
    mantissa, exponent = mantissa.astype(jnp.uint64), jnp.maximum(exponent, 1).astype(jnp.int32)

    def fixed_point(unit):  # mantissa * 2^(exponent - unit), rounded up
      shift = exponent - unit
      left, right = (jnp.clip(s, 0, 63).astype(jnp.uint64) for s in (shift, -shift))
      up = (mantissa + (jnp.uint64(1) << right) - jnp.uint64(1)) >> right
      return jnp.where(shift < 0, up, mantissa << left)

    # Such a unit that the sum would fit if all were as heavy as the heaviest; from the sum
    # there is, the unit that makes the most of the bits.
    unit = jnp.max(exponent) - (_SUM_BITS - 24 - count.bit_length())
    high = (jnp.sum(fixed_point(unit)) >> 32).astype(jnp.uint32)
    unit = unit - (jax.lax.clz(high).astype(jnp.int32) - (64 - _SUM_BITS))
    # Not `jnp.cumsum`: that is a window reduction, which TPUs have no 64-bit form of.
    return jax.lax.associative_scan(jnp.add, fixed_point(unit))


def at_points(table: jax.Array, point: jax.Array) -> jax.Array:
  """The samples at points of the cumulative weights: the one inverse-CDF of all samplers.

  Args:
    table: u64[N] of `cumulative`.
    point: u32[2,n], high and low word of points in units of 2^-64 of the total.

  Returns:
    i32[n]: the first sample whose cumulative weight is above floor(point * total / 2^64).
  """
  with jax.enable_x64(True):
    # The upper half of a product of 128 bits, digit by digit of 32.
    (a1, a0), total, low = point.astype(jnp.uint64), table[-1], jnp.uint64(2**32 - 1)
    b1, b0 = total >> 32, total & low
    first = a1 * b0 + (a0 * b0 >> 32)
    second = a0 * b1 + (first & low)
    place = a1 * b1 + (first >> 32) + (second >> 32)
    return jnp.searchsorted(table, place, side='right').astype(jnp.int32)


def inclusion(weight: jax.Array, samples: int) -> jax.Array:
  """Probabilities of being among n distinct samples, in proportion to weight as far as that goes.

  Who would have more than 1 has 1, and the others share the rest, until nobody has more. Nobody has
  less than a millionth of the largest weight, so that inverse probabilities are finite.

  Args:
    weight: f32[N], non-negative; all zero means equal. What is not finite weighs as much as the
      heaviest that is.
    samples: n <= N.

  Returns:
    f32[N] in (0, 1]; their sum is n but for rounding.
  """
  weight = _finite(weight)
  if samples == weight.shape[0]:  # rounding would leave the last ones a little less
    return jnp.ones_like(weight)
  weight = jnp.where(jnp.any(weight > 0), weight, jnp.ones_like(weight))
  weight = jnp.maximum(weight / jnp.max(weight), jnp.float32(1e-6))
  chance = jnp.float32(samples) * weight / jnp.sum(weight)

  def capped(chance):
    full = chance >= 1
    free = jnp.where(full, jnp.float32(0), chance)
    room = jnp.float32(samples) - jnp.sum(full.astype(jnp.float32))
    total = jnp.sum(free)
    return jnp.where(full, jnp.float32(1), free * room / jnp.where(total > 0, total, 1))

  for _ in range(5):  # which is nearly always enough, and waits for nobody
    chance = capped(chance)
  return jax.lax.while_loop(lambda chance: jnp.any(chance > 1), capped, chance)


def systematic(key: Key, weight: jax.Array, samples: int) -> tuple[jax.Array, jax.Array]:
  """Draws n distinct samples whose chances to be drawn are known exactly (Madow 1949).

  The samples stand in random order, each as long as its chance; a comb of n teeth falls on them.

  Args:
    key: a typed key.
    weight: f32[N], see `inclusion`.
    samples: n <= N.

  Returns:
    (i32[n], distinct and in random order; f32[N], for each sample the chance to be drawn).
  """
  place_key, comb_key, order_key = jax.random.split(key, 3)
  count = weight.shape[0]
  order = shuffle(place_key, jnp.arange(count, dtype=jnp.int32))
  chance = inclusion(weight, samples)
  table = cumulative(chance[order])
  start = jax.random.bits(comb_key, (2,), jnp.uint32)
  with jax.enable_x64(True):
    gap = (2**64 - 1) // samples
    high, low = start.astype(jnp.uint64) * jnp.uint64(gap >> 32)
    offset = high + (low >> 32)  # uniform in [0, gap), in steps of 2^-64 of it or more
    tooth = jnp.arange(samples, dtype=jnp.uint64) * jnp.uint64(gap) + offset
    point = jnp.stack([tooth >> 32, tooth & jnp.uint64(2**32 - 1)]).astype(jnp.uint32)
  place = at_points(table, point)
  # Rounding can let two teeth fall on one sample of chance 1: then the second takes the next.
  rank = jnp.arange(samples, dtype=jnp.int32)
  place = jnp.minimum(jax.lax.cummax(place - rank) + rank, count - samples + rank)
  return shuffle(order_key, order[place]), chance


def distinct_rows(key: Key, below: jax.Array, size: int) -> jax.Array:
  """Draws rows of distinct numbers, each row uniform among the sets of its size (Floyd's rule).

  Uniform as a set only: the last `size` - k numbers never stand among the first k places. Who
  takes a part of a row, or its order, shuffles it.

  Args:
    key: a typed key.
    below: i32[R], row r draws from [0, below[r]); at least `size`.
    size: s.

  Returns:
    i32[R,s].
  """
  place = jnp.arange(size, dtype=jnp.int32)[None]
  last = below[:, None] - size + place
  tried = jax.random.randint(key, last.shape, 0, last + 1, jnp.int32)

  def take(k, chosen):
    wanted = tried[:, k]
    taken = jnp.any((chosen == wanted[:, None]) & (place < k), axis=1)
    return chosen.at[:, k].set(jnp.where(taken, last[:, k], wanted))

  return jax.lax.fori_loop(0, size, take, jnp.zeros_like(last))
