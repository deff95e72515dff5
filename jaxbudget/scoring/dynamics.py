"""Training dynamics: what each training pass said of each sample, and the scores of that.

One record serves them all: forgetting events, AUM, data maps, Dyn-Unc, DUAL and EL2N over
training. It is f16[4,T,N], 8 bytes a sample and epoch; entry [t,i] holds sample i's t-th
presentation (train mode, augmented image), NaN where there was none:

0. p(y), of its label;
1. the largest p(j) of another class;
2. the logit margin z(y) - max z(j), whose sign bit is set where the prediction was wrong;
3. ||p - onehot(y)||.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.scores import is_class
from jaxbudget.types import Batch, Outputs

P_TRUE, P_OTHER, MARGIN, DISTANCE = range(4)


class Dynamics(NamedTuple):
  """The record while it is written."""

  record: jax.Array  # f16[4,T,N]
  seen: jax.Array  # i32[N]  presentations so far


def blank(presentations: int, num_examples: int) -> Dynamics:
  """A record of nothing.

  Args:
    presentations: T, the most that a sample has.
    num_examples: N.

  Returns:
    The record.
  """
  record = jnp.full((4, presentations, num_examples), jnp.nan, jnp.float16)
  return Dynamics(record, jnp.zeros(num_examples, jnp.int32))


def observe(state: Dynamics, batch: Batch, outputs: Outputs) -> Dynamics:
  """Takes note of a batch, in which no sample occurs twice.

  Args:
    state: before the batch.
    batch: what was trained on; examples of weight 0 are passed over.
    outputs: of the training pass.

  Returns:
    The state after it.
  """
  own = jax.nn.one_hot(batch.label, outputs.logits.shape[-1], dtype=bool)
  p = jax.nn.softmax(outputs.logits, axis=-1)

  def split(x):
    return jnp.sum(jnp.where(own, x, 0), axis=-1), jnp.max(jnp.where(own, -jnp.inf, x), axis=-1)

  (p_true, p_other), (z_true, z_other) = split(p), split(outputs.logits)
  # The sign bit holds the prediction, so that neither ties nor float16 can change it.
  size = jnp.minimum(jnp.abs(z_true - z_other), jnp.finfo(jnp.float16).max.astype(jnp.float32))
  margin = jnp.where(is_class(outputs, batch.label), size, -size)
  distance = jnp.linalg.norm(p - own.astype(jnp.float32), axis=-1)
  entry = jnp.stack([p_true, p_other, margin, distance]).astype(jnp.float16)
  # Padding goes to a place out of range, where it is dropped.
  place = jnp.where(batch.weight > 0, batch.index, state.seen.shape[0])
  return Dynamics(
    record=state.record.at[:, state.seen[batch.index], place].set(entry, mode='drop'),
    seen=state.seen.at[place].add(1, mode='drop'),
  )


def _column(record: np.ndarray, column: int, first: int | None = None) -> np.ndarray:
  """f32[T,N], one of the four numbers, at the first presentations only."""
  return np.asarray(record[column, :first], np.float32)


def _mean(values: np.ndarray) -> np.ndarray:
  """Mean over the presentations that there were; 0 for a sample that was never shown."""
  there = ~np.isnan(values)
  count = np.maximum(1, there.sum(axis=0, dtype=np.float32))
  return np.where(there, values, 0).sum(axis=0) / count


def correct(record: np.ndarray) -> np.ndarray:
  """Which presentations were classified correctly: bool[T,N]."""
  margin = record[MARGIN]
  return ~np.signbit(margin) & ~np.isnan(margin)


def forgetting(record: np.ndarray) -> np.ndarray:
  """Forgetting events: presentations that turned correct into wrong.

  Toneva et al., `An Empirical Study of Example Forgetting during Deep Neural Network
  Learning <https://arxiv.org/abs/1812.05159>`_, 2019. A sample that was never classified
  correctly counts T, more than any other can reach, and a number that runs may be summed over.

  Args:
    record: f16[4,T,N].

  Returns:
    f32[N], high for samples forgotten often.
  """
  right = correct(record)
  wrong = ~right & ~np.isnan(record[MARGIN])
  events = (right[:-1] & wrong[1:]).sum(axis=0)
  return np.where(right.any(axis=0), events, record.shape[1]).astype(np.float32)


def aum(record: np.ndarray, form: str = 'logit') -> np.ndarray:
  """Area under the margin: low for hard and for mislabelled samples.

  Pleiss et al., `Identifying Mislabeled Data using the Area Under the Margin Ranking
  <https://arxiv.org/abs/2001.10528>`_, 2020. Three rules go by this name.

  Args:
    record: f16[4,T,N].
    form: `logit`, the mean logit margin (Pleiss et al.); `probability`, the summed margin of
      probabilities (the code of CCS); `last`, the latter at the last presentation only (the
      code of DUAL).

  Returns:
    f32[N].
  """
  if form == 'logit':
    return _mean(_column(record, MARGIN))
  margin = _column(record, P_TRUE) - _column(record, P_OTHER)
  if form == 'probability':
    return np.nansum(margin, axis=0)
  last = (~np.isnan(margin)).sum(axis=0) - 1
  margin = np.take_along_axis(margin, np.maximum(0, last)[None], axis=0)[0]
  return np.where(last >= 0, margin, np.float32(0))


class DataMap(NamedTuple):
  """Where samples lie on the map of Swayamdipta et al."""

  confidence: np.ndarray  # f32[N]  mean p(y)
  variability: np.ndarray  # f32[N]  its standard deviation (divided by T, not T-1)
  correctness: np.ndarray  # f32[N]  share of presentations classified correctly


def data_map(record: np.ndarray, first: int | None = None) -> DataMap:
  """The data map.

  Swayamdipta et al., `Dataset Cartography <https://arxiv.org/abs/2009.10795>`_, 2020: the
  ambiguous samples, of largest variability, are kept.

  Args:
    record: f16[4,T,N].
    first: presentations to look at; None is all.

  Returns:
    Three numbers a sample.
  """
  p = _column(record, P_TRUE, first)
  confidence = _mean(p)
  right = np.where(np.isnan(p), np.nan, correct(record)[:first].astype(np.float32))
  variability = np.sqrt(_mean((p - confidence) ** 2))
  return DataMap(confidence, variability, _mean(right))


def _windows(record: np.ndarray, window: int, first: int | None, value) -> np.ndarray:
  """Mean of a value over all whole windows of a sample's p(y)."""
  p = _column(record, P_TRUE, first)
  if not 2 <= window <= len(p):
    raise ValueError(f'window must be 2 to {len(p)}, the presentations on record, got {window}')
  total, count = np.zeros(p.shape[1]), np.zeros(p.shape[1], int)
  for start in range(len(p) - window + 1):
    found = value(p[start : start + window])
    whole = ~np.isnan(found)  # samples presented less often have fewer windows
    total += np.where(whole, found, 0)
    count += whole
  return (total / np.maximum(1, count)).astype(np.float32)


