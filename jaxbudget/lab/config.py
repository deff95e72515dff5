"""Configs: what can be set, and how what people write is read.

A config is a locked `ml_collections.ConfigDict`: the keys of `defaults()`, where `grid`
lists the cells of an experiment as the values in which they differ from the rest (`cells`).
"""

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxbudget import factories, listing, options, recipes, registry
from jaxbudget.lab.frozen_config import FrozenConfig

# Keys that cannot change a number in a result: not part of a run's identity.
INCIDENTAL = (
  'checkpoint_every',
  'data_dir',
  'data_manual_dir',
  'devices',  # only their rounding differs, as that of other machines does
  'grid',
  'name',
  'placement',  # the bits are the same
  'recipe',  # the parts that it sets count
  'record_selection',
  'rows_per_call',
  'seeds',
  'slurm',
  'threads',  # a condition, see `run/conditions.py`
  'xla_optimization',  # likewise
)
MOST_SEEDS, MOST_RUNS = 10_000, 100_000  # more are a mistake, and would fill the memory
# The file counts by its digest, not by its place.
INCIDENTAL_OPTIONS = ('selector.replay.recording', 'selector.proxy_filter.recording')
OPTION_KEYS = {kind: f'{kind}_options' for kind in registry.KINDS}
# Options that were keys of their own, and still may be written so.
SHORT = {
  'width': 'model_options.width',
  'bn_gamma_init': 'model_options.bn_gamma_init',
  'compute_dtype': 'model_options.compute_dtype',
  'conv': 'model_options.conv',
  'momentum': 'optimizer_options.momentum',
  'weight_decay': 'optimizer_options.weight_decay',
}


class Refusal(ValueError):
  """Values that a config does not take.

  Attributes:
    config: with all other values; None where more would have come.
    keys: those that were refused.
  """

  def __init__(
    self, message: str, config: ConfigDict | None = None, keys: Iterable[str] = ()
  ) -> None:
    super().__init__(message)
    self.config, self.keys = config, tuple(keys)


def defaults(**overrides: Any) -> ConfigDict:
  """Every key there is, with the protocol of the paper (fidelity.md section 1).

  Args:
    **overrides: values for some of the keys, dotted names included.

  Returns:
    A locked config with an empty grid: one cell.

  Raises:
    ValueError: unknown keys, all of them in one message.
  """
  config = ConfigDict(
    {
      'name': '',  # of the experiment, for headings only
      'recipe': '',  # that set the parts below, before all else, see docs/recipes.md
      # Parts by name (docs/parts.md): ours, or package.module:factory. Options are those of the
      # chosen factory; those that are not given have its defaults.
      'dataset': 'cifar10',  # or npz:PATH, folder:PATH, tfds:NAME
      'dataset_options': {},
      'data_dir': '',  # prepared data; empty: the usual TFDS directory
      'data_manual_dir': '',  # archives that are on disk already
      'data_checksums': '',  # checksums of archives other than the official ones
      'placement': 'auto',  # of images: device, host; auto: the first that fits, docs/placement.md
      'train_part': (0, 1),  # (i, n): train on the i-th of n equal parts of the data only
      'validation': 0,  # images carved from train to replace the test set
      'model': 'resnet18',
      'model_options': {},  # e.g. width, compute_dtype
      'selector': 'unif_sgd',  # or replay:DIR, what the run in DIR recorded
      'selector_options': {},
      'augment': 'standard',  # several are joined by +
      'augment_options': {},
      'schedule': 'linear',
      'schedule_options': {},
      'learning_rate': 0.1,
      'final_learning_rate': 1e-6,
      'optimizer': 'sgd',
      'optimizer_options': {},  # e.g. momentum, weight_decay
      'matmul_precision': '',  # of float32 products: highest, high, ... ; '': JAX's own setting
      'task': 'classification',
      'task_options': {},  # e.g. label_smoothing
      'averaging': 'none',  # of the weights along the run; averaged ones are evaluated
      'averaging_options': {},
      'tta': 'none',  # views of a test image in one more evaluation: mirror, mirror_translate
      'budget': 1.0,  # B in (0, 1]
      'shared_by': 1,  # runs that share what this one needs: each is charged a part of it
      'budget_unit': 'backward',  # or compute: selection is charged too
      'score_every': 1,  # k: candidates are scored in every k-th epoch only, whatever the method
      'score_size': 0,  # height of the images that candidates are scored on; 0: as they are
      'epochs': 200,  # T, the full epochs that budget 1 stands for
      'batch_size': 128,
      'fidelity': 'corrected',  # or released: as the published code did it
      'seeds': (0, 1, 2),  # or an int n for 0..n-1
      'evaluate_every': 1,  # epochs; the last epoch is always evaluated
      'evaluate_batch': 250,  # test images in a forward pass, at most; 0: by memory alone
      'devices': 1,  # to split each batch over; 0: all there are
      'threads': 0,  # that a run computes with on CPU, of which bits depend; 0: all cores
      'xla_optimization': 3,  # of CPU programs: 2 compiles sooner, large networks train slower
      'rows_per_call': 0,  # rows in one call to the device; 0: about a second, ten on a GPU
      'checkpoint_every': 300.0,  # seconds
      'record_selection': False,  # keep, for each epoch, how often each sample was trained on
      'slurm': {  # what each task of a job array gets, under --executor=slurm
        'partition': '',  # empty: the cluster's default
        'account': '',
        'gpus': 1,
        'cpus': 4,
        'memory_gb': 16.0,  # 0: the cluster's default
        'minutes': 240,  # a task that needs longer is saved, requeued and goes on
        'runs_per_task': 1,  # more for short runs
        'parallel': 32,  # tasks of an array at a time
        'confirm_hours': 10.0,  # device-hours beyond which a launch asks, or wants --yes
        'setup': (),  # shell commands before training, e.g. 'module load cuda'
        'sbatch': '',  # further options, e.g. '--constraint=a100 --qos=long'
      },
      'grid': (),  # cells, each a dict of the values in which it differs
    }
  )
  apply(config, overrides)
  return config.lock()


