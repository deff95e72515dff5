"""By what name a run is known: a hash of all that can change its numbers, and of nothing else.

What has its default value is left out, so that a new config key or option with a neutral default
renames no run. The engine counts by its number, parts from outside by their source; the rest of
the code, versions and devices are conditions (`conditions.py`), not identity.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from jaxbudget import factories, source
from jaxbudget.data import tables
from jaxbudget.data.dataset import Dataset, Info
from jaxbudget.epoch import ENGINE
from jaxbudget.factories import Part
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.frozen_config import FrozenConfig
from jaxbudget.lab.run.build import Parts
from jaxbudget.registry import CHAINED, NAMES

# Defaults that have changed: the value that ids leave out is the first there was. So the id of a
# run that takes the new default says so, and a run of before keeps its own. Keys are those of
# `defaults`.
CHANGED: dict[str, Any] = {}
KINDS = tuple(kind for kind in NAMES if kind != 'dataset')  # data are known by what they are
# Kinds that came later: a run that chooses what was the only choice before is the same run.
_LATER = {
  'task': {'name': 'classification', 'options': {}},
  'averaging': {'name': 'none', 'options': {}},
}


def content(
  cell: FrozenConfig, data: Any, parts: Parts, needs: Sequence[str] = ()
) -> dict[str, Any]:
  """What is hashed, apart from the seed.

  The fidelity preset counts through the options it resolves to: a cell that it does not
  affect is the same run under both presets.

  Args:
    cell: config of a cell.
    data: what identifies its data set, see `data_content`.
    parts: of the cell.
    needs: ids of the runs that it needs.

  Returns:
    Plain values, as JSON gives them back.
  """
  config = {key: value for key, value in cell.to_dict().items() if key not in _ELSEWHERE}
  sources = {part.name: part_source(part) for part in parts.outside if part.kind in KINDS}
  chosen = {kind: _chosen(kind, cell[kind], parts.options[kind]) for kind in KINDS}
  found = {
    'engine': ENGINE,
    'data': data,
    'config': _told(config, config_defaults()),
    **{kind: one for kind, one in chosen.items() if one != _LATER.get(kind)},
    **({'sources': sources} if sources else {}),
    **({'needs': list(needs)} if needs else {}),
  }
  return json.loads(json.dumps(found, default=list))


# Keys that change no number, and those that are told in another place or by what they lead to.
_ELSEWHERE = frozenset((
  *config_lib.INCIDENTAL, *config_lib.OPTION_KEYS, *config_lib.OPTION_KEYS.values(), 'fidelity',
  'data_checksums',
))  # fmt: skip


def digest(found: Mapping[str, Any]) -> str:
  """The hash of a content: 16 hex digits."""
  return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def without_code(found: Mapping[str, Any]) -> str:
  """The hash of what a config says of a run: of a content, but for what comes of code.

  That is the engine's number, the source of parts from outside, and the ids of needed runs, into
  which both go.
  """
  return digest({k: v for k, v in found.items() if k not in ('engine', 'sources', 'needs')})


def agree(run_id: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
  """Refuses contents that are not equal although their ids are.

  Raises:
    ValueError: naming in what they differ.
  """
  names = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
  if names:
    shown = '; '.join(f'{name}: {was.get(name)!r} and {now.get(name)!r}' for name in names)
    raise ValueError(f'two runs have the id {run_id}, but are not the same ({shown})')


def _chosen(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """What was chosen of a kind: its name, and those of its options that must be told."""
  known = part_defaults(kind, name)
  nested = options if len(known) > 1 else dict.fromkeys(known, options)
  names = name.split('+') if kind in CHAINED else [name]
  told = {  # others may call theirs `replay` too: prefixes are of whole names
    short: _told(nested.get(short, {}), known[short], f'{kind}.{one}.')
    for one, short in zip(names, known, strict=True)
  }
  return {'name': name, 'options': {short: values for short, values in told.items() if values}}


def _told(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ''):
  """The values that are not the defaults, or not those there were at first."""
  neutral = {key: CHANGED.get(prefix + key, default) for key, default in defaults.items()}
  return {
    key: value
    for key, value in values.items()
    if prefix + key not in config_lib.INCIDENTAL_OPTIONS
    and (key not in neutral or value != neutral[key])
  }


@functools.cache
def config_defaults() -> dict[str, Any]:
  """Defaults of the config keys that ids may leave out."""
  config = config_lib.defaults().to_dict()
  return {key: value for key, value in config.items() if key not in _ELSEWHERE}


def part_defaults(kind: str, name: str) -> dict[str, dict[str, Any]]:
  """Defaults of the options of what is chosen, by short name of each part, likewise."""
  ours = set(name.split('+')) <= set(NAMES[kind])
  return _known_defaults(kind, name) if ours else _defaults(kind, name)


def _defaults(kind, name):
  parts = factories.chain(kind, name)
  return {part.short: {key: o.default for key, o in part.options.items()} for part in parts}


_known_defaults = functools.cache(_defaults)


# Options of data sets that change nothing that is seen.
_NO_PIXELS = ('decode_workers', 'on_missing')


def data_content(
  name: str, dataset: Dataset | None, options: Mapping[str, Any] | None = None
) -> Any:
  """What identifies a data set.

  Args:
    name: of the data set.
    dataset: if it had to be read.
    options: of the data set, as they were set.

  Returns:
    The hash of its content and what else is done with it; of an official one its name and what
    the table says of it, so that it need not be there to be planned.
  """
  if dataset is None:
    table = tables.INFO[name]
    facts = {field.name: getattr(table, field.name) for field in dataclasses.fields(Info)}
    default = {field.name: field.default for field in dataclasses.fields(Info)}
    found = [name, digest({k: v for k, v in facts.items() if v != default[k]})]
    (defaults,) = part_defaults('dataset', name).values()
    told = _told(options or {}, defaults, f'dataset.{name}.')
    told = {k: v for k, v in told.items() if k not in _NO_PIXELS}
    return [*found, told] if told else found
  info = dataset.info
  found = {'content': dataset.fingerprint, 'flip': info.flip, 'pad': info.pad}
  if factories.find('dataset', name).outside:  # ours compute these from the content
    found |= {'mean': list(info.mean), 'std': list(info.std)}
  return found


def part_source(part: Part) -> str:
  """The hash of a part from outside: of its module, with what that imports of its own.

  The engine has its number, and versions that are conditions of every run are not told again.
  """
  return _part_source(part, _TOLD_BY_CONDITIONS)


_TOLD_BY_CONDITIONS = ('jaxbudget', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


def _part_source(part: Part, skip: Sequence[str]) -> str:
  if part.factory.__module__ == '__main__':  # a notebook
    return source.text_hash(textwrap.dedent(inspect.getsource(part.factory)))
  module = part.name.partition(':')[0]
  return source.source_hash([module], [source.root_of(module)], skip=skip)


def source_of(cell: FrozenConfig, outside: Sequence[Part]) -> str:
  """The hash of all source that decides the numbers of a cell: the engine's and its parts'.

  Args:
    cell: its config.
    outside: those of its parts that are of other packages.

  Returns:
    16 hex digits.
  """
  others = {part.name: _part_source(part, ['jaxbudget']) for part in outside}
  ours = _source_hash(source_modules(cell))
  return digest({'ours': ours, 'others': others}) if others else ours


def source_modules(cell: FrozenConfig) -> tuple[str, ...]:
  """The modules of the engine, and of the parts of ours that a cell chose."""
  parts = [part for kind in KINDS for part in factories.chain(kind, cell[kind])]
  chosen = [part.factory.__module__ for part in parts if not part.outside]
  cheaper = ('jaxbudget.selectors.rescored',) if cell.score_every > 1 or cell.score_size else ()
  products = ('jaxbudget.precision',) if cell.matmul_precision else ()
  in_files = cell.dataset.startswith('folder:') or cell.dataset == 'imagenet'
  decoded = ('jaxbudget.data.encoded',) if in_files else ()  # what is cropped as it is decoded
  return tuple(dict.fromkeys((*_ENGINE_MODULES, *chosen, *cheaper, *products, *decoded)))


_ENGINE_MODULES = (
  'jaxbudget.epoch', 'jaxbudget.state', 'jaxbudget.scan', 'jaxbudget.parts', 'jaxbudget.schedules',
  'jaxbudget.optimizers', 'jaxbudget.averaging', 'jaxbudget.evaluation',
)  # fmt: skip
# What finds parts by their names, and the table of names: a new name changes no run.
NO_NUMBERS = tuple(f'jaxbudget.{name}' for name in ('registry', 'factories', 'options', 'listing'))


@functools.cache
def _source_hash(modules: tuple[str, ...]) -> str:
  roots = dict.fromkeys(source.root_of(module) for module in modules)
  return source.source_hash(modules, roots, skip=NO_NUMBERS)
