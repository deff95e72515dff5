"""Labels: whatever sets two cells apart is said wherever they stand; words fit their numbers."""

import json
import math

import pytest
import report_workdirs as workdirs
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.lab import report
from jaxbudget.lab.differences import departures, value_text
from jaxbudget.lab.report import comparison_tables, figures, frontier, render, tables, verdict


def write(path, variants, accuracy=lambda run: 80 + 10 * run['budget']):
  """unif_sgd at two budgets and p_sgd at one, two seeds, once for each change of config.json."""
  plan = []
  for number, variant in enumerate(variants):
    for selector, budget in (('unif_sgd', 0.1), ('unif_sgd', 0.3), ('p_sgd', 0.3)):
      for seed in (0, 1):
        own = {k: v for k, v in variant.items() if k in ('epochs', 'batch_size', 'budget_unit')}
        run = workdirs.plan_run(selector, budget, seed, **({'epochs': 2} | own))
        for name in ('cell_id', 'run_id'):
          run[name] = f'v{number}-{run[name]}'
        plan.append(run | {'variant': variant})
  workdirs.write_workdir(path, plan, accuracy)
  for run in plan:
    for name in ('config.json', 'result.json'):
      file = path / 'runs' / run['run_id'] / name
      content = json.loads(file.read_text())
      content.pop('variant', None)
      changes = run['variant'].items()
      content |= {k: v for k, v in changes if (k == 'data_fingerprint') == (name == 'result.json')}
      file.write_text(json.dumps(content))
  return report.load_workdir(path)


@pytest.mark.parametrize(
  ('key', 'values', 'said'),
  [
    ('learning_rate', (0.1, 0.05), ('learning_rate=0.1', 'learning_rate=0.05')),
    ('width', (16, 17), ('width=16', 'width=17')),
    ('epochs', (2, 4), ('epochs=2', 'epochs=4')),
    ('batch_size', (64, 32), ('batch_size=64', 'batch_size=32')),
    ('budget_unit', ('backward', 'compute'), ('budget_unit=backward', 'budget_unit=compute')),
    ('model_options', ({'depth': 2}, {'depth': 3}), ('depth=2', 'depth=3')),
    ('momentum', (0.9, 0.9000001), ('momentum=0.9', 'momentum=0.9000001')),
    ('compute_dtype', (None, 'bfloat16'), ('compute_dtype=None', 'compute_dtype=bfloat16')),
    ('data_fingerprint', ('aaaa1111bb', 'cccc2222dd'), ('data=aaaa1111', 'data=cccc2222')),
    ('checkpoint_every', (1.0, 2.0), ('#', '#')),  # no setting: the ends of the cells' ids
  ],
)
def test_what_sets_cells_apart_stands_in_the_label_everywhere(tmp_path, key, values, said):
  loaded = write(tmp_path / 'w', [{key: value} for value in values])
  shown = ['model', 'dataset', 'augment', 'schedule', 'budget', 'method']
  assert not loaded.cells.duplicated(shown).any()
  for number, words in enumerate(said):
    own = loaded.cells[loaded.cells['cell_id'].str.startswith(f'v{number}-')]
    assert own['variant'].str.contains(words, regex=False).all()
  for table in (
    tables.summary_table(loaded),
    comparison_tables.equal_compute_table(frontier.equal_compute(loaded)),
    tables.runs_table(loaded),
  ):
    at = [table.columns.index(name) for name in ('method', 'budget')]
    places = {tuple(row[i].text for i in at) for row in table.rows}
    cells = loaded.cells if table.name != 'equal_compute' else loaded.cells.query('rule == "p_sgd"')
    assert len(places) == len(cells)
    shown = render.to_latex(table)
    assert all(words.replace('_', r'\_').replace('#', r'\#') in shown for words in said)


