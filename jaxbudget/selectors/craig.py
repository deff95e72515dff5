"""CRAIG: the samples whose gradients stand for all others, weighted by how many they stand for.

Mirzasoleiman et al., `Coresets for Data-efficient Training of Machine Learning Models
<https://arxiv.org/abs/1906.01827>`_, 2020.
"""

import heapq
from typing import Literal

import numpy as np

from jaxbudget import gradients, registry
from jaxbudget.ledger import Budget
from jaxbudget.scoring import quotas, trained
from jaxbudget.selectors.reselect import FEATURES, Chosen, check_limit, refuse_memory, reselecting
from jaxbudget.types import Selector, Spec


def similarity(gradient: gradients.Factored, squared: bool = False) -> np.ndarray:
  """How near samples are: the largest distance of any two, less their distance.

  Args:
    gradient: of n samples.
    squared: by squared distances.

  Returns:
    f32[n,n], not negative.
  """
  distance = gradients.distances(gradient)
  if squared:
    np.square(distance, out=distance)
  return np.subtract(distance.max(), distance, out=distance)


def facility_location(nearness: np.ndarray, count: int) -> np.ndarray:
  """Greedily maximises sum_i max_j nearness[i,j] over the chosen j.

  Lazily: what a sample would add only falls as others are chosen, so that only those which
  may still be the best are looked at again. The set is that of plain greedy search, also where
  samples tie, when the first is taken.

  Args:
    nearness: f32[n,n], symmetric, not negative.
    count: k <= n, samples to choose.

  Returns:
    i32[k], in the order chosen.
  """
  covered = np.zeros(len(nearness), np.float32)  # what everybody's nearest chosen one gives
  queue = [(-np.inf, j) for j in range(len(nearness))]  # (-what it adds at most, sample): a heap
  chosen = []
  while len(chosen) < count:
    _, j = queue[0]
    gain = np.maximum(nearness[j] - covered, 0).sum()
    entry = (-float(gain), j)
    heapq.heapreplace(queue, entry)
    if queue[0] == entry:
      heapq.heappop(queue)
      chosen.append(j)
      np.maximum(covered, nearness[j], out=covered)
  return np.array(chosen, np.int32)


def followers(nearness: np.ndarray, chosen: np.ndarray) -> np.ndarray:
  """How many samples each chosen one is nearest to, the first chosen where several are.

  A chosen one follows itself, also where others lie in the same place.

  Args:
    nearness: f32[n,n].
    chosen: i32[k].

  Returns:
    i[k], summing to n.
  """
  leader = nearness[:, chosen].argmax(axis=1)
  leader[chosen] = np.arange(len(chosen))
  return np.bincount(leader, minlength=len(chosen))


def _bytes(samples: int) -> int:
  """What the similarities of a class take while they are computed: two f32[n,n] at a time."""
  return 2 * 4 * samples**2


def craig(
  spec: Spec,
  budget: Budget | float,
  *,
  features: Literal['bias', 'last_layer'] = 'bias',
  squared: bool = False,
  period: int = 1,
  warmup: int = 0,
  memory_gib: float = 2.0,
) -> Selector:
  """floor(N*B) samples whose gradients cover all, chosen anew in each class every few epochs.

  A sample's weight is the number of samples that it stands for, scaled to mean 1.

  Args:
    spec: sizes of the run.
    budget: B.
    features: gradients with respect to the `bias` of the last layer (the authors' code; also of
      one that has none: those by the outputs), or all of the `last_layer`.
    squared: distances of gradients are squared, as in CORDS.
    period: R, epochs between two choices; CORDS has 20.
    warmup: epochs of fresh uniform subsets before the first choice.
    memory_gib: the most that the similarities within a class may take.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or classes too large.
  """
  registry.check('features', features, FEATURES)
  check_limit(memory_gib)
  even = -(-spec.num_examples // spec.num_classes)  # the largest class has as many at least
  refuse_memory('craig', f'similarities of {even} samples of a class', _bytes(even), memory_gib)

  def choose(random, seen, samples):
    error = np.asarray(trained.error(seen.logits, seen.label))
    size = np.bincount(seen.label, minlength=spec.num_classes)
    index, weight = [], []
    for c, quota in enumerate(quotas.proportional(size, samples)):
      if not quota:
        continue
      refuse_memory('craig', f'similarities of class {c}', _bytes(size[c]), memory_gib)
      own = random.permutation(np.flatnonzero(seen.label == c))  # equal ones fall to anybody
      activations = seen.features[own] if features == 'last_layer' else None
      gradient = gradients.last_layer(error[own], activations, seen.head_bias)
      nearness = similarity(gradient, squared)
      chosen = facility_location(nearness, quota)
      index.append(own[chosen])
      weight.append(followers(nearness, chosen))
    weight = np.concatenate(weight).astype(np.float32)
    return Chosen(np.concatenate(index), weight / weight.mean())

  return reselecting(
    spec, budget, choose, period=period, warmup=warmup, features=features == 'last_layer'
  )
