"""Reading workdirs: whole, unfinished, damaged and strange ones."""

import json
import os
import shutil

import numpy as np
import pytest
import report_workdirs as workdirs
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxbudget.lab import report
from jaxbudget.lab.report import courses, figures, frontier, load, picture


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
  path = tmp_path_factory.mktemp('quickstart')
  return workdirs.write_workdir(path, workdirs.quickstart_plan())


def test_reads_every_run_and_its_cost_in_full_runs(quickstart):
  loaded = report.load_workdir(quickstart)
  assert loaded.problems == []
  assert len(loaded.runs) == 39 and set(loaded.runs['status']) == {'done'}
  epochs = load.load_epochs(loaded, loaded.runs['run_id'][0])
  assert [row['epoch'] for row in epochs] == list(range(1, 21))
  assert load.epoch_columns(loaded, loaded.runs['run_id'][0]) == list(epochs[0])
  by_method = loaded.runs.set_index(['method', 'budget'])['cost']
  np.testing.assert_allclose(by_method['unif_sgd', 0.3].to_numpy(), 0.3, atol=1e-4)
  np.testing.assert_allclose(
    by_method['selective_backprop', 0.3].to_numpy(), 0.3 + 1 / 3, atol=1e-4
  )


SHARED = {'forward_equivalents': 3 * 3 * 1437, 'forward_equivalents_charged': 1294}


def test_the_course_of_costs_ends_at_the_cost(tmp_path):
  run = workdirs.plan_run('coreset', 0.3, 0, epochs=3) | {'selection': SHARED, 'needs': ['x']}
  loaded = report.load_workdir(workdirs.write_workdir(tmp_path / 'w', [run]))
  (cell,) = loaded.cells.to_dict('records')
  course = courses.by_epoch(loaded, cell['cell_id'])['cost'].mean
  assert course[-1] == pytest.approx(cell['cost']) and course[0] > 1294 / (3 * 3 * 1437)


@pytest.mark.parametrize('told', ['plan', 'result', 'older', 'unknown'])
def test_what_a_run_needs_is_charged_as_its_key_says(tmp_path, told):
  """By `shared_by`, which the plan tells, or the result; an older one by what it realised."""
  scoring = workdirs.plan_run('dynamics_sgd', 1.0, 0, epochs=3, schedule='step')
  run = workdirs.plan_run('coreset', 0.3, 0, epochs=3) | {'needs': [scoring['run_id']]}
  own, full = run['planned']['forward_equivalents'], 3 * 3 * 1437
  run |= {'config': {'shared_by': 10}, 'selection': {'forward_equivalents': full}}
  if told == 'plan':
    run['selection'] = SHARED
  left = {
    'result': {'selection': {'forward_equivalents_charged': 1294}},
    'older': {'realised_budgets': {'backward': 0.3, 'compute': (own + 1294) / full}},
  }.get(told, {})
  plan = [workdirs.plan_run('unif_sgd', b, 0, epochs=3) for b in (0.3, 0.5)] + [scoring, run]
  (tmp_path / 'plan.json').write_text(json.dumps({'runs': plan}))
  for one in plan:
    workdirs.write_run(tmp_path, one, **(left if one is run else {}))
  loaded = report.load_workdir(tmp_path)
  row = loaded.runs.iloc[-1]
  compared = report.equal_compute(loaded).iloc[-1]
  if told == 'unknown':
    assert np.isnan(row['cost']), 'nothing tells the share, and nobody gets off free'
    return
  assert row['cost'] == pytest.approx((own + 1294) / full) == row['planned_cost']
  assert compared['state'] == '', compared['reason']
  assert compared['at'] == 'unif_sgd 0.3 – unif_sgd 0.5'


def test_names_that_are_no_utf8_are_written_out(tmp_path):
  odd, plan = os.fsdecode(b'\xff'), workdirs.small_plan()
  for run in plan:
    run['dataset'] = f'npz:/data/{odd}.npz'
  path = workdirs.write_workdir(tmp_path / odd, plan)
  (path / odd).write_text('')
  (path / 'runs' / plan[0]['run_id'] / 'result.json').write_text(
    json.dumps({'run_id': plan[0]['run_id'], 'status': 'failed', 'error': f'{odd} is damaged'})
  )
  page = report.write_report(path, figures='none').read_text(encoding='utf-8')
  for text in ('npz:/data/\\udcff.npz', '\\udcff is damaged', 'not part of a workdir'):
    assert text in page
  only = report.load_workdir(path, only=f'dataset=npz:/data/{odd}.npz')
  assert len(only.runs) == len(plan)


