"""The rules for a whole run of a method: what it spends, and what it remembers."""

import collections
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, ledger, recording, scan
from jaxbudget.engine import Engine
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors.replay import replay
from jaxbudget.state import RowMetrics, from_bytes, to_bytes
from jaxbudget.testing import toy, weights
from jaxbudget.testing.hooks import IDLE, equal, idle
from jaxbudget.testing.toy import SPEC
from jaxbudget.types import Cost, Facts, Selector

_SEEDS = 32  # of the runs that see whether ties are broken evenly


def kept(
  selector: Selector, budget: float, charged: tuple[Selector, ledger.Budget] | None = None
) -> Iterator[str]:
  """Trains, and compares what happens with what was declared.

  Args:
    selector: the method.
    budget: B of back-propagated samples.
    charged: the method under a budget that charges every pass, if it scores candidates.
  """
  calls: collections.Counter = collections.Counter()
  model = toy.counting(toy.MODEL, lambda kind, n: calls.update({kind: n}))
  told, lost = set(), None
  watch = weights.watcher(told)
  begin = functools.partial(
    engine.start, SPEC, model, toy.AUGMENT, watch(selector), make_optimizer(), budget
  )
  run, booked, most, dearest = begin(), collections.Counter(), collections.Counter(), 0
  planned, stepped = [], []
  counts = [np.asarray(run.state.times_trained)]
  # As a run that goes on knows it: what its arrays are before the first epoch.
  target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.state)
  for e in range(selector.facts.epochs):
    if e == 1:  # as a checkpoint would give it back
      state = from_bytes(to_bytes(run.state), target)
      run = run._replace(state=jax.tree.map(jnp.array, state))
    run, metrics, scanned = _epoch(run, e)
    if idle(selector, run.state.plan):
      yield f'epoch {e}: {IDLE}'
    told |= weights.planned(run.state.plan)
    if lost is None and not weights.finite(run.state, metrics):
      lost = e
    planned.append(int(run.state.plan.rows))
    stepped.append(int(np.flatnonzero(metrics.trained).max(initial=-1)) + 1)
    counts.append(np.asarray(run.state.times_trained))
    booked.update(scored=int(metrics.scored.sum()) + scanned, trained=int(metrics.trained.sum()))
    for name in ('scored', 'trained'):
      most[name] = max(most[name], int(getattr(metrics, name).max()))
    dearest = max(dearest, int((metrics.scored + 3 * metrics.trained).max()))
  jax.effects_barrier()
  row = selector.facts.row_cost
  for name, limit in (('scored', row.scored), ('trained', row.trained)):
    # Scoring that is not planned may be paid for by training on fewer in the same row.
    paid = not selector.facts.planned.scored and dearest <= row.forward_equivalents
    if most[name] > limit and not (name == 'scored' and paid):
      yield f'a row spends {most[name]} {name}, facts.row_cost says {limit} at most'
  own = selector.facts.own_network  # whose passes are not the model's
  if booked['scored'] != calls['scored'] and not (own and not calls['scored']):
    yield (
      f"info['scored'] and scans add up to {booked['scored']}, "
      f'but {calls["scored"]} samples passed forward to be ranked'
    )
  if booked['trained'] != calls['trained']:
    yield f'{booked["trained"]} samples are in the books, but {calls["trained"]} were trained on'
  yield from _rows(selector.facts, planned, stepped)
  yield from _cost(selector, budget, booked)
  yield from _replayed(np.diff(counts, axis=0))
  unbroken = begin()
  for e in range(selector.facts.epochs):
    unbroken, *_ = _epoch(unbroken, e)
  if not equal(unbroken.state, run.state):
    yield 'a run that went through a checkpoint differs: something is kept outside of the state'
  if charged:
    yield from _under_compute(model, watch(charged[0]), charged[1])
  if selector.facts.uniform_on_ties:
    yield from _ties(begin, selector.facts.epochs)
  jax.effects_barrier()  # all weights have been seen
  yield from weights.left(run.state, booked['trained'], lost, told)


def _epoch(run: Engine, e: int, learning_rate: float = 0.1) -> tuple[Engine, RowMetrics, int]:
  """Trains an epoch; gives the run, its books, and samples scanned before it."""
  scanned, images, due = 0, toy.data(), run.selector.facts.scan
  if due.due(e):
    model, state = run.program.model, run.state
    seen = scan.observe(
      model, toy.AUGMENT.test, state.params, state.model_state, images, 16, due.wants
    )
    run = run._replace(state=scan.apply(run.selector, state, seen, e, run.root))
    scanned = SPEC.num_examples
  run = engine.begin_epoch(run, e)
  with jax.transfer_guard('disallow'):  # but for the learning rates, all is on the device already
    run, progress = engine.train_rows(run, images, learning_rate)
  return run, jax.device_get(progress.metrics), scanned


