"""Whether a run is the paper's experiment, key by key and option by option."""

import functools
from collections.abc import Mapping
from typing import Any

from jaxbudget.lab import config as config_lib
from jaxbudget.lab import fidelity
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.paper import printed, study
from jaxbudget.lab.run import identity
from jaxbudget.registry import NAMES

# What a place in a table says, and how often and in what portions it was tested.
_FREE = ('budget', 'evaluate_every', 'evaluate_batch', 'tta')
_OF_PLACES = ('dataset', 'selector', 'augment', 'schedule')
# Options that change no result, or no more than rounding.
_FREE_OPTIONS = {'model': ('conv',), 'dataset': ('path', 'decode_workers', 'on_missing')}


def is_kept(place: Mapping[str, Any], cell: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
  """Whether a run kept to the paper's protocol, which is the default of every key and option.

  What older configs do not say had its default; their options of network and optimizer are keys
  of their own. What a fidelity preset decides is told beside the number.

  Args:
    place: in a table of the paper.
    cell: a row of `report.cells.cells`.
    config: of one of its runs; empty if it is not known.

  Returns:
    False where anything differs that could change the accuracy.
  """
  settings = {**config, **{key: cell[key] for key in ('epochs', 'batch_size', 'model')}}
  fixed = [kind for kind in OPTION_KEYS if kind not in _OF_PLACES]
  known = _keys()
  if any(_plain(settings.get(key, known[key])) != known[key] for key in (*known, *fixed)):
    return False
  chosen = {kind: settings.get(kind, known[kind]) for kind in fixed}
  chosen |= {kind: cell[kind] for kind in _OF_PLACES}
  return all(_has_options(kind, name, place, config) for kind, name in chosen.items())


@functools.cache
def _keys() -> dict[str, Any]:
  """The paper's value of each key that no place says, and of each kind of part."""
  config = config_lib.defaults()
  names = (*identity.config_defaults(), *(kind for kind in OPTION_KEYS if kind not in _OF_PLACES))
  return {key: _plain(config[key]) for key in names if key not in _FREE}


def _has_options(kind: str, name: str, place: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
  """Whether a part has the paper's options; `width=0` once was the network's own."""
  if not set(name.split('+')) <= set(NAMES[kind]):
    return False  # not ours, or not known
  given = config.get(OPTION_KEYS[kind])
  given = given if isinstance(given, dict) else {}
  own, free = {**config, **given}, {*fidelity.options(), *_FREE_OPTIONS.get(kind, ())}
  own |= {'width': own.get('width') or None} if kind == 'model' else {}
  options = {k: v for part in identity.part_defaults(kind, name).values() for k, v in part.items()}
  if kind == 'selector':
    options |= _of_place(place, config)
  kept = (_plain(own.get(k, v)) in (_plain(v), None) for k, v in options.items() if k not in free)
  return all(kept) and set(given) <= free | set(options)


def _of_place(place: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
  """The options of the method that a place asks for, as the preset of the run means them."""
  options = dict(_options(printed.canonical(place.get('table'))).get(_key(place), {}))
  if options.get('warmup') and config.get('fidelity') == 'released':
    options['warmup'] -= 1  # of `fidelity.WARMED`
  return options


@functools.cache
def _options(table: str) -> dict[tuple, dict[str, Any]]:
  cells = study.table_cells(table, config_lib.defaults().epochs)
  return {_key(cell['paper']): cell['options'] for cell in cells}


def _key(place: Mapping[str, Any]) -> tuple:
  return tuple(printed.canonical(place.get(key)) for key in printed.KEY)


def _plain(value: Any) -> Any:
  """As JSON gives it back."""
  return list(value) if isinstance(value, tuple) else value
