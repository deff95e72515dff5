"""What a launch, and each of its workers, starts from: the plan and the data that it needs."""

import contextlib
import numbers
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxbudget import data, factories, paths
from jaxbudget.lab import cells
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run import provenance
from jaxbudget.lab.run.run import Run, data_key, must_be_read, where
from jaxbudget.lab.sweep import grid


def use_compilation_cache() -> None:
  """Keeps compiled programs on disk, in JAX_COMPILATION_CACHE_DIR or ~/.cache/jaxbudget.

  Where there is no home they are not kept. From 0.2 seconds of compilation on, or from fewer if
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS says so.
  """
  if not jax.config.jax_compilation_cache_dir:
    cache = os.environ.get('XDG_CACHE_HOME', '')
    with contextlib.suppress(ValueError):
      # By its specification, a relative path counts as none.
      home = pathlib.Path(cache) if os.path.isabs(cache) else paths.expand('~/.cache')
      jax.config.update('jax_compilation_cache_dir', str(home / 'jaxbudget/jax'))
  least = min(0.2, jax.config.jax_persistent_cache_min_compile_time_secs)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', least)


def use_processor(config: ConfigDict) -> None:
  """Sets how this process computes on CPU, as a config says; nothing may have computed yet.

  Raises:
    ValueError: cells that differ in it, or it is too late.
  """
  grid = config.grid or ({},)
  for key, limit in (
    ('threads', provenance.limit_threads),
    ('xla_optimization', provenance.limit_optimization),
  ):
    given = [cell.get(key, config[key]) for cell in grid if isinstance(cell, Mapping)]
    # What is no number, or none that can be, is refused with all other faults by `plan_runs`.
    whole = (v for v in given if isinstance(v, numbers.Integral) and not isinstance(v, bool))
    values = {v for v in whole if 0 <= v <= provenance.MOST_THREADS}
    if len(values) > 1:
      raise ValueError(f'{key}={sorted(values)}: a process has one number, for all cells alike')
    for value in values:
      limit(value)


def begin(config: ConfigDict) -> tuple[dict[Any, data.Dataset], list[Run]]:
  """Sets how this process computes, and plans: `use_processor` and `plan_runs`.

  Raises:
    ValueError: every fault of both, one a line.
  """
  faults = []
  try:
    use_processor(config)
  except ValueError as e:
    faults = str(e).splitlines()
  try:
    planned = plan_runs(config)
  except ValueError as e:
    if not faults:
      raise
    faults += str(e).splitlines()
  if faults:
    raise ValueError('\n'.join(faults))
  return planned


def others(refusal: config_lib.Refusal) -> list[str]:
  """What else is wrong with a config of which values were refused.

  Args:
    refusal: with the others.

  Returns:
    A fault for each. Where only seeds were refused nothing else is in doubt; without other keys
    there is no telling what those that are there were to be together.
  """
  factories.search_last(os.curdir)
  try:
    if set(refusal.keys) != {'seeds'}:
      return grid.wrong_values(refusal.config)
    begin(refusal.config)
  except ValueError as e:
    return str(e).splitlines()
  except (OSError, RuntimeError, MemoryError):
    pass  # of data or devices; said when these are asked for in earnest
  return []


def plan_runs(config: ConfigDict) -> tuple[dict[Any, data.Dataset], list[Run]]:
  """Plans, reading only the data without which there is no plan.

  Args:
    config: with or without a grid.

  Returns:
    (data sets read so far by `plan.data_key`, runs).

  Raises:
    ValueError: every fault of config and data, one a line.
  """
  datasets = {}
  laid_out = cells.lay_out(config)
  for cell, _, _ in laid_out:
    if must_be_read(cell) and data_key(cell) not in datasets:
      try:
        datasets[data_key(cell)] = _load(cell)
      except data.DataError:
        pass  # `make_runs` meets the same fault and lists it among the others
  return datasets, grid.make_runs(config, datasets, laid_out)


def load_data(datasets: dict[Any, data.Dataset], runs: list[Run]) -> None:
  """Loads what runs train on, into `datasets`.

  Raises:
    DataError: the data are missing or unfit.
  """
  for run in runs:
    key = data_key(run.cell)
    if key not in datasets:
      datasets[key] = _load(run.cell)


def _load(cell) -> data.Dataset:
  with data.progress_bars() as progress:
    options = {'validation': cell.validation, 'options': cell.dataset_options.to_dict()}
    return data.load(cell.dataset, progress=progress, **options, **where(cell))
