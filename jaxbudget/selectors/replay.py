"""Replay: trains on what another run chose, in an order of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.recording import digest, read
from jaxbudget.types import Cost, Facts, Plan, Selector, Spec


def replay(
  spec: Spec,
  budget: Budget | float,
  *,
  recording: str = '',
  recording_digest: str = '',
) -> Selector:
  """Epoch by epoch the samples that a recorded run was trained on, shuffled anew.

  Tells whether a choice of samples serves other networks too, and parts the choice from its
  feedback. A sample that was trained on twice in an epoch comes twice; importance weights are
  not replayed. An epoch with fewer rows than the longest leaves out the last learning rates
  of its stretch. A last batch that is not full is padded.

  Args:
    spec: sizes of the run.
    budget: B, at least what was recorded.
    recording: directory of a finished run trained with `record_selection=True`, or its
      selection.npz.
    recording_digest: what `recording.digest` must say of it; empty: not checked.

  Returns:
    A selector.

  Raises:
    ValueError: there is no such recording, or it does not fit data, epochs or budget.
  """
  budget = as_budget(budget)
  if not recording:
    raise ValueError(
      'replay needs a recording: selector=replay:DIR, DIR a run with record_selection=True'
    )
  found = digest(recording)
  if recording_digest not in ('', found):
    raise ValueError(
      f'recording_digest={recording_digest!r} is refused: {recording!r} has digest {found}'
    )
  counts = read(recording)  # [E,N]
  _refuse_misfits(counts, spec, budget, recording)
  facts, partial = _facts(counts, spec)
  plan = _planner(spec, max(spec.num_examples // spec.batch_size, facts.rows))

  def init(key):
    del key
    return jnp.asarray(counts)

  return Selector(facts, init, plan, partial=partial)


def _facts(counts, spec):
  """What a recording costs again, and whether a last batch of it is not full."""
  size, samples = spec.batch_size, counts.sum(axis=1, dtype=np.int64)
  partial, spent = bool((samples % size).any()), int(samples.sum())
  facts = Facts(
    epochs=len(counts),
    rows=int((-(-samples // size)).max()),
    candidates=size,
    planned=Cost(0, spent, spent),
    row_cost=Cost(0, size, size),
    cap=spent + size * partial,  # a row only starts if a full one could be paid for
    distinct=bool((counts <= 1).all()),
    uniform_on_ties=False,
  )
  return facts, partial


def _planner(spec, padded):
  """Makes `plan`: an epoch's samples as often as counted, shuffled, in `padded` rows."""
  size = spec.batch_size

  def plan(counts, key, epoch):
    here = counts[epoch].astype(jnp.int32)
    total, room = jnp.sum(here, dtype=jnp.int32), padded * size
    everyone = jnp.arange(spec.num_examples, dtype=jnp.int32)
    index = jnp.repeat(everyone, here, total_repeat_length=room)
    real = jnp.arange(room, dtype=jnp.int32) < total
    # Padding (1) is sorted behind the samples (0), which come in random order.
    words = jax.random.bits(key, (room,), jnp.uint32)
    _, _, index = jax.lax.sort(((~real).astype(jnp.int32), words, index), num_keys=2)
    return counts, Plan(
      index=index.reshape(padded, size),
      weight=real.astype(jnp.float32).reshape(padded, size),
      rows=-(-total // size),
    )

  return plan


def _refuse_misfits(counts, spec, budget, recording):
  epochs, num_examples = counts.shape
  if num_examples != spec.num_examples:
    raise ValueError(
      f'recording={recording!r} is of {num_examples} training samples, '
      f'this data set has {spec.num_examples}'
    )
  if epochs > spec.epochs:
    raise ValueError(f'recording={recording!r} has {epochs} epochs, more than epochs={spec.epochs}')
  spent = int(counts.sum(dtype=np.int64))
  if not spent:
    raise ValueError(f'recording={recording!r} is of a run that trained on nothing')
  full, later = spec.epochs * spec.num_examples, (spec.epochs - 1) * spec.num_examples
  # Selective Backprop may train on all samples in a first epoch over the budget.
  cap = spec.num_examples + ledger.share(later, budget)
  if budget.unit == 'compute':
    cap = ledger.share(full, budget) - spec.batch_size
  if spent > cap:
    raise ValueError(
      f'budget={budget} is less than recording={recording!r} spent: it trained on {spent} samples, '
      f'{spent / full:.4f} of {spec.epochs} full epochs'
    )
