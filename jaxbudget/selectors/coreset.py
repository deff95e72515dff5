"""Fixed subsets: random ones, and core-sets of the samples that some score ranks highest.

A core-set needs a score of every sample before training starts. Scores come of a *scoring
run*: a full run of `forgetting_sgd`, an ordinary run of the plan (fidelity.md 2.8, 2.9).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.sampling import shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts, sgd
from jaxbudget.types import Batch, Cost, Key, Model, Outputs, Selector, Spec

FROM_MODEL = ('least_confidence', 'entropy', 'kcenter')  # scores of a trained model
SCORES = ('forgetting', *FROM_MODEL)


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
  scores: np.ndarray | None = None,
  *,
  score: str = 'forgetting',
) -> Selector:
  """The floor(N*B) samples of highest score, ties broken at random (fidelity.md 2.9).

  Args:
    spec: sizes of the run.
    budget: B, the share of samples kept.
    scores: f32[N], what the scoring run found; None gives a selector that can be planned
      but not started.
    score: `forgetting` (forgetting events), or from the scoring run's trained model
      `least_confidence`, `entropy` or `kcenter`, see `scores_from_model`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, scores that do not fit, or no full batch fits.
  """
  registry.check('score', score, SCORES)
  budget = as_budget(budget)
  if budget.unit == 'compute':
    raise ValueError(
      "budget_unit='compute' is impossible for coreset: its scoring run alone costs as much "
      "as full training; use budget_unit='backward', and see `selection` in plan.json"
    )
  if scores is not None:
    scores = np.asarray(scores, np.float32)
    if scores.shape != (spec.num_examples,) or np.isnan(scores).any():
      raise ValueError(
        f'scores must be {spec.num_examples} numbers, one a training sample, got shape '
        f'{scores.shape} with {np.isnan(scores).sum()} NaN'
      )

  def init(key):
    if scores is None:
      raise ValueError(f'coreset with score={score!r} cannot start without the scores')
    return _highest_first(jnp.asarray(scores), key)

  return _fixed_subset(spec, budget, init)


def _highest_first(scores: jax.Array, key: Key) -> jax.Array:
  """Orders samples by falling score, equal ones at random: i32[N]."""
  index = jnp.arange(scores.shape[0], dtype=jnp.int32)
  return jax.lax.sort((-scores, jax.random.bits(key, scores.shape), index), num_keys=2)[2]


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
  correct = jnp.argmax(outputs.logits, axis=-1) == batch.label
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

  return Selector(plain.facts, init, plan, update=count_events, scores=forgetting_scores)


def selection_cost(spec: Spec, score: str) -> Cost:
  """What choosing costs besides the scoring run: one pass over the data, or nothing.

  Args:
    spec: sizes of the run.
    score: one of `SCORES`.

  Returns:
    The cost.
  """
  return Cost(scored=spec.num_examples if score in FROM_MODEL else 0)


def scores_from_model(
  score: str,
  model: Model,
  transform: Callable[[jax.Array], jax.Array],
  params: Any,
  model_state: Any,
  image: np.ndarray,
  *,
  samples: int,
  key: Key,
  batch_size: int = 250,
  between: Callable[[], None] = lambda: None,
) -> np.ndarray:
  """Scores samples by a trained model, in eval mode on plain images.

  `least_confidence` is 1 - max p, `entropy` that of the predicted distribution (Coleman et
  al., `Selection via Proxy <https://arxiv.org/abs/1906.11829>`_, 2020). `kcenter` ranks the
  centres in the order in which `kcenter_order` finds them on penultimate activations.

  Args:
    score: one of `FROM_MODEL`.
    model: the network.
    transform: `Augment.test`.
    params: trained.
    model_state: trained.
    image: u8[N,H,W,channels], on the host.
    samples: how many samples will be kept (kcenter stops there).
    key: for the first centres of kcenter.
    batch_size: images in a forward pass.
    between: called between calls to the device; may raise to stop.

  Returns:
    f32[N], high for samples to keep.

  Raises:
    ValueError: an unknown score.
  """
  registry.check('score', score, FROM_MODEL)

  @jax.jit
  def forward(params, model_state, image):
    image = transform(image)
    if score == 'kcenter':
      return model.features(params, model_state, image)
    logits, _ = model.apply(params, model_state, image, train=False)
    p = jax.nn.softmax(logits, axis=-1)
    uncertain = jnp.sum(jax.scipy.special.entr(p), axis=-1)
    return 1 - jnp.max(p, axis=-1) if score == 'least_confidence' else uncertain

  pieces = []
  for start in range(0, len(image), batch_size):
    piece = image[start : start + batch_size]
    padding = [(0, batch_size - len(piece))] + [(0, 0)] * (image.ndim - 1)
    output = forward(params, model_state, jax.device_put(np.pad(piece, padding)))
    pieces.append(np.asarray(output)[: len(piece)])
    between()
  found = np.concatenate(pieces)
  if score != 'kcenter':
    return found
  rank = np.zeros(len(image), np.float32)
  order = kcenter_order(jnp.asarray(found), key, samples, between=between)
  rank[np.asarray(order)] = np.arange(samples, 0, -1)
  return rank


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
    order.block_until_ready()
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
