"""Fixed subsets: random ones, and core-sets of the samples that some score ranks highest.

A core-set needs a score of every sample before training starts. Scores come of a *scoring
run*: a full run of `forgetting_sgd`, an ordinary run of the plan (fidelity.md 2.8, 2.9).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.sampling import shuffle
from jaxbudget.scores import is_class
from jaxbudget.selectors.sgd import as_plan, plain_facts, sgd
from jaxbudget.types import Batch, Key, Need, Needed, Outputs, Selector, Spec

SCORES = ('forgetting', 'least_confidence', 'entropy', 'kcenter')


def _fixed_subset(spec: Spec, budget: Budget | float, init: Callable[[Key], jax.Array]) -> Selector:
  """Trains on one subset throughout.

  The state is i32[N], all samples with the subset in front, so that its shape, and with it
  the compiled row program, is that of every budget.
  """
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)
  padded = spec.num_examples // facts.candidates

  def plan(order, key, epoch):
    del epoch
    index = shuffle(key, order[:samples])
    return order, as_plan(index, facts.rows, facts.candidates, padded)

  return Selector(facts, init, plan)


def random_subset(spec: Spec, budget: Budget | float) -> Selector:
  """One uniform subset of floor(N*B) samples, drawn before the run (fidelity.md 2.8).

  The subsets of equal seeds are nested: a larger budget adds samples.

  Args:
    spec: sizes of the run.
    budget: B, the share of samples kept.

  Returns:
    A selector.

  Raises:
    ValueError: the budget leaves no full batch.
  """

  def init(key):
    return shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))

  return _fixed_subset(spec, budget, init)


def coreset(
  spec: Spec,
  budget: Budget | float,
  scores: Needed = None,
  *,
  score: Literal['forgetting', 'least_confidence', 'entropy', 'kcenter'] = 'forgetting',
) -> Selector:
  """The floor(N*B) samples of highest score, ties broken at random (fidelity.md 2.9).

  Args:
    spec: sizes of the run.
    budget: B, the share of samples kept.
    scores: what the scoring run left: f32[N] forgetting events, its model's logits f32[N,C],
      or for `kcenter` its features f32[N,D]; None gives a selector that can be planned but
      not started.
    score: `forgetting` (forgetting events), or from the scoring run's trained model
      `least_confidence`, `entropy` or `kcenter`, see `score_of`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, scores that do not fit, no full batch fits, or a
      compute budget that the scoring run alone uses up.
  """
  registry.check('score', score, SCORES)
  budget = ledger.left_of(spec, budget)
  samples = ledger.share(spec.num_examples, budget)
  if scores is not None:
    scores = np.asarray(scores, np.float32)
    rank = 1 if score == 'forgetting' else 2
    if len(scores) != spec.num_examples or scores.ndim != rank or np.isnan(scores).any():
      raise ValueError(
        f'scores must be {spec.num_examples} numbers{"" if rank == 1 else " or more"}, one a '
        f'training sample, got shape {scores.shape} with {np.isnan(scores).sum()} NaN'
      )

  def init(key):
    if scores is None:
      raise ValueError(f'coreset with score={score!r} cannot start without the scores')
    return _highest_first(score_of(score, jnp.asarray(scores, jnp.float32), key, samples), key)

  subset = _fixed_subset(spec, budget, init)
  asks = ('confidence',) if score in ('forgetting', 'kcenter') else ('probabilities',)
  return subset._replace(facts=subset.facts._replace(uniform_on_ties=False, asks=asks))


def _coreset_needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  """A full run of `forgetting_sgd`, and of it the events, or what its model says at the end."""
  takes = {'forgetting': 'scores', 'kcenter': 'features'}.get(options['score'], 'logits')
  return (Need('scores', takes, 'forgetting_sgd'),)


coreset.needs = _coreset_needs


def score_of(score: str, found: jax.Array, key: Key, samples: int) -> jax.Array:
  """Scores of all samples, high for those to keep.

  `least_confidence` is 1 - max p, `entropy` that of the predicted distribution (Coleman et
  al., `Selection via Proxy <https://arxiv.org/abs/1906.11829>`_, 2020). `kcenter` ranks the
  centres in the order in which `kcenter_order` finds them on penultimate activations.

  Args:
    score: one of `SCORES`.
    found: what the scoring run left, see `coreset`.
    key: for the first centres of kcenter.
    samples: how many samples will be kept (kcenter stops there).

  Returns:
    f32[N].
  """
  if score == 'forgetting':
    return found
  if score == 'kcenter':
    order = kcenter_order(found, key, samples)
    falling = jnp.arange(samples, 0, -1, dtype=jnp.float32)
    return jnp.zeros(found.shape[0], jnp.float32).at[order].set(falling)
  p = jax.nn.softmax(found, axis=-1)
  if score == 'least_confidence':
    return 1 - jnp.max(p, axis=-1)
  return jnp.sum(jax.scipy.special.entr(p), axis=-1)


def _highest_first(scores: jax.Array, key: Key) -> jax.Array:
  """Orders samples by falling score, equal ones at random: i32[N]."""
  index = jnp.arange(scores.shape[0], dtype=jnp.int32)
  word = jax.random.bits(key, scores.shape, jnp.uint32)
  return jax.lax.sort((-scores, word, index), num_keys=2)[2]


class Forgetting(NamedTuple):
  """What is known of each sample's presentations so far; 6 bytes a sample."""

  correct: jax.Array  # bool[N]  at the latest presentation; at first not
  learned: jax.Array  # bool[N]  ever
  events: jax.Array  # i32[N]  presentations that turned correct into wrong


