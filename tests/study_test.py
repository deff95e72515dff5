"""The study's cells against the paper's numbers and the protocol, fidelity.md 1, 2, 6."""

import collections
import csv
import importlib
import pathlib

import pytest

from jaxbudget.lab.paper import study
from jaxbudget.lab.sweep import grid

ROOT = pathlib.Path(__file__).parents[1]
REPORT = ROOT / 'jaxbudget' / 'lab' / 'paper'
KEYS = ('table', 'dataset', 'method', 'augmentation', 'schedule', 'budget')
TRAIN = {'cifar10': 50_000, 'cifar100': 50_000, 'svhn': 73_257, 'mini_imagenet': 50_000}
# fidelity.md 1.3: iterations per epoch by N and budget.
ROWS = {
  50_000: {.05: 19, .1: 39, .2: 78, .3: 117, .5: 195, .7: 273, .8: 312, .9: 351, 1: 390},
  73_257: {.05: 28, .1: 57, .2: 114, .3: 171, .5: 286, .7: 400, .8: 457, .9: 515, 1: 572},
}  # fmt: skip
EPOCHS = {0.2: 40, 0.3: 60, 0.5: 100, 1.0: 200}  # fidelity.md 1.5: scan-SGD and OSGD
SAVED_BY_ROWS = ('unif_sgd', 'p_sgd', 'c_sgd', 'random_subset', 'coreset')


def read(name):
  with (REPORT / name).open(newline='') as file:
    return list(csv.DictReader(file))


def row_key(row):
  """A row of paper_results.csv as the plan's `paper` entries have it."""
  budget = float(row['budget']) if row['budget'] else None
  return (int(row['table']), *(row[key] for key in KEYS[1:5]), budget)


def place_key(place):
  return tuple(place[key] for key in KEYS)


@pytest.fixture(scope='module')
def released():
  """Runs of the whole study as released, one seed, full size."""
  config = study.get_config(study.TABLES, 'fidelity=released')
  with config.unlocked():
    config.seeds = (0,)
  return grid.make_runs(config)


@pytest.fixture(scope='module')
def both():
  """The same with the corrected variants."""
  config = study.get_config(study.TABLES)
  with config.unlocked():
    config.seeds = (0,)
  return grid.make_runs(config)


def test_every_row_of_the_tables_is_one_cell_and_every_cell_is_in_the_paper(released):
  found = collections.Counter(place_key(p) for run in released for p in run.paper)
  rows = {row_key(row) for row in read('paper_results.csv')}
  accuracy = {row_key(r) for r in read('paper_results.csv') if r['metric'] == 'accuracy_percent'}
  tables = {key: count for key, count in found.items() if key[0] != 'figure1'}
  assert len(accuracy) == 10 + 76 + 80 + 80 + 72 and accuracy <= rows
  assert set(tables) == rows and set(tables.values()) == {1}
  scoring = {needed.run_id for run in released for needed in run.needs}
  assert {run.run_id for run in released if not run.paper} == scoring


def test_every_bar_of_figure_1_is_one_cell(released):
  found = [
    (p['panel'], p['dataset'], p['method'], p['series'])
    for run in released
    for p in run.paper
    if p['table'] == 'figure1'
  ]
  bars = read('fig1_digitised.csv')
  assert sorted(found) == sorted(
    (bar['panel'], bar['dataset'], bar['group'], bar['series']) for bar in bars
  )


def test_a_cell_runs_what_its_place_says(released):
  for run in released:
    for place in run.paper:
      assert run.cell.dataset == place['dataset'].replace('-', '_')
      assert run.cell.selector == study.METHODS[place['method']]
      assert run.cell.augment == place['augmentation']
      assert run.cell.schedule == place['schedule']
      assert place['budget'] is None or run.cell.budget == place['budget']


def test_corrected_variants_are_those_the_deviations_affect(both):
  variants = {}
  for run in both:
    for place in run.paper:
      variants.setdefault((*place_key(place), place.get('series')), []).append(run)
  for key, runs in variants.items():
    table, _, method, augmentation = key[:4]
    mixed = augmentation in ('mixup', 'ricap')
    affected = method == 'c-SGD' or (table == 1 and method == 'p-SGD')
    affected |= method == 'SB' or (mixed and method == 'p-SGD')
    presets = [run.cell.fidelity for run in runs]
    assert presets == (['released', 'corrected'] if affected else ['released']), key


