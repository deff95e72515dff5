"""The grid: cells times seeds become runs, each with an identity and a predicted cost."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxbudget import data, factories
from jaxbudget.lab import cells
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run import identity
from jaxbudget.lab.run.build import build, check_values
from jaxbudget.lab.run.run import Run, data_key, label, must_be_read, where
from jaxbudget.lab.sweep import needs, plan_file
from jaxbudget.parts import part_size


def make_runs(
  config: ConfigDict,
  datasets: Mapping[Any, data.Dataset] | None = None,
  laid_out: Sequence[cells.Cell] | None = None,
) -> list[Run]:
  """Lays out the runs of a config; runs that coincide are one run.

  Args:
    config: with or without a grid.
    datasets: by `data_key`, those that `must_be_read`; for the others a table is asked, so
      that a study can be planned before its data are there.
    laid_out: the cells of the config, if they are known.

  Returns:
    Runs in the order of the grid, the seeds of a cell together.

  Raises:
    ValueError: every fault of every cell, one a line.
  """
  seeds, common = (), []
  try:
    seeds = config_lib.seed_tuple(config.seeds)
  except ValueError as e:
    common.append(str(e))
  runs: dict[str, Run] = {}
  assemble = functools.cache(functools.partial(_assemble, datasets=datasets or {}))
  laid_out = cells.lay_out(config) if laid_out is None else laid_out
  count = len(laid_out) * len(seeds)
  if count > config_lib.MOST_RUNS:
    raise ValueError(
      f'{len(laid_out):,} cells with {len(seeds):,} seeds each are {count:,} runs; at most '
      f'{config_lib.MOST_RUNS:,} can be planned'
    )
  faults = [[*common, *cell.faults] for cell in laid_out]
  for (cell, paper, _), found in zip(laid_out, faults, strict=True):
    try:
      _add(runs, cell, seeds, paper, assemble)
    except ValueError as e:
      found += str(e).splitlines()
  if any(faults):
    raise ValueError(cells.tell(laid_out, faults))
  return _with_selection(runs)


def _add(runs: dict[str, Run], cell, seeds, paper, assemble) -> list[Run]:
  """Enters the runs of a cell, behind those that they need; gives them back."""
  needed = []
  for need in needs.of(cell):
    if need.runs:
      first = needs.cell_of(need, cell)
      needed += _add(runs, first, [needs.SEED - k for k in range(need.runs)], (), assemble)
  info, data_content, parts = assemble(cell, needs.charge(cell, needed))
  content = identity.content(cell, data_content, parts, [run.run_id for run in needed])
  digest = identity.digest(content)
  cell_id, added = f'{label(cell)}-{digest}', []
  for seed in seeds:
    run_id = f'{cell_id}-s{seed}'
    run = Run(run_id, cell_id, digest, content, seed, cell, parts, info, paper, tuple(needed))
    if run_id in runs:  # another cell of the grid is the same experiment
      known = runs[run_id]
      identity.agree(run_id, known.identity, content)
      recorded = run.cell if run.cell.record_selection else known.cell
      run = dataclasses.replace(known, cell=recorded, paper=_union(known.paper, paper))
    runs[run_id] = run
    added.append(run)
  return added


def _with_selection(runs: Mapping[str, Run]) -> list[Run]:
  """Enters the cost of needed runs into the runs that need them."""
  sharing = collections.Counter(n.run_id for run in runs.values() for n in run.needs)
  return [
    dataclasses.replace(run, selection=needs.record(run, sharing)) if run.needs else run
    for run in runs.values()
  ]


def wrong_values(config: ConfigDict) -> list[str]:
  """What is wrong with single values of a config that is not whole.

  Args:
    config: with or without a grid.

  Returns:
    A fault for each, but none of what values are together.

  Raises:
    ValueError: the grid is not one.
  """
  laid_out = cells.lay_out(config)
  faults = [_whatever_data(check_values, cell.config) for cell in laid_out]
  return cells.tell(laid_out, faults).splitlines()


def _whatever_data(check: Callable, cell) -> list[str]:
  """What is wrong with a cell whose data are not known.

  They are taken to be what network and task want, once more and once less of them: what is
  wrong either way is no fault of the data.
  """
  try:
    tokens = 'vocabulary' in factories.find('model', cell.model).options
  except ValueError:  # `check` tells it
    tokens = False
  numbers = {'label_mean': (0.0,), 'label_std': (1.0,)} if cell.task == 'regression' else {}
  told = []
  for name, size, side, classes in (('more', 10**6, 1024, 10), ('less', 50_000, 512, 9)):
    kind = {'image_shape': (side, side, 3), 'mean': (0.5,) * 3, 'std': (0.5,) * 3}
    if tokens:
      kind = {'image_shape': (side,), 'mean': (), 'std': (), 'vocabulary': side}
    count = 1 if numbers else classes
    info = data.Info(name, size, 10**4, count, flip=0.0, pad=0, **kind, **numbers)
    try:
      check(cell, info)
    except ValueError as e:
      told.append(str(e).splitlines())
  return [fault for fault in told[0] if fault in told[1]] if len(told) == 2 else []


def _assemble(cell, charge, datasets):
  dataset = datasets.get(data_key(cell))
  options = cell.dataset_options.to_dict()
  try:
    ask = functools.partial(data.info, cell.dataset, cell.validation, options=options)
    info = dataset.info if dataset else ask(**where(cell))
  except data.DataError as e:
    fault = str(e)
    if 'dataset' not in fault:
      fault = f'dataset={fault if fault.startswith(cell.dataset) else f"{cell.dataset}: {fault}"}'
    raise data.DataError('\n'.join([fault, *_whatever_data(build, cell)])) from e
  info = dataclasses.replace(info, num_train=part_size(info.num_train, cell.train_part))
  charged = charge.spent(cell.shared_by, info.num_train)
  read = dataset if must_be_read(cell) else None
  content = identity.data_content(cell.dataset, read, options)
  return info, content, build(cell, info, charged)


def _union(a: Iterable[Mapping], b: Iterable[Mapping]) -> tuple[Mapping, ...]:
  return (*a, *(place for place in b if place not in a))


def only(runs: list[Run], wanted: str) -> list[Run]:
  """Narrows a plan, see `plan_file.narrow`."""
  if not wanted:
    return runs
  kept = {entry['run_id'] for entry in plan_file.narrow([run.record() for run in runs], wanted)}
  return [run for run in runs if run.run_id in kept]
