"""RHO-Loss: the samples that are not learnt yet, but can be.

Mindermann et al., `Prioritized Training on Points that are Learnable, Worth Learning, and not
yet Learnt <https://arxiv.org/abs/2206.07137>`_, 2022.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.parts import part_index
from jaxbudget.sampling import draw, present_first, shuffle
from jaxbudget.scores import gradient_bound
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Batch, Forward, Need, Needed, Selector, Spec

HALVES = ((0, 2), (1, 2))
SCORES = ('excess', 'loss', 'bound', 'irreducible')


class State(NamedTuple):
  """What is known before, and whether the epoch goes by it."""

  irreducible: jax.Array | None  # f32[N], if the score has it
  uniform: jax.Array  # bool[]  this epoch takes any candidates


def score_of(score: str, state: State, batch: Batch, forward: Forward) -> jax.Array:
  """How much candidates are worth.

  Args:
    score: `excess`, the loss above the irreducible one; `loss`; `bound`, of the gradient's norm;
      `irreducible`, least of all.
    state: of the method.
    batch: K candidates.
    forward: the eval-mode pass; `irreducible` does without.

  Returns:
    f32[K].
  """
  known = jnp.float32(0)
  if score in ('excess', 'irreducible'):
    known = jnp.sum(batch.part_share * state.irreducible[batch.part_index], axis=1)
  if score == 'irreducible':
    return -known
  outputs = forward(batch)
  return gradient_bound(outputs, batch.target) if score == 'bound' else outputs.loss - known


def choose(key: jax.Array, value: jax.Array, size: int, temperature: float) -> jax.Array:
  """Positions of the candidates taken: i32[s].

  Args:
    key: a typed key.
    value: f32[K]; -inf is taken last of all, and never drawn.
    size: s.
    temperature: 0: the s highest; else s draws with replacement by softmax(value / temperature).
  """
  if temperature == 0:
    # The plan is in random order, so that the first of equals is a random one.
    return jnp.lexsort((-value, jnp.isneginf(value)))[:size]
  weight = jnp.exp((value - jnp.max(value)) / temperature)
  return draw(key, weight, size, replacement=True)


@functools.cache
def _select(size: int, score: str, temperature: float, always: bool):
  """`select`; the same function object for all budgets."""

  def select(state, key, batch, forward):
    count = 0 if score == 'irreducible' else batch.index.shape[0]

    def scored():
      value = score_of(score, state, batch, forward)
      value = jnp.where(batch.weight > 0, value, -jnp.inf)
      return choose(key, value, size, temperature).astype(jnp.int32), jnp.int32(count)

    def uniform():
      return present_first(batch.weight)[:size], jnp.int32(0)

    found = scored() if always else jax.lax.cond(state.uniform, uniform, scored)
    return state, jax.tree.map(lambda x: x[found[0]], batch), {'scored': found[1]}

  return select


def crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Losses of all samples by that model which was not trained on them.

  Args:
    first: f32[N], losses by the model of the first half of the data.
    second: f32[N], by that of the second half.

  Returns:
    f32[N].
  """
  loss = np.array(second, np.float32)
  other = part_index(len(loss), HALVES[1])
  loss[other] = np.asarray(first, np.float32)[other]
  return loss


def rho_loss(
  spec: Spec,
  budget: Budget | float,
  first: Needed = None,
  second: Needed = None,
  *,
  score: Literal['excess', 'loss', 'bound', 'irreducible'] = 'excess',
  temperature: float = 0.0,
  until: float = 1.0,
) -> Selector:
  """Of each K = floor(N/rows) candidates, the s of largest loss above the irreducible loss.

  The irreducible loss of a sample is that of a model which has not seen it: two runs, each on
  half of the data, score each other's half (as the original does where there is no hold-out).
  Candidates are scored in eval mode; the original's default is train mode.

  Args:
    spec: sizes of the run.
    budget: B of back-propagated samples; scoring takes N forward passes an epoch besides.
    first: f32[N], losses of all samples by a model trained on the first half of the data; not for
      the scores `loss` and `bound`.
    second: f32[N], by one trained on the second half.
    score: what candidates are ranked by, see `score_of`; `irreducible` scores nothing, and costs
      nothing.
    temperature: 0 takes the highest; else they are drawn, see `choose` (the authors' has 0.25).
    until: share of the epochs that choose; the last ones are uniform, and score nothing.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the first two
      runs or the scoring use up.
  """
  registry.check('score', score, SCORES)
  if not 0 <= temperature < math.inf or not 0 < until <= 1:
    raise ValueError(f'temperature={temperature} must be 0 or more, until={until} in (0, 1]')
  budget = ledger.left_of(spec, budget)
  count, size = spec.num_examples, spec.batch_size
  chosen = max(1, ledger.share(spec.epochs, until))  # epochs that choose
  scoring = range(0 if score == 'irreducible' else chosen)
  looks = len(scoring)
  share = budget.fraction
  if budget.unit == 'compute':  # N forward passes an epoch to score, the rest to train
    price = budget.looks(scoring) / (3 * spec.epochs)
    share = budget.fraction - price
    if share <= 0:
      raise ValueError(
        f"budget_unit='compute' is impossible for rho_loss at budget={budget}: scoring all samples "
        f'in {"each epoch" if looks == spec.epochs else f"{looks} epochs"} alone costs '
        f'{float(price):.4f} of full training'
      )
  facts = plain_facts(spec, spec.epochs, ledger.share(count, share))
  candidates = count // facts.rows
  knows = score in ('excess', 'irreducible')
  missing = knows and (first is None or second is None)
  facts = facts._replace(
    candidates=candidates,
    planned=facts.planned._replace(scored=looks * facts.rows * candidates),
    row_cost=facts.row_cost._replace(scored=candidates if looks else 0),
    scoring=scoring,
    uniform_on_ties=not knows or missing or bool(np.ptp(crossed(first, second)) == 0),
    asks=('gradient_norm',) if score == 'bound' else (),
  )

  def init(key):
    del key
    if missing:
      raise ValueError('rho_loss cannot start without the irreducible losses of both halves')
    irreducible = jnp.asarray(crossed(first, second), jnp.float32) if knows else None
    return State(irreducible, jnp.array(False))

  def plan(state, key, epoch):
    state = state._replace(uniform=epoch >= chosen)
    index = shuffle(key, jnp.arange(count, dtype=jnp.int32))
    return state, as_plan(index, facts.rows, candidates, count // candidates)

  select = _select(size, score, float(temperature), chosen == spec.epochs)
  return Selector(facts, init, plan, select=select)


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  if options['score'] in ('loss', 'bound'):
    return ()
  return tuple(
    Need(name, 'loss', part=half) for name, half in zip(('first', 'second'), HALVES, strict=True)
  )


rho_loss.needs = _needs