def test_rows_and_epochs_are_those_of_the_protocol(released):
  for run in released:
    facts, budget = run.parts.selector.facts, run.cell.budget
    rows = ROWS[TRAIN[run.cell.dataset]]
    fewer_epochs = run.cell.selector in ('scan_sgd', 'ordered_sgd')
    assert facts.rows == rows[budget if run.cell.selector in SAVED_BY_ROWS else 1], run.cell_id
    assert facts.epochs == (EPOCHS[budget] if fewer_epochs else 200), run.cell_id
    assert facts.candidates == run.cell.batch_size == 128
    assert run.cell.model == 'resnet18'


def test_protocol_of_the_optimizer_and_the_seeds():
  config = study.get_config(['2'])
  assert (config.learning_rate, config.final_learning_rate) == (0.1, 1e-6)
  (run, *_) = grid.make_runs(config)
  assert run.parts.options['optimizer'] == {
    'momentum': 0.9, 'weight_decay': 1e-4, 'decay_mask': 'all', 'clip_norm': None,
  }  # fmt: skip
  assert run.parts.options['model']['bn_gamma_init'] == 'uniform01'
  assert run.parts.options['model']['bn_running_var'] == 'unbiased'  # PyTorch's
  assert config.seeds == (0, 1, 2)


def test_planned_cost_is_that_of_the_cost_model(released):
  for run in released:
    cell, rows = run.cell, ROWS[TRAIN[run.cell.dataset]]
    epoch, planned = 128 * rows[1], run.planned.forward_equivalents
    if cell.selector == 'selective_backprop':
      b = 1 / cell.budget - 1
      acceptance = sum((k / 1024) ** b for k in range(1024)) / 1024
      assert planned == pytest.approx(epoch * (4 + 199 * (1 + 3 * acceptance)), abs=3)
    elif cell.selector in ('scan_sgd', 'ordered_sgd'):
      assert planned == 3 * epoch * EPOCHS[cell.budget]
    else:
      assert planned == 3 * 128 * rows[cell.budget] * 200


def test_selectivity_of_selective_backprop(released):
  """b = 1/B - 1 (fidelity.md 2.6): 3 and 1 in Table 1."""
  table1 = {
    p['dataset']: run.cell.budget
    for run in released
    for p in run.paper
    if p['table'] == 1 and p['method'] == 'SB'
  }
  assert {dataset: 1 / budget - 1 for dataset, budget in table1.items()} == {
    'cifar10': 3,
    'cifar100': 1,
  }
  assert all(
    run.parts.selector_options['b'] is None
    for run in released
    if run.cell.selector == 'selective_backprop'
  )


def test_warm_up_is_in_table_1_only(both):
  for run in both:
    warmup = run.parts.selector_options.get('warmup')
    if warmup is not None:
      in_table1 = {p['table'] for p in run.paper} == {1}
      expected = {'released': 69, 'corrected': 70}[run.cell.fidelity] if in_table1 else 0
      assert warmup == expected, run.cell_id


def test_ablations_of_figure_1(released):
  options = {
    p['series']: (run.cell.schedule, run.parts.selector_options, run.cell.augment)
    for run in released
    for p in run.paper
    if p.get('panel') == 'c'
  }
  assert {
    series: (schedule, chosen['smoothing'], chosen['average'], augment)
    for series, (schedule, chosen, augment) in options.items()
  } == {
    'SLR_noeps_noavg': ('step', False, False, 'standard'),
    'LLR_noeps_noavg': ('linear', False, False, 'standard'),
    'LLR_noeps_avg': ('linear', False, True, 'standard'),
    'LLR_eps_avg': ('linear', True, True, 'standard'),
    'LLR_eps_avg_ricap': ('linear', True, True, 'ricap'),
  }


def test_predicted_times_reproduce_those_printed(released):
  """132.2 x + 8.8 minutes, x the cost in full trainings (fidelity.md section 6)."""
  printed = {
    row_key(row): float(row['mean'])
    for row in read('paper_results.csv')
    if row['metric'] == 'wall_clock_minutes' and row['augmentation'] == 'standard'
  }
  checked = []
  for run in released:
    x = run.planned.forward_equivalents / (3 * run.info.num_train * run.cell.epochs)
    for key in map(place_key, run.paper):
      if key in printed:
        assert 132.2 * x + 8.8 == pytest.approx(printed[key], abs=2), key
        checked.append(printed[key])
  assert sorted(checked) == sorted(printed.values())
  assert {47, 91, 100, 127, 119} <= set(checked)


