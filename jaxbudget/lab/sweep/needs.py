"""What a run needs of other runs before it can start, and what that costs.

A needed run is an ordinary run of the plan, trained once and shared by all budgets, seeds and
methods that need the same (design: `types.Need`).
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from jaxbudget import epoch, recording, scan
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.run import build, files
from jaxbudget.lab.run.run import Run
from jaxbudget.parts import part_index
from jaxbudget.selectors import make_selector
from jaxbudget.selectors import needs as needs_of
from jaxbudget.selectors.rescored import rescored
from jaxbudget.types import Cost, Data, Need

SEED = 2**31 - 1  # the largest there is: a seed of its own, unlike those of people
# What is read of a finished run, by what is taken from it; all else is asked of its weights.
_FILES = {'scores': 'scores.npy', 'recording': recording.FILE}


def of(cell: FrozenConfigDict) -> tuple[Need, ...]:
  """What a cell's method needs; nothing where the cell is at fault, which `build` tells."""
  try:
    options = build.choose(cell, 'selector')[1]
  except ValueError:
    return ()
  return needs_of(cell.selector, options)


def cell_of(need: Need, cell: FrozenConfigDict) -> FrozenConfigDict:
  """The cell that must be trained before another one can start.

  Args:
    need: of the other cell's method.
    cell: the other cell.

  Returns:
    What the need says, with the standard augmentation, or none if the cell has none, else as the
    cell.
  """
  settings = {
    'selector': need.selector,
    'budget': float(need.budget),
    'budget_unit': 'backward',
    'augment': cell.augment if cell.augment == 'none' else 'standard',
    'schedule': need.schedule,
    'train_part': need.part,
    'shared_by': 1,
    'score_every': 1,
    'score_size': 0,
    'record_selection': need.takes == 'recording' or cell.record_selection,
    **dict(need.settings),
  }
  first = ConfigDict(cell.to_dict())
  for kind, key in OPTION_KEYS.items():
    if kind in settings:  # another part: its options are not the cell's
      first[key] = ConfigDict()
  config_lib.apply(first, settings)
  return FrozenConfigDict(first)


def own_cost(cell: FrozenConfigDict, num_examples: int) -> Cost:
  """What taking from trained weights costs: a pass over all samples for each."""
  passes = sum(need.count for need in of(cell) if need.takes not in _FILES)
  return Cost(scored=passes * num_examples)


def spent(cell: FrozenConfigDict, before: int, num_examples: int) -> int:
  """Forward equivalents that a run is charged for what it needs.

  Args:
    cell: its config; `shared_by` runs share the needed ones.
    before: forward equivalents of the runs it needs.
    num_examples: N.

  Returns:
    Those over `shared_by`, rounded up, and its own passes over the data.
  """
  return -(-before // max(1, cell.shared_by)) + own_cost(cell, num_examples).forward_equivalents


def record(run: Run, sharing: Mapping[str, int]) -> dict[str, Any]:
  """What a run needs costs, beside the cost of its own training.

  Args:
    run: that needs others.
    sharing: by run_id, how many runs of the plan need it.

  Returns:
    `needs`, `shared_by` (the most), forward passes and `forward_equivalents` in full, and
    `forward_equivalents_shared`, this run's share if all of the plan's runs share equally.
  """
  own = own_cost(run.cell, run.parts.spec.num_examples)
  costs = [own, *(needed.planned for needed in run.needs)]
  cost = Cost(*(sum(parts) for parts in zip(*costs, strict=True)))
  shares = (n.planned.forward_equivalents / sharing[n.run_id] for n in run.needs)
  return {
    'needs': [needed.run_id for needed in run.needs],
    'shared_by': max(sharing[needed.run_id] for needed in run.needs),
    'forward_scored': cost.scored,
    'forward_trained': cost.trained,
    'backward': cost.backward,
    'forward_equivalents': cost.forward_equivalents,
    'forward_equivalents_shared': own.forward_equivalents + sum(shares),
  }


def prepare(
  run: Run, directory: pathlib.Path, data: Data, between: Callable[[], None] = lambda: None
) -> Run:
  """Gives a run what it needs, from the files of the finished runs.

  Args:
    run: of a plan.
    directory: that holds the run directories.
    data: the whole training split, on the device.
    between: called between calls to the device; may raise to stop.

  Returns:
    The run, ready to be trained; itself if it needs nothing.

  Raises:
    ValueError: a needed run is not finished, or its files do not fit.
  """
  given, rest = {}, list(run.needs)
  for need in of(run.cell):
    if need.takes == 'label':
      place = part_index(data.label.shape[0], run.cell.train_part)
      given[need.parameter] = np.asarray(data.label)[place]
      continue
    found = tuple(
      _take(need, rest.pop(0), directory, run, data, between) for _ in range(need.count)
    )
    given[need.parameter] = found if need.count > 1 else found[0]
  if not given:
    return run
  parts = run.parts
  selector = make_selector(
    run.cell.selector, parts.spec, parts.budget, parts.selector_options, given
  )
  selector = rescored(selector, parts.spec, parts.scoring)
  return dataclasses.replace(run, parts=parts._replace(selector=selector))


def _take(need, needed: Run, directory: pathlib.Path, run: Run, data: Data, between) -> np.ndarray:
  """What a finished run leaves to another one."""
  path = directory / needed.run_id / _FILES.get(need.takes, files.LAST)
  if not path.is_file():
    raise ValueError(f'{run.run_id} needs run {needed.run_id}, which has not left {path.name}')
  files.verify(path)
  if need.takes == 'scores':
    return _read(path)
  if need.takes == 'recording':
    return recording.read(str(path))
  parts = needed.parts
  try:
    params, model_state = jax.device_put(files.read_weights(path, parts.model))
  except ValueError as e:
    raise ValueError(f'{path} does not hold weights of {needed.cell.model}: {e}') from e
  wants = (need.takes,) if need.takes != 'loss' else ()
  seen = scan.observe(
    parts.model,
    parts.augment.test,
    params,
    model_state,
    data,
    epoch.forward_batch(data.label.shape[0], parts.spec, needed.cell.evaluate_batch),
    wants,
    parts.task,
    between=between,
  )
  return np.asarray(getattr(seen, need.takes))


def _read(path: pathlib.Path) -> np.ndarray:
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, EOFError, ValueError) as e:
    raise ValueError(f'{path} is damaged: {e}') from e
