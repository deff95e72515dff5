"""From a cell's config to the parts of a run; where every fault of a config comes to light."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import optax

from jaxbudget import factories, ledger, precision, registry, schedules
from jaxbudget.augment import make_augment
from jaxbudget.averaging import Averaging, check_rows, make_averaging
from jaxbudget.data import Info
from jaxbudget.evaluation import TEST_TIME
from jaxbudget.factories import Part
from jaxbudget.lab import fidelity
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.frozen_config import FrozenConfig
from jaxbudget.lab.run import fit, flops, provenance
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.models import for_data
from jaxbudget.optimizers import make_optimizer
from jaxbudget.parts import WHOLE
from jaxbudget.parts import check as check_part
from jaxbudget.placement import PLACEMENTS
from jaxbudget.recipes import spec_of
from jaxbudget.rows import Row
from jaxbudget.selectors import make_selector, needs
from jaxbudget.selectors.rescored import Scoring, rescored
from jaxbudget.step import check_asked
from jaxbudget.task import Task, make_task
from jaxbudget.types import Augment, Model, Selector, Spec


class Parts(NamedTuple):
  """What a run is made of. Nothing here has touched a device yet.

  Attributes:
    options: all options of the chosen factories, by kind; those of a chain of augmentations by
      the name of each.
    outside: the factories that are of other packages.
    scoring: how the method's candidates are scored.
  """

  spec: Spec
  budget: Budget
  model: Model
  augment: Augment
  selector: Selector
  optimizer: optax.GradientTransformation
  task: Task
  averaging: Averaging
  table: Callable[[int], Row]  # epoch -> what its rows are given
  options: dict[str, dict[str, Any]]
  outside: tuple[Part, ...]
  scoring: Scoring = Scoring()

  @property
  def selector_options(self) -> dict[str, Any]:
    """All options of the method."""
    return self.options['selector']

  @property
  def augment_options(self) -> dict[str, Any]:
    """All options of the augmentation."""
    return self.options['augment']


def build(cell: FrozenConfig, info: Info, spent: int = 0) -> Parts:
  """Makes the parts of a run.

  Args:
    cell: config of one cell, see `cells`.
    info: of its data set.
    spent: forward equivalents that the runs which it needs have cost.

  Returns:
    The parts.

  Raises:
    ValueError: every fault of the cell, one a line.
  """
  faults: list[str] = []
  attempt = functools.partial(_attempt, faults)
  _check_numbers(cell, info, faults)
  in_range = not faults
  attempt(registry.check, 'fidelity', cell.fidelity, fidelity.PRESETS)
  chosen, options, augment = {}, {}, None
  for kind in _ORDER:
    mixes = augment is not None and augment.parts > 1
    chosen[kind], options[kind] = attempt(choose, cell, kind, mixes) or (None, None)
    if kind == 'augment' and chosen[kind]:
      augment = attempt(make_augment, cell.augment, info, **options[kind])
  model = chosen['model'] and attempt(for_data, cell.model, info, **options['model'])
  optimizer = chosen['optimizer'] and attempt(
    make_optimizer, cell.optimizer, **options['optimizer']
  )
  task = chosen['task'] and attempt(make_task, cell.task, info, **options['task'])
  averaging = chosen['averaging'] and attempt(
    make_averaging, cell.averaging, **options['averaging']
  )
  attempt(_check_cycled, chosen, options)
  outside = tuple(p for parts in chosen.values() for p in parts or () if p.outside)
  others = {part.kind for part in outside}
  if 'augment' in others and augment:
    attempt(fit.check_augment, cell.augment, augment, info)
  if ('model' in others or info.kind != 'images') and model:
    attempt(fit.check_model, cell.model, model, info)
  if not (in_range and augment and model and chosen['selector']):  # then there is no size to tell
    raise ValueError('\n'.join(faults))
  model = precision.of_model(model, cell.matmul_precision)
  optimizer = optimizer and precision.of_optimizer(optimizer, cell.matmul_precision)
  spec = spec_of(info, cell.batch_size, cell.epochs, augment.parts)
  made = attempt(_make_selector, cell, info, spec, chosen['selector'][0], options, spent)
  # Where the method is refused, any other shows what else is wrong.
  budget, scoring, selector = made or (None, None, make_selector('sgd', spec, 1.0))
  attempt(_check_halves, cell, options['selector'])
  if made and task:
    attempt(check_asked, selector, task, f'selector {cell.selector!r}', cell.task)
  attempt(_check_ghost, options['model'], cell.batch_size, selector.sizes)
  if made and averaging and 'averaging' not in others:
    rows = selector.facts.epochs * selector.facts.steps
    attempt(check_rows, cell.averaging, options['averaging'], rows)
  if 'model' in others and selector.partial:
    attempt(fit.check_model, cell.model, model, info, partial=True)
  if 'features' in selector.facts.scan.wants:
    attempt(fit.check_features, cell.selector, cell.model, model)
  rates = cell.learning_rate, cell.final_learning_rate
  table = chosen['schedule'] and attempt(
    schedules.make_table, cell.schedule, selector.facts, spec, *rates, options['schedule']
  )
  if faults:
    raise ValueError('\n'.join(faults))
  return Parts(
    spec, budget, model, augment, selector, optimizer, task, averaging, table, options, outside,
    scoring,
  )  # fmt: skip


def check_values(cell: FrozenConfig, info: Info) -> None:
  """Refuses values that are wrong whatever the others are.

  Args:
    cell: config of one cell.
    info: of its data set.

  Raises:
    ValueError: every such fault, one a line.
  """
  faults: list[str] = []
  _check_numbers(cell, info, faults)
  # A placement is right or wrong with the data set.
  faults = [fault for fault in faults if not fault.startswith('placement=')]
  _attempt(faults, registry.check, 'fidelity', cell.fidelity, fidelity.PRESETS)
  for kind in _ORDER:
    _attempt(faults, factories.chain, kind, cell[kind])
  if faults:
    raise ValueError('\n'.join(faults))


def _make_selector(
  cell, info: Info, spec: Spec, part: Part, options: Mapping[str, Any], spent: int
) -> tuple[Budget, Scoring, Selector]:
  """The method, what it may spend, and how its candidates are scored.

  Raises:
    ValueError: what it refuses.
  """
  scoring = _scoring(cell, info, options['model'])
  scored_by = getattr(part.factory, 'scored_by', lambda options: None)(options['selector'])
  budget = scoring.of(as_budget(cell.budget, cell.budget_unit, spent))
  if scored_by:  # by a network of the method's own
    share = _proxy_share(cell, info, options['model'], scored_by, scoring)
    budget = dataclasses.replace(budget, scoring=share)
  selector = make_selector(cell.selector, spec, budget, options['selector'])
  selector = rescored(selector, spec, scoring)
  ledger.check_planned(spec, budget, selector.facts, f'selector {cell.selector!r}')
  return budget, scoring, selector


def _check_halves(cell, options: Mapping[str, Any]) -> None:
  """Refuses a part of the data for a method whose needed runs divide them once more.

  Raises:
    ValueError: naming both.
  """
  divides = any(need.part != WHOLE for need in needs(cell.selector, options))
  if divides and tuple(cell.train_part) != WHOLE:
    raise ValueError(
      f'train_part={cell.train_part!r} is refused: selector {cell.selector!r}, with these options, '
      f'needs runs on parts of the data of its own; allowed is {WHOLE}'
    )


def _check_ghost(options: Mapping[str, Any], batch_size: int, sizes: Iterable[int]) -> None:
  """Refuses ghost batches that do not divide every step.

  Raises:
    ValueError: naming the step.
  """
  ghost = options.get('bn_ghost_size') or batch_size
  for size in (batch_size, *sizes):
    if size > ghost and size % ghost:
      raise ValueError(
        f'bn_ghost_size={ghost} is refused: allowed is a divisor of the {size} examples of a step'
      )


def _check_cycled(chosen: Mapping[str, Any], options: Mapping[str, Any]) -> None:
  """Refuses a schedule that moves the momentum of an optimizer that has none.

  Raises:
    ValueError: naming both.
  """
  cycled = (options['schedule'] or {}).get('cycle_momentum')
  if cycled and chosen['optimizer'] and 'momentum' not in options['optimizer']:
    raise ValueError(
      f'schedule_options.cycle_momentum=True is refused: optimizer {chosen["optimizer"][0].name!r} '
      'has no option momentum'
    )


def _scoring(cell, info: Info, options: Mapping[str, Any]) -> Scoring:
  """How candidates are scored, with what a small image costs by its floating-point operations.

  Raises:
    ValueError: the network does not take images of that size.
  """
  if not cell.score_size:
    return Scoring(cell.score_every)
  height, width, channels = info.image_shape
  shape = (cell.score_size, max(1, round(width * cell.score_size / height)), channels)
  try:
    full, part = (
      flops.model_flops(cell.model, info, cell.batch_size, options, given)[0]
      for given in (info.image_shape, shape)
    )
  except Exception as e:  # whatever a network says to images of another size
    raise ValueError(
      f'score_size={cell.score_size} is refused: model {cell.model!r} does not take images of '
      f'{shape[0]}x{shape[1]} ({type(e).__name__}: {str(e).splitlines()[0]})'
    ) from e
  return Scoring(cell.score_every, cell.score_size, max(1, math.ceil(1024 * part / full)))


def _proxy_share(cell, info: Info, options, proxy, scoring: Scoring) -> Fraction:
  """What a forward pass of a method's own network costs over one of the cell's, by FLOPs.

  Raises:
    ValueError: candidates are to be scored otherwise, which is for the cell's network.
  """
  if scoring != Scoring():
    raise ValueError(
      f'score_every and score_size are refused: {cell.selector} scores by a network of its own'
    )
  name, theirs = proxy
  pair = (cell.model, options), (name, theirs)
  own, other = (flops.model_flops(n, info, cell.batch_size, o)[0] for n, o in pair)
  return Fraction(max(1, math.ceil(1024 * other / own)), 1024)


# The method comes after the augmentation: some of its options depend on what a picture shows.
_ORDER = (
  'dataset', 'task', 'augment', 'selector', 'model', 'schedule', 'optimizer', 'averaging',
)  # fmt: skip


def choose(cell: FrozenConfig, kind: str, mixes: bool = False) -> tuple[list[Part], dict[str, Any]]:
  """The factories of a kind that a cell names, and all their options.

  Args:
    cell: config of one cell.
    kind: one of `registry.KINDS`.
    mixes: of a method, whether a picture shows several samples.

  Returns:
    (the factories, the options: its own, the preset's, the defaults; of a chain by the short
    name of each that has any).

  Raises:
    ValueError: unknown names, options and values that do not fit.
  """
  parts = factories.chain(kind, cell[kind])
  divided, unknown = factories.divide(parts, cell[OPTION_KEYS[kind]].to_dict())
  faults = [factories.unknown_option(parts, path) for path in unknown]
  filled = []
  for part, given in zip(parts, divided, strict=True):
    own = _attempt(faults, part.fill, given)
    if own is not None and cell.fidelity in fidelity.PRESETS:
      typed = {name: own[name] for name in given}
      own = part.fill(fidelity.resolve(cell.fidelity, part, typed, cell.selector, mixes))
    filled.append(own)
  if faults:
    raise ValueError('\n'.join(faults))
  if len(parts) == 1:
    return parts, filled[0]
  return parts, {p.short: options for p, options in zip(parts, filled, strict=True) if options}


def _attempt(faults: list[str], function: Callable, *args, **kwargs) -> Any:
  """Calls a function; a ValueError goes to the list of faults and None comes back."""
  try:
    return function(*args, **kwargs)
  except ValueError as e:
    faults.append(str(e))
    return None


def _numbers(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, int | float]]:
  """All numbers of a config, by dotted key."""
  for key, value in values.items():
    if isinstance(value, Mapping):
      yield from _numbers(value, f'{prefix}{key}.')
    elif isinstance(value, int | float):
      yield prefix + key, value


def _check_numbers(cell: Mapping[str, Any], info: Info, faults: list[str]) -> None:
  """Ranges that no factory looks at."""

  def need(key, fits, allowed):
    if not fits(cell[key]):
      faults.append(f'{key}={cell[key]!r} is refused: {allowed}')

  need('budget', lambda b: 0 < b <= 1, 'it must be in (0, 1]')
  need('epochs', lambda e: 1 <= e <= 10**6, '1 to a million full epochs')
  need('batch_size', lambda s: s >= 1, 'at least 1')
  if cell['batch_size'] > info.num_train:
    faults.append(
      f'batch_size={cell["batch_size"]} is larger than the {info.num_train} '
      f'training images of {info.name}'
    )
  need('learning_rate', lambda x: 0 < x < float('inf'), 'it must be positive and finite')
  need('final_learning_rate', lambda x: 0 <= x < float('inf'), 'it must be >= 0 and finite')
  need('evaluate_every', lambda x: x >= 1, 'at least 1 epoch')
  need('evaluate_batch', lambda x: x >= 0, '0 (choose) or the most images in a forward pass')
  need('devices', lambda n: n >= 0, '0 (all) or a number of devices')
  most = provenance.MOST_THREADS
  need('threads', lambda n: 0 <= n <= most, f'0 (all cores) or a number of threads, at most {most}')
  levels = provenance.OPTIMIZATION
  need('xla_optimization', lambda n: n in levels, ' or '.join(map(str, levels)))
  need('rows_per_call', lambda x: x >= 0, '0 (choose) or a number of rows')
  need('checkpoint_every', lambda x: 0 < x < float('inf'), 'a positive number of seconds')
  need('score_every', lambda k: k >= 1, 'at least 1 epoch')
  height = info.image_shape[0] if info.kind == 'images' else 1
  need(
    'score_size',
    lambda h: 0 <= h < height,
    f'0 (as they are) or a height below {height}, that of the images',
  )
  in_files = cell['dataset'].startswith('folder:') or cell['dataset'] == 'imagenet'
  need('placement', lambda p: p != 'files' or in_files, 'files is for folder:PATH and imagenet')
  need('shared_by', lambda m: m >= 1, 'at least 1 run')
  need('validation', lambda x: x >= 0, '0 (none) or a number of images')
  _attempt(faults, check_part, cell['train_part'])
  for key, known in {
    'placement': PLACEMENTS,
    'budget_unit': ledger.BUDGET_UNITS,
    'matmul_precision': precision.PRECISIONS,
    'tta': TEST_TIME if info.kind == 'images' else ('none',),
  }.items():
    _attempt(faults, registry.check, key, cell[key], known)
  for key, value in _numbers(cell):
    if any(fault.startswith(f'{key}=') for fault in faults):
      continue
    if isinstance(value, int):
      if abs(value) >= 2**31:
        faults.append(f'{key}={value} is refused: whole numbers must be below 2**31')
    elif not math.isfinite(value) and key.partition('.')[0] not in OPTION_KEYS.values():
      faults.append(f'{key}={value!r} is refused: it must be finite')  # options: see `choose`
