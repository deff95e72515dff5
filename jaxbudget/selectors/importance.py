"""p-SGD and c-SGD: sampling by difficulty and by uncertainty (Chang et al. 2017).

The importance of a sample is the running mean of 1 - p(true label) over the times it was
trained on, taken from the very forward pass of the step (fidelity.md 2.4, 2.5).
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts, unif_sgd
from jaxbudget.selectors.wrappers import warm_up
from jaxbudget.types import Selector, Spec


class Importance(NamedTuple):
  """Per-sample memory: 8 bytes a sample."""

  total: jax.Array  # f32[N]  sum of credited difficulties
  seen: jax.Array  # f32[N]  sum of credits: the times a sample was seen


def running_mean(state: Importance) -> tuple[jax.Array, jax.Array]:
  """Mean importance a = total / seen.

  Args:
    state: the per-sample memory.

  Returns:
    (a f32[N], 0 where unseen; seen bool[N]).
  """
  seen = state.seen > 0
  return state.total / jnp.where(seen, state.seen, jnp.float32(1)), seen


@functools.cache
def importance_update(average: bool, credit: str):
  """Feedback of a step; the same function object for all budgets.

  Args:
    average: keep the mean over all times seen; False: the latest batch only, the mean
      over the sample's occurrences in it.
    credit: see `scores.credited`.

  Returns:
    A selector's `update` hook.
  """

  def update(state, batch, outputs):
    index, value, share = scores.credited(batch, outputs, credit)
    total, seen = state
    if not average:
      # Out-of-range entries are dropped, so that padding forgets nothing.
      stale = jnp.where(share > 0, index, total.shape[0])
      total, seen = (x.at[stale].set(0, mode='drop') for x in (total, seen))
    # Scatter-add: an id that occurs twice in a batch counts twice.
    return Importance(total.at[index].add(share * value), seen.at[index].add(share))

  return update


def p_weights(state: Importance, smoothing: bool = True) -> jax.Array:
  """Sampling weights of p-SGD: a, unseen samples as the hardest, plus the mean.

  Args:
    state: the per-sample memory.
    smoothing: add eps = mean weight.

  Returns:
    f32[N], not normalised.
  """
  a, seen = running_mean(state)
  weight = jnp.where(seen, a, _hardest(a, seen))
  return _smoothed(weight) if smoothing else weight


def c_weights(state: Importance, smoothing: bool = True, unseen: str = 'max_c') -> jax.Array:
  """Sampling weights of c-SGD: a(1-a) after filling the unseen, plus the mean.

  Args:
    state: the per-sample memory.
    smoothing: add eps = mean weight.
    unseen: `code` fills a with the largest a before a(1-a) (so the unseen come last);
      `max_c` gives the unseen the largest a(1-a) (fidelity.md D4).

  Returns:
    f32[N], not normalised; all zero while nobody has been seen, which `draw` takes as
    uniform.
  """
  a, seen = running_mean(state)
  if unseen == 'code':
    filled = jnp.where(seen, a, _hardest(a, seen))
    weight = filled * (1 - filled)
  else:
    c = a * (1 - a)
    weight = jnp.where(seen, c, jnp.max(jnp.where(seen, c, jnp.float32(0))))
  return _smoothed(weight) if smoothing else weight


def _smoothed(weight):
  return weight + jnp.mean(weight)


def _hardest(a, seen):
  """The largest importance seen; 1 while nobody has been seen."""
  return jnp.where(jnp.any(seen), jnp.max(a), jnp.float32(1))


def _sampler(spec, budget, value, warmup, average, replacement, credit, weights, mix):
  """What p_sgd and c_sgd share: everything but `value: state -> f32[N]`."""
  registry.check('credit', credit, scores.CREDITS)
  table.check(weights, mix)
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(distinct=not replacement, asks=('probabilities',))
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    return Importance(*(jnp.zeros(spec.num_examples, jnp.float32) for _ in range(2)))

  def plan(state, key, epoch):
    del epoch
    index, weight = table.weighted(key, value(state), samples, weights, replacement, mix)
    return state, as_plan(index, facts.rows, facts.candidates, padded, weight)

  update = importance_update(average, credit)
  selector = Selector(facts, init, plan, update=update, report=report)
  return warm_up(selector, unif_sgd(spec, budget), warmup)


def report(state: Importance) -> dict[str, jax.Array]:
  """Figures for the metrics line: mean importance of the seen, share of samples seen."""
  a, seen = running_mean(state)
  count = jnp.maximum(jnp.count_nonzero(seen), 1).astype(jnp.float32)
  return {
    'mean_importance': jnp.sum(a) / count,
    'seen': jnp.mean(seen.astype(jnp.float32)),
  }


def p_sgd(
  spec: Spec,
  budget: Budget | float,
  *,
  warmup: int = 0,
  average: bool = True,
  smoothing: bool = True,
  replacement: bool = False,
  credit: Literal['aligned', 'first'] = 'aligned',
  weights: Literal['none', 'inverse'] = 'none',
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) samples an epoch, drawn by difficulty (fidelity.md 2.4).

  Args:
    spec: sizes of the run.
    budget: B.
    warmup: epochs of uniform sampling first.
    average: importance is the mean over the times seen; False: the latest.
    smoothing: add the mean importance to every weight.
    replacement: draw with replacement.
    credit: `aligned` or `first`, see `scores.credited`.
    weights: `inverse` makes the mean loss unbiased, see `table.weighted`.
    mix: share of the importance in the chances; the rest is uniform.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  value = functools.partial(p_weights, smoothing=smoothing)
  return _sampler(spec, budget, value, warmup, average, replacement, credit, weights, mix)


def c_sgd(
  spec: Spec,
  budget: Budget | float,
  *,
  warmup: int = 0,
  average: bool = True,
  smoothing: bool = True,
  unseen: Literal['max_c', 'code'] = 'max_c',
  replacement: bool = False,
  credit: Literal['aligned', 'first'] = 'aligned',
  weights: Literal['none', 'inverse'] = 'none',
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) samples an epoch, drawn by uncertainty a(1-a) (fidelity.md 2.5).

  Args:
    spec: sizes of the run.
    budget: B.
    warmup: epochs of uniform sampling first.
    average: importance is the mean over the times seen; False: the latest.
    smoothing: add the mean weight to every weight.
    unseen: `max_c` or `code`, see `c_weights`.
    replacement: draw with replacement.
    credit: `aligned` or `first`, see `scores.credited`.
    weights: `inverse` makes the mean loss unbiased, see `table.weighted`.
    mix: share of the importance in the chances; the rest is uniform.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, or no full batch fits.
  """
  registry.check('unseen', unseen, ('code', 'max_c'))
  value = functools.partial(c_weights, smoothing=smoothing, unseen=unseen)
  return _sampler(spec, budget, value, warmup, average, replacement, credit, weights, mix)