def parse_arg(arg: str | None) -> dict[str, Any]:
  """Reads `key=value,key=value`; values are Python literals or else strings.

  Args:
    arg: what stands behind the colon of `--config=FILE:arg`.

  Returns:
    A dict in the order given, behind the values of a recipe if there is one among them.

  Raises:
    ValueError: a part without `=`, a key given twice, or an unknown recipe.
  """
  return expand(parse_pairs(arg))


def parse_pairs(arg: str | None) -> dict[str, Any]:
  """Reads `key=value,key=value` as it stands: a recipe is a value like any other.

  Args:
    arg: as for `parse_arg`.

  Returns:
    A dict in the order given.

  Raises:
    ValueError: a part without `=`, or a key given twice.
  """
  parsed = {}
  for part in filter(None, split(arg or '')):
    key, equals, value = part.partition('=')
    if not equals:
      raise ValueError(
        f'config argument {part!r} is not of the form key=value (quote a value with commas)'
      )
    if key in parsed:
      raise ValueError(f'config argument {key!r} is given twice')
    parsed[key] = literal(value)
  return parsed


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
  """Puts the values of a recipe before all others that are given with it.

  Args:
    values: by key, perhaps `recipe` among them.

  Returns:
    The same; of a recipe first what it sets, without options of a part that is another one here.

  Raises:
    ValueError: an unknown recipe, with the closest match.
  """
  name = values.get('recipe')
  if not name or not isinstance(name, str):  # told where it is set
    return dict(values)
  given = recipes.values(name)
  own = {kind: given.get(kind) for kind in OPTION_KEYS}
  others = {key for kind, key in OPTION_KEYS.items() if values.get(kind, own[kind]) != own[kind]}
  given = flatten({key: value for key, value in given.items() if key not in others})
  typed = {full_key(key) for key, _ in flatten(values)}
  return {'recipe': name, **{k: v for k, v in given if k not in typed}, **values}


def overruled(arg: str | None, config: ConfigDict, values: Mapping[str, Any]) -> list[str]:
  """What stands behind the colon and a recipe that is given elsewhere sets otherwise.

  There is no telling which was meant, for a recipe comes before what stands beside it only.

  Args:
    arg: what stands behind the colon of `--config=FILE:arg`.
    config: what came of it, and its grid.
    values: of flags.

  Returns:
    A fault for each recipe of grid and flags.
  """
  try:
    typed = {full_key(key) for key, _ in flatten(parse_arg(arg))}
  except ValueError:  # an argument of another form, which its config reads
    return []
  grid = [(cell, 'the grid', 'in its cells') for cell in config.grid if isinstance(cell, Mapping)]
  faults = []
  for given, place, remedy in [*grid, (values, '--config.recipe', 'as a flag too')]:
    own = {full_key(key) for key, _ in flatten(given)}
    set_by_it = {full_key(key) for key, _ in flatten(expand(given))} - own | own & {'recipe'}
    keys = ['recipe'] if 'recipe' in set_by_it & typed else sorted(set_by_it & typed)
    if keys:
      faults.append(
        f'{" and ".join(keys)}: behind the colon, and set by recipe {given["recipe"]!r} of '
        f'{place}; give {"one of them" if keys == ["recipe"] else f"what is meant {remedy}"}'
      )
  return list(dict.fromkeys(faults))


