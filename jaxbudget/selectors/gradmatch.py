"""GradMatch: few weighted samples whose gradients add up to the gradient of all.

Killamsetty et al., `GRAD-MATCH <https://arxiv.org/abs/2103.00123>`_, 2021.
"""

from typing import Literal, NamedTuple

import numpy as np

from jaxbudget import gradients, registry
from jaxbudget.ledger import Budget
from jaxbudget.scoring import quotas, trained
from jaxbudget.selectors.reselect import Chosen, check_limit, normalise, refuse_memory, reselecting
from jaxbudget.types import Selector, Spec

MODES = ('class', 'batch')


class Match(NamedTuple):
  """Chosen atoms and their weights."""

  chosen: np.ndarray  # i32[m]  in the order found
  weight: np.ndarray  # f32[m]  not negative
  residual: float  # ||wanted - sum of weight * atom|| over ||wanted||


def matching_pursuit(
  atoms: gradients.Factored,
  wanted: np.ndarray,
  count: int,
  *,
  ridge: float = 0.0,
  tolerance: float = 1e-4,
) -> Match:
  """Orthogonal matching pursuit with weights that are not negative.

  The next atom is the one furthest along what is missing. All weights are then solved anew,
  (G G^T + ridge) w = G wanted, while the most negative one is thrown out. The inverse grows and
  shrinks with the atoms, so that k of them cost O(k^3), not O(k^4).

  Args:
    atoms: n matrices, p by q.
    wanted: f32[p,q].
    count: atoms to look for.
    ridge: added to the squared norms of the chosen atoms.
    tolerance: stop where the residual is less than this share of `wanted`.

  Returns:
    At most `count` atoms: fewer where no other helps, or enough is matched.
  """
  size = np.linalg.norm(wanted)
  aims = gradients.along(atoms, wanted).astype(np.float64)
  inverse = np.zeros((count, count))  # of the chosen atoms' Gram matrix, in the upper corner
  chosen: list[int] = []
  weight = np.zeros(0)
  missing = wanted
  for _ in range(count):
    if not size or np.linalg.norm(missing) / size < tolerance:
      break
    gain = gradients.along(atoms, missing)
    gain[chosen] = -np.inf
    new = int(gain.argmax())
    if gain[new] <= 0:
      break
    row = gradients.inner(gradients.take(atoms, [new]), gradients.take(atoms, [*chosen, new]))[
      0
    ].astype(np.float64)
    if not _grow(inverse, row[:-1], row[-1] + ridge):  # a combination of those chosen
      break
    chosen.append(new)
    weight = inverse[: len(chosen), : len(chosen)] @ aims[chosen]
    while weight.size and weight.min() < 0:
      out = int(weight.argmin())
      _shrink(inverse, len(chosen), out)
      del chosen[out]
      weight = inverse[: len(chosen), : len(chosen)] @ aims[chosen]
    if new not in chosen:  # it would be found and thrown out again
      break
    missing = wanted - gradients.total(gradients.take(atoms, chosen), weight.astype(np.float32))
  residual = float(np.linalg.norm(missing) / size) if size else 0.0
  return Match(np.array(chosen, np.int32), weight.astype(np.float32), residual)


def _grow(inverse: np.ndarray, across: np.ndarray, norm: float) -> bool:
  """Adds a row and column to the matrix whose inverse is kept, in place; False if singular."""
  m = len(across)
  old = inverse[:m, :m]
  solved = old @ across
  pivot = norm - across @ solved
  if pivot <= 1e-6 * norm:
    return False
  old += np.multiply.outer(solved, solved / pivot)
  inverse[m, :m] = inverse[:m, m] = -solved / pivot
  inverse[m, m] = 1 / pivot
  return True


def _shrink(inverse: np.ndarray, m: int, out: int) -> None:
  """Takes a row and column out of the m by m matrix whose inverse is kept, in place."""
  kept = np.delete(np.arange(m), out)
  across = inverse[kept, out]
  smaller = inverse[np.ix_(kept, kept)] - np.multiply.outer(across, across / inverse[out, out])
  inverse[: m - 1, : m - 1] = smaller


