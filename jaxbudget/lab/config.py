"""Configs: what can be set, how a config file's argument is read, how cells come of a grid.

A config is a locked `ml_collections.ConfigDict`: the keys of `defaults()`, where `grid`
lists the cells of an experiment as the values in which they differ from the rest.
"""

import ast
import copy
import inspect
import itertools
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import placeholder

from jaxbudget import recording, registry
from jaxbudget.augment import AUGMENTS
from jaxbudget.selectors import SELECTORS

# Keys that cannot change a number in a result (design.md 6): not part of a run's identity.
INCIDENTAL = (
  'checkpoint_every',
  'data_dir',
  'data_manual_dir',
  'devices',  # only their rounding differs, as that of other machines does
  'grid',
  'name',
  'record_selection',
  'rows_per_call',
  'seeds',
  'slurm',
)
MOST_SEEDS, MOST_RUNS = 10_000, 100_000  # more are a mistake, and would fill the memory
_NOT_OPTIONS = ('scores',)  # an array from another run
INCIDENTAL_OPTIONS = ('recording',)  # the file counts by its digest, not by its place
OPTION_KEYS = ('selector_options', 'augment_options')


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
      'dataset': 'cifar10',  # or npz:PATH, folder:PATH, tfds:NAME
      'data_dir': '',  # prepared data; empty: the usual TFDS directory
      'data_manual_dir': '',  # archives that are on disk already
      'data_checksums': '',  # checksums of archives other than the official ones
      'train_part': (0, 1),  # (i, n): train on the i-th of n equal parts of the data only
      'validation': 0,  # images carved from train to replace the test set
      'model': 'resnet18',
      'width': 0,  # channels of the first stage; 0: the model's own
      'bn_gamma_init': 'uniform01',  # or ones (fidelity.md D16)
      'compute_dtype': 'float32',  # or bfloat16
      'conv': 'auto',  # convolution gradients: lax, cpu, or by backend
      'selector': 'unif_sgd',  # or replay:DIR, what the run in DIR recorded
      'selector_options': _options(SELECTORS.values()),  # None: the method's default
      'augment': 'standard',
      'augment_options': _options(AUGMENTS.values()),
      'schedule': 'linear',
      'learning_rate': 0.1,
      'final_learning_rate': 1e-6,
      'momentum': 0.9,
      'weight_decay': 1e-4,
      'budget': 1.0,  # B in (0, 1]
      'shared_by': 1,  # runs that share what this one needs: each is charged a part of it
      'budget_unit': 'backward',  # or compute: selection is charged too
      'epochs': 200,  # T, the full epochs that budget 1 stands for
      'batch_size': 128,
      'fidelity': 'corrected',  # or released: as the published code did it
      'seeds': (0, 1, 2),  # or an int n for 0..n-1
      'evaluate_every': 1,  # epochs; the last epoch is always evaluated
      'evaluate_batch': 250,  # test images in a forward pass, at most; 0: by memory alone
      'devices': 1,  # to split each batch over; 0: all there are
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


def _options(factories: Iterable[Callable]) -> dict[str, Any]:
  """Placeholders for the keyword-only options of all factories."""
  options = {}
  for factory in factories:
    for p in inspect.signature(factory, eval_str=True).parameters.values():
      if p.kind is p.KEYWORD_ONLY and p.name not in _NOT_OPTIONS:
        options[p.name] = placeholder(_plain_type(p.annotation))
  return options


def _plain_type(annotation):
  """Float for `float | None`, tuple for `tuple[float, ...]`."""
  if isinstance(annotation, types.UnionType):
    annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
  return typing.get_origin(annotation) or annotation


def parse_arg(arg: str | None) -> dict[str, Any]:
  """Reads `key=value,key=value`; values are Python literals or else strings.

  Args:
    arg: what stands behind the colon of `--config=FILE:arg`.

  Returns:
    A dict in the order given.

  Raises:
    ValueError: a part without `=`, or a key given twice.
  """
  parsed = {}
  for part in filter(None, (arg or '').split(',')):
    key, equals, value = part.partition('=')
    if not equals:
      raise ValueError(f'config argument {part!r} is not of the form key=value')
    if key in parsed:
      raise ValueError(f'config argument {key!r} is given twice')
    try:
      parsed[key] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
      parsed[key] = value
  return parsed


