"""Synthetic workdirs with known answers, for the tests of the report."""

import json
import pathlib
import zlib

import numpy as np

from jaxbudget.lab.paper import printed
from jaxbudget.lab.report import page, render
from jaxbudget.lab.run import files

QUICKSTART = [('sgd', 1.0)] + [
  (selector, budget)
  for selector in (
    'scan_sgd', 'unif_sgd', 'p_sgd', 'c_sgd', 'selective_backprop', 'ordered_sgd',
  )
  for budget in (0.1, 0.3)
]  # fmt: skip
SELECTORS = {
  'SGD': 'sgd', 'scan-SGD': 'scan_sgd', 'unif-SGD': 'unif_sgd', 'p-SGD': 'p_sgd',
  'c-SGD': 'c_sgd', 'SB': 'selective_backprop', 'OSGD': 'ordered_sgd',
}  # fmt: skip
CONDITIONS = {
  'engine': 1, 'source': 'abc', 'jax': '0.10.2', 'jaxlib': '0.10.2', 'flax': '0.12.6',
  'optax': '0.2.8', 'numpy': '2.4.1', 'device': 'cpu', 'processes': 1, 'threads': 2,
  'matmul_precision': None, 'prng': 'threefry2x32', 'threefry_partitionable': True, 'x64': False,
  'seed_offset': 0, 'xla_flags': '', 'cpu': 'abacus', 'host': 'study',
  'placement': 'device',
  'missing_files': None,
}  # fmt: skip
_OF_DATA = ('num_train', 'num_test')  # which a config holds among what its data are
_SIZES = {'cifar10': 10_000, 'cifar100': 10_000, 'svhn': 26_032, 'mini_imagenet': 10_000}
_GAIN = {'p_sgd': 0.3, 'c_sgd': -0.2, 'selective_backprop': -1.0, 'ordered_sgd': -2.0}


def curve(budget: float) -> float:
  """A saturating accuracy (percent) of a budget."""
  return 97.0 - 9.0 * (1.05 - budget) ** 4


def cost_of(selector: str, budget: float, full: int) -> dict:
  """Samples passed through the model, by fidelity.md section 6."""
  trained = int(budget * full)
  scored = full if selector == 'selective_backprop' else 0
  total = scored + 3 * trained
  return {'rows': trained // 64, 'forward_scored': scored, 'forward_trained': trained,
          'backward': trained, 'forward_equivalents': total}  # fmt: skip


def plan_run(selector, budget, seed, **changes) -> dict:
  """One entry of plan.json."""
  run = {
    'dataset': 'digits', 'model': 'resnet8', 'augment': 'standard', 'schedule': 'linear',
    'budget_unit': 'backward', 'epochs': 20, 'batch_size': 64, 'fidelity': 'released',
    'num_train': 1437, 'num_test': 360, 'options': {}, 'paper': [],
  } | changes  # fmt: skip
  cell = '-'.join(str(run[k]) for k in ('dataset', 'augment', 'schedule', 'fidelity'))
  cell = f'{cell}-{selector}-{budget:g}'.replace(':', '_').replace('/', '_')
  run |= {'selector': selector, 'budget': budget, 'seed': seed, 'cell_id': cell}
  run['run_id'] = f'{cell}-s{seed}'
  run['planned'] = cost_of(selector, budget, run['epochs'] * run['num_train'])
  return run


def quickstart_plan(seeds=(0, 1, 2), **changes) -> list[dict]:
  """13 cells, as the quickstart has them."""
  return [plan_run(s, b, seed, **changes) for s, b in QUICKSTART for seed in seeds]


def small_plan(seeds=(0, 1)) -> list[dict]:
  """5 cells of 3 epochs, for tests that need files rather than numbers."""
  cells = [('sgd', 1.0), ('unif_sgd', 0.3), ('p_sgd', 0.3), ('selective_backprop', 0.3),
           ('ordered_sgd', 0.3)]  # fmt: skip
  return [plan_run(s, b, seed, epochs=3) for s, b in cells for seed in seeds]


