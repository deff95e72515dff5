"""Curricula: easy samples first, then more and more of them.

Hacohen and Weinshall, `On The Power of Curriculum Learning in Training Deep Networks
<https://arxiv.org/abs/1904.03626>`_, 2019; the pacing functions of Wu, Dyer and Neyshabur, `When Do
Curricula Work? <https://arxiv.org/abs/2012.03107>`_, 2021.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.sampling import distinct_rows, shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import LABELS, Facts, Need, Needed, Plan, Selector, Spec

ORDERS = ('curriculum', 'anti', 'random')
_WU = ('linear', 'quadratic', 'root', 'step', 'exponential', 'logarithmic')
# By pacing function: share of the data at the start, and lengths as shares of the run's rows.
DEFAULTS = {
  'fixed_exponential': (0.04, (100 / 3500,)),
  'varied_exponential': (0.0878, tuple(n / 3500 for n in (100, 400, 30, 80, 300, 250))),
  'single_step': (0.28, (1400 / 3500,)),
  **dict.fromkeys(_WU, (0.2, (0.8,))),
}
_FACTORS = {'fixed_exponential': 1.9, 'varied_exponential': 1.5}


def pace(
  pacing: str, row: jax.Array, start: float, lengths: tuple[int, ...], factor: float
) -> jax.Array:
  """What share of the data, easiest first, a row may draw from.

  Args:
    pacing: a key of `DEFAULTS`.
    row: i32[R], rows of the run, from 0.
    start: a of the exponentials and the single step, b of Wu et al.
    lengths: in rows: of each step of an exponential; until everything is seen.
    factor: c, by which an exponential grows with each step.

  Returns:
    f32[R] in (0, 1].
  """
  z = row.astype(jnp.float32) / jnp.float32(lengths[0])
  b, rest = jnp.float32(start), jnp.float32(1 - start)
  ends = [jnp.int32(end) for end in itertools.accumulate(lengths)]
  if pacing == 'fixed_exponential':
    share = b * jnp.float32(factor) ** (row // lengths[0]).astype(jnp.float32)
  elif pacing == 'varied_exponential':
    share = b * jnp.float32(factor) ** sum((row > end).astype(jnp.float32) for end in ends)
  elif pacing == 'single_step':
    share = jnp.where(row > ends[0], jnp.float32(1), b)
  elif pacing == 'step':
    share = jnp.full(row.shape, b)
  elif pacing == 'exponential':
    share = b + rest * jnp.expm1(10 * jnp.minimum(z, 1)) / jnp.expm1(jnp.float32(10))
  elif pacing == 'logarithmic':
    share = b + rest * (1 + jnp.log(z + jnp.exp(jnp.float32(-10))) / 10)
  else:
    share = b + rest * z ** {'linear': 1.0, 'quadratic': 2.0, 'root': 0.5}[pacing]
  if pacing in _WU:
    # By whole rows: z, compiled to a product with 1/length, may be less than 1 at its end.
    share = jnp.where(row < lengths[0], share, jnp.float32(1))
  return jnp.minimum(share, 1)


def samples_of(count: int, share: jax.Array) -> jax.Array:
  """How many samples a share of them is, rounded up.

  Args:
    count: N.
    share: f32[...] in [0, 1].

  Returns:
    i32[...].
  """
  # A whole number may come out a little above itself: 0.09 of 5,000 is 450.
  samples = jnp.float32(count) * share * jnp.float32(1 - 2**-22)
  return jnp.minimum(jnp.ceil(samples).astype(jnp.int32), count)


def easiest_first(key: jax.Array, loss: jax.Array, labels: jax.Array | None, anti: bool):
  """Orders samples by rising loss, equal ones at random.

  Args:
    key: a typed key.
    loss: f32[N].
    labels: i32[N]; the easiest of every class come first, then the second easiest of every
      class, and so on, classes of unequal size in proportion. None: all by their loss.
    anti: hardest first.

  Returns:
    i32[N].
  """
  tie = jax.random.bits(key, loss.shape, jnp.uint32)
  loss = -loss if anti else loss
  if labels is None:
    return jnp.lexsort((tie, loss)).astype(jnp.int32)
  count = loss.shape[0]
  by_class = jnp.lexsort((tie, loss, labels))
  place = jnp.zeros(count, jnp.int32).at[by_class].set(jnp.arange(count, dtype=jnp.int32))
  # Where a class begins and ends, by searching: its number may be more than there are samples.
  begins, ends = (
    jnp.searchsorted(labels[by_class], labels, side=side).astype(jnp.int32)
    for side in ('left', 'right')
  )
  rank = (place - begins).astype(jnp.float32)
  level = (rank + jnp.float32(0.5)) / (ends - begins).astype(jnp.float32)
  return jnp.lexsort((tie, loss, level)).astype(jnp.int32)


def paced_plan(
  key: jax.Array, order: jax.Array, seen: jax.Array, facts: Facts, padded: int
) -> Plan:
  """Rows of s samples, each without replacement from the first of an order.

  Args:
    key: a typed key.
    order: i32[N].
    seen: i32[rows], how many of the order each row may draw from.
    facts: of the method.
    padded: rows of the plan.

  Returns:
    A plan.
  """
  size = facts.candidates
  place = distinct_rows(key, jnp.maximum(seen, size), size)
  return as_plan(order[place].ravel(), facts.rows, size, padded)


def curriculum(
  spec: Spec,
  budget: Budget | float,
  loss: Needed = None,
  labels: Needed = None,
  *,
  order: Literal['curriculum', 'anti', 'random'] = 'curriculum',
  pacing: Literal[
    'fixed_exponential',
    'varied_exponential',
    'single_step',
    'linear',
    'quadratic',
    'root',
    'step',
    'exponential',
    'logarithmic',
  ] = 'fixed_exponential',
  start: float | None = None,
  lengths: tuple[float, ...] | None = None,
  factor: float | None = None,
  balanced: bool = True,
) -> Selector:
  """Each batch is drawn from the easiest samples so far: a share that grows with the rows.

  Easy is a low loss of a net that was trained on the same data before (self-taught; the
  published transfer scores come of another network's features). Batches are independent: there
  are no epochs in which everybody comes once.

  Args:
    spec: sizes of the run.
    budget: B; floor(N*B) samples an epoch.
    loss: f32[N], what the scoring run thinks of each sample; not for `order='random'`.
    labels: i32[N], if `balanced`.
    order: `curriculum`, `anti` (hardest first) or `random` (an order of the run's own).
    pacing: `fixed_exponential`, `varied_exponential` or `single_step`; of Wu et al. `linear`,
      `quadratic`, `root`, `step`, `exponential` or `logarithmic`.
    start: share of the data to begin with; None: 0.04, 0.0878, 0.28 and for Wu et al. 0.2.
    lengths: of the steps, as shares of the run's rows, one or for `varied_exponential` several;
      of Wu et al. one, until all data are seen. None: those of the authors' scripts.
    factor: by which an exponential grows with each step; None: 1.9, or 1.5 if varied.
    balanced: classes share every prefix of the order evenly.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the scoring
      run alone uses up.
  """
  registry.check('order', order, ORDERS)
  registry.check('pacing', pacing, DEFAULTS)
  start = DEFAULTS[pacing][0] if start is None else start
  lengths = DEFAULTS[pacing][1] if lengths is None else lengths
  factor = _FACTORS.get(pacing, 1.0) if factor is None else factor
  _refuse(pacing, start, lengths, factor)
  facts = plain_facts(spec, spec.epochs, ledger.trainable(spec, budget, 0, 'curriculum'))
  even = order == 'random' or loss is None or bool(np.ptp(loss) == 0)
  asks = ('probabilities',) if balanced and order != 'random' else ()  # there are classes
  facts = facts._replace(distinct=False, uniform_on_ties=even, asks=asks)
  total = facts.epochs * facts.rows
  steps = tuple(max(1, round(length * total)) for length in lengths)

  def init(key):
    if order == 'random':
      return shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    if loss is None or (balanced and labels is None):
      raise ValueError(f'curriculum with order={order!r} cannot start without losses and labels')
    classes = jnp.asarray(labels, jnp.int32) if balanced else None
    return easiest_first(key, jnp.asarray(loss, jnp.float32), classes, order == 'anti')

  def plan(order, key, epoch):
    row = epoch * facts.rows + jnp.arange(facts.rows, dtype=jnp.int32)
    share = pace(pacing, row, start, steps, factor)
    seen = samples_of(spec.num_examples, share)
    padded = spec.num_examples // facts.candidates
    return order, paced_plan(key, order, seen, facts, padded)

  return Selector(facts, init, plan)


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  """A full run, and the classes."""
  if options['order'] == 'random':
    return ()
  return (Need('loss', 'loss'), *((LABELS,) if options['balanced'] else ()))


curriculum.needs = _needs


def _refuse(pacing, start, lengths, factor):
  if not 0 < start <= 1:
    raise ValueError(f'start={start} must be in (0, 1], a share of the data')
  if not lengths or not all(0 < length <= 1 for length in lengths):
    raise ValueError(f'lengths={lengths} must be shares of the run in (0, 1]')
  if len(lengths) > 1 and pacing != 'varied_exponential':
    raise ValueError(f'lengths={lengths}: {pacing} takes one length only')
  if not 1 <= factor < float('inf'):
    raise ValueError(f'factor={factor} must be 1 or more')