def test_tables_share_runs(released):
  """Table 2's linear rows are Table 3's standard rows; all of Table 5 is in Table 3."""
  for run in released:
    tables = {p['table'] for p in run.paper}
    if 5 in tables:
      assert 3 in tables
    linear = run.cell.schedule == 'linear' and run.cell.augment == 'standard'
    if linear and run.cell.selector in ('sgd', 'unif_sgd', 'selective_backprop') and 2 in tables:
      assert 3 in tables


def test_tables_share_identities(released):
  """A table planned alone has the run ids of the union: a common workdir trains them once."""
  alone = study.get_config(['5'], 'fidelity=released')
  with alone.unlocked():
    alone.seeds = (0,)
  assert {run.run_id for run in grid.make_runs(alone)} <= {run.run_id for run in released}


def test_rehearsal_runs_each_cell_and_merges_those_that_coincide(released):
  rehearsal = grid.make_runs(study.get_config(study.TABLES, 'scale=rehearsal,fidelity=released'))
  places = [{place_key(p) + (p.get('series'),) for run in runs for p in run.paper}
            for runs in (rehearsal, released)]  # fmt: skip
  assert places[0] == places[1]
  assert len(rehearsal) < len(released) / 2
  for run in rehearsal:
    facts, cell = run.parts.selector.facts, run.cell
    assert (cell.dataset, cell.model) == ('digits', 'resnet8')
    assert facts.rows >= 2
    if cell.schedule == 'step':
      assert facts.epochs >= 3
    if run.parts.selector_options.get('warmup'):
      assert run.parts.selector_options['warmup'] == round(0.35 * cell.epochs) - 1
  trainings = sum(run.planned.forward_equivalents for run in rehearsal) / (3 * 1437)
  assert trainings < 1000  # epochs of full SGD: minutes on a laptop


@pytest.mark.parametrize('name', [f'table{n}' for n in range(1, 7)] + ['figure1', 'all'])
def test_config_files(name):
  module = importlib.import_module(f'jaxbudget.lab.configs.{name}')
  config = module.get_config('scale=rehearsal')
  assert config.name == name and config.grid and config.is_locked
  assert f'jaxbudget --config={name}' in module.__doc__
  assert "The paper's answer" in module.__doc__


def grid_values(arg, key):
  return {cell[key] for cell in study.get_config(study.TABLES, arg).grid}


def test_arguments_narrow():
  arg = 'dataset=cifar10,method=p_sgd,budget=0.3'
  assert grid_values(arg, 'selector') == {'p_sgd'}
  assert grid_values(arg, 'dataset') == {'cifar10'}
  assert grid_values(arg, 'budget') == {0.3}
  assert grid_values('budget=0.20+.5,schedule=step', 'budget') == {0.2, 0.5}
  assert grid_values('method=unif-SGD+SB', 'selector') == {'unif_sgd', 'selective_backprop'}
  assert grid_values('dataset=mini-imagenet', 'dataset') == {'mini_imagenet'}
  assert grid_values('fidelity=corrected', 'fidelity') == {'corrected'}
  assert grid_values('table=5', 'budget') == {0.3, 1.0}
  assert all('dataset' not in c for c in study.get_config(['2'], 'scale=rehearsal').grid)


@pytest.mark.parametrize(
  ('arg', 'parts'),
  [
    ('budgets=0.3', ["unknown config argument 'budgets'", "did you mean 'budget'"]),
    ('method=psgd', ["unknown method 'psgd'", "did you mean 'p_sgd'"]),
    ('budget=0.25', ["unknown budget '0.25'", '0.2, 0.3, 0.5']),
    ('dataset=digits', ["unknown dataset 'digits'", 'cifar10']),
    ('scale=papers', ["unknown scale 'papers'", "did you mean 'paper'"]),
    ('schedule=step,budget=1,method=SB', ['no cell has schedule=step, budget=1, method=SB']),
    ('method=psgd,augments=mixup', ['psgd', 'augments']),
    ('p_sgd', ['key=value']),
  ],
)
def test_refused_arguments(arg, parts):
  with pytest.raises(ValueError) as error:
    study.get_config(['2'], arg)
  for part in parts:
    assert part in str(error.value)


def test_unknown_table():
  with pytest.raises(ValueError, match="unknown table '7'"):
    study.get_config(['7'])