def paper_plan(tables=(1, 2, 3, 4, 5, 6), seeds=(0, 1, 2), rehearsal=False) -> list[dict]:
  """The cells of the paper's tables, at full size or as a rehearsal on digits."""
  plan = {}
  for row in printed.results().drop_duplicates(list(printed.KEY)).itertuples():
    if row.table not in tables:
      continue
    place = {key: getattr(row, key) for key in printed.KEY}
    place['budget'] = None if np.isnan(row.budget) else row.budget
    changes = {'augment': row.augmentation, 'schedule': row.schedule}
    if not rehearsal:
      dataset = row.dataset.replace('-', '_')
      changes |= {'dataset': dataset, 'model': 'resnet18', 'epochs': 200, 'batch_size': 128,
                  'num_train': 50_000, 'num_test': _SIZES[dataset]}  # fmt: skip
    for seed in seeds:
      budget = place['budget'] or (0.25 if row.dataset == 'cifar10' else 0.5)
      run = plan_run(SELECTORS[row.method], budget, seed, **changes)
      plan.setdefault(run['run_id'], run)
      plan[run['run_id']]['paper'] = [*plan[run['run_id']]['paper'], place]
  return list(plan.values())


def figure1_plan(seeds=(0, 1, 2)) -> list[dict]:
  """The cells of Figure 1, rehearsed on digits."""
  plan = {}
  names = SELECTORS | {'Random': 'random_subset', 'Core-set': 'coreset'}
  for row in printed.figure1().itertuples():
    place = {'table': 'figure1', 'dataset': row.dataset, 'method': row.group,
             'panel': row.panel, 'series': row.series}  # fmt: skip
    series = row.series if row.panel in 'cd' else 'SLR'
    options = {}
    if row.group == 'p-SGD':
      options = {'smoothing': 'noeps' not in series, 'average': 'noavg' not in series}
    changes = {'schedule': 'step' if 'SLR' in series else 'linear', 'options': options,
               'augment': 'ricap' if 'ricap' in series else 'standard'}  # fmt: skip
    budget = float(row.series) if row.panel in 'ab' else 0.3
    for seed in seeds:
      run = plan_run(names[row.group], budget, seed, **changes)
      suffix = ''.join(f'-{key}' for key, value in options.items() if not value)
      run['cell_id'] += suffix
      run['run_id'] += suffix
      plan.setdefault(run['run_id'], run)
      plan[run['run_id']]['paper'] = [*plan[run['run_id']]['paper'], place]
  return list(plan.values())


def sweep_plan(rates: int = 20, decays: int = 12, seeds=(0, 1, 2)) -> list[dict]:
  """A large sweep: every rate with every decay, each method at two budgets."""
  methods = [*QUICKSTART, ('random_subset', 0.3)]
  plan = []
  for number in range(rates * decays):
    rate, decay = number % rates, number // rates
    changes = {'learning_rate': 0.01 * (1 + rate), 'weight_decay': 1e-5 * (1 + decay)}
    for selector, budget in methods:
      for seed in seeds:
        run = plan_run(selector, budget, seed) | {'config': changes}
        for key in ('cell_id', 'run_id'):
          run[key] = f'v{number}-{run[key]}'
        plan.append(run)
  return plan


