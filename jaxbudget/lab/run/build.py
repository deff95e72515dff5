"""From a cell's config to the parts of a run; where every fault of a config comes to light."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict, FrozenConfigDict

from jaxbudget import ledger, registry, schedules
from jaxbudget.augment import AUGMENTS, make_augment
from jaxbudget.data import Info
from jaxbudget.lab import fidelity
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.models import make_model
from jaxbudget.optimizers import momentum_sgd
from jaxbudget.parts import check as check_part
from jaxbudget.selectors import SELECTORS, keyword_options, make_selector
from jaxbudget.types import Augment, Model, Selector, Spec


class Parts(NamedTuple):
  """What a run is made of. Nothing here has touched a device yet."""

  spec: Spec
  budget: Budget
  model: Model
  augment: Augment
  selector: Selector
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule  # row -> learning rate
  selector_options: dict[str, Any]
  augment_options: dict[str, Any]


def options(cell: FrozenConfigDict) -> tuple[dict[str, Any], dict[str, Any]]:
  """All options of a cell's method and augmentation: its own, the preset's, the defaults.

  Args:
    cell: config of one cell.

  Returns:
    (selector options, augment options).

  Raises:
    ValueError: unknown names of method, augmentation or preset.
  """
  registry.check('selector', cell.selector, SELECTORS)
  registry.check('augment', cell.augment, AUGMENTS)
  registry.check('fidelity', cell.fidelity, fidelity.PRESETS)
  own = [keyword_options(SELECTORS[cell.selector]), keyword_options(AUGMENTS[cell.augment])]
  given = [
    {key: values.get(key) for key in known}
    for known, values in zip(own, (cell.selector_options, cell.augment_options), strict=True)
  ]
  decided = fidelity.resolve(cell.fidelity, cell.selector, cell.augment, *given)
  filled = [
    {key: default if value[key] is None else value[key] for key, default in known.items()}
    for known, value in zip(own, decided, strict=True)
  ]
  return filled[0], filled[1]


def build(cell: FrozenConfigDict, info: Info, spent: int = 0) -> Parts:
  """Makes the parts of a run.

  Args:
    cell: config of one cell.
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
  model = attempt(
    make_model,
    cell.model,
    info.num_classes,
    info.image_shape,
    width=cell.width or None,
    bn_gamma_init=cell.bn_gamma_init,
    compute_dtype=cell.compute_dtype,
    conv=cell.conv,
  )
  chosen = attempt(options, cell)
  attempt(registry.check, 'schedule', cell.schedule, schedules.SCHEDULES)
  augment = chosen and attempt(make_augment, cell.augment, info, **chosen[1])
  if faults:
    raise ValueError('\n'.join(faults))
  spec = Spec(
    num_examples=info.num_train,
    batch_size=cell.batch_size,
    num_classes=info.num_classes,
    epochs=cell.epochs,
    image_shape=info.image_shape,
    parts=augment.parts,
  )
  budget = as_budget(cell.budget, cell.budget_unit, spent)
  selector = make_selector(cell.selector, spec, budget, chosen[0])
  facts = selector.facts
  schedule = schedules.make_schedule(
    cell.schedule, facts.epochs, facts.rows, cell.learning_rate, cell.final_learning_rate
  )
  optimizer = momentum_sgd(cell.momentum, cell.weight_decay)
  return Parts(spec, budget, model, augment, selector, optimizer, schedule, *chosen)


def _attempt(faults: list[str], function: Callable, *args, **kwargs) -> Any:
  """Calls a function; a ValueError goes to the list of faults and None comes back."""
  try:
    return function(*args, **kwargs)
  except ValueError as e:
    faults.append(str(e))
    return None


def _whole_numbers(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, int]]:
  """All whole numbers of a config, by dotted key."""
  for key, value in values.items():
    if isinstance(value, Mapping | ConfigDict):
      yield from _whole_numbers(value, f'{prefix}{key}.')
    elif isinstance(value, int):
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
  need('momentum', lambda x: 0 <= x < 1, 'it must be in [0, 1)')
  need('weight_decay', lambda x: 0 <= x < float('inf'), 'it must be >= 0 and finite')
  need('evaluate_every', lambda x: x >= 1, 'at least 1 epoch')
  need('evaluate_batch', lambda x: x >= 0, '0 (choose) or the most images in a forward pass')
  need('devices', lambda n: n >= 0, '0 (all) or a number of devices')
  need('rows_per_call', lambda x: x >= 0, '0 (choose) or a number of rows')
  need('checkpoint_every', lambda x: x > 0, 'a positive number of seconds')
  need('width', lambda x: 0 <= x <= 2**12, f"0 (the model's own) or 1 to {2**12} channels")
  need('shared_by', lambda m: m >= 1, 'at least 1 run')
  need('validation', lambda x: x >= 0, '0 (none) or a number of images')
  try:
    check_part(cell['train_part'])
    registry.check('budget_unit', cell['budget_unit'], ledger.BUDGET_UNITS)
  except ValueError as e:
    faults.append(str(e))
  for key, value in _whole_numbers(cell):
    if abs(value) >= 2**31 and not any(fault.startswith(f'{key}=') for fault in faults):
      faults.append(f'{key}={value} is refused: whole numbers must be below 2**31')
