"""The rules for a whole run of a method: what it spends, and what it remembers."""

import collections
from collections.abc import Iterator
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import epoch, ledger, scan
from jaxbudget.optimizers import make_optimizer
from jaxbudget.state import RowMetrics, TrainState, init_state
from jaxbudget.testing import toy
from jaxbudget.testing.hooks import equal
from jaxbudget.testing.toy import SPEC
from jaxbudget.types import Selector

_SEEDS = 32  # of the runs that see whether ties are broken evenly


def kept(selector: Selector, budget: float) -> Iterator[str]:
  """Trains, and compares what happens with what was declared."""
  calls: collections.Counter = collections.Counter()
  model = toy.counting(toy.MODEL, lambda kind, n: calls.update({kind: n}))
  optimizer = make_optimizer()
  program = epoch.make_program(SPEC.num_classes, model, toy.AUGMENT, selector, optimizer)

  def start(seed: int = 0) -> TrainState:
    return init_state(seed, SPEC, model, selector, optimizer, budget)

  state, booked, most = start(), collections.Counter(), collections.Counter()
  for e in range(selector.facts.epochs):
    if e == 1:
      state = _through_bytes(state)
    state, metrics, scanned = _epoch(program, selector, state, e)
    booked.update(scored=int(metrics.scored.sum()) + scanned, trained=int(metrics.trained.sum()))
    for name in ('scored', 'trained'):
      most[name] = max(most[name], int(getattr(metrics, name).max()))
  jax.effects_barrier()
  for name, limit in (('scored', selector.facts.row_cost.scored),
                      ('trained', selector.facts.row_cost.trained)):  # fmt: skip
    if most[name] > limit:
      yield f'a row spends {most[name]} {name}, facts.row_cost says {limit} at most'
  if booked['scored'] != calls['scored']:
    yield (
      f"info['scored'] and scans add up to {booked['scored']}, "
      f'but {calls["scored"]} samples passed forward to be ranked'
    )
  if booked['trained'] != calls['trained']:
    yield f'{booked["trained"]} samples are in the books, but {calls["trained"]} were trained on'
  yield from _cost(selector, budget, booked)
  unbroken = start()
  for e in range(selector.facts.epochs):
    unbroken, *_ = _epoch(program, selector, unbroken, e)
  if not equal(unbroken, state):
    yield 'a run that went through a checkpoint differs: something is kept outside of the state'
  if selector.facts.uniform_on_ties:
    yield from _ties(program, selector, start)


def _epoch(
  program: epoch.Program,
  selector: Selector,
  state: TrainState,
  e: int,
  seed: int = 0,
  learning_rate: float = 0.1,
) -> tuple[TrainState, RowMetrics, int]:
  """Trains an epoch; gives the state, its books, and samples scanned before it."""
  root, scanned, images = jax.random.key(seed), 0, toy.data()
  if selector.facts.scan.due(e):
    wants = selector.facts.scan.wants
    seen = scan.observe(
      program.model, toy.AUGMENT.test, state.params, state.model_state, images, 16, wants
    )
    state = scan.apply(selector, state, seen, e, root)
    scanned = SPEC.num_examples
  state = epoch.begin_epoch(selector, state, e, root)
  rates = jnp.full(state.plan.index.shape[0], learning_rate, jnp.float32)
  stop = jnp.int32(2**30)
  with jax.transfer_guard('disallow'):  # everything is on the device already
    state, progress = epoch.train_rows(program, state, images, rates, root, stop)
  return state, jax.device_get(progress.metrics), scanned


def _through_bytes(state: TrainState) -> TrainState:
  """The state as a checkpoint would give it back."""
  content = flax.serialization.to_bytes(jax.device_get(state))
  return jax.device_put(flax.serialization.from_bytes(jax.device_get(state), content))


def _cost(selector: Selector, budget: float, booked: collections.Counter) -> Iterator[str]:
  facts = selector.facts
  cap = ledger.cap(SPEC, budget, facts)
  if booked['trained'] > cap:
    yield f'{booked["trained"]} samples were trained on, over the cap of {cap}'
  if not booked['trained']:
    yield 'nothing was trained on'
  spent = booked['scored'] + 3 * booked['trained']
  planned = facts.planned.forward_equivalents
  told = f'{spent} forward equivalents were spent, facts.planned says {planned}'
  exact = (booked['scored'], booked['trained']) == (facts.planned.scored, facts.planned.trained)
  if facts.cost == 'exact' and not exact:
    yield f'{told} and that this is exact'
  if facts.cost == 'bound' and spent > planned:
    yield f'{told} and that this is a bound'
  if facts.cost == 'expected' and not 0.5 * planned <= spent <= 1.5 * planned:
    yield f'{told}, which is not what is to be expected'


def _ties(program: epoch.Program, selector: Selector, start: Any) -> Iterator[str]:
  """Whether all samples are as likely to be trained on where the model cannot tell them apart."""
  counts = []
  for seed in range(_SEEDS):
    state = start(seed)
    state = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    for e in range(selector.facts.epochs):
      state, *_ = _epoch(program, selector, state, e, seed, learning_rate=0.0)
    counts.append(np.asarray(state.times_trained))
  counts = np.array(counts, np.float64)
  spread = counts.std()
  if spread > 0:
    off = (counts.mean(0) - counts.mean()) / (spread / np.sqrt(_SEEDS))
    worst = int(np.abs(off).argmax())
    if abs(off[worst]) > 5:  # one in a million for each sample
      yield (
        f'facts.uniform_on_ties, but where all samples look alike sample {worst} was trained on '
        f'{counts[:, worst].sum():g} times in {_SEEDS} runs, others {counts.sum(0).mean():.1f}'
      )