def apply(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets values in a config, in place; ints become floats where a float belongs.

  Args:
    config: to change.
    values: by key; dots reach into option dicts, and nested dicts are merged.

  Raises:
    ValueError: unknown keys and values of the wrong type, all in one message.
  """
  faults = []
  for key, value in _flatten(values):
    *path, leaf = key.split('.')
    place = config
    try:
      for step in path:
        registry.check('config key', step, place.keys())
        place = place[step]
      registry.check('config key' if not path else f'key of {path[-1]}', leaf, place.keys())
      kind = place.get_type(leaf)
      if kind in (int, float) and isinstance(value, bool):
        raise TypeError('a number is expected, not a truth value')
      if kind is float and isinstance(value, int):
        value = float(value)
      if leaf == 'seeds':
        value = seed_tuple(value)
      with place.unlocked():
        place[leaf] = value
    except (TypeError, ValueError) as e:
      faults.append(str(e) if isinstance(e, ValueError) else f'{key}={value!r}: {e}')
  if faults:
    raise ValueError('\n'.join(faults))


def from_record(record: Mapping[str, Any]) -> ConfigDict:
  """Makes a config again of what JSON kept of it.

  Args:
    record: its `to_dict()`; keys that were None may be missing.

  Returns:
    The config.

  Raises:
    ValueError: unknown keys and values of the wrong type.
  """
  known = {key: value for key, value in _flatten(record) if value is not None}
  return defaults(**known)


def _flatten(values: Mapping[str, Any], prefix: str = ''):
  for key, value in values.items():
    if isinstance(value, Mapping):
      yield from _flatten(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def seed_tuple(seeds: int | Iterable[int]) -> tuple[int, ...]:
  """Seeds as a tuple: an int n stands for 0..n-1.

  Args:
    seeds: an int or a sequence of ints.

  Returns:
    The seeds.

  Raises:
    ValueError: not whole numbers, negative, repeated or none at all.
  """
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
    raise ValueError(
      f'seeds={shown}: give 1 to {MOST_SEEDS:,} whole numbers from 0 to 2**31 - 1, each once, or a '
      'count n for 0..n-1'
    )
  return seeds


def _identify_recording(cell: ConfigDict) -> None:
  """Writes `replay:DIR` out as options, in place, with the digest of what DIR holds."""
  name, _, directory = str(cell.selector).partition(':')
  if name != 'replay':
    return
  options = cell.selector_options
  cell.selector = name
  if directory:
    options.recording = directory
  if options.recording and not options.recording_digest:
    options.recording_digest = recording.digest(options.recording)


def cells(config: ConfigDict) -> list[tuple[FrozenConfigDict, tuple[dict, ...]]]:
  """Lays out the grid.

  Args:
    config: with a grid, or without for a single cell.

  Returns:
    For every cell its config (no grid, no seeds) and the paper's cells it stands for, dicts
    as in the key `paper` of plan.json.

  Raises:
    ValueError: faults of all cells, in one message.
  """
  laid_out, faults = [], []
  common = ConfigDict(config)
  with common.unlocked():
    del common.grid, common.seeds
  grid = config.grid or ({},)
  if not isinstance(grid, list | tuple) or not all(isinstance(c, Mapping) for c in grid):
    raise ValueError(f'grid={grid!r} must be a tuple of dicts, one for each cell')
  if len(grid) > MOST_RUNS:
    raise ValueError(f'grid has {len(grid):,} cells; at most {MOST_RUNS:,} runs can be planned')
  for values in grid:
    cell = copy.deepcopy(common)  # options too: a ConfigDict made of another shares them
    values = dict(values)
    paper = tuple(dict(place) for place in values.pop('paper', ()))
    try:
      apply(cell, values)
      _identify_recording(cell)
    except ValueError as e:
      faults.append(str(e))
    laid_out.append((FrozenConfigDict(cell), paper))
  if faults:
    raise ValueError('\n'.join(dict.fromkeys(faults)))
  return laid_out
