"""What a proxy filter kept, row by row: a recording, and a method that trains on it again."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, paths
from jaxbudget.ledger import Budget
from jaxbudget.recording import digest
from jaxbudget.types import Cost, Facts, Plan, Selector, Spec


def recorded(spec: Spec, budget: Budget, recording: str, recording_digest: str = '') -> Selector:
  """Trains on the samples that another run's proxy kept, in the order in which they came.

  Images are augmented anew; the proxy's work is that of the other run. Where that had too few
  images, which were missing, rows are partial; those that had none come last, and are no steps.

  Args:
    spec: sizes of the run.
    budget: at least what was recorded.
    recording: `scores.npy` of a run of `proxy_filter` with `record=True`: i32[S,s], -1 is
      nobody.
    recording_digest: what `recording.digest` must say of it; empty: not checked.

  Returns:
    A selector.

  Raises:
    ValueError: there is no such recording, or it does not fit data, batch size, epochs or budget.
  """
  if not recording:
    raise ValueError(
      "proxy='recorded' needs selector_options.recording, the scores.npy of a run of proxy_filter "
      'with selector_options.record=True'
    )
  found = digest(recording)
  if recording_digest not in ('', found):
    raise ValueError(
      f'recording_digest={recording_digest!r} is refused: {recording!r} has digest {found}'
    )
  kept = _read(recording)
  total, size = kept.shape
  fits = {
    'batch_size': (spec.batch_size, size),
    'epochs': (total % spec.epochs, 0),
    'samples': (bool(kept.min() >= -1 and 0 <= kept.max() < spec.num_examples), True),
  }
  for what, (own, theirs) in fits.items():
    if own != theirs:
      raise ValueError(f'recording={recording!r} of {total} rows of {size} does not fit: {what}')
  # What was spent, had all been there: the last row asks for a full one under the cap.
  whole = Cost(0, kept.size, kept.size)
  kept, steps = _steps_first(kept.reshape(spec.epochs, -1, size))
  rows, trained = int(steps.max()), int((kept >= 0).sum())
  cost = Cost(0, trained, trained)
  facts = Facts(spec.epochs, rows, size, cost, Cost(0, size, size), uniform_on_ties=False)
  if ledger.price(whole, budget.unit) > ledger.cap(spec, budget, facts):
    raise ValueError(f'budget={budget} is less than recording={recording!r} spent: {whole.trained}')
  kept = kept[:, :rows].reshape(-1, size)
  padded = max(spec.num_examples // size, rows)

  def init(key):
    del key
    return jnp.asarray(kept)

  def plan(kept, key, epoch):
    del key
    index = jax.lax.dynamic_slice_in_dim(kept, epoch * rows, rows)
    index = jnp.pad(index, ((0, padded - rows), (0, 0)), constant_values=-1)
    weight = (index >= 0).astype(jnp.float32)
    return kept, Plan(jnp.maximum(index, 0), weight, jnp.asarray(steps)[epoch])

  return Selector(facts, init, plan, partial=trained < kept.size)


def _steps_first(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rows of nobody behind the others of their epoch; how many others there are, i32[T]."""
  steps = (kept >= 0).any(axis=2)
  order = np.argsort(~steps, axis=1, kind='stable')
  return np.take_along_axis(kept, order[..., None], axis=1), steps.sum(1, dtype=np.int32)


def _read(path: str) -> np.ndarray:
  """The rows of a recording: i32[S,s]."""
  try:
    kept = np.load(paths.expand(path), allow_pickle=False)
  except (OSError, ValueError, EOFError) as e:
    raise ValueError(f'recording={path!r} is damaged or no recording: {e}') from e
  if not isinstance(kept, np.ndarray) or kept.dtype != np.int32 or kept.ndim != 2 or not kept.size:
    raise ValueError(f'recording={path!r} is no recording of a proxy filter: i32[S,s] is expected')
  return kept
