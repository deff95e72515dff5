"""From scores to a subset: which of the ranked samples are kept.

A choice is `(ranked, count, **options) -> i32[n]`: all samples, the `count` chosen ones first.
Any choice goes with any score, over all classes together or, by a quota, in each. Chance comes
as a random word of each sample, so that it does not matter where a sample stands.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from jaxbudget import ledger


class Ranked(NamedTuple):
  """What a choice may look at; all of n samples."""

  score: np.ndarray  # f32[n]  high for samples to keep first
  word: np.ndarray  # u32[n]  random
  aum: np.ndarray | None = None  # f32[n]  low for hard and for mislabelled samples
  confidence: np.ndarray | None = None  # f32[n]  mean p(y) in training
  features: np.ndarray | None = None  # f32[n,D]  of a trained model


Choice = Callable[..., np.ndarray]


def rising(values: np.ndarray, word: np.ndarray) -> np.ndarray:
  """Samples by rising value, equal ones by their words: i32[n]."""
  return np.lexsort((word, values)).astype(np.int32)


def top(ranked: Ranked, count: int) -> np.ndarray:
  """The highest scores, equal ones at random."""
  del count
  return rising(-ranked.score, ranked.word)


def bottom(ranked: Ranked, count: int) -> np.ndarray:
  """The lowest scores, equal ones at random."""
  del count
  return rising(ranked.score, ranked.word)


def middle(ranked: Ranked, count: int) -> np.ndarray:
  """The scores around the median: as many left out above as below.

  Xia et al., `Moderate Coreset <https://openreview.net/forum?id=7D5EECbOaf9>`_, 2023: ranks
  round(n (1-f)/2) and on.
  """
  order = rising(ranked.score, ranked.word)
  return np.roll(order, -round((len(order) - count) / 2))


def offset(ranked: Ranked, count: int, *, offset: float = 0.0) -> np.ndarray:
  """A run of ranks from the low end: positions [o, o + count), o = floor(offset n).

  Paul et al., `Deep Learning on a Data Diet <https://arxiv.org/abs/2107.07075>`_, 2021, leave
  out the very highest scores, which noise causes. Where it would not fit, it ends at the top.
  """
  order = rising(ranked.score, ranked.word)
  return np.roll(order, -min(ledger.share(len(order), offset), len(order) - count))


def shuffled(ranked: Ranked, count: int) -> np.ndarray:
  """Any samples, whatever their score."""
  del count
  return np.argsort(ranked.word, kind='stable').astype(np.int32)


def _hardest(ranked: Ranked, count: int, cutoff: float) -> np.ndarray:
  """The floor(cutoff n) samples of lowest AUM, as far as `count` others are left: bool[n]."""
  n = len(ranked.score)
  hard = np.zeros(n, bool)
  dropped = min(ledger.share(n, cutoff), n - count)
  if dropped:
    hard[rising(ranked.aum, ranked.word)[:dropped]] = True
  return hard


def strata(ranked: Ranked, count: int, *, cutoff: float = 0.0, bins: int = 50) -> np.ndarray:
  """Coverage-centric: equal numbers of all levels of the score, the hardest samples left out.

  Zheng et al., `Coverage-centric Coreset Selection for High Pruning Rates
  <https://arxiv.org/abs/2210.15809>`_, 2023. The floor(cutoff n) samples of lowest AUM are dropped
  whatever the score, as far as enough are left; the range of the other scores is cut into
  bins, and the count handed out to these by `fill`; random inside a bin.
  """
  hard = _hardest(ranked, count, cutoff)
  score = ranked.score[~hard].astype(np.float64)
  low, high = score.min(), score.max()
  span = high + 1e-4 * abs(high) - low  # 0 where all scores are 0
  level = np.full(len(hard), bins)  # the hardest are beyond all
  level[~hard] = np.clip((score - low) / (span or 1.0) * bins, 0, bins - 1).astype(int)
  quota = np.append(fill(np.bincount(level[~hard], minlength=bins), count), 0)
  return within(shuffled(ranked, count), level, quota)


def fill(sizes: np.ndarray, count: int) -> np.ndarray:
  """Hands a count out to bins as evenly as their sizes allow, the smallest first.

  Args:
    sizes: i[b], samples in each bin.
    count: to be handed out, at most their sum.

  Returns:
    i[b], summing to `count`: each takes min(size, what is left // bins left).
  """
  quota, left = np.zeros(len(sizes), int), count
  for rank, place in enumerate(np.argsort(sizes, kind='stable')):
    quota[place] = min(sizes[place], left // (len(sizes) - rank))
    left -= quota[place]
  return quota


def within(order: np.ndarray, group: np.ndarray, quota: np.ndarray) -> np.ndarray:
  """Moves the first `quota[g]` members of each group to the front of an order.

  Args:
    order: i32[n], a permutation.
    group: i[n], of each sample.
    quota: i[groups].

  Returns:
    i32[n], the chosen in front, each part in the order given.
  """
  chosen = np.zeros(len(order), bool)
  for g in np.flatnonzero(quota):
    chosen[np.flatnonzero(group[order] == g)[: quota[g]]] = True
  return np.concatenate([order[chosen], order[~chosen]])


def beta(ranked: Ranked, count: int, *, concentration: float = 4.0) -> np.ndarray:
  """DUAL's sampling: by score times a beta density of p(y), the easier the fewer are kept.

  Cho et al., `Lightweight Dataset Pruning without Full Training via Example Difficulty and
  Prediction Uncertainty <https://arxiv.org/abs/2502.06905>`_, 2025. With r the share left out
  and m the mean p(y) of the ten highest scores: b = 15 (1-m) (1 - r^c), a = 16 - b; drawn
  without replacement by BetaPDF(p(y); a, b) * score.
  """
  score = ranked.score - min(0, ranked.score.min())  # a weight cannot be negative
  ten = rising(-score, ranked.word)[:10]
  pruned = 1 - count / len(score)
  b = 15 * (1 - ranked.confidence[ten].mean()) * (1 - pruned**concentration)
  a = 16 - b
  # float16, in which dynamics are recorded, holds no p(y) nearer to 0 and 1 than this.
  p = np.clip(ranked.confidence.astype(np.float64), 2.0**-12, 1 - 2.0**-12)
  with np.errstate(divide='ignore'):  # no score, no chance before all others are drawn
    log_weight = (a - 1) * np.log(p) + (b - 1) * np.log1p(-p) + np.log(score)
  # The largest of log weight + Gumbel noise, one after the other, is drawn without replacement.
  noise = -np.log(-np.log((ranked.word + 0.5) / 2.0**32))
  return rising(-(log_weight + noise), ranked.word)


def graph(
  ranked: Ranked, count: int, *, cutoff: float = 0.0, neighbours: int = 5, decay: float = 0.1
) -> np.ndarray:
  """D2: high scores in places of their own, over a graph of nearest neighbours.

  Maharana et al., `D2 Pruning <https://arxiv.org/abs/2310.07931>`_, 2024. A sample's score
  grows by exp(-d) of its neighbours' scores; then the highest is taken, time after time, and
  its neighbours lose exp(-decay d) of what it has. The hardest are dropped as by `strata`.
  """
  place = rising(-ranked.score, ranked.word)  # equal ones at random: the first is taken
  kept = place[~_hardest(ranked, count, cutoff)[place]]
  near, distance = nearest(ranked.features[kept], min(neighbours, len(kept) - 1))
  score = ranked.score[kept].astype(np.float64)
  score = score + (np.exp(-distance) * score[near]).sum(axis=1)
  loss = np.exp(-decay * distance)
  chosen = np.zeros(count, int)
  for k in range(count):
    best = int(score.argmax())
    score[near[best]] -= loss[best] * score[best]
    score[best] = -np.inf
    chosen[k] = best
  front = kept[chosen]
  return np.concatenate([front, place[~np.isin(place, front)]])


def nearest(features: np.ndarray, count: int, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
  """The nearest others of each sample, by Euclidean distance.

  Args:
    features: f32[n,D].
    count: k < n.
    block: samples whose distances to all are held at a time.

  Returns:
    (i[n,k], f32[n,k] distances), in no particular order.
  """
  n, square = len(features), (features**2).sum(axis=1)
  near, distance = np.zeros((n, count), int), np.zeros((n, count), np.float32)
  for start in range(0, n if count else 0, block):
    own = slice(start, min(start + block, n))
    away = square[own, None] + square[None] - 2 * features[own] @ features.T
    away[np.arange(len(away)), np.arange(own.start, own.stop)] = np.inf
    near[own] = np.argpartition(away, count - 1, axis=1)[:, :count]
    found = np.take_along_axis(away, near[own], axis=1)
    distance[own] = np.sqrt(np.maximum(found, 0))
  return near, distance


ChoiceName = Literal['top', 'bottom', 'middle', 'offset', 'random', 'strata', 'beta', 'graph']
CHOICES: dict[ChoiceName, Choice] = {
  'top': top,
  'bottom': bottom,
  'middle': middle,
  'offset': offset,
  'random': shuffled,
  'strata': strata,
  'beta': beta,
  'graph': graph,
}
