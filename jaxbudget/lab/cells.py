"""Cells: a config's grid laid out, each cell with the options that its parts know."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxbudget import factories, listing, recording
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.frozen_config import FrozenConfig

# What cells are told apart by in messages, beside selector and budget.
_TOLD = (
  'dataset',
  'model',
  'augment',
  'schedule',
  'optimizer',
  'averaging',
  'fidelity',
  'budget_unit',
  'epochs',
)


class Cell(NamedTuple):
  """A cell of a grid.

  Attributes:
    config: its config, without grid and seeds.
    paper: the paper's cells that it stands for, dicts as in the key `paper` of plan.json.
    faults: what is wrong with it so far.
  """

  config: FrozenConfig
  paper: tuple[dict, ...]
  faults: tuple[str, ...]


def lay_out(config: ConfigDict) -> list[Cell]:
  """Lays out the grid.

  Options that are common to all cells go to those whose parts know them; those that a cell
  sets itself its parts must know. Whether their values fit is seen when the parts are built.

  Args:
    config: with a grid, or without for a single cell.

  Returns:
    The cells.

  Raises:
    ValueError: the grid is not one.
  """
  common = config.to_dict()
  del common['grid'], common['seeds']
  grid = config.grid or ({},)
  if not isinstance(grid, list | tuple) or not all(isinstance(c, Mapping) for c in grid):
    raise ValueError(f'grid={grid!r} must be a tuple of dicts, one for each cell')
  if len(grid) > config_lib.MOST_RUNS:
    most = f'at most {config_lib.MOST_RUNS:,} runs can be planned'
    raise ValueError(f'grid has {len(grid):,} cells; {most}')
  shared = {kind: _Shared(kind, common[key]) for kind, key in OPTION_KEYS.items()}
  common |= {key: {} for key in OPTION_KEYS.values()}
  blank, found = pickle.dumps(ConfigDict(common)), []
  for values in grid:
    cell = pickle.loads(blank)  # in a sixth of the time that a ConfigDict takes to be made
    values, faults, paper = dict(values), [], ()
    try:
      paper = _places(values.pop('paper', ()))
    except ValueError as e:
      faults.append(str(e))
    steps = [(config_lib.apply, cell, values), (_name_recording, cell)]
    steps += [(options.settle, cell) for options in shared.values()]
    for step, *arguments in [*steps, (_identify_recording, cell)]:
      try:
        step(*arguments)
      except ValueError as e:
        faults += str(e).splitlines()
    found.append(Cell(FrozenConfig(cell.to_dict()), paper, tuple(faults)))
  unused = tuple(fault for options in shared.values() for fault in options.faults())
  return [cell._replace(faults=cell.faults + unused) for cell in found]


def _places(given: Any) -> tuple[dict[str, Any], ...]:
  """The paper's cells that a cell stands for.

  Raises:
    ValueError: they are none.
  """
  listed = isinstance(given, list | tuple)
  if not listed or not all(isinstance(place, Mapping) and 'table' in place for place in given):
    raise ValueError(f"paper={given!r} must be a tuple of dicts, each with its 'table'")
  return tuple(dict(place) for place in given)


class _Shared:
  """Options that are common to all cells, and what becomes of them."""

  def __init__(self, kind: str, given: Mapping[str, Any]):
    self.kind, self.given = kind, given
    self.unused: set[str] | None = None  # dotted; None before the first cell
    self.parts: dict[str, factories.Part] = {}  # of all cells, by short name

  def settle(self, cell: ConfigDict) -> None:
    """Writes into a cell, in place, its own options and the common ones that its parts know.

    Raises:
      ValueError: options that its parts do not know, or that several own.
    """
    key = OPTION_KEYS[self.kind]
    try:
      parts = factories.chain(self.kind, cell[self.kind])
    except ValueError:  # told when the parts are built
      self.unused = set()
      return
    self.parts |= {part.short: part for part in parts}
    inherited, unused = factories.divide(parts, self.given)
    self.unused = set(unused) if self.unused is None else self.unused & set(unused)
    given = cell[key].to_dict()
    own, unknown = factories.divide(parts, given)
    merged = [{**a, **b} for a, b in zip(inherited, own, strict=True)]
    nested = {part.short: found for part, found in zip(parts, merged, strict=True) if found}
    settled = merged[0] if len(parts) == 1 else nested
    if settled != given:
      cell[key] = ConfigDict(settled)
    if unknown:
      raise ValueError('\n'.join(_unknown(parts, path) for path in unknown))

  def faults(self) -> list[str]:
    """Options that no cell's parts know."""
    return [_unknown(list(self.parts.values()), path) for path in sorted(self.unused or ())]


def _unknown(parts: Sequence[factories.Part], path: str) -> str:
  """Says that parts have no such option, and whose it is."""
  option, kind = path.rpartition('.')[2], parts[0].kind
  owners = [name for name, entry in listing.entries(kind).items() if option in entry.options]
  have = f'; {", ".join(owners)} {"has" if len(owners) == 1 else "have"} it' if owners else ''
  return f'{OPTION_KEYS[kind]}.{path}: {factories.unknown_option(parts, path)}{have}'


def _name_recording(cell: ConfigDict) -> None:
  """Writes `replay:DIR` out as an option, in place."""
  name, _, directory = str(cell.selector).partition(':')
  if name == 'replay' and directory:
    config_lib.apply(cell, {'selector': name, 'selector_options.recording': directory})


def _identify_recording(cell: ConfigDict) -> None:
  """Adds the digest of what is replayed, in place: a recording counts by its content."""
  options = cell.selector_options
  place = options.get('recording')  # what is no text is refused where the parts are built
  known = not isinstance(place, str) or not place or options.get('recording_digest')
  if cell.selector in ('replay', 'proxy_filter') and not known:
    config_lib.apply(cell, {'selector_options.recording_digest': recording.digest(place)})


def tell(cells: Sequence[Cell], faults: Iterable[Sequence[str]]) -> str:
  """Faults of cells in one message, each once; those of some cells with their names.

  Args:
    cells: all there are.
    faults: of each, in the same order.

  Returns:
    A line for each fault; empty if there is none.
  """
  configs = [cell.config for cell in cells]
  varying = [key for key in _TOLD if len({config[key] for config in configs}) > 1]
  names: dict[str, list[str]] = {}
  for config, found in zip(configs, faults, strict=True):
    extra = ''.join(f', {key} {config[key]}' for key in varying)
    for fault in dict.fromkeys(found):
      names.setdefault(fault, []).append(f'{config.selector} at budget {config.budget:g}{extra}')
  lines = []
  for fault, where in names.items():
    more = f' (and {len(where) - 1} more cells)' if len(where) > 1 else ''
    lines.append(fault if len(where) == len(configs) else f'{where[0]}: {fault}{more}')
  return '\n'.join(lines)