def test_damage_is_listed_and_everything_else_is_used(tmp_path):
  plan = workdirs.small_plan()
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  runs = [path / 'runs' / run['run_id'] for run in plan]
  (runs[0] / 'result.json').write_text('{"final_accuracy": 9')
  (runs[1] / 'result.json').write_text('[]')
  result = json.loads((runs[2] / 'result.json').read_text())
  (runs[2] / 'result.json').write_text(json.dumps(result | {'final_accuracy': float('nan')}))
  (runs[3] / 'result.json').unlink()  # stopped
  shutil.rmtree(runs[4])  # not begun
  failed = {'run_id': plan[5]['run_id'], 'status': 'failed', 'error': 'loss is NaN', 'epoch': 3}
  (runs[5] / 'result.json').write_text(json.dumps(failed))
  with (runs[3] / 'metrics.jsonl').open('a') as file:
    file.write('{"epoch": 4, "ro')  # being written: no fault
  text = (runs[6] / 'metrics.jsonl').read_text().split('\n')
  (runs[6] / 'metrics.jsonl').write_text('\n'.join(['\x00junk', '[1]', *text[2:]]))
  (runs[7] / 'result.json').write_bytes(b'\xff\xfe\x00')
  (path / 'runs' / 'somebody_elses').mkdir()
  (path / 'notes.txt').write_text('hello')
  (path / 'runs' / 'stray').write_text('')
  loaded = report.load_workdir(path)
  status = loaded.runs['status'].tolist()
  assert status[:8] == [
    'corrupt', 'corrupt', 'corrupt', 'stopped', 'planned', 'failed', 'done', 'corrupt',
  ]  # fmt: skip
  assert set(status[8:]) == {'done'}
  assert loaded.runs['error'][5] == 'loss is NaN'
  said = {problem.path: problem.what for problem in loaded.problems}
  for index in (0, 1, 2, 7):
    assert f'runs/{plan[index]["run_id"]}/result.json' in said
  assert 'not a percentage' in said[f'runs/{plan[2]["run_id"]}/result.json']
  assert '2 unreadable' in said[f'runs/{plan[6]["run_id"]}/metrics.jsonl']
  assert {'notes.txt', 'runs/stray', 'runs/somebody_elses'} <= set(said)
  assert f'runs/{plan[3]["run_id"]}/metrics.jsonl' not in said
  assert report.write_report(path).is_file()


def test_a_result_of_another_run_is_not_taken(tmp_path):
  plan = workdirs.small_plan(seeds=(0,))
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  source, target = (path / 'runs' / run['run_id'] / 'result.json' for run in plan[:2])
  target.write_text(source.read_text())
  loaded = report.load_workdir(path)
  assert loaded.runs['status'][1] == 'corrupt'
  assert 'it is the result of run' in loaded.problems[0].what


@pytest.mark.parametrize('text', ['', '{', '[]', '{"runs": 3}', '{"runs": {"a": 1}}'])
def test_without_a_usable_plan_the_runs_speak_for_themselves(tmp_path, text):
  path = workdirs.write_workdir(tmp_path / 'w', workdirs.small_plan())
  (path / 'plan.json').write_text(text)
  loaded = report.load_workdir(path)
  assert len(loaded.runs) == 10 and set(loaded.runs['status']) == {'done'}
  assert loaded.runs['cell_id'].nunique() == 5
  assert [problem.path for problem in loaded.problems] == ['plan.json']
  assert 'unif_sgd' in str(frontier.equal_compute(loaded)['at'].tolist())


def test_without_a_plan_seeds_come_in_the_order_of_their_numbers(tmp_path):
  path = workdirs.write_workdir(tmp_path / 'w', workdirs.small_plan(seeds=(2, 9, 10)))
  (path / 'plan.json').unlink()
  for _, part in report.load_workdir(path).runs.groupby('cell_id'):
    assert part['seed'].tolist() == [2, 9, 10]


def test_without_a_plan_the_cost_is_what_configs_and_results_tell(tmp_path):
  """Nobody gets off free: what is needed counts, and is no method; unknown costs are told."""
  scoring = workdirs.plan_run('dynamics_sgd', 1.0, 0, epochs=3, schedule='step')
  runs = [workdirs.plan_run('coreset', 0.3, seed, epochs=3) for seed in (0, 1)]
  own, full = runs[0]['planned']['forward_equivalents'], 3 * 3 * 1437
  for run in runs:
    run['config'] = {'identity': {'needs': [scoring['run_id']]}, 'shared_by': 10}
  compute = {'realised_budgets': {'backward': 0.3, 'compute': (own + 1294) / full}}
  workdirs.write_run(tmp_path, scoring)
  for budget in (0.3, 0.5):
    workdirs.write_run(tmp_path, workdirs.plan_run('unif_sgd', budget, 0, epochs=3))
  workdirs.write_run(tmp_path, runs[0], **compute)
  loaded = report.load_workdir(tmp_path)
  rows = loaded.runs.set_index('selector')
  assert rows.loc['coreset', 'cost'] == pytest.approx((own + 1294) / full)
  assert rows.loc['dynamics_sgd', 'is_scoring'] and not rows.loc['coreset', 'is_scoring']
  (row,) = frontier.equal_compute(loaded).to_dict('records')
  assert row['state'] == '' and row['at'] == 'unif_sgd 0.3 – unif_sgd 0.5'
  shutil.rmtree(tmp_path / 'runs' / runs[0]['run_id'])
  workdirs.write_run(tmp_path, runs[1])
  (row,) = frontier.equal_compute(report.load_workdir(tmp_path)).to_dict('records')
  assert (row['state'], row['reason']) == ('missing', 'what it cost is not known')