def _replayed(counts: np.ndarray) -> Iterator[str]:
  """Whether `replay` shows another network just the samples that this run was trained on.

  Args:
    counts: i32[T,N], how often each sample was trained on in each epoch.
  """
  if not counts.any():
    return  # which is told elsewhere, and cannot be replayed
  content = recording.to_bytes([recording.pack(c) for c in counts], SPEC.num_examples)
  with tempfile.TemporaryDirectory() as place:
    path = pathlib.Path(place, recording.FILE)
    path.write_bytes(content)
    try:
      again = replay(SPEC, 1.0, recording=str(path))
    except ValueError as e:
      yield f'its recording cannot be replayed: {e}'
      return
  state = again.init(jax.random.key(0))
  for e, count in enumerate(counts):
    state, plan = again.plan(state, jax.random.key(e), jnp.int32(e))
    index = np.asarray(plan.index)[np.asarray(plan.weight) > 0]
    found = np.bincount(index, minlength=len(count))
    if not np.array_equal(found, count):
      yield (
        f'epoch {e} trained on {count.sum()} samples, but its recording replays {found.sum()}, or '
        'others'
      )


def _rows(facts: Facts, planned: list[int], stepped: list[int]) -> Iterator[str]:
  """Whether epochs have the rows that schedules are made for.

  Args:
    facts: what was declared.
    planned: rows of each epoch's plan.
    stepped: of each epoch, the rows up to the last that was a step.
  """
  if max(stepped) > facts.steps:
    yield (
      f'epoch {int(np.argmax(stepped))}: row {max(stepped) - 1} is a step, and only the first '
      f'{facts.steps} are in the schedule: facts.rows={facts.rows}, facts.looking={facts.looking}'
    )
  # A bound may leave rows out in all epochs. Rows that only look are not in all epochs.
  most = max(stepped) if facts.looking else max(planned)
  if facts.cost == 'exact' and most < facts.steps:
    yield (
      f'no epoch has more than {most} rows to train on, facts.rows={facts.rows} and '
      f'facts.looking={facts.looking} say {facts.steps}: a schedule would never reach its end'
    )


def _under_compute(model, selector: Selector, budget: ledger.Budget) -> Iterator[str]:
  """Whether a run that is charged for every pass spends what was planned, and no more.

  There is no more than what is planned, unless that is a guess: its last row has just enough.
  """
  if selector.facts.cost != 'expected':
    full, planned = 3 * SPEC.epochs * SPEC.num_examples, selector.facts.planned
    budget = ledger.as_budget(Fraction(planned.forward_equivalents, full), 'compute')
  run = engine.start(SPEC, model, toy.AUGMENT, selector, make_optimizer(), budget)
  booked = collections.Counter()
  for e in range(selector.facts.epochs):
    run, metrics, scanned = _epoch(run, e)
    booked.update(scored=int(metrics.scored.sum()) + scanned, trained=int(metrics.trained.sum()))
  yield from (f"budget_unit='compute': {fault}" for fault in _cost(selector, budget, booked))


def _cost(
  selector: Selector, budget: float | ledger.Budget, booked: collections.Counter
) -> Iterator[str]:
  facts, unit = selector.facts, ledger.as_budget(budget).unit
  cap = ledger.cap(SPEC, budget, facts)
  passes = Cost(booked['scored'], booked['trained'], booked['trained'])
  if ledger.price(passes, unit) > cap:
    what = 'samples were trained on' if unit == 'backward' else 'forward equivalents were spent'
    yield f'{ledger.price(passes, unit)} {what}, over the cap of {cap}'
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


def _ties(begin: Callable[..., Engine], epochs: int) -> Iterator[str]:
  """Whether all samples are as likely to be trained on where the model cannot tell them apart."""
  counts = []
  for seed in range(_SEEDS):
    run = begin(seed=seed)
    alike = jax.tree.map(jnp.zeros_like, run.state.params)
    run = run._replace(state=run.state.replace(params=alike))
    for e in range(epochs):
      run, *_ = _epoch(run, e, learning_rate=0.0)
    counts.append(np.asarray(run.state.times_trained))
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