def count_events(state: Forgetting, batch: Batch, outputs: Outputs) -> Forgetting:
  """Takes note of a batch, in which no sample occurs twice.

  Args:
    state: before the batch.
    batch: what was trained on; examples of weight 0 are passed over.
    outputs: of the training pass (train mode, augmented images).

  Returns:
    The state after it.
  """
  correct = is_class(outputs, batch.label)
  before = state.correct[batch.index]
  # Padding goes to a place out of range, where it is dropped.
  place = jnp.where(batch.weight > 0, batch.index, state.correct.shape[0])
  return Forgetting(
    correct=state.correct.at[place].set(correct, mode='drop'),
    learned=state.learned.at[place].max(correct, mode='drop'),
    events=state.events.at[place].add((before & ~correct).astype(jnp.int32), mode='drop'),
  )


def forgetting_scores(state: Forgetting) -> jax.Array:
  """Forgetting events; a sample that was never classified correctly counts as inf.

  Args:
    state: of `forgetting_sgd`.

  Returns:
    f32[N].
  """
  return jnp.where(state.learned, state.events.astype(jnp.float32), jnp.inf)


def forgetting_sgd(spec: Spec, budget: Budget | float = 1.0) -> Selector:
  """SGD that counts how often each sample is forgotten: the scoring run (fidelity.md 2.9).

  Toneva et al., `An Empirical Study of Example Forgetting during Deep Neural Network
  Learning <https://arxiv.org/abs/1812.05159>`_, 2019.

  Args:
    spec: sizes of the run.
    budget: must be 1.

  Returns:
    A selector; its `scores` are forgetting events.

  Raises:
    ValueError: a budget below 1.
  """
  plain = sgd(spec, budget)

  def init(key):
    del key
    nothing = jnp.zeros(spec.num_examples, bool)
    return Forgetting(nothing, nothing.copy(), jnp.zeros(spec.num_examples, jnp.int32))

  def plan(state, key, epoch):
    return state, plain.plan((), key, epoch)[1]

  facts = plain.facts._replace(asks=('confidence',))
  return Selector(facts, init, plan, update=count_events, scores=forgetting_scores)


_READ = 2**33  # bytes of features that a call reads, about a second's work for a CPU


def kcenter_order(
  features: jax.Array,
  key: Key,
  samples: int,
  initial: int = 1000,
  between: Callable[[], None] = lambda: None,
) -> jax.Array:
  """Greedy k-centre: the next centre is the sample farthest from all centres so far.

  Args:
    features: f32[N,D]; distances are Euclidean.
    key: a typed key.
    samples: k <= N, centres to find.
    initial: centres drawn at random before the greedy ones.
    between: called between calls to the device; may raise to stop.

  Returns:
    i32[k], distinct, in the order found.
  """
  count = features.shape[0]
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
