"""What the tests of faults share: a tiny grid, and what must be equal after a disturbance."""

import json
import pathlib

import numpy as np
import pytest
import toy_methods

from jaxbudget import data, registry
from jaxbudget.lab import cells, config
from jaxbudget.lab.run.run import Run, data_key
from jaxbudget.lab.sweep import grid

N, TEST, SIZE = 48, 20, 8
VARIANTS = {
  'sgd': {'selector': 'sgd', 'budget': 1.0},
  'scan_sgd': {'selector': 'scan_sgd'},
  'unif_sgd': {'selector': 'unif_sgd'},
  'p_sgd': {'selector': 'p_sgd'},
  'p_sgd_replacement': {'selector': 'p_sgd', 'selector_options': {'replacement': True}},
  'p_sgd_ricap': {'selector': 'p_sgd', 'augment': 'ricap'},
  'p_sgd_randaugment': {'selector': 'p_sgd', 'augment': 'randaugment'},
  'c_sgd_warm': {'selector': 'c_sgd', 'selector_options': {'warmup': 2}},
  'sb': {'selector': 'selective_backprop', 'selector_options': {'history': 16}},
  'sb_mixup': {
    'selector': 'selective_backprop', 'augment': 'mixup', 'selector_options': {'history': 16},
  },
  'sb_stale': {
    'selector': 'selective_backprop', 'selector_options': {'history': 16, 'staleness': 2},
  },
  'sb_exact': {
    'selector': 'selective_backprop', 'selector_options': {'rate': 'exact', 'history': 16},
  },
  'sb_compute': {
    'selector': 'selective_backprop', 'budget_unit': 'compute', 'budget': 0.8,
    'selector_options': {'history': 16, 'tail': 'flush'},
  },
  'ordered': {'selector': 'ordered_sgd', 'selector_options': {'thresholds': (30.0, 40.0)}},
  'ordered_compact': {
    'selector': 'ordered_sgd', 'selector_options': {'backward': 'compact', 'thresholds': (30.0,)},
  },
  'random_subset': {'selector': 'random_subset'},
  'coreset': {'selector': 'coreset'},  # brings its scoring run, dynamics_sgd, along
  # A scan of one batch: one of several, stopped in each, would begin again for ever.
  'scan': {'selector': 'loss_scan', 'evaluate_batch': 64},
  'held_out': {'selector': 'held_out'},  # brings two runs on half of the data along
}  # fmt: skip

# One for each thing that a checkpoint may miss: mixed images, queues, q, caps of a compute budget,
# runs that need others, scans. (That the state is all there is to a method, the kit sees.)
PATHS = (
  'p_sgd_ricap', 'sb_mixup', 'sb_stale', 'sb_compute', 'ordered', 'ordered_compact', 'coreset',
  'scan', 'held_out',
)  # fmt: skip


# Names of ours alone, whatever a test of the same file has made known.
OURS = {kind: registry.names(kind) for kind in registry.KINDS}


@pytest.fixture(scope='module')
def linear_model():
  """Makes `linear`, `hidden` and the toy methods known under their names."""
  with pytest.MonkeyPatch.context() as patch:
    for name in ('linear', 'hidden'):
      patch.setitem(registry.NAMES['model'], name, f'linear:{name}')
    for name in toy_methods.METHODS:
      patch.setitem(registry.NAMES['selector'], name, f'toy_methods:{name}')
    yield


def write_images(path: pathlib.Path) -> str:
  """An npz data set of 4 classes told apart by brightness; gives its name."""
  rng = np.random.default_rng(0)
  arrays = {}
  for split, n in (('train', N), ('test', TEST)):
    label = np.arange(n) % 4
    noise = rng.integers(0, 150, (n, 8, 8))
    arrays |= {f'x_{split}': (noise + 25 * label[:, None, None]).astype(np.uint8)}
    arrays |= {f'y_{split}': label}
  np.savez(path, **arrays)
  return f'npz:{path}'


def settings(dataset: str, **values):
  """A config of one tiny cell."""
  common = {
    'dataset': dataset, 'model': 'linear', 'batch_size': SIZE, 'epochs': 4, 'budget': 0.5,
    'seeds': 1, 'evaluate_batch': 16, 'learning_rate': 0.5, 'record_selection': True,
  }  # fmt: skip
  return config.defaults(**{**common, **values})


def planned(values) -> tuple[list[Run], dict]:
  """Runs of a config, and its data set by key."""
  name = values.dataset
  dataset = data.load(name)
  ((cell, _, _), *_) = cells.lay_out(values)
  datasets = {data_key(cell): dataset}
  return grid.make_runs(values, datasets), datasets


def outcome(directory: pathlib.Path) -> dict:
  """What a finished run leaves, apart from seconds, to be compared with ==."""
  names = {path.name for path in directory.iterdir()}
  found = {'names': names - {'lock'}}
  for name in names - {'SHA256SUMS', 'result.json', 'metrics.jsonl', 'lock'}:
    found[name] = (directory / name).read_bytes()
  found['metrics.jsonl'] = [
    without_seconds(json.loads(line))
    for line in (directory / 'metrics.jsonl').read_text().splitlines()
  ]
  result = without_seconds(json.loads((directory / 'result.json').read_text()))
  result.get('versions', {}).pop('commit', None)  # documents may be committed in between
  return {**found, 'result.json': result}


def without_seconds(record: dict) -> dict:
  """A record of metrics or results without its clock."""
  return {key: value for key, value in record.items() if key != 'seconds'}


def differences(a: dict, b: dict) -> list[str]:
  """Keys under which two outcomes differ."""
  return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
