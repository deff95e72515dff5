"""How many samples of each class are kept."""

import numpy as np

from jaxbudget.parts import part_index
from jaxbudget.scoring.choices import Choice, Ranked


def proportional(sizes: np.ndarray, count: int) -> np.ndarray:
  """Class quotas in proportion to the classes.

  Args:
    sizes: i[C], samples of each class.
    count: to be kept.

  Returns:
    i[C], within one of proportional, summing to `count`.
  """
  return whole(sizes * count / sizes.sum(), sizes, count)


def drop(sizes: np.ndarray, count: int, recall: np.ndarray) -> np.ndarray:
  """DRoP's class quotas: the share kept of a class is proportional to its errors.

  Vysogorets et al., `DRoP: Distributionally Robust Data Pruning
  <https://arxiv.org/abs/2404.05579>`_, 2025, the algorithm of the paper (its code leaves out
  the class sizes). What a class cannot take goes to the others.

  Args:
    sizes: i[C], samples of each class.
    count: to be kept.
    recall: f[C], of a trained model.

  Returns:
    i[C], summing to `count`.
  """
  density, error = np.zeros(len(sizes)), 1 - np.asarray(recall, np.float64)
  open_to_all = sizes > 0
  left = float(count)
  while left > 1e-9 and open_to_all.any():
    share = np.where(open_to_all, error, 0)
    if not (share * sizes).sum() > 0:  # a perfect model wishes for nothing in particular
      share = open_to_all.astype(np.float64)
    density += share * left / (share * sizes).sum()
    left = (sizes * np.maximum(0, density - 1)).sum()
    open_to_all &= density < 1
    density = np.minimum(density, 1)
  return whole(density * sizes, sizes, count)


def whole(quota: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
  """Rounds quotas to whole numbers that sum to a count, the largest remainders up.

  Args:
    quota: f[C].
    sizes: i[C], which no quota may pass.
    count: what `quota` sums to, up to rounding.

  Returns:
    i[C].
  """
  down = np.minimum(np.floor(quota + 1e-9).astype(int), sizes)
  remainder = np.where(down < sizes, quota - down, -1)
  up = np.argsort(-remainder, kind='stable')[: count - down.sum()]
  down[up] += 1
  return down


def in_classes(choice: Choice, ranked: Ranked, label: np.ndarray, quota: np.ndarray) -> np.ndarray:
  """Makes a choice in each class by itself.

  Args:
    choice: one of `CHOICES`, options filled in.
    ranked: all samples.
    label: i32[n].
    quota: i[C], samples to choose in each class.

  Returns:
    i32[n], all samples with the chosen ones in front.
  """
  chosen, rest = [], []
  for c in range(len(quota)):
    own = np.flatnonzero(label == c).astype(np.int32)
    if not len(own):
      continue
    part = Ranked(*(None if values is None else values[own] for values in ranked))
    order = own[choice(part, int(quota[c]))] if quota[c] else own
    chosen.append(order[: quota[c]])
    rest.append(order[quota[c] :])
  return np.concatenate(chosen + rest)


def held_out_recall(first: np.ndarray, second: np.ndarray, label: np.ndarray) -> np.ndarray:
  """Recall of each class, every sample judged by the model that was not trained on it.

  Args:
    first: f32[N,C], logits of a model that was trained on the first half of the data.
    second: the same of the second half.
    label: i32[N].

  Returns:
    f64[classes]; 1 for a class without samples.
  """
  said = np.array(first)
  own = part_index(len(label), (0, 2))
  said[own] = second[own]
  right = said.argmax(axis=-1) == label
  size = np.bincount(label)
  return np.where(size > 0, np.bincount(label, weights=right) / np.maximum(1, size), 1.0)
