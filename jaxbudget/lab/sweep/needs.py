"""What a run needs of other runs before it can start, and what that costs.

A needed run is an ordinary run of the plan, trained once and shared by all budgets, seeds and
methods that need the same (design: `types.Need`).
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxbudget import recording, scan
from jaxbudget.evaluation import forward_batch
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.frozen_config import FrozenConfig
from jaxbudget.lab.run import build, files, fit
from jaxbudget.lab.run.flops import model_flops
from jaxbudget.lab.run.run import Run
from jaxbudget.parts import WHOLE, part_index
from jaxbudget.placement import part as part_of
from jaxbudget.scoring import trained
from jaxbudget.selectors import make_selector
from jaxbudget.selectors import needs as needs_of
from jaxbudget.selectors.rescored import rescored
from jaxbudget.types import Cost, Data, Need

SEED = 2**31 - 1  # the largest there is: a seed of its own, unlike those of people
# What is read of a finished run, by what is taken from it; all else is asked of its weights,
# but for the labels, which are those of the data.
_FILES = {'scores': 'scores.npy', 'recording': recording.FILE}
_LOOKS = {'loss', 'logits', 'features', 'gradient_norm'}


def of(cell: FrozenConfig) -> tuple[Need, ...]:
  """What a cell's method needs; nothing where the cell is at fault, which `build` tells."""
  try:
    options = build.choose(cell, 'selector')[1]
  except ValueError:
    return ()
  return needs_of(cell.selector, options)


def cell_of(need: Need, cell: FrozenConfig) -> FrozenConfig:
  """The cell that must be trained before another one can start.

  Args:
    need: of the other cell's method.
    cell: the other cell.

  Returns:
    What the need says, with the standard augmentation, or none if the cell has none, else as the
    cell. What is to be of the whole data is of the cell's part, if it has one.
  """
  settings = {
    'selector': need.selector,
    'budget': float(need.budget),
    'budget_unit': 'backward',
    'augment': cell.augment if cell.augment == 'none' else 'standard',
    'schedule': need.schedule,
    'tta': 'none',
    'train_part': cell.train_part if need.part == WHOLE else need.part,
    'shared_by': 1,
    'score_every': 1,
    'score_size': 0,
    'record_selection': 'recording' in need.taken or cell.record_selection,
    **dict(need.settings),
  }
  first = ConfigDict(cell.to_dict())
  for kind, key in OPTION_KEYS.items():
    if kind in settings:  # another part: its options are not the cell's
      first[key] = ConfigDict()
  config_lib.apply(first, settings)
  return FrozenConfig(first.to_dict())


def looks(wanted: Sequence[Need], needed: Sequence[Run]) -> Iterator[tuple[Run, Cost]]:
  """What taking from trained weights costs a sample: a pass, and one with its backward for norms.

  Args:
    wanted: of a cell's method.
    needed: all their runs.

  Yields:
    A needed run that is looked with, and the cost.
  """
  rest = iter(needed)
  for need in wanted:
    for run in itertools.islice(rest, need.runs):
      if looked := _LOOKS & set(need.taken):
        norms = int('gradient_norm' in looked)
        yield run, Cost(scored=norms + bool(looked - {'gradient_norm'}), backward=norms)


def price(run: Run, cell: FrozenConfig) -> Fraction:
  """What a pass of a needed run's network costs, over one of the cell's own, by FLOPs.

  Args:
    run: a needed one.
    cell: that needs it.

  Returns:
    1 for the same network, else the ratio of their multiply-adds, exactly.
  """
  theirs = run.cell.model, run.parts.options['model']
  try:
    own = cell.model, build.choose(cell, 'model')[1]
  except ValueError:  # the cell is at fault, which `build` tells
    return Fraction(1)
  if theirs == own:
    return Fraction(1)
  flops = [model_flops(name, run.info, cell.batch_size, o)[0] for name, o in (theirs, own)]
  return Fraction(*(max(1, round(forward)) for forward in flops))


class Charge(NamedTuple):
  """What a cell's needs cost, in forward equivalents of its own network."""

  before: Fraction  # of the runs themselves
  look: Fraction  # of looking at one sample with each

  def spent(self, shared_by: int, num_examples: int) -> int:
    """What a run is charged: the runs before over `shared_by`, and its own looks, rounded up."""
    return math.ceil(self.before / max(1, shared_by)) + math.ceil(self.look * num_examples)


def charge(cell: FrozenConfig, needed: Sequence[Run]) -> Charge:
  """What the needs of a cell cost.

  Args:
    cell: its config.
    needed: the runs it needs.

  Returns:
    The charge.

  Raises:
    ValueError: features are taken of a network that has none.
  """
  wanted, rest = of(cell), iter(needed)
  for need in wanted:
    for run in itertools.islice(rest, need.runs):
      if 'features' in need.taken:
        fit.check_features(cell.selector, run.cell.model, run.parts.model)
  looked = looks(wanted, needed)
  return Charge(
    sum((run.planned.forward_equivalents * price(run, cell) for run in needed), Fraction(0)),
    sum((cost.forward_equivalents * price(run, cell) for run, cost in looked), Fraction(0)),
  )