def by_class(random: np.random.Generator, seen, samples: int, ridge: float, tolerance: float):
  """Matches, in each class, its gradient with respect to the weights of its own output.

  Args:
    random: for samples that tie, and those that make up for missing ones.
    seen: logits, features and labels of all samples.
    samples: to choose.
    ridge: see `matching_pursuit`.
    tolerance: see `matching_pursuit`.

  Returns:
    A `Chosen` with classes in proportion.
  """
  error = np.asarray(trained.error(seen.logits, seen.label))
  size = np.bincount(seen.label, minlength=error.shape[1])
  index, weight = [], []
  for c, quota in enumerate(quotas.proportional(size, samples)):
    own = random.permutation(np.flatnonzero(seen.label == c))  # equal ones fall to anybody
    atoms = gradients.last_layer(error[own][:, [c]], seen.features[own], seen.head_bias)
    wanted = gradients.total(atoms, np.ones(len(own), np.float32))
    match = matching_pursuit(atoms, wanted, quota, ridge=ridge, tolerance=tolerance)
    rest = random.permutation(np.setdiff1d(np.arange(len(own)), match.chosen))
    rest = rest[: quota - len(match.chosen)]
    index += own[match.chosen], own[rest]
    weight += match.weight, np.ones(len(rest), np.float32)
  return Chosen(np.concatenate(index), np.concatenate(weight))


def by_batch(
  random: np.random.Generator, seen, samples: int, batch_size: int, ridge: float, tolerance: float
):
  """Matches the gradient of all by those of whole mini-batches, whose samples share a weight.

  A batch's mean gradient has K (D+1) numbers, fewer than its factors, so it is written out.

  Args:
    random: for the batches.
    seen: logits, features and labels of all samples.
    samples: to choose.
    batch_size: s.
    ridge: see `matching_pursuit`.
    tolerance: see `matching_pursuit`.

  Returns:
    A `Chosen` of whole batches.
  """
  error = np.asarray(trained.error(seen.logits, seen.label))
  each = gradients.last_layer(error, seen.features, seen.head_bias)
  count = len(error) // batch_size
  batches = random.permutation(len(error))[: count * batch_size].reshape(count, batch_size)
  share = np.full(batch_size, 1 / batch_size, np.float32)
  means = np.stack([gradients.total(gradients.take(each, b), share).ravel() for b in batches])
  atoms = gradients.Factored(np.ones((count, 1), np.float32), means)
  wanted = means.sum(axis=0, keepdims=True)
  match = matching_pursuit(atoms, wanted, samples // batch_size, ridge=ridge, tolerance=tolerance)
  return Chosen(batches[match.chosen].ravel(), np.repeat(match.weight, batch_size))


def gradmatch(
  spec: Spec,
  budget: Budget | float,
  *,
  mode: Literal['class', 'batch'] = 'class',
  ridge: float | None = None,
  tolerance: float = 1e-4,
  period: int = 20,
  warmup: int = 0,
  memory_gib: float = 2.0,
) -> Selector:
  """floor(N*B) weighted samples whose gradients add up to that of all, chosen every few epochs.

  The loss of a batch is sum(w l) / sum(w).

  Args:
    spec: sizes of the run.
    budget: B.
    mode: `class`: samples, in each class, by the gradient of its own output; `batch`: whole
      mini-batches, by the gradient of all of the last layer.
    ridge: lambda of the weights; None: 0.5 in `class`, 0 in `batch`.
    tolerance: residual, as a share of what is to be matched, at which the search stops and
      random samples of weight 1 follow.
    period: R, epochs between two choices.
    warmup: epochs of fresh uniform subsets before the first choice. Half of the epochs cost
      what the authors' warm start does, as many epochs of everything as make the same samples.
    memory_gib: the most that the gradients of batches, or what is solved in a class, may take.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or gradients too large.
  """
  registry.check('mode', mode, MODES)
  check_limit(memory_gib)
  if ridge is None:
    ridge = 0.5 if mode == 'class' else 0.0
  for key, value in (('ridge', ridge), ('tolerance', tolerance)):
    if not 0 <= value < float('inf'):
      raise ValueError(f'{key} must not be negative, got {value}')

  def choose(random, seen, samples):
    if mode == 'class':
      most = np.bincount(seen.label).max() * samples // len(seen.label) + 1
      size = 8 * 2 * most**2  # an inverse, and what is added to it
      refuse_memory('gradmatch', f'an inverse of {most} samples', size, memory_gib)
      return by_class(random, seen, samples, ridge, tolerance)
    count, width = len(seen.label) // spec.batch_size, seen.features.shape[1] + int(seen.head_bias)
    size = 4 * count * spec.num_classes * width
    refuse_memory('gradmatch', f'gradients of {count} batches', size, memory_gib)
    return by_batch(random, seen, samples, spec.batch_size, ridge, tolerance)

  whole = mode == 'batch'
  selector = reselecting(
    spec, budget, choose, period=period, warmup=warmup, features=True, whole=whole
  )
  return selector._replace(weigh=normalise)
