"""What the study's runs gave, as tables: a row a run, and a row an epoch that was evaluated."""

import gzip
import hashlib
import io
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from jaxbudget.lab import plain
from jaxbudget.lab.run import files, identity, run_state

# Runs that others need have seeds of their own, counted down from the largest there is.
_NEEDED = 2**30
# A number of the code, in the ids of cells and machines: always that of the first runs, so that a
# run of newer code is of the same cell. What code a run was trained with `commit` alone tells.
_ENGINE = 1
_KEYS = (
  'selector', 'augment', 'schedule', 'budget', 'budget_unit', 'fidelity', 'epochs', 'batch_size',
  'score_every', 'score_size', 'shared_by',
)  # fmt: skip
_FIGURES = ('final_accuracy', 'best_accuracy', 'best_epoch', 'entropy_nats')
_COSTS = (
  'rows', 'forward_scored', 'forward_trained', 'backward', 'forward_equivalents',
  'forward_evaluated', 'flops',
)  # fmt: skip
_SECONDS = ('compile', 'train', 'evaluate')
_TOLD = ('device', 'cpu', 'host', 'jax')
_CURVE = ('epoch', 'rows', 'train_loss', 'train_accuracy', 'test_accuracy')
RESULTS, CURVES = 'results.csv', 'curves.csv.gz'


def tell(text: str) -> None:
  """Says something beside what a command prints."""
  print(plain.text(text), file=sys.stderr)


def read(
  workdirs: Iterable[pathlib.Path], commit: str = '', say: Callable[[str], None] = tell
) -> tuple[pd.DataFrame, pd.DataFrame]:
  """Reads finished runs; what is not finished is left out, and what is damaged.

  Args:
    workdirs: of the launcher, or copies of theirs without weights.
    commit: of the code, where the runs could not know it.
    say: told of damage.

  Returns:
    (runs, curves). `runs` has a row a run: `part`, `set`, `cell`, `seed`, what it was, `options` of
    its method as JSON, figures, `cost` in full trainings with all that is charged, `machine` (a
    digest of everything it was computed under, its code apart), `commit`, `command`. `curves` has
    a row an epoch that was evaluated.

  Raises:
    ValueError: one name stands for several sets of images, or for several networks on one.
  """
  runs, curves, settings = [], [], {}
  for workdir in workdirs:
    for directory in sorted(pathlib.Path(workdir).glob('runs/*')):
      state = run_state.look(directory)
      if state.name == run_state.CORRUPT:
        say(f'{directory}: not used: {state.why}')
      if state.name != run_state.DONE:
        continue
      try:
        config = _config(directory)
        row = _row(config, state.result, commit)
      except files.Damaged as e:
        say(f'{directory}: not used: {e}')
        continue
      except KeyError as e:
        say(f'{directory}: not used: a run of the study would tell {e}')
        continue
      if not row['needed']:
        own = directory, _setting(config, state.result)
        _check_alike(row['set'], own, settings.setdefault(row['set'], own))
      runs.append(row)
      try:
        curves += [[row['cell'], row['seed'], row['machine'], *e] for e in _curve(directory)]
      except (OSError, ValueError, KeyError, TypeError) as e:
        say(f'{directory}: its epochs are not used: {e}')
  order = ['part', 'set', 'cell', 'seed', 'machine']
  found = pd.DataFrame(runs, columns=_columns()).drop_duplicates(order[2:])
  curves = pd.DataFrame(curves, columns=['cell', 'seed', 'machine', *_CURVE])
  curves = curves.drop_duplicates(['cell', 'seed', 'machine', 'epoch'])
  found, curves = found.sort_values(order), curves.sort_values(['cell', 'seed', 'epoch'])
  return found.reset_index(drop=True), curves.reset_index(drop=True)


def _config(directory: pathlib.Path) -> dict[str, Any]:
  """The config of a finished run, as it was written."""
  path = directory / files.CONFIG
  files.verify(path)
  config = files.read_json(path)
  if not isinstance(config, dict):
    raise files.Damaged(f'{path} is missing, or no JSON object')
  return config


def _curve(directory: pathlib.Path) -> list[list[Any]]:
  """The epochs of a finished run that were evaluated."""
  path = directory / files.METRICS
  files.verify(path)
  epochs = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
  return [[e[key] for key in _CURVE] for e in epochs if e['test_accuracy'] is not None]


