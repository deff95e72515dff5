"""Sweeps without a config file: alternatives of some keys, in every combination."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxbudget import registry
from jaxbudget.lab import config as config_lib


def read(text: str) -> tuple[dict[str, list[Any]], list[str]]:
  """Reads `key=a|b;key=c|d`, what `--grid` is given.

  Args:
    text: values are Python literals or else strings; brackets and quotes protect `|` and `;`.

  Returns:
    (the alternatives of each key, what is not of this form).
  """
  found, faults = {}, []
  try:
    parts = config_lib.split(text, ';')
  except ValueError as e:
    return {}, [f'--grid: {e}']
  for part in parts:
    key, equals, values = (word.strip() for word in part.partition('='))
    words = [word.strip() for word in config_lib.split(values, '|')]
    if not part.strip():
      continue
    if not key or not equals:
      faults.append(f'--grid: {part!r} is not of the form key=value|value')
    elif not all(words):
      faults.append(f'--grid: {part!r} lacks a value; an empty string is written as two quotes')
    elif key in found:
      faults.append(f'--grid: {key!r} is given twice; its alternatives are joined by |')
    else:
      found[key] = [config_lib.literal(word) for word in words]
  if not found and not faults:
    faults.append('--grid is empty; write e.g. selector=p_sgd|unif_sgd;budget=.1|.3')
  return found, faults


def multiply(config: ConfigDict, alternatives: Mapping[str, Sequence[Any]]) -> None:
  """Gives a config, in place, a cell for every combination; its own grid is multiplied.

  What values of several keys are together is seen when the cells are laid out.

  Args:
    config: with or without a grid.
    alternatives: of each key; the last key varies fastest.

  Raises:
    ValueError: every key that there is not, that cannot differ from cell to cell or that the
      grid sets already, and every value that is of the wrong type, not known or given twice, one
      a line; or too many cells.
  """
  own = config_lib.gridded(config)
  faults = []
  for key, values in alternatives.items():
    if key == 'seeds':
      faults.append('seeds are the same for all cells: --config.seeds=3 gives three')
      continue
    if config_lib.full_key(key) in own:
      faults.append(f'{key} is set by the grid of this config, cell by cell')
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    faults += [f'{key}={value} is given twice' for value in dict.fromkeys(map(repr, repeated))]
    faults += dict.fromkeys(fault for value in values for fault in _wrong(config, key, value))
  count = math.prod(map(len, alternatives.values())) * max(1, len(config.grid))
  if count > config_lib.MOST_RUNS:
    faults.append(f'{count:,} combinations; at most {config_lib.MOST_RUNS:,} runs can be planned')
  if faults:
    raise ValueError('\n'.join(faults))
  combinations = [
    dict(zip(alternatives, values, strict=True))
    for values in itertools.product(*alternatives.values())
  ]
  cells = config.grid or ({},)
  with config.unlocked():
    config.grid = tuple({**cell, **values} for cell in cells for values in combinations)


def _wrong(config: ConfigDict, key: str, value: Any) -> list[str]:
  """What is wrong with a value whatever the others are."""
  try:
    config_lib.apply(copy.deepcopy(config), {key: value})
    if key in registry.KINDS and isinstance(value, str):
      for name in value.split('+') if key in registry.CHAINED else [value]:
        if ':' not in name:  # else a part from outside or with an argument
          registry.check(key, name, registry.names(key))
  except ValueError as e:
    return str(e).splitlines()
  return []