def test_what_most_cells_share_is_said_once(tmp_path):
  loaded = write(tmp_path / 'w', [{}])
  for run in loaded.runs.query('selector == "p_sgd"')['run_id']:
    file = loaded.path / 'runs' / run / 'config.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'weight_decay': 5e-4}))
  loaded = report.load_workdir(loaded.path)
  assert set(loaded.cells['method']) == {'unif_sgd', 'p_sgd weight_decay=0.0005'}
  note = 'Where a method does not say otherwise: weight_decay=0.0001.'
  for table in (tables.summary_table(loaded), tables.runs_table(loaded)):
    assert note in table.notes


def test_a_frontier_joins_only_points_that_differ_in_budget(tmp_path):
  loaded = write(tmp_path / 'w', [{'learning_rate': 0.1}, {'learning_rate': 0.05}])
  (drawing,) = figures.frontiers(loaded)
  (panel,) = drawing.picture()['panels']
  assert {line['label']: len(line['x']) for line in panel['lines']} == {
    'unif_sgd learning_rate=0.1': 2, 'unif_sgd learning_rate=0.05': 2,
    'p_sgd learning_rate=0.1': 1, 'p_sgd learning_rate=0.05': 1,
  }  # fmt: skip
  compared = frontier.equal_compute(loaded).set_index('method')
  assert compared['at']['p_sgd learning_rate=0.05'] == 'unif_sgd learning_rate=0.05 0.3'
  assert (compared['state'] == '').all()


def test_the_baseline_of_other_settings_is_none(tmp_path):
  """p_sgd at another rate finds unif_sgd at two rates, each at one budget: neither is its own."""
  loaded = write(tmp_path / 'w', [{'learning_rate': 0.1}, {'learning_rate': 0.05}])
  runs = loaded.runs
  gone = (runs['selector'] == 'unif_sgd') & runs['variant'].eq('learning_rate=0.05')
  plan = json.loads((loaded.path / 'plan.json').read_text())['runs']
  kept = [run for run, drop in zip(plan, gone, strict=True) if not drop]
  (loaded.path / 'plan.json').write_text(json.dumps({'runs': kept}))
  row = frontier.equal_compute(report.load_workdir(loaded.path)).iloc[1]
  assert row['state'] == 'refused' and 'learning_rate differs (0.05 | 0.1)' in row['reason']


def test_two_sources_of_a_part_are_told_by_one_word_each(tmp_path):
  """A method's stands with its name; that of another part in the variant."""
  sources = [{'p_sgd': letter * 16, 'mine.mix:mix': letter * 16} for letter in 'ab']
  loaded = write(tmp_path / 'w', [{'identity': {'sources': own}} for own in sources])
  assert set(loaded.cells.query('rule != "unif_sgd"')['method']) == {
    'p_sgd source=aaaaaaaa mix.source=aaaaaaaa', 'p_sgd source=bbbbbbbb mix.source=bbbbbbbb',
  }  # fmt: skip
  same = write(tmp_path / 'same', [{'identity': {'sources': sources[0]}}])
  assert set(same.cells['method']) == {'unif_sgd', 'p_sgd'}
  odd = write(tmp_path / 'odd', [{'identity': found} for found in ({'sources': [1]}, 'x')])
  assert not odd.cells['method'].str.contains('source').any()


def test_seeds_on_other_data_of_one_name_are_no_seeds_of_a_cell(tmp_path):
  plan = [workdirs.plan_run('unif_sgd', 0.3, seed, epochs=2) for seed in range(4)]
  path = workdirs.write_workdir(tmp_path / 'w', plan, lambda run: 80 + run['seed'])
  for seed, fingerprint in ((2, 'other-content'), (3, None)):
    directory = path / 'runs' / plan[seed]['run_id']
    result = json.loads((directory / 'result.json').read_text())
    (directory / 'result.json').write_text(json.dumps(result | {'data_fingerprint': fingerprint}))
    if not fingerprint:
      (directory / 'result.json').unlink()
  cells = report.load_workdir(path).cells
  assert cells['method'].tolist() == ['unif_sgd data=digits-f', 'unif_sgd data=other-co']
  assert cells['planned'].tolist() == [3, 1] and cells['mean'].tolist() == [80.5, 82]