def dyn_unc(record: np.ndarray, window: int = 10) -> np.ndarray:
  """Dyn-Unc: how much p(y) varies within a window, mean over all windows.

  He et al., `Large-scale Dataset Pruning with Dynamic Uncertainty
  <https://arxiv.org/abs/2306.05175>`_, 2024.

  Args:
    record: f16[4,T,N].
    window: J presentations, at least 2.

  Returns:
    f32[N], J times the standard deviation (divided by J-1).

  Raises:
    ValueError: the record has no whole window.
  """
  return _windows(record, window, None, lambda p: window * p.std(axis=0, ddof=1))


def dual(record: np.ndarray, window: int = 10, first: int | None = 30) -> np.ndarray:
  """DUAL: Dyn-Unc early in training, each window times how wrong it is, 1 - mean p(y).

  Cho et al., `Lightweight Dataset Pruning without Full Training via Example Difficulty and
  Prediction Uncertainty <https://arxiv.org/abs/2502.06905>`_, 2025.

  Args:
    record: f16[4,T,N].
    window: J presentations, at least 2.
    first: presentations to look at; None is all.

  Returns:
    f32[N].

  Raises:
    ValueError: the record has no whole window.
  """
  value = lambda p: window * p.std(axis=0, ddof=1) * (1 - p.mean(axis=0))
  return _windows(record, window, first, value)


def el2n_training(record: np.ndarray, first: int | None = 10) -> np.ndarray:
  """EL2N as the code of CCS has it: ||p - onehot(y)|| summed over the first epochs.

  Zheng et al., `Coverage-centric Coreset Selection for High Pruning Rates
  <https://arxiv.org/abs/2210.15809>`_, 2023.

  Args:
    record: f16[4,T,N].
    first: presentations to look at; None is all.

  Returns:
    f32[N].
  """
  return np.nansum(_column(record, DISTANCE, first), axis=0)
