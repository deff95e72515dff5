"""The plan: identities, shared runs, scoring runs and what they cost, estimated time."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxbudget import data, registry
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import launcher, plain
from jaxbudget.lab.configs import methods
from jaxbudget.lab.run import files
from jaxbudget.lab.sweep import calibrate, grid, plan_file, slurm
from jaxbudget.lab.sweep import needs as needs_lib
from jaxbudget.models import network
from jaxbudget.types import Cost

DIGITS = {'dataset': 'digits', 'model': 'resnet8', 'width': 2, 'epochs': 9, 'batch_size': 32}


def runs_of(*cells, **overrides):
  return grid.make_runs(config_lib.defaults(**{**DIGITS, 'seeds': 1, 'grid': cells, **overrides}))


def ids(runs):
  return [run.run_id for run in runs]


def test_options_of_one_cell_do_not_reach_another():
  plain, warm, later = runs_of(
    {'selector': 'p_sgd', 'budget': 0.3},
    {'selector': 'p_sgd', 'budget': 0.3, 'selector_options': {'warmup': 3}},
    {'selector': 'p_sgd', 'budget': 0.5},
  )
  assert plain.parts.selector_options['warmup'] == later.parts.selector_options['warmup'] == 0
  assert warm.parts.selector_options['warmup'] == 3


def test_cells_that_coincide_are_one_run_in_all_their_places():
  places = [{'table': n, 'method': 'p-SGD'} for n in (2, 3)]
  cell = {'selector': 'p_sgd', 'budget': 0.3, 'model_options.bn_running_var': 'biased'}
  runs = runs_of(
    {**cell, 'fidelity': 'released', 'paper': (places[0],)},
    {**cell, 'fidelity': 'corrected', 'paper': (places[1], places[0])},
  )
  assert len(runs) == 1
  assert runs[0].paper == tuple(places)
  assert runs[0].cell.fidelity == 'released'


@pytest.mark.parametrize(
  ('selector', 'augment', 'differ'),
  [
    ('p_sgd', 'standard', False),
    ('p_sgd', 'ricap', True),
    ('p_sgd', 'mixup', True),
    ('c_sgd', 'standard', True),
    ('unif_sgd', 'ricap', False),
    ('selective_backprop', 'standard', True),
    ('selective_backprop', 'mixup', True),
  ],
)
def test_presets_make_two_runs_where_they_differ(selector, augment, differ):
  cell = {'selector': selector, 'augment': augment, 'budget': 0.5}
  runs = runs_of({**cell, 'fidelity': 'released'}, {**cell, 'fidelity': 'corrected'})
  assert len(runs) == 2  # they differ in BatchNorm's running variance
  cell |= {'model_options.bn_running_var': 'unbiased'}
  runs = runs_of({**cell, 'fidelity': 'released'}, {**cell, 'fidelity': 'corrected'})
  assert len(runs) == 1 + differ


def test_identity_leaves_out_what_cannot_change_numbers():
  base = ids(runs_of())
  for override in (
    {'rows_per_call': 7},
    {'checkpoint_every': 9.0},
    {'name': 'x'},
    {'seeds': (0,)},
    {'record_selection': True},
    {'selector_options': {}},
  ):
    assert ids(runs_of(**override)) == base, override
  for override in (
    {'budget': 0.5},
    {'learning_rate': 0.05},
    {'epochs': 10},
    {'batch_size': 16},
    {'width': 4},
    {'schedule': 'step'},
    {'budget_unit': 'compute'},
    {'validation': 100},
    {'augment': 'mixup'},
    {'seeds': (1,)},
  ):
    assert not set(ids(runs_of(**override))) & set(base), override


def test_a_plan_builds_no_network(monkeypatch):
  with monkeypatch.context() as patch:
    patch.delattr(network.nnx, 'eval_shape')
    (run,) = runs_of({'selector': 'unif_sgd'}, width=5)
  params, _ = run.parts.model.init(jax.random.key(0))
  assert params['conv']['kernel'].shape == (3, 3, 1, 5)


def test_default_options_need_not_be_written():
  cell = {'selector': 'p_sgd', 'budget': 0.3}
  assert ids(runs_of(cell)) == ids(runs_of({**cell, 'selector_options': {'average': True}}))


def test_all_faults_at_once():
  cells = ({'selector': 'psgd'}, {'budget': 2.0}, {'schedule': 'steps'}, {'selector': 'coreset'})
  config = config_lib.defaults(**DIGITS, grid=cells)
  with config.unlocked():
    config.seeds = ()
  with pytest.raises(ValueError) as error:
    grid.make_runs(config)
  for part in ('p_sgd', 'budget=2.0', "did you mean 'step'", 'seeds=()'):
    assert part in str(error.value)


CORESETS = tuple(
  {'selector': 'coreset', 'budget': budget, 'selector_options': {'score': score}}
  for score in ('forgetting', 'entropy')
  for budget in (0.3, 0.5)
)


def test_one_scoring_run_serves_all_core_sets():
  runs = runs_of(*CORESETS, {'selector': 'unif_sgd', 'budget': 0.3}, seeds=2)
  scoring, *others = runs
  assert scoring.cell.selector == 'dynamics_sgd' and scoring.needs == ()
  assert (scoring.cell.budget, scoring.cell.schedule, scoring.cell.augment) == (
    1.0,
    'step',
    'standard',
  )
  assert scoring.seed == needs_lib.SEED not in {run.seed for run in others}
  coresets = [run for run in others if run.cell.selector == 'coreset']
  assert len(coresets) == 8 and len(runs) == 1 + 8 + 2
  assert all([r.run_id for r in run.needs] == [scoring.run_id] for run in coresets)
  assert not any(run.needs for run in others if run not in coresets)


def test_scoring_runs_are_per_data_and_protocol():
  cell = {'selector': 'coreset', 'budget': 0.5}
  runs = runs_of(cell, {**cell, 'epochs': 12}, {**cell, 'augment': 'mixup'})
  assert len({run.needs[0].run_id for run in runs if run.needs}) == 2  # the augmentation shares


def test_scoring_run_is_part_of_the_identity(monkeypatch):
  before = ids(runs_of(CORESETS[0]))
  monkeypatch.setattr(needs_lib, 'SEED', 5)
  assert not set(before) & set(ids(runs_of(CORESETS[0])))


def test_selection_is_shown_in_full_and_shared():
  scoring, *coresets = runs_of(*CORESETS)
  full = 3 * 9 * 44 * 32  # 44 rows of 32 among 1437 samples, 9 epochs
  assert scoring.planned.forward_equivalents == full
  for run in coresets:
    record = json.loads(json.dumps(run.record()))  # as plan.json has it
    own = 1437 if run.parts.selector_options['score'] == 'entropy' else 0
    selection = record['selection']
    assert record['needs'] == selection['needs'] == [scoring.run_id]
    assert selection['shared_by'] == 4
    assert selection['forward_scored'] == own
    assert selection['forward_equivalents'] == full + own
    assert selection['forward_equivalents_shared'] == full / 4 + own
    assert record['planned']['forward_scored'] == 0  # the paper does not charge it
  assert scoring.record()['needs'] is None and scoring.record()['selection'] is None


def test_only_keeps_the_scoring_run_that_is_needed():
  runs = runs_of(*CORESETS, {'selector': 'sgd', 'budget': 1.0})
  kept = grid.only(runs, 'selector=coreset,budget=0.3')
  assert [run.cell.selector for run in kept] == ['dynamics_sgd', 'coreset', 'coreset']
  assert [run.cell.selector for run in grid.only(runs, 'selector=sgd')] == ['sgd']
  assert grid.only(runs, '') == runs
  for wanted, said in (
    ('budget=0.4', r"unknown budget of --only '0.4'.*\(known: 0.3, 0.5, 1.0\)"),
    ('budgets=0.3', "unknown key of --only 'budgets'; did you mean 'budget'"),
    ('selector=coreset|sdg', "unknown selector of --only 'sdg'; did you mean 'sgd'"),
    ('selector=sgd,budget=0.3', 'leaves no run: none of the plan has all of these'),
    ('selector', 'not of the form key=value'),
  ):
    with pytest.raises(ValueError, match=said):
      grid.only(runs, wanted)


def test_only_takes_a_recipe_by_its_name():
  runs = runs_of({'recipe': 'airbench94'}, {}, model='resnet8')
  assert {run.cell.recipe for run in grid.only(runs, 'recipe=airbench94')} == {'airbench94'}
  assert {run.cell.recipe for run in grid.only(runs, "recipe=''")} == {''}


def test_only_takes_alternatives_and_numbers_as_they_are_written():
  runs = runs_of(*({'selector': 'p_sgd', 'budget': b} for b in (0.1, 0.3, 0.5)))
  for wanted in ('budget=0.1|0.5', 'budget=.1|5e-1', 'budget=0.50|0.10', 'budget=0.5|0.1,seed=0'):
    assert {run.cell.budget for run in grid.only(runs, wanted)} == {0.1, 0.5}
  entries = [{'run_id': 'a', 'dataset': 'npz:x|y'}, {'run_id': 'b', 'dataset': 'npz:x'}]
  for wanted, kept in (('npz:x|y', ['a']), ('npz:x', ['b'])):
    assert [e['run_id'] for e in plan_file.narrow(entries, f'dataset={wanted}')] == kept


def test_a_core_set_under_compute_is_charged_for_its_scores_or_a_stated_share():
  charged = {**CORESETS[0], 'budget_unit': 'compute'}
  with pytest.raises(ValueError, match='the runs that come first alone cost 0.9798'):
    runs_of(charged)
  scoring, run = runs_of({**charged, 'shared_by': 10})
  full = scoring.planned.forward_equivalents
  assert run.parts.budget.spent == -(-full // 10)
  assert run.selection['forward_equivalents_charged'] == run.parts.budget.spent
  left = 0.3 - run.parts.budget.spent / (3 * 9 * 1437)
  assert run.parts.selector.facts.rows == int(left * 1437) // 32
  total = run.planned.forward_equivalents + run.parts.budget.spent
  assert total <= 0.3 * 3 * 9 * 1437


@pytest.fixture(scope='module')
def digits():
  return data.load('digits')


@pytest.fixture(scope='module')
def train_split(digits):
  return data.place(digits)[0]


def test_prepare_reads_scores(tmp_path, train_split):
  scoring, run = runs_of(CORESETS[0])
  with pytest.raises(
    ValueError, match=f'needs run {scoring.run_id}, which has not left scores.npy'
  ):
    needs_lib.prepare(run, tmp_path, train_split)
  directory = tmp_path / scoring.run_id
  directory.mkdir()
  scores = np.arange(1437) % 5  # times that samples are forgotten: x, or o x o x, and so on
  margin = np.where(np.arange(9)[:, None] % 2 == 0, 1, -1) * np.ones((9, 1437))
  margin[np.arange(9)[:, None] >= 2 * scores[None] + 1] = 1
  record = np.stack([np.zeros((9, 1437)), np.zeros((9, 1437)), margin, np.zeros((9, 1437))])
  np.save(directory / 'scores.npy', record.astype(np.float16))
  ready = needs_lib.prepare(run, tmp_path, train_split)
  order = ready.parts.selector.init(jax.random.key(0))
  assert np.bincount(scores[np.asarray(order[:431])]).tolist() == [0, 0, 0, 144, 287]
  assert (ready.run_id, ready.planned) == (run.run_id, run.planned)
  assert needs_lib.prepare(scoring, tmp_path, train_split) is scoring
  for damaged in (b'', b'\x93NUMPY rubbish'):
    (directory / 'scores.npy').write_bytes(damaged)
    with pytest.raises(ValueError, match='scores.npy'):
      needs_lib.prepare(run, tmp_path, train_split)
  np.save(directory / 'scores.npy', record[..., :-1])
  with pytest.raises(ValueError, match=r'each of its 1437 samples, .* shape \(4, 9, 1436\)'):
    needs_lib.prepare(run, tmp_path, train_split)


def test_prepare_scores_with_the_trained_model(tmp_path, digits, train_split):
  scoring, run = runs_of(CORESETS[2])
  parts = run.parts
  params, model_state = parts.model.init(jax.random.key(1))
  directory = tmp_path / scoring.run_id
  directory.mkdir()
  files.write_weights(directory / 'params.msgpack', params, model_state)
  ready = needs_lib.prepare(run, tmp_path, train_split)
  order = np.asarray(ready.parts.selector.init(jax.random.key(0)))

  @jax.jit
  def predict(image):
    return parts.model.apply(params, model_state, parts.augment.test(image), train=False)[0]

  logits = predict(digits.train_image)
  p = np.asarray(jax.nn.softmax(logits), np.float64)
  entropy = -(p * np.log(p)).sum(1)[order]
  assert (entropy[:431].min()) > entropy[431:].max() - 1e-5
  (directory / 'params.msgpack').write_bytes(b'\x81\xa6params\x80')
  with pytest.raises(ValueError, match='does not hold weights of resnet8'):
    needs_lib.prepare(run, tmp_path, train_split)


_NETWORK = (
  'resnet8 8x8x1 32 width=2 compute_dtype=float32 bn_gamma_init=uniform01 '
  'bn_running_var=biased bn_ghost_size=0 conv=auto'
)
MEASURED = {
  'device': 'abacus',
  'train': {_NETWORK: 1.0},
  'forward': {_NETWORK: 0.1},
  'augment': {'standard 8x8x1 32': 0.01},
}


def test_estimate_is_planned_samples_times_measured_seconds():
  (run,) = runs_of({'selector': 'selective_backprop', 'budget': 0.5}, evaluate_every=4)
  planned: Cost = run.planned
  assert planned.scored == 9 * 44 * 32
  evaluations = 3  # after epochs 4, 8 and 9
  expected = planned.trained + 0.1 * (planned.scored + evaluations * 360) + 0.01 * planned.scored
  assert calibrate.estimate([run], MEASURED) == {run.run_id: pytest.approx(expected)}


@pytest.mark.parametrize('found', [[1], 3, {'train': 3}, MEASURED | {'train': {'a': 'b'}}])
def test_a_calibration_that_is_none_is_said(found, tmp_path, capsys):
  with pytest.raises(ValueError, match='calibration.json is damaged'):
    calibrate.estimate(runs_of({}), found)
  (tmp_path / calibrate.FILE).write_text(json.dumps(found))
  console = plain.make_console(width=300)
  assert launcher.show_plan(runs_of({}), tmp_path, False, console) == 0
  assert 'no times: calibration.json is damaged' in capsys.readouterr().out


def test_estimate_refuses_what_was_not_measured():
  with pytest.raises(ValueError, match='no calibration for .*ricap'):
    calibrate.estimate(runs_of({'augment': 'ricap'}), MEASURED)


def test_calibration_measures_each_kind_once(monkeypatch):
  timed = []
  monkeypatch.setattr(calibrate, '_time_network', lambda run, s: timed.append('net') or (3.0, 1.0))
  monkeypatch.setattr(calibrate, '_time_augment', lambda run, s: timed.append('augment') or 0.5)
  runs = runs_of(
    {'selector': 'p_sgd', 'budget': 0.3},
    {'selector': 'sgd', 'budget': 1.0},
    {'selector': 'p_sgd', 'budget': 0.3, 'augment': 'ricap'},
    {'selector': 'p_sgd', 'budget': 0.3, 'width': 4},
  )
  measured = json.loads(json.dumps(calibrate.calibrate(runs)))
  assert sorted(timed) == ['augment', 'augment', 'net', 'net']
  seconds = calibrate.estimate(runs, measured)
  assert all(np.isfinite(s) and s > 0 for s in seconds.values())


def test_what_a_row_takes_is_measured_for_each_way_to_train():
  first, *others = runs_of(
    {}, {'optimizer': 'muon', 'learning_rate': 0.02}, {'averaging': 'ema'},
    {'matmul_precision': 'highest'},
  )  # fmt: skip
  kinds = [calibrate._network_kind(run) for run in (first, *others)]
  assert len(set(kinds)) == 4 and all(kind.startswith(kinds[0]) for kind in kinds)


def test_further_options_of_slurm_are_long_ones():
  two = slurm._options('--comment="two words" --qos=long --exclusive')
  assert two == {'comment': 'two words', 'qos': 'long', 'exclusive': True}
  for given, at in (('-C a100', "at '-C'"), ('--qos long', "at 'long'"), ('--a="b', 'quotation')):
    with pytest.raises(ValueError, match=f'slurm.sbatch=.*is refused.*{at}'):
      slurm.check(runs_of({'slurm': {'sbatch': given}}))


def test_calibration_of_a_small_network():
  measured = calibrate.calibrate(runs_of(), seconds=0.01)
  for kind in ('train', 'forward', 'augment'):
    (value,) = measured[kind].values()
    assert 0 < value < 1  # seconds per sample
  calibrate.estimate(runs_of(), measured)


def shown(table):
  console = Console(width=200)
  with console.capture() as capture:
    console.print(table)
  return capture.get()


def test_plan_table_shows_cells_totals_and_selection():
  paper = ({'table': 2, 'method': 'SB'}, {'table': 'figure1', 'method': 'SB'})
  runs = runs_of({'selector': 'sgd', 'budget': 1.0, 'paper': paper}, *CORESETS[:2], seeds=2)
  text = shown(calibrate.plan_table(runs))
  assert '4 cells, 7 runs' in text
  assert 'T2 F1' in text and 'digits coreset standard linear 0.3 score=forgetting' in text
  rows = 9 * (3 * 44 + 2 * 13 + 2 * 22)  # sgd twice and the scoring run, core-sets twice
  assert f'{rows / 1000:.3g}k' in text
  assert 'needed first, by 4 runs' in text
  assert 'time:' not in text
  timed = shown(calibrate.plan_table(runs, MEASURED))
  assert 'on abacus' in timed and ' h ' in timed


def test_records_hold_what_the_report_reads():
  (run,) = runs_of({'selector': 'p_sgd', 'budget': 0.3, 'paper': ({'table': 2},)})
  record = run.record()
  assert record['planned'] == {
    'rows': 9 * 13,
    'forward_scored': 0,
    'forward_trained': 9 * 13 * 32,
    'backward': 9 * 13 * 32,
    'forward_equivalents': 3 * 9 * 13 * 32,
  }
  assert record['paper'] == [{'table': 2}]
  assert record['options']['credit'] == 'aligned'
  assert dataclasses.replace(run, seed=1).record()['seed'] == 1


def test_all_methods_fit_under_one_compute_budget_or_are_told(capsys):
  config = methods.get_config('scale=smoke,budgets=(0.3,)')
  runs = grid.make_runs(config)
  found = {run.cell.selector for run in runs}
  told = capsys.readouterr().err
  for name in registry.names('selector'):
    assert name in found or name in told or name in ('dynamics_sgd', 'replay', 'proxy_filter'), name
  full = 3 * config.epochs * 1437
  for run in runs:
    if run.cell.budget == 0.3:
      spent = run.parts.budget.spent + run.planned.forward_equivalents
      assert run.cell.budget_unit == 'compute' and spent <= 0.3 * full, run.run_id
      assert run.planned.scored <= 0.15 * full and run.planned.trained > 0


def test_labels_are_of_the_data_and_cost_no_run(tmp_path, train_split):
  (run,) = runs_of({'selector': 'local_to_global', 'budget': 0.3})
  assert run.needs == () and run.selection is None
  ready = needs_lib.prepare(run, tmp_path, train_split)
  state = ready.parts.selector.init(jax.random.key(0))
  label = np.asarray(train_split.label)[np.asarray(state.order)]
  assert len(set(label[: int(state.seen[0])])) == 2  # ten classes in five stages
  (half,) = runs_of({'selector': 'local_to_global', 'budget': 0.3, 'train_part': (0, 2)})
  prepared = needs_lib.prepare(half, tmp_path, train_split).parts.selector
  assert prepared.init(jax.random.key(0)).order.shape == (half.parts.spec.num_examples,)
  with pytest.raises(ValueError, match='cannot start without the labels'):
    run.parts.selector.init(jax.random.key(0))