def literal(text: str) -> Any:
  """Reads a value that somebody typed: a Python literal, or else a string."""
  try:
    return ast.literal_eval(text)
  # Of keys that cannot be hashed, and of what is nested too deep for the parser.
  except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
    return text


def split(arg: str, at: str = ',') -> list[str]:
  """Splits a text, but not within brackets, nor within quotes that open a value.

  Args:
    arg: the text.
    at: the character between the parts.

  Returns:
    The parts.

  Raises:
    ValueError: a bracket or a quote is not closed.
  """
  parts, start, closing = [], 0, []
  for i, c in enumerate(arg):
    if closing and c == closing[-1]:
      closing.pop()
    elif closing and closing[-1] in '\'"':
      continue
    elif c in _BRACKETS:
      closing.append(_BRACKETS[c])
    elif c in '\'"' and (closing or arg[:i].rstrip()[-1:] in f'={at}'):
      closing.append(c)
    elif c == at and not closing:
      parts.append(arg[start:i])
      start = i + 1
  if closing:
    raise ValueError(f'config argument {arg[start:]!r} lacks {closing[-1]!r} at its end')
  return [*parts, arg[start:]]


_BRACKETS = {'(': ')', '[': ']', '{': '}'}


def apply(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets values in a config, in place; ints become floats where a float belongs.

  Args:
    config: to change.
    values: by key; dots reach into dicts, and nested dicts are merged. Options of parts are
      taken as they are: `cells` knows the parts.

  Raises:
    Refusal: unknown keys and values of the wrong type, all in one message.
  """
  faults, refused = [], []
  for key, value in flatten(expand(values)):
    *path, leaf = full_key(key).split('.')
    value = options.python(value)
    try:
      if path and path[0] in OPTION_KEYS.values() and path[0] in config:
        _set_option(config, path, leaf, value)
      elif leaf in OPTION_KEYS.values():
        raise ValueError(f'{key}={value!r}: it must be a dict of options')
      else:
        _set_key(config, path, leaf, value)
    except (TypeError, ValueError) as e:
      faults.append(str(e) if isinstance(e, ValueError) else f'{key}={value!r}: {e}')
      refused.append(key)
  if faults:
    raise Refusal('\n'.join(faults), keys=refused)


def override(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets values that somebody typed, in place, in a config with or without a grid.

  Args:
    config: to change.
    values: by key, dotted for options, as `parse_arg` and `literal` read them.

  Raises:
    Refusal: unknown keys, values of the wrong type, and keys that the grid sets itself: all in
      one message, with what was made of the others.
  """
  faults, refused = [], []
  try:
    apply(config, values)
  except ValueError as e:
    faults, refused = [str(e)], list(e.keys if isinstance(e, Refusal) else ['recipe'])
  own = gridded(config)  # a grid may have been typed too
  twice = {key: value for key, value in flatten(values) if full_key(key) in own}
  faults = [
    f'{key} is set by the grid of this config, cell by cell: it cannot be {value!r} for all'
    for key, value in twice.items()
  ] + faults
  if faults:
    raise Refusal('\n'.join(faults), config, [*twice, *refused])


def gridded(config: ConfigDict) -> set[str]:
  """The keys that a config's grid sets, in any of its cells."""
  cells = [cell for cell in config.get('grid') or () if isinstance(cell, Mapping)]
  return {full_key(key) for cell in cells for key, _ in flatten(expand(cell))}


def full_key(key: str) -> str:
  """A key under the name that it has in a config."""
  return SHORT.get(key, key)


def _set_key(config, path, leaf, value) -> None:
  """Sets one of the declared keys."""
  place = config
  for step in path:
    registry.check('config key', step, place.keys())
    place = place[step]
    if not isinstance(place, ConfigDict):
      raise ValueError(f'{".".join((*path, leaf))}={value!r}: {step} has one value, no keys')
  if path:
    registry.check(f'key of {path[-1]}', leaf, place.keys())
  elif leaf not in place:
    _refuse_key(leaf, (*place.keys(), *SHORT))
  kind = place.get_type(leaf)
  if value is None:
    raise TypeError('it cannot be None')
  if leaf in OPTION_KEYS and callable(value):
    value = factories.name_of(leaf, value)
  if kind in (int, float) and isinstance(value, bool):
    raise TypeError('a number is expected, not a truth value')
  if kind is float and isinstance(value, int):
    try:
      value = float(value)
    except OverflowError:
      raise ValueError(f'{".".join((*path, leaf))} is refused: the number is too large') from None
  if leaf == 'seeds':
    value = seed_tuple(value)
  if leaf == 'dataset' and isinstance(value, str):
    value = registry.data_name(value)
  try:
    with place.unlocked():
      place[leaf] = value
  except TypeError:
    raise TypeError(f'it must be {_TYPES[kind]}') from None


def _refuse_key(key: str, known: Iterable[str]) -> None:
  """Refuses a key that no config has.

  Raises:
    ValueError: with the closest match; of the option of a part, with the keys that set it.
  """
  entries = {name: listing.entries(kind).values() for kind, name in OPTION_KEYS.items()}
  owners = [name for name, parts in entries.items() if any(key in e.options for e in parts)]
  if owners:
    spelt = ' or '.join(repr(f'{name}.{key}') for name in owners)
    listed = ', '.join(known)
    raise ValueError(f'unknown config key {key!r}; did you mean {spelt}? (known: {listed})')
  registry.check('config key', key, known)


_TYPES = {
  bool: 'True or False', int: 'a whole number', float: 'a number', str: 'text', tuple: 'a tuple',
  ConfigDict: 'a dict',
}  # fmt: skip


def _set_option(config, path, leaf, value) -> None:
  """Sets an option of a part, or of one part of a chain."""
  key = '.'.join([*path, leaf])
  if len(path) > 2 or not all([*path, leaf]):
    raise ValueError(f'{key} is no option: write {path[0]}.OPTION, or {path[0]}.PART.OPTION')
  try:
    hash(FrozenConfig({leaf: value}))  # as cells are told apart
  except TypeError:
    raise TypeError('it must be None, a number, text or a tuple of these') from None
  place = config[path[0]]
  with config.unlocked():
    if path[1:]:
      if not isinstance(place.get(path[1]), ConfigDict):
        place[path[1]] = ConfigDict()
      place = place[path[1]]
    if leaf in place:  # a ConfigDict holds on to the type of what it replaces
      del place[leaf]
    place[leaf] = value


def from_record(record: Mapping[str, Any]) -> ConfigDict:
  """Makes a config again of what JSON kept of it.

  Args:
    record: its `to_dict()`.

  Returns:
    The config.

  Raises:
    ValueError: unknown keys and values of the wrong type.
  """
  return defaults(**dict(flatten(record)))


def flatten(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Pairs of dotted key and value; an empty dict is a value, except where dicts belong.

  Args:
    values: by key; mappings may be nested.
    prefix: of the keys.

  Yields:
    Each pair; a key that is no text as it is written, which no config knows.
  """
  for key, value in values.items():
    if isinstance(value, Mapping) and (value or key in (*OPTION_KEYS.values(), 'slurm')):
      yield from flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def seed_tuple(seeds: int | Iterable[int]) -> tuple[int, ...]:
  """Seeds as a tuple: an int n stands for 0..n-1.

  Args:
    seeds: an int or a sequence of ints.

  Returns:
    The seeds.

  Raises:
    ValueError: not whole numbers, negative, repeated or none at all.
  """
  given = seeds
  if isinstance(seeds, int) and not isinstance(seeds, bool):
    if seeds > MOST_SEEDS:
      raise ValueError(
        f'seeds={seeds} stands for {seeds:,} seeds, and at most {MOST_SEEDS:,} make sense; for the '
        f'one seed {seeds} write seeds=({seeds},)'
      )
    seeds = range(seeds)
  seeds = seeds if isinstance(seeds, Iterable) else (seeds,)
  seeds = tuple(itertools.islice(seeds, MOST_SEEDS + 1))
  whole = all(isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**31 for s in seeds)
  if not whole or not seeds or len(set(seeds)) < len(seeds) or len(seeds) > MOST_SEEDS:
    shown = f'{seeds}' if len(seeds) <= 10 else f'({str(seeds[:10])[1:-1]}, ...)'
    if isinstance(given, str) or not isinstance(given, Iterable):
      shown = repr(given)
    raise ValueError(
      f'seeds={shown}: give 1 to {MOST_SEEDS:,} whole numbers from 0 to 2**31 - 1, each once, or a '
      'count n for 0..n-1'
    )
  return seeds
