"""RS2: repeated sampling of random subsets.

Okanovic et al., `Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning
<https://arxiv.org/abs/2305.18424>`_, 2024.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts, unif_sgd
from jaxbudget.types import Selector, Spec

WRAPS = ('continue', 'reshuffle')


class State(NamedTuple):
  """Where the walk through the samples stands."""

  order: jax.Array  # i32[N]  a permutation
  start: jax.Array  # i32[]  the next window's first place in it


def rs2(
  spec: Spec,
  budget: Budget | float,
  *,
  replacement: bool = False,
  wrap: Literal['continue', 'reshuffle'] = 'continue',
) -> Selector:
  """Windows of one permutation, a window an epoch, shuffled anew when it is used up.

  So every sample is seen once before any is seen twice. A window is what is trained on, full
  batches of the floor(N*B) samples (the original's windows are round(N*B), of which the last
  batch is incomplete): nobody is passed over. With `replacement` the windows of different epochs
  know nothing of each other, which is unif_sgd.

  Args:
    spec: sizes of the run.
    budget: B.
    replacement: a fresh uniform subset each epoch.
    wrap: where the permutation ends within a window, `continue` takes the rest and goes on in
      the next one (a sample can then come twice in an epoch), `reshuffle` drops the rest.

  Returns:
    A selector.

  Raises:
    ValueError: an unknown `wrap`, or the budget leaves no full batch.
  """
  registry.check('wrap', wrap, WRAPS)
  if replacement:
    return unif_sgd(spec, budget)
  count = spec.num_examples
  facts = plain_facts(spec, spec.epochs, ledger.share(count, budget))
  window = facts.rows * facts.candidates
  facts = facts._replace(distinct=wrap == 'reshuffle' or count % window == 0)

  def fresh(key):
    return shuffle(key, jnp.arange(count, dtype=jnp.int32))

  def init(key):
    return State(fresh(key), jnp.int32(0))

  def plan(state, key, epoch):
    del epoch
    draw_key, order_key = jax.random.split(key)
    following = fresh(draw_key)
    over = state.start + window > count
    start = jnp.where(over & (wrap == 'reshuffle'), jnp.int32(count), state.start)
    both = jnp.concatenate([state.order, following])
    index = jax.lax.dynamic_slice(both, (start,), (window,))
    behind = start + window
    used_up = behind >= count
    state = State(
      order=jnp.where(used_up, following, state.order),
      start=jnp.where(used_up, behind - count, behind).astype(jnp.int32),
    )
    padded = count // facts.candidates
    return state, as_plan(shuffle(order_key, index), facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan)
