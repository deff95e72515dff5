"""What the study's runs gave, as tables: a row a run, and a row an epoch that was evaluated."""

import gzip
import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from jaxbudget.lab.run import files

# Runs that others need have seeds of their own, counted down from the largest there is.
_NEEDED = 2**30
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


def read(workdirs: Iterable[pathlib.Path], commit: str = '') -> tuple[pd.DataFrame, pd.DataFrame]:
  """Reads finished runs; what is not finished is left out.

  Args:
    workdirs: of the launcher, or copies of theirs without weights.
    commit: of the code, where the runs could not know it.

  Returns:
    (runs, curves). `runs` has a row a run: `part`, `set`, `cell`, `seed`, what it was, `options` of
    its method as JSON, figures, `cost` in full trainings with all that is charged, `machine` (a
    digest of everything it was computed under), `commit`, `command`. `curves` has a row an epoch
    that was evaluated.
  """
  runs, curves = [], []
  for workdir in workdirs:
    for directory in sorted(pathlib.Path(workdir).glob('runs/*')):
      result = files.read_json(directory / files.RESULT)
      if not isinstance(result, dict) or result.get('status') != 'done':
        continue
      config = files.read_json(directory / files.CONFIG)
      row = _row(config, result, commit)
      runs.append(row)
      for line in (directory / files.METRICS).read_text(encoding='utf-8').splitlines():
        epoch = json.loads(line)
        if epoch['test_accuracy'] is not None:
          curves.append([row['cell'], row['seed'], row['machine'], *(epoch[k] for k in _CURVE)])
  order = ['part', 'set', 'cell', 'seed', 'machine']
  found = pd.DataFrame(runs, columns=_columns()).drop_duplicates(order[2:])
  curves = pd.DataFrame(curves, columns=['cell', 'seed', 'machine', *_CURVE])
  curves = curves.drop_duplicates(['cell', 'seed', 'machine', 'epoch'])
  found, curves = found.sort_values(order), curves.sort_values(['cell', 'seed', 'epoch'])
  return found.reset_index(drop=True), curves.reset_index(drop=True)


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
    'cell': result['cell_id'],
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


def _machine(conditions: Mapping[str, Any]) -> str:
  """A digest of all that a run was computed under, its code and its data apart."""
  told = {k: v for k, v in conditions.items() if k not in ('source', 'data_fingerprint')}
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
  return pd.read_csv(directory / RESULTS, dtype=text, keep_default_na=False, na_values=['nan'])


def once(runs: pd.DataFrame) -> pd.DataFrame:
  """Each cell and seed once: if trained on several machines, on that with the most runs."""
  many = runs['machine'].map(runs['machine'].value_counts())
  order = runs.assign(many=many).sort_values(['many', 'machine'], ascending=[False, True])
  return order.drop_duplicates(['cell', 'seed']).drop(columns='many').sort_index()