def write_run(workdir: pathlib.Path, run: dict, accuracy: float | None = None, **result) -> None:
  """Writes what a finished run leaves behind."""
  rng = np.random.default_rng(zlib.crc32(run['run_id'].encode()))
  if accuracy is None:
    accuracy = curve(run['budget']) + _GAIN.get(run['selector'], 0) + rng.normal(0, 0.4)
  accuracy = float(np.clip(accuracy, 0, 100))
  directory = workdir / 'runs' / run['run_id']
  directory.mkdir(parents=True)
  identity = {
    k: v for k, v in run.items()
    if k not in ('paper', 'planned', 'options', 'needs', 'selection', 'config', *_OF_DATA)
  }  # fmt: skip
  config = identity | {
    'learning_rate': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4, 'bn_gamma_init': 'uniform01',
    'selector_options': run['options'], 'augment_options': {},
  } | run.get('config', {})  # fmt: skip
  config['data'] = {key: run[key] for key in _OF_DATA} | config.get('data', {})
  (directory / 'config.json').write_text(json.dumps(config))
  epochs, total = int(run['epochs']), run['planned']
  lines = []
  for epoch in range(1, epochs + 1):
    part = epoch / epochs
    selector = {'mean_importance': 0.5 - 0.3 * part}
    if run['selector'] == 'selective_backprop':
      selector = {'acceptance_rate': run['budget'] + 0.02 * rng.normal()}
    if run['selector'] == 'ordered_sgd':
      selector = {'q': 64 if part < 0.3 else 32 if part < 0.6 else 16}
    lines.append({
      'epoch': epoch, 'rows': total['rows'] // epochs, 'lr': 0.1 * (1 - part) + 1e-6,
      'train_loss': 2.3 * np.exp(-4 * part) + 0.02 * rng.random(),
      'train_accuracy': 100 - 90 * np.exp(-5 * part),
      'test_accuracy': accuracy - 80 * np.exp(-6 * part) * (1 - part) if epoch % 2 == 0 or
      epoch == epochs else None,
      'entropy_nats': np.log(run['num_train']) * (1 - 0.3 * np.exp(-4 * part)),
      'cost': {k: int(v * part) for k, v in total.items()},
      'seconds': {'train': 0.2, 'evaluate': 0.02},
      'selector': selector,
    })  # fmt: skip
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (directory / 'metrics.jsonl').write_text(text)
  counts = rng.poisson(run['budget'] * epochs, int(run['num_train'])).astype(np.int32)
  np.save(directory / 'counts.npy', counts)
  share = counts[counts > 0] / counts.sum()
  done = {
    'run_id': run['run_id'], 'status': 'done', 'final_accuracy': accuracy,
    'best_accuracy': min(100.0, accuracy + 0.3),
    'cost': total | {'forward_evaluated': 3600, 'flops': 1e9},
    'realised_budget': total['backward'] / (epochs * run['num_train']),
    'entropy_nats': float(-(share * np.log(share)).sum()),
    'seconds': {'data': 0.1, 'compile': 3.0, 'train': 4 * total['rows'] / 300, 'evaluate': 0.4},
    'seed': run['seed'], 'config_hash': 'c0ffee',
    'device': {'platform': 'cpu', 'kind': 'cpu', 'devices': 1, 'host_cpus': 2},
    'versions': {'jaxbudget': '0.1.0', 'jax': '0.10.2', 'commit': 'abc1234'},
    'data_fingerprint': f'{run["dataset"]}-fingerprint',
    'conditions': CONDITIONS,
  } | result  # fmt: skip
  (directory / 'result.json').write_text(json.dumps(done))


def write_workdir(
  path: pathlib.Path, plan: list[dict], accuracy=None, sealed: bool = False
) -> pathlib.Path:
  """Writes a plan and a finished run for each entry.

  Args:
    path: of the workdir.
    plan: entries of plan.json.
    accuracy: of a run, where answers are to be known.
    sealed: with checksums, as real runs have them.

  Returns:
    The path.
  """
  path.mkdir(parents=True, exist_ok=True)
  (path / 'plan.json').write_text(json.dumps({'runs': plan}))
  for run in plan:
    write_run(path, run, None if accuracy is None else accuracy(run))
    if sealed:
      directory = path / 'runs' / run['run_id']
      files.write_sums(directory, (directory / files.RESULT).read_bytes())
  return path


def table_html(table: render.Table) -> str:
  """A table as the page shows it."""
  return page.environment().get_template('blocks.html').module.show(table)