def record(run: Run, sharing: Mapping[str, int]) -> dict[str, Any]:
  """What a run needs costs, beside the cost of its own training.

  Args:
    run: that needs others.
    sharing: by run_id, how many runs of the plan need it.

  Returns:
    `needs`, `shared_by` (the most), passes in full, of whatever network, `forward_equivalents`
    of the run's own network, `forward_equivalents_charged`, the part of them that the run is
    charged by its key `shared_by`, and `forward_equivalents_shared`, this run's share if all of
    the plan's runs share equally.
  """
  num_examples = run.parts.spec.num_examples
  own = [
    Cost(*(part * num_examples for part in cost)) for _, cost in looks(of(run.cell), run.needs)
  ]
  cost = Cost(*(sum(parts) for parts in zip(*own, *(n.planned for n in run.needs), strict=True)))
  charged = charge(run.cell, run.needs)
  shares = (
    n.planned.forward_equivalents * price(n, run.cell) / sharing[n.run_id] for n in run.needs
  )
  looked = math.ceil(charged.look * num_examples)
  return {
    'needs': [needed.run_id for needed in run.needs],
    'shared_by': max(sharing[needed.run_id] for needed in run.needs),
    'forward_scored': cost.scored,
    'forward_trained': cost.trained,
    'backward': cost.backward,
    'forward_equivalents': charged.spent(1, num_examples),
    'forward_equivalents_charged': charged.spent(run.cell.shared_by, num_examples),
    'forward_equivalents_shared': float(looked + sum(shares)),
  }


def relative_totals(run: Run) -> tuple[Fraction, Fraction]:
  """What a run costs, in full trainings: the budget at which uniform sampling costs the same.

  Args:
    run: of a plan.

  Returns:
    With the runs that it needs charged to it alone, and shared equally by all of the plan's
    runs that need them; what it looks at itself is charged in full either way.
  """
  spec, own = run.parts.spec, run.planned.forward_equivalents
  found = run.selection or {}
  before = (found.get(f'forward_equivalents{part}', 0) for part in ('', '_shared'))
  return tuple((own + Fraction(cost)) / (3 * spec.epochs * spec.num_examples) for cost in before)


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
  wanted, given, rest = of(run.cell), {}, list(run.needs)
  if not wanted:
    return run
  for need in wanted:
    left = [
      _take(need, rest.pop(0) if need.runs else None, directory, run, data, between)
      for _ in range(max(1, need.count))
    ]
    given[need.parameter] = tuple(left) if need.count > 1 else left[0]
  parts = run.parts
  selector = make_selector(
    run.cell.selector, parts.spec, parts.budget, parts.selector_options, given
  )
  selector = rescored(selector, parts.spec, parts.scoring)
  return dataclasses.replace(run, parts=parts._replace(selector=selector))


def _take(need: Need, needed: Run | None, directory, run: Run, data: Data, between) -> Any:
  """What a finished run leaves to another one: an array, or several by name."""
  own = tuple(run.cell.train_part)
  if own != WHOLE:
    data = part_of(data, part_index(data.label.shape[0], own))
  found: dict[str, Any] = {}
  for kind in need.taken:
    if kind == 'label':
      found[kind] = np.asarray(data.label)
    elif kind in _FILES:
      path = _left(directory, run, needed, _FILES[kind])
      found[kind] = recording.read(str(path)) if kind == 'recording' else _read(path)
  looks = tuple(kind for kind in need.taken if kind in _LOOKS)
  if looks:
    found |= _look(looks, needed, _left(directory, run, needed, files.LAST), data, between)
  for kind, values in found.items():
    _check_size(kind, np.shape(values), run)
  if 'head_bias' in need.taken:
    found['head_bias'] = needed.parts.model.head_bias
  return found[need.takes] if isinstance(need.takes, str) else found


def _check_size(kind: str, shape: tuple[int, ...], run: Run) -> None:
  """Refuses what is not of the run's own samples; else they would be given what is of others.

  Raises:
    ValueError: saying of how many it is to be.
  """
  count = run.parts.spec.num_examples
  # A record of epochs has the samples last, all else first; scores are either.
  ends = {'recording': shape[-1:], 'scores': shape[:1] + shape[-1:]}.get(kind, shape[:1])
  if count not in ends:
    raise ValueError(
      f'{run.run_id} needs {kind} of each of its {count} samples, but was left an array of shape '
      f'{shape}'
    )


def _left(directory: pathlib.Path, run: Run, needed: Run, name: str) -> pathlib.Path:
  """A file of a needed run, whole."""
  path = directory / needed.run_id / name
  if not path.is_file():
    raise ValueError(f'{run.run_id} needs run {needed.run_id}, which has not left {path.name}')
  files.verify(path)
  return path


def _look(kinds: tuple[str, ...], needed: Run, path, data: Data, between) -> dict[str, np.ndarray]:
  """Looks at all samples with the trained weights of a needed run."""
  parts = needed.parts
  try:
    weights = jax.device_put(files.read_weights(path, parts.model))
  except ValueError as e:
    raise ValueError(f'{path} does not hold weights of {needed.cell.model}: {e}') from e
  size = forward_batch(data.label.shape[0], parts.spec, needed.cell.evaluate_batch)
  look = parts.model, parts.augment.test, *weights, data, size
  found = {}
  if 'gradient_norm' in kinds:
    found['gradient_norm'] = trained.gradient_norms(*look, between=between)
  wants = tuple(kind for kind in kinds if kind != 'gradient_norm')
  if wants:
    seen = scan.observe(*look, wants, parts.task, between=between)
    found |= {kind: np.asarray(getattr(seen, kind)) for kind in wants}
  return found


def _read(path: pathlib.Path) -> np.ndarray:
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, EOFError, ValueError) as e:
    raise ValueError(f'{path} is damaged: {e}') from e