def test_without_a_plan_cells_that_differ_in_any_key_stay_apart(tmp_path):
  for number, rate in enumerate((0.1, 0.2)):
    run = workdirs.plan_run('unif_sgd', 0.3, 0) | {'config': {'learning_rate': rate}}
    workdirs.write_run(tmp_path, run | {'cell_id': f'{number}', 'run_id': f'cell{number}-s0'})
  for name in ('cell0-s0', 'cell1-s0'):  # as they are written; ids are told by names alone
    file = tmp_path / 'runs' / name / 'config.json'
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k != 'cell_id'}))
  assert report.load_workdir(tmp_path).cells['done'].tolist() == [1, 1]


def test_hostile_plan_entries_are_refused(tmp_path):
  plan = workdirs.small_plan(seeds=(0,))
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  odd = [3, {}, {'run_id': '../../etc'}, {'run_id': '..'}, {'run_id': ''}, plan[0]]
  odd.append({'run_id': 'bare', 'budget': 'lots', 'paper': 'x', 'options': 1, 'planned': []})
  (path / 'plan.json').write_text(json.dumps({'runs': plan + odd}))
  loaded = report.load_workdir(path)
  assert len(loaded.problems) == 6
  assert loaded.runs['run_id'].tolist() == [r['run_id'] for r in plan] + ['bare']
  assert report.write_report(path).is_file()


@pytest.mark.parametrize(
  'lost',
  [
    ('num_train', 'planned', 'epochs', 'seconds'),
    ('budget', 'realised_budgets', 'selector', 'dataset', 'num_test', 'entropy_nats'),
  ],
)
def test_figures_are_drawn_of_what_is_known(tmp_path, lost):
  path = workdirs.write_workdir(tmp_path, workdirs.small_plan(seeds=(0, 1)))
  for file in (*path.glob('runs/*/*.json'), path / 'plan.json'):
    found = json.loads(file.read_text())
    for record in found.get('runs', [found]):
      for key in lost:
        record.pop(key, None)
    file.write_text(json.dumps(found))
  loaded = report.load_workdir(path)
  assert set(loaded.runs['status']) == {'done'}
  for drawing in (*figures.frontiers(loaded), *figures.training(loaded)):
    with picture.settings():
      FigureCanvasAgg(picture.draw(drawing.picture())).draw()


def test_the_course_of_a_cell_is_the_mean_over_its_seeds(tmp_path):
  path = workdirs.write_workdir(tmp_path, workdirs.small_plan(seeds=(0, 1)))
  loaded = report.load_workdir(path)
  cell_id, (first, second) = next(iter(loaded.runs.groupby('cell_id')['run_id']))
  file = path / 'runs' / second / 'metrics.jsonl'
  file.write_text(''.join(file.read_text().splitlines(keepends=True)[:-1]))  # still training
  course = courses.by_epoch(loaded, cell_id)['test_accuracy']
  values = [[row['test_accuracy'] for row in load.load_epochs(loaded, r)] for r in (first, second)]
  assert len(values[0]) == len(values[1]) + 1 == len(course.epoch)
  both = np.array([values[0][:-1], values[1]])
  np.testing.assert_allclose(course.mean, [*both.mean(axis=0), values[0][-1]])
  np.testing.assert_allclose(course.std, [*both.std(axis=0, ddof=1), np.nan])


def test_an_empty_directory_makes_a_report(tmp_path):
  assert report.load_workdir(tmp_path).runs.empty
  assert report.write_report(tmp_path).is_file()


def test_no_directory_is_an_error(tmp_path):
  with pytest.raises(ValueError, match='not a directory'):
    report.load_workdir(tmp_path / 'nowhere')


def test_options_that_tell_cells_apart_become_part_of_the_name(tmp_path):
  plan = []
  for smoothing in (True, True, False):
    run = workdirs.plan_run('p_sgd', 0.3, len(plan), options={'smoothing': smoothing, 'x': 1})
    run['cell_id'] += str(smoothing)
    plan.append(run)
  loaded = report.load_workdir(workdirs.write_workdir(tmp_path / 'w', plan))
  assert loaded.runs['method'].tolist() == [
    'p_sgd smoothing=True', 'p_sgd smoothing=True', 'p_sgd smoothing=False',
  ]  # fmt: skip
