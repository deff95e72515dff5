"""RS2: repeated sampling of random subsets.

Okanovic et al., `Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning
<https://arxiv.org/abs/2305.18424>`_, 2024.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.scoring import quotas
from jaxbudget.selectors.sgd import as_plan, plain_facts, unif_sgd
from jaxbudget.types import LABELS, Need, Needed, Selector, Spec

WRAPS = ('continue', 'reshuffle')


class State(NamedTuple):
  """Where the walk through the samples stands: of all of them, or of each class."""

  order: jax.Array  # i32[N]  a permutation, class by class
  start: jax.Array  # i32[G]  the next window's first place among a class's own
  group: jax.Array | None  # i32[N]  the class, if they are told apart


def rs2(
  spec: Spec,
  budget: Budget | float,
  labels: Needed = None,
  *,
  replacement: bool = False,
  wrap: Literal['continue', 'reshuffle'] = 'continue',
  balanced: bool = False,
) -> Selector:
  """Windows of one permutation, a window an epoch, shuffled anew when it is used up.

  So every sample is seen once before any is seen twice. A window is what is trained on, full
  batches of the floor(N*B) samples (the original's windows are round(N*B), of which the last
  batch is incomplete): nobody is passed over. With `replacement` the windows of different epochs
  know nothing of each other, which is unif_sgd.

  Args:
    spec: sizes of the run.
    budget: B.
    labels: i32[N], if `balanced`.
    replacement: a fresh uniform subset each epoch.
    wrap: where the permutation ends within a window, `continue` takes the rest and goes on in
      the next one (a sample can then come twice in an epoch), `reshuffle` drops the rest.
    balanced: a window holds classes in proportion, to within one sample, and each class has a walk
      of its own. A class with less than a sample in a window may never be seen, as in the original.

  Returns:
    A selector.

  Raises:
    ValueError: an unknown `wrap`, or the budget leaves no full batch.
  """
  registry.check('wrap', wrap, WRAPS)
  if replacement and not balanced:
    return unif_sgd(spec, budget)
  count = spec.num_examples
  facts = plain_facts(spec, spec.epochs, ledger.share(count, budget))
  window, padded = facts.rows * facts.candidates, count // facts.candidates
  told = balanced and labels is not None
  size = np.bincount(labels) if told else np.array([count])
  share = quotas.proportional(size, window)
  evenly = not balanced and count % window == 0
  facts = facts._replace(
    distinct=replacement or wrap == 'reshuffle' or evenly,
    uniform_on_ties=not balanced,  # quotas are whole numbers
    asks=('probabilities',) if balanced else (),  # there are classes
  )

  def fresh(key, group):
    order = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    return order if group is None else order[jnp.argsort(group[order], stable=True)]

  def init(key):
    if balanced and not told:
      raise ValueError('rs2 with balanced=True cannot start without the labels')
    group = jnp.asarray(labels, jnp.int32) if balanced else None
    return State(fresh(key, group), jnp.zeros(len(size), jnp.int32), group)

  def plan(state, key, epoch):
    del epoch
    draw_key, order_key = jax.random.split(key)
    following = fresh(draw_key, state.group)
    have, quota = (jnp.asarray(x, jnp.int32) for x in (size, share))
    ends, bounds = jnp.cumsum(quota), jnp.cumsum(have)
    drops = replacement or (wrap == 'reshuffle') & (state.start + quota > have)
    start = jnp.where(drops, have, state.start)
    place = jnp.arange(window, dtype=jnp.int32)
    of = jnp.searchsorted(ends, place, side='right')  # the class of each place of the window
    walked = start[of] + place - (ends - quota)[of]
    here = walked < have[of]
    slot = (bounds - have)[of] + jnp.where(here, walked, walked - have[of])
    index = jnp.where(here, state.order[slot], following[slot])
    behind = start + quota
    used_up = behind >= have
    own = jnp.searchsorted(bounds, jnp.arange(count, dtype=jnp.int32), side='right')
    order = jnp.where(used_up[own], following, state.order)
    state = state._replace(order=order, start=jnp.where(used_up, behind - have, behind))
    return state, as_plan(shuffle(order_key, index), facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan)


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  return (LABELS,) if options['balanced'] else ()


rs2.needs = _needs