def test_a_key_that_older_runs_lack_had_its_default():
  _, config = 'x', {'learning_rate': 0.05}
  assert departures([config, {}, {}]) == ([{}, {}, {}], {})  # another's option: no difference
  named, unsaid = departures([{'a': '1'}, {'a': '2'}, {'a': '1'}])
  assert (named, unsaid) == ([{}, {'a': '2'}, {}], {'a': '1'})


@given(st.lists(st.dictionaries(st.sampled_from('abc'), st.sampled_from('xyz')), max_size=6))
def test_settings_that_differ_are_told_apart(settings):
  """What is named, with what goes unsaid, is what was set."""
  named, unsaid = departures(settings)
  alike = {k for own in settings for k in own if len({o[k] for o in settings if k in o}) == 1}
  for own, names in zip(settings, named, strict=True):
    assert {k: v for k, v in own.items() if k not in alike} == {
      k: names.get(k, unsaid.get(k)) for k in own if k not in alike
    }


@given(st.floats(), st.floats())
def test_different_numbers_never_look_alike(a, b):
  assert (value_text(a) == value_text(b)) == (a == b or (math.isnan(a) and math.isnan(b)))


def compared_workdir(path, gains, datasets=('digits',)):
  """unif_sgd and p_sgd at one budget; `gains` by data set."""
  plan = [
    workdirs.plan_run(selector, 0.3, seed, dataset=dataset, epochs=2)
    for dataset in datasets for selector in ('unif_sgd', *gains) for seed in range(3)
  ]  # fmt: skip

  def accuracy(run):
    gain = gains.get(run['selector'], {}).get(run['dataset'], 0)
    return 80 + 0.1 * run['seed'] + gain

  loaded = report.load_workdir(workdirs.write_workdir(path, plan, accuracy))
  return verdict.verdict(loaded, frontier.equal_compute(loaded))


def test_words_fit_their_numbers(tmp_path):
  """Both methods gain: there is no loss to speak of; both lose: there is no gain."""
  for sign in (1, -1):
    gains = {'p_sgd': {'digits': sign * 0.28}, 'c_sgd': {'digits': sign * 0.56}}
    _, evidence = compared_workdir(tmp_path / str(sign), gains)
    best, worst = ('c_sgd', 'p_sgd') if sign > 0 else ('p_sgd', 'c_sgd')
    assert f'Best difference: {best} at budget 0.3' in evidence
    assert f'Worst: {worst} at budget 0.3' in evidence
    assert 'gain' not in evidence and 'loss' not in evidence
    assert ('+0.56' if sign > 0 else '−0.56') in evidence


def test_with_several_data_sets_each_is_named(tmp_path):
  gains = {'p_sgd': {'cifar10': 1.0, 'svhn': -1.0}}
  _, evidence = compared_workdir(tmp_path / 'w', gains, ('cifar10', 'svhn'))
  assert 'Best difference: p_sgd at budget 0.3 on cifar10' in evidence
  assert 'Worst: p_sgd at budget 0.3 on svhn' in evidence
  assert 'above zero for p_sgd on cifar10 (1 of 1)' in evidence
  assert 'below it for p_sgd on svhn (1 of 1)' in evidence


@pytest.mark.parametrize('warmup', ['x', [1], {'a': 1}, None, 2])
def test_a_plan_may_say_anything_of_a_warmup(warmup, tmp_path):
  plan = [workdirs.plan_run('p_sgd', 0.3, 0, epochs=2, options={'warmup': warmup})]
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  assert plan[0]['fidelity'] == 'released'
  assert report.load_workdir(path).runs['method'][0].startswith('p_sgd')