def _setting(config: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
  """What all runs on a set share, and no column tells."""
  network = {k: v for k, v in (config.get('model_options') or {}).items() if k != 'conv'}
  return {
    'the content of their images': result['conditions'].get('data_fingerprint'),
    'dataset_options': config.get('dataset_options'),
    'model': config.get('model'),
    'model_options': network,  # without what moves no more than rounding
  }


def _check_alike(name: str, own: tuple, first: tuple) -> None:
  differ = [key for key, value in own[1].items() if value != first[1][key]]
  if differ:
    raise ValueError(f'{name} of {own[0]} and of {first[0]} differ in {", ".join(differ)}')


def check(runs: pd.DataFrame) -> None:
  """Refuses runs of several studies in one table, which comparisons would mix.

  Args:
    runs: of `read` or `load`.

  Raises:
    ValueError: runs on a set differ in their length or in the size of batches, or two cells differ
      in nothing that a column tells.
  """
  runs = runs[~runs['needed'].astype(bool)]
  for name, own in runs.groupby('set'):
    for key in ('epochs', 'batch_size'):
      seen = sorted(own[key].unique())
      if len(seen) > 1:
        raise ValueError(f'{name}: runs of {key} {" and ".join(map(str, seen))} in one table')
  for _, own in runs.groupby(['set', *_KEYS, 'options']):
    seen = own['cell'].unique()
    if len(seen) > 1:
      raise ValueError(f'{seen[0]} and {seen[1]} differ in what no column tells')


def _columns() -> list[str]:
  return [
    'part', 'set', 'cell', 'seed', 'needed', *_KEYS, 'options', *_FIGURES, 'realised_budget',
    'cost', *_COSTS, *(f'seconds_{name}' for name in _SECONDS), 'machine', *_TOLD, 'commit',
    'command',
  ]  # fmt: skip


def _row(config: Mapping[str, Any], result: Mapping[str, Any], commit: str) -> dict[str, Any]:
  """The row of a run from its two files."""
  part = str(config['name']).rpartition('_')[2].upper()
  conditions, budgets = result['conditions'], result['realised_budgets']
  return {
    'part': part,
    'set': pathlib.PurePath(config['dataset'].partition(':')[2]).stem,
    'cell': _cell(config, result),
    'seed': result['seed'],
    'needed': result['seed'] >= _NEEDED,
    **{key: config[key] for key in _KEYS},
    'options': json.dumps(config['selector_options'], sort_keys=True),
    **{key: result[key] for key in _FIGURES},
    'realised_budget': budgets['backward'],
    'cost': budgets['compute'],
    **{key: result['cost'][key] for key in _COSTS},
    **{f'seconds_{key}': round(result['seconds'][key], 3) for key in _SECONDS},
    'machine': _machine(conditions),
    **{key: conditions[key] for key in _TOLD},
    'commit': result['versions'].get('commit') or commit,
    'command': f'launch.py --config=configs/study.py:part={part}',
  }


def _cell(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
  """The id of a cell, by the content of the run: the same for any code, which `commit` tells."""
  name = result['cell_id'].rpartition('-')[0]
  return f'{name}-{identity.digest({**config["identity"], "engine": _ENGINE})}'


def _machine(conditions: Mapping[str, Any]) -> str:
  """A digest of all that a run was computed under, its code and its data apart."""
  told = {k: v for k, v in conditions.items() if k not in ('source', 'data_fingerprint')}
  told['engine'] = _ENGINE
  return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def write(directory: pathlib.Path, runs: pd.DataFrame, curves: pd.DataFrame) -> None:
  """Writes both tables, each whole or not at all; the same ones give the same bytes."""
  directory.mkdir(parents=True, exist_ok=True)
  files.write_bytes(directory / RESULTS, runs.to_csv(index=False, float_format='%.6g').encode())
  text = curves.to_csv(index=False, float_format='%.5g').encode()
  packed = io.BytesIO()
  with gzip.GzipFile(fileobj=packed, mode='wb', mtime=0) as file:
    file.write(text)
  files.write_bytes(directory / CURVES, packed.getvalue())


def load(directory: pathlib.Path) -> pd.DataFrame:
  """Reads the runs that `write` wrote."""
  text = dict.fromkeys(('cell', 'machine', 'commit', 'options', 'host', 'part', 'set'), str)
  seconds = (f'seconds_{name}' for name in _SECONDS)
  numbers = (*_FIGURES, 'realised_budget', 'cost', *_COSTS, *seconds)  # an empty one is not known
  unknown = {name: ['', 'nan'] for name in numbers}
  return pd.read_csv(directory / RESULTS, dtype=text, keep_default_na=False, na_values=unknown)


def once(runs: pd.DataFrame) -> pd.DataFrame:
  """Each cell and seed once: if trained on several machines, on that with the most runs."""
  many = runs['machine'].map(runs['machine'].value_counts())
  order = runs.assign(many=many).sort_values(['many', 'machine'], ascending=[False, True])
  return order.drop_duplicates(['cell', 'seed']).drop(columns='many').sort_index()
