"""Active Bias: sampling or weighting by what predictions of a sample were like so far.

Chang, Learned-Miller and McCallum, `Active Bias: Training More Accurate Neural Networks by
Emphasizing High Variance Samples <https://arxiv.org/abs/1704.07433>`_, 2017. Its SD and STC are
`p_sgd` and `c_sgd`.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Selector, Spec, take_all

SAMPLING = ('sd', 'se', 'spv', 'stc')
WEIGHTING = ('wd', 'we', 'wpv', 'wtc')
FORMS = (*SAMPLING, 'isd', *WEIGHTING)
_TWICE = 2 - 1e-3  # the shares of a sample in two rounds of pictures may add up to an ulp less


class History(NamedTuple):
  """Predictions of the true class so far: 12 bytes a sample."""

  seen: jax.Array  # f32[N]  times, or shares of pictures
  mean: jax.Array  # f32[N]  of p(true)
  square: jax.Array  # f32[N]  sum of squared deviations from the mean
  even: jax.Array  # bool[]  this epoch is of the warmup: everybody weighs the same


def enter(state: History, batch, outputs) -> History:
  """Takes note of a batch: means and squares merge by shares (Chan et al.), in any order."""
  value = 1 - scores.difficulty(outputs, batch.part_label)
  share = batch.part_share * (batch.weight > 0).astype(jnp.float32)[:, None]
  index, value, share = batch.part_index.ravel(), value.ravel(), share.ravel()
  nothing = jnp.zeros_like(state.seen)
  count = nothing.at[index].add(share)
  some = jnp.where(count > 0, count, jnp.float32(1))
  mean = nothing.at[index].add(share * value) / some
  square = nothing.at[index].add(share * (value - mean[index]) ** 2)
  total = state.seen + count
  step = mean - state.mean
  part = jnp.where(total > 0, count / jnp.where(total > 0, total, jnp.float32(1)), jnp.float32(0))
  return state._replace(
    seen=total,
    mean=state.mean + part * step,
    square=state.square + square + state.seen * part * step**2,
  )


def statistic(state: History, form: str) -> jax.Array:
  """What a form goes by, with its mean over the set added.

  Args:
    state: the history.
    form: `sd` 1 - m, `se` m, `spv` the standard deviation of p(true) and of its estimate,
      sqrt(v + v^2/(k-1)), `stc` m(1-m).

  Returns:
    f32[N]; a sample that was not seen has the largest value of those that were.
  """
  seen = state.seen > 0
  m = state.mean
  if form == 'sd':
    value = 1 - m
  elif form == 'se':
    value = m
  elif form == 'stc':
    value = m * (1 - m)
  else:
    variance = state.square / jnp.where(seen, state.seen, jnp.float32(1))
    again = variance**2 / jnp.maximum(state.seen - 1, jnp.float32(1))
    value = jnp.where(state.seen >= _TWICE, jnp.sqrt(variance + again), jnp.float32(0))
  value = jnp.where(seen, value, jnp.max(jnp.where(seen, value, jnp.float32(0))))
  return value + jnp.mean(value)


@functools.cache
def weigh_by(form: str):
  """`select` of the weighting forms: weights of mean 1 in every batch, uniform samples."""

  def select(state, key, batch, forward):
    del key, forward
    value = jnp.sum(batch.part_share * statistic(state, form)[batch.part_index], axis=1)
    real = (batch.weight > 0).astype(jnp.float32)
    mean = jnp.sum(real * value) / jnp.maximum(jnp.sum(real), 1)
    # All 0, before anything is seen: everybody weighs the same.
    weighs = (mean > 0) & ~state.even
    weight = jnp.where(weighs, value / jnp.where(weighs, mean, jnp.float32(1)), jnp.float32(1))
    # A sample of value 0 is passed over by weight, but it is in the batch.
    weight = jnp.maximum(weight, jnp.float32(1e-6))
    return state, batch._replace(weight=batch.weight * weight), {'scored': jnp.int32(0)}

  return select


def active_bias(
  spec: Spec,
  budget: Budget | float,
  *,
  form: Literal['sd', 'se', 'spv', 'stc', 'isd', 'wd', 'we', 'wpv', 'wtc'] = 'spv',
  warmup: int = 0,
  replacement: bool = False,
  weights: Literal['none', 'inverse'] = 'none',
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) samples an epoch, drawn or weighed by the history of their predictions.

  Args:
    spec: sizes of the run.
    budget: B.
    form: draws by 1 - m (`sd`), m (`se`), the spread of p(true) (`spv`) or m(1-m) (`stc`), with
      m the mean of p(true); `isd` draws as `sd`, with replacement, and weighs by the inverse; `wd
      we wpv wtc` draw uniformly and weigh by the same.
    warmup: epochs of uniform sampling first, in which the forms that weigh weigh nothing.
    replacement: draw with replacement; `isd` does.
    weights: `inverse` makes the mean loss unbiased, see `table.weighted`; `isd` has it.
    mix: share of the statistic in the chances; the rest is uniform. Of the forms that draw.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('form', form, FORMS)
  if warmup < 0:
    raise ValueError(f'warmup must be 0 or more epochs, got {warmup}')
  table.check(weights, mix)
  weighs = form in WEIGHTING
  if weighs and (replacement or weights != 'none' or mix != 1):
    raise ValueError(
      f'form={form!r} draws uniformly: replacement, weights and mix are of the others'
    )
  samples = ledger.share(spec.num_examples, budget)
  weights, replacement = ('inverse', True) if form == 'isd' else (weights, replacement)
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(distinct=not replacement, asks=('probabilities',))
  kind = dict(zip(WEIGHTING, SAMPLING, strict=True)).get(form, 'sd' if form == 'isd' else form)
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    blank = (jnp.zeros(spec.num_examples, jnp.float32) for _ in range(3))
    return History(*blank, even=jnp.array(False))

  def plan(state, key, epoch):
    state = state._replace(even=epoch < warmup)
    value = statistic(state, kind)
    even = state.even | ~jnp.any(value > 0)
    value = jnp.where(even | weighs, jnp.ones_like(value), value)
    if weighs:
      everyone = jnp.arange(spec.num_examples, dtype=jnp.int32)
      return state, as_plan(shuffle(key, everyone), facts.rows, facts.candidates, padded)
    index, weight = table.weighted(key, value, samples, weights, replacement, mix)
    return state, as_plan(index, facts.rows, facts.candidates, padded, weight)

  select = weigh_by(kind) if weighs else take_all
  return Selector(facts, init, plan, select=select, update=enter, report=_report)


def _report(state):
  count = jnp.maximum(jnp.count_nonzero(state.seen > 0), 1).astype(jnp.float32)
  return {'mean_probability': jnp.sum(state.mean) / count}
