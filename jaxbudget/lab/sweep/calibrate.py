"""How long a plan will take on this device: planned samples times measured seconds."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, schedules
from jaxbudget.evaluation import Evaluation, evaluate, num_views
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.columns import Columns
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.differences import departures, flatten, value_text
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import needs
from jaxbudget.lab.sweep.duration import duration
from jaxbudget.selectors import make_selector
from jaxbudget.types import Augment, Data, plain_batch, with_epoch

FILE = 'calibration.json'  # in the workdir
# What a row's time depends on beside the network.
_USUAL = {'optimizer': 'sgd', 'averaging': 'none', 'matmul_precision': ''}
_ROWS = 16  # the most that are timed


def calibrate(runs: Iterable[Run], seconds: float = 1.0) -> dict[str, Any]:
  """Measures what the runs of a plan are made of, each kind once, on random images.

  Compilation is left out. Networks that differ only in their classes count as one, and
  augmentations are timed apart from networks, so that a whole study takes few compilations.

  Args:
    runs: of a plan.
    seconds: about how long to run each kind after compiling; one row at least.

  Returns:
    `device`, and seconds per sample by kind: `train` (forward and backward), `forward` and
    `augment`. Plain numbers under string keys: it can be stored as JSON.
  """
  measured = {'device': jax.devices()[0].device_kind, 'train': {}, 'forward': {}, 'augment': {}}
  for run in runs:
    network, augment = _network_kind(run), _augment_kind(run)
    if network not in measured['train']:
      train, forward = _time_network(run, seconds)
      measured['train'][network], measured['forward'][network] = train, forward
    if augment not in measured['augment']:
      measured['augment'][augment] = _time_augment(run, seconds)
  return measured


def estimate(runs: Iterable[Run], calibration: dict[str, Any]) -> dict[str, float]:
  """Predicts how long runs take, evaluation included, loading and compilation not.

  Args:
    runs: of a plan.
    calibration: of `calibrate`, for these runs on this device.

  Returns:
    Seconds by run_id.

  Raises:
    ValueError: a run of a kind that was not measured, or the calibration is none.
  """
  if not _is_calibration(calibration):
    raise ValueError(f'{FILE} is damaged')
  return {run.run_id: _estimate(run, calibration) for run in runs}


def _is_calibration(found: Any) -> bool:
  """Whether it is what `calibrate` gives, for a file may hold anything."""
  if not isinstance(found, dict) or not isinstance(found.get('device'), str):
    return False
  tables = [found.get(kind) for kind in ('train', 'forward', 'augment')]
  return all(
    isinstance(table, dict) and all(type(s) in (int, float) for s in table.values())
    for table in tables
  )


def _estimate(run, calibration):
  facts, cost, cell = run.parts.selector.facts, run.planned, run.cell
  network, augment = _network_kind(run), _augment_kind(run)
  try:
    train, forward = calibration['train'][network], calibration['forward'][network]
    augmented = calibration['augment'][augment]
  except KeyError as e:
    raise ValueError(f'no calibration for {e} of run {run.run_id}: calibrate again') from None
  evaluations = -(-facts.epochs // cell.evaluate_every)
  views = 0 if cell.tta == 'none' else num_views(cell.tta, run.info.flip > 0)
  return (
    cost.trained * train
    + (cost.scored + (evaluations + views) * run.info.num_test) * forward
    + facts.epochs * facts.rows * facts.candidates * augmented
  )


def _network_kind(run: Run) -> str:
  cell, shape = run.cell, 'x'.join(map(str, run.info.image_shape))
  options = _in_words(run.parts.options['model'])
  usual = _USUAL.items()  # unsaid: measurements of before know no other
  others = ' '.join(f'{key}={cell[key]}' for key, value in usual if cell[key] != value)
  return ' '.join(f'{cell.model} {shape} {cell.batch_size} {options} {others}'.split())


def _augment_kind(run: Run) -> str:
  shape = 'x'.join(map(str, run.info.image_shape))
  options = _in_words(run.parts.augment_options)
  return f'{run.cell.augment} {shape} {run.cell.batch_size} {options}'.strip()


def _in_words(options) -> str:
  return ' '.join(f'{key}={value}' for key, value in flatten(options))


def _random_split(run: Run, size: int) -> Data:
  rng = np.random.default_rng(0)
  info = run.info
  shape, most = (size, *info.image_shape), 256 if info.kind == 'images' else info.vocabulary
  image = rng.integers(0, most, shape, info.dtype) if most else rng.normal(size=shape)
  label = rng.integers(0, info.num_classes, size, np.int32)
  if info.label_mean:
    label = rng.normal(size=(size, info.num_classes)).astype(np.float32)
  image = image.astype(info.dtype)
  return jax.device_put(Data(image, label))


def _time_network(run: Run, seconds: float) -> tuple[float, float]:
  """Seconds per sample of a training row and of an evaluation pass."""
  parts, size = run.parts, run.cell.batch_size
  spec = dataclasses.replace(
    parts.spec, num_examples=_ROWS * size, batch_size=size, epochs=1, parts=1
  )
  plain = Augment(
    lambda key, batch: batch._replace(image=parts.augment.test(batch.image)), parts.augment.test
  )
  selector = make_selector('sgd', spec, 1.0)
  trained = engine.start(
    spec, parts.model, plain, selector, parts.optimizer, 1.0,
    task=parts.task, averaging=parts.averaging,
  )  # fmt: skip
  table = schedules.make_table('constant', selector.facts, spec, 1e-3, 0.0)(0)
  data = _random_split(run, spec.num_examples)
  trained = engine.begin_epoch(engine.prepare(trained, data), 0)

  def train(row):
    nonlocal trained
    trained, progress = engine.train_rows(trained, data, table, stop=row)
    return progress.row

  per_row = _seconds_per_call(train, seconds, range(_ROWS + 1))
  test = Data(data.image[:size], data.label[:size])

  nothing, state = Evaluation.blank(), trained.state

  def forward(batches):
    place = jnp.int32(0), jnp.int32(batches)
    return evaluate(
      parts.model, plain.test, size, state.params, state.model_state, test, nothing, *place,
      task=parts.task,
    )  # fmt: skip

  per_pass = _seconds_per_call(forward, seconds, [0] + [1] * _ROWS)
  return per_row / size, per_pass / size


def _time_augment(run: Run, seconds: float) -> float:
  """Seconds per sample of the augmentation alone."""
  parts, size = run.parts, run.cell.batch_size
  data = _random_split(run, size)
  index, weight = jnp.arange(size, dtype=jnp.int32), jnp.ones(size, jnp.float32)

  @jax.jit
  def augment(data, step):
    batch = plain_batch(data, index, weight, parts.spec.num_classes)
    key = jax.random.fold_in(jax.random.key(0), step)
    return with_epoch(parts.augment.train, key, jnp.int32(0), batch).image

  return _seconds_per_call(lambda step: augment(data, step), seconds, range(_ROWS + 1)) / size


def _seconds_per_call(function: Callable, seconds: float, arguments: Iterable) -> float:
  """Median time of a call; the first, which compiles, does not count."""
  first, *others = arguments
  jax.block_until_ready(function(first))
  times, begin = [], time.monotonic()
  for argument in others:
    start = time.monotonic()
    jax.block_until_ready(function(argument))
    times.append(time.monotonic() - start)
    if time.monotonic() - begin > seconds:
      break
  return float(np.median(times))


def plan_table(runs: list[Run], calibration: dict[str, Any] | None = None) -> Columns:
  """A plan for the terminal: a row per cell, the cost of all its seeds, the total.

  Args:
    runs: of a plan.
    calibration: of `calibrate`; without it no time is shown.

  Returns:
    Something `rich.print` shows.

  Raises:
    ValueError: a run is of a kind that the calibration has not measured.
  """
  seconds = estimate(runs, calibration) if calibration else {}
  cells: dict[str, list[Run]] = {}
  for run in runs:
    cells.setdefault(run.cell_id, []).append(run)
  figures = {cell_id: _figures(part, seconds) for cell_id, part in cells.items()}
  totals = [sum(column) for column in zip(*figures.values(), strict=True)]
  places = {
    cell_id: ' '.join(dict.fromkeys(_place(place) for place in part[0].paper))
    for cell_id, part in cells.items()
  }
  both = len({run.cell.fidelity for run in runs}) > 1
  named, _ = departures([_settings(part[0]) for part in cells.values()])
  rows = []
  for (cell_id, part), others in list(zip(cells.items(), named, strict=True))[:ROWS]:
    label = ' '.join([_label(part[0], with_fidelity=both), *map('='.join, others.items())])
    rows.append((label, places[cell_id], _uniform_budget(part[0]), *_shown(figures[cell_id])))
  more = f', of which the first {ROWS} cells; all are in plan.json' if len(cells) > ROWS else ''
  # No column of what nobody knows.
  known = {'paper': any(places.values()), 'time': bool(calibration)}
  names = ('cell', 'paper', 'unif B', 'runs', 'rows', 'fwd eq.', 'full', 'time')
  kept = [i for i, name in enumerate(names) if known.get(name, True)]
  footer = ('total', '', '', *_shown(totals))
  return Columns(
    names=tuple(names[i] for i in kept),
    rows=[[row[i] for i in kept] for row in rows],
    labels=2 if known['paper'] else 1,
    spare=('rows', 'fwd eq.'),
    footer=tuple(footer[i] for i in kept),
    title=f'{len(cells)} cells, {len(runs)} runs{more}',
    notes=tuple(_caption(runs, calibration).split('\n')),
  )


ROWS = 500  # of a table that still can be read in a terminal


# What a label names anyway, or what is no part of a cell.
_NAMED = (
  *config_lib.INCIDENTAL, *OPTION_KEYS.values(), 'dataset', 'selector', 'augment', 'schedule',
  'budget', 'fidelity',
)  # fmt: skip


def _settings(run: Run) -> dict[str, str]:
  """All else that is set, as text."""
  own = {key: value for key, value in run.cell.to_dict().items() if key not in _NAMED}
  return {key: value_text(value) for key, value in flatten(own)}


def _label(run: Run, with_fidelity: bool) -> str:
  """A cell in words, which wrap in a narrow terminal: the id without its hash, and options."""
  cell = run.cell
  words = [cell.dataset, cell.recipe, cell.selector, cell.augment, cell.schedule]
  words = [*filter(None, words), value_text(cell.budget)]
  if with_fidelity:
    words.append(cell.fidelity)
  given = [flatten(cell[key].to_dict()) for key in OPTION_KEYS.values()]
  words += [f'{key}={value}' for options in given for key, value in options]
  return ' '.join(words)


def _figures(part: list[Run], seconds: dict[str, float]) -> tuple[float, ...]:
  """Runs, rows, forward equivalents, the same in full trainings, and seconds, together."""
  cost = sum(run.planned.forward_equivalents for run in part)
  spec = part[0].parts.spec
  return (
    len(part),
    sum(run.parts.selector.facts.epochs * run.parts.selector.facts.rows for run in part),
    cost,
    cost / (3 * spec.epochs * spec.num_examples),
    sum(seconds.get(run.run_id, np.nan) for run in part),
  )


def _uniform_budget(run: Run) -> str:
  """What a run costs in full trainings: as charged, and with the runs before it in equal shares."""
  _, shared = needs.relative_totals(run)
  spec, charged = run.parts.spec, (run.selection or {}).get('forward_equivalents_charged', 0)
  own = run.planned.forward_equivalents
  totals = (own + charged) / (3 * spec.epochs * spec.num_examples), shared
  return ' / '.join(dict.fromkeys(f'{float(total):.3g}' for total in totals))


def _shown(figures: Iterable[float]) -> tuple[str, ...]:
  runs, rows, cost, trainings, seconds = figures
  return f'{runs}', _short(rows), _short(cost), f'{trainings:.2f}', duration(seconds)


def _short(count: int) -> str:
  """Three digits and a unit: 54.2M."""
  for unit, size in (('G', 10**9), ('M', 10**6), ('k', 10**3)):
    if count >= size:
      return f'{count / size:.3g}{unit}'
  return f'{count}'


def _place(place) -> str:
  table = str(place['table'])
  return table.replace('figure', 'F') if table.startswith('figure') else f'T{table}'


def _caption(runs, calibration) -> str:
  notes = [
    'fwd eq.: forward passes of one sample, a backward pass counts 2; selection in the step is '
    'charged, test passes are not. full: the same in full trainings, 3TN. unif B: the budget at '
    'which uniform sampling costs what one run does'
    + (
      ', with the runs that it needs as charged (all of them, or by shared_by) / in equal shares '
      'of all that need them here.'
      if any(run.needs for run in runs)
      else '.'
    )
  ]
  if not calibration:
    notes.append('How long it takes: --stage=plan --calibrate times a few rows of each kind.')
  else:
    notes.append(f'time: on {calibration["device"]}, with test passes, without compilation.')
  shared = {', '.join(run.selection['needs']): run.selection for run in runs if run.needs}
  for needed, record in shared.items():
    notes.append(
      f'{needed}: needed first, by {record["shared_by"]} runs; in full it adds '
      f'{_short(record["forward_equivalents"])} to each, in equal shares '
      f'{_short(round(record["forward_equivalents_shared"]))}, as charged '
      f'{_short(record["forward_equivalents_charged"])}; the paper does not charge it.'
    )
  return '\n'.join(notes)
