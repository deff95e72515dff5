"""Tables: known means, the paper's numbers, golden files in all formats, LaTeX that compiles.

`python tests/report_tables_test.py` writes the golden files anew; look at the difference.
"""

import csv
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy as np
import pandas as pd
import pytest
import report_workdirs as workdirs
import rich.console

from jaxbudget.lab import report
from jaxbudget.lab.paper import printed, sections
from jaxbudget.lab.paper import tables as paper_tables
from jaxbudget.lab.report import comparison_tables, frontier, load, render, tables

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'report'
WRITERS = {'md': render.to_markdown, 'csv': render.to_csv, 'tex': render.to_latex}


def golden_workdir(path):
  """CIFAR-10 cells of Table 2's linear half: one cell missing, one failed run, one refused."""
  plan = [
    run | {'epochs': 200}
    for run in workdirs.paper_plan(tables=(2,))
    if run['dataset'] == 'cifar10' and run['schedule'] == 'linear' and run['budget'] in (0.2, 1)
  ]
  offsets = {'sgd': 5.0, 'p_sgd': 0.25, 'selective_backprop': 1.5, 'ordered_sgd': -1.0}

  def accuracy(run):
    return 90 + offsets.get(run['selector'], 0.0) + 0.125 * run['seed']

  workdirs.write_workdir(path, plan, accuracy)
  for run in plan:
    directory = path / 'runs' / run['run_id']
    file = directory / 'result.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'entropy_nats': 10.75}))
    if run['selector'] == 'c_sgd':
      shutil.rmtree(directory)
    if run['selector'] == 'p_sgd' and run['seed'] == 2:
      failed = {'run_id': run['run_id'], 'status': 'failed', 'error': 'loss is not finite'}
      file.write_text(json.dumps(failed))
    if run['selector'] == 'ordered_sgd':
      file.write_text(file.read_text().replace('"engine": 1', '"engine": 2'))
  return report.load_workdir(path)


def golden_tables(path) -> list[render.Table]:
  loaded = golden_workdir(path)
  shown = [tables.summary_table(loaded), *paper_tables.paper_tables(loaded)]
  return [*shown, comparison_tables.equal_compute_table(frontier.equal_compute(loaded))]


@pytest.fixture(scope='module')
def shown(tmp_path_factory):
  return {t.name: t for t in golden_tables(tmp_path_factory.mktemp('golden') / 'w')}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('name', ['summary', 'table2', 'equal_compute'])
def test_golden(shown, name, kind):
  expected = (GOLDEN / f'{name}.{kind}').read_text(encoding='utf-8')
  assert WRITERS[kind](shown[name]) == expected


def test_paper_cells_by_hand(shown):
  """94.80 ± .08 in the paper; ours 95, 95.125, 95.25: +0.325, sqrt(.125^2/3 + .08^2/3)."""
  row = shown['table2'].data.query('method == "sgd"').iloc[0]
  assert row['mean'] == pytest.approx(95.125) and row['std'] == pytest.approx(0.125)
  assert row['difference'] == pytest.approx(0.325)
  assert row['difference_se'] == pytest.approx(math.sqrt((0.125**2 + 0.08**2) / 3))
  assert row['best_difference'] == pytest.approx(0.625)
  two = shown['table2'].data.query('method == "p_sgd"').iloc[0]  # its third run failed
  assert (two['n'], two['state']) == (2, '1 failed')
  assert two['mean'] == pytest.approx(90.3125)


def test_what_is_missing_is_called_missing_never_blank_or_zero(shown):
  row = next(r for r in shown['table2'].rows if r[0].text == 'c-SGD')
  assert row[1].text == 'missing' and row[1].state == 'missing' and row[1].sort is None
  assert 'paper 92.95 ± 0.17' in row[1].detail
  summary = next(r for r in shown['summary'].rows if r[1].text == 'c_sgd')
  assert summary[2].text == 'missing' and summary[-1].text == '0/3'
  refused = next(r for r in shown['equal_compute'].rows if r[1].text == 'ordered_sgd')
  assert any(c.text == 'refused' and 'engine differs' in c.detail for c in refused)


def test_the_best_among_equal_cost_is_bold(shown):
  """SB is ahead by 1.3 points and has spent 2.7 times as much: p-SGD is best at its own cost."""
  bold = [row[0].text for row in shown['table2'].rows if row[1].bold]
  assert bold == ['p-SGD']
  assert not any(row[2].bold for row in shown['table2'].rows)  # SGD is alone in its column
  assert [row[1].text for row in shown['summary'].rows if row[2].bold] == ['p_sgd']
  for table in (shown['table2'], shown['summary']):
    assert any('Bold: the most accurate of those that cost the same' in n for n in table.notes)


def test_every_printed_number_has_its_place_in_a_table(tmp_path):
  """Planned in full and not yet run: each of the paper's means stands beside `missing`."""
  path = tmp_path / 'w'
  path.mkdir()
  plan = workdirs.paper_plan(seeds=(0,))
  (path / 'plan.json').write_text(json.dumps({'runs': plan}))
  loaded = report.load_workdir(path)
  found = paper_tables.paper_cells(loaded)
  numbers = printed.results()
  accuracies = numbers[numbers['metric'] == 'accuracy_percent']
  assert found['paper_mean'].notna().sum() == len(accuracies)
  minutes = numbers[numbers['metric'] == 'wall_clock_minutes']
  assert found['paper_minutes'].notna().sum() == len(minutes)
  text = ' '.join(render.to_markdown(t) for t in paper_tables.paper_tables(loaded))
  for row in accuracies.itertuples():
    assert f'missing (paper {row.mean:.2f} ± {row.std:.2f}' in text
  assert '0.00' not in re.sub(r'\d0\.00|± 0\.0', '', text)


def test_rehearsals_show_the_paper_without_claiming_a_difference(tmp_path):
  plan = workdirs.paper_plan(tables=(1, 5), seeds=(0,), rehearsal=True)
  loaded = report.load_workdir(workdirs.write_workdir(tmp_path / 'w', plan))
  found = paper_tables.paper_cells(loaded)
  assert found['difference'].isna().all() and found['mean'].notna().all()
  for table in paper_tables.paper_tables(loaded):
    assert any('Rehearsal (ran on digits)' in note for note in table.notes)
    assert ', rehearsed on digits: ' in table.title
    assert all(name.startswith('digits (for ') for name in table.columns[table.labels :])
  # Speed-up against sgd of the plan: training time goes with rows in these files.
  c_sgd = found.query('table == "1" and method == "c_sgd" and dataset == "cifar10"').iloc[0]
  assert c_sgd['speedup_train'] == pytest.approx(30, abs=0.2)
  assert c_sgd['speedup'] < c_sgd['speedup_train']  # test passes are no faster


def test_speedup_is_not_given_across_devices(tmp_path):
  plan = workdirs.paper_plan(tables=(1,), seeds=(0,), rehearsal=True)
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  for run in plan:
    if run['selector'] == 'sgd':
      file = path / 'runs' / run['run_id'] / 'result.json'
      file.write_text(json.dumps(json.loads(file.read_text()) | {'device': 'another'}))
  found = paper_tables.paper_cells(report.load_workdir(path))
  assert found.query('method != "sgd"')['speedup'].isna().all()


def test_classes_stand_under_names_of_their_own(tmp_path):
  """Two data sets of ten classes have no heads in common."""
  names = {'cifar10': [f'thing{i}' for i in range(10)], 'digits': [f'{i}' for i in range(10)]}
  plan = [
    workdirs.plan_run('unif_sgd', 0.3, 0, dataset=name, config={'data': {'class_names': given}})
    for name, given in names.items()
  ]
  for run in plan:
    workdirs.write_run(tmp_path, run, class_accuracy=[*range(80, 90)], balanced_accuracy=84.5)
  rows = {'both': plan, 'one': plan[1:]}
  for which, own in rows.items():
    (tmp_path / 'plan.json').write_text(json.dumps({'runs': own}))
    table = tables.class_table(report.load_workdir(tmp_path))
    if which == 'both':
      assert table.columns[-4:] == ('lowest', 'of', 'highest', 'of')
      assert [row[-1].text for row in table.rows] == ['thing9', '9']
    else:
      assert table.columns[-10:] == tuple(names['digits'])


def test_a_score_stands_in_the_place_of_an_accuracy(tmp_path):
  plan = [workdirs.plan_run('unif_sgd', 0.3, 0, epochs=2)]
  path = workdirs.write_workdir(tmp_path / 'w', plan)
  directory = path / 'runs' / plan[0]['run_id']
  result = json.loads((directory / 'result.json').read_text())
  result |= {'final_accuracy': None, 'best_accuracy': None, 'score_name': 'R2', 'score': -12.5,
             'best_score': 3.0}  # fmt: skip
  (directory / 'result.json').write_text(json.dumps(result))
  line = {'epoch': 2, 'test_accuracy': None, 'test_score': -12.5}
  (directory / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
  loaded = report.load_workdir(path)
  assert not loaded.problems and loaded.runs['final_accuracy'].tolist() == [-12.5]
  assert load.load_epochs(loaded, plan[0]['run_id'])[0]['test_accuracy'] == -12.5
  for table in (tables.summary_table(loaded), tables.runs_table(loaded)):
    assert any('its score stands there: R2, in percent' in note for note in table.notes)
  assert '-12.5' in render.to_markdown(tables.summary_table(loaded)).replace('−', '-')


def test_a_run_with_another_optimizer_is_not_the_papers(tmp_path):
  plan = workdirs.paper_plan(tables=(2,), seeds=(0,))
  run = next(run for run in plan if run['selector'] == 'p_sgd')
  path = workdirs.write_workdir(tmp_path / 'w', [run])
  file = path / 'runs' / run['run_id'] / 'config.json'
  papers = json.loads(file.read_text())
  same = {
    'optimizer': 'sgd', 'optimizer_options': {'decay_mask': 'all', 'clip_norm': None},
    'train_part': [0, 1], 'threads': 2, 'evaluate_every': 5, 'model_options': {'width': 64},
    'selector_options': {'smoothing': True, 'credit': 'first', 'warmup': 0},
  }  # fmt: skip
  others = {'optimizer': 'nesterov'}, *(
    {'optimizer_options': {name: value}}
    for name, value in (('momentum', 0.8), ('decay_mask', 'matrices'), ('clip_norm', 1.0))
  ), {'averaging': 'ema'}, {'train_part': [0, 2]}, {'budget_unit': 'compute'}, {'score_every': 5}, (
    {'task_options': {'label_smoothing': 0.2}}
  ), {'dataset_options': {'flip': 0.0}}, {'model_options': {'compute_dtype': 'bfloat16'}}, (
    {'selector_options': {'smoothing': False}}
  ), {'selector_options': {'warmup': 70}}, {'schedule_options': {'warmup': 5}}  # fmt: skip
  for changes, exact in (({}, True), (same, True), *((each, False) for each in others)):
    file.write_text(json.dumps(papers | changes))
    found = paper_tables.paper_cells(report.load_workdir(path))['exact'].tolist()
    assert found == [exact] * len(found), changes


def test_fidelity_table_pairs_presets_by_seed(tmp_path):
  plan = []
  for preset in ('released', 'corrected'):
    options = {'label_weights': 'head' if preset == 'released' else 'own'}
    plan += [
      workdirs.plan_run(
        'selective_backprop', 0.3, s, fidelity=preset, options=options, epochs=2, augment='mixup'
      )
      for s in (0, 1, 2)
    ]
  path = workdirs.write_workdir(
    tmp_path / 'w', plan, lambda r: 80 + r['seed'] + 2 * (r['fidelity'] == 'corrected')
  )
  loaded = report.load_workdir(path)
  assert sorted(set(loaded.runs['method'])) == [
    'selective_backprop', 'selective_backprop (corrected)',
  ]  # fmt: skip
  table = comparison_tables.fidelity_table(loaded)
  assert table.data['mean'].tolist() == [2.0] and table.data['se'].tolist() == [0.0]


def test_summary_orders_by_budget_then_accuracy_and_shows_cost(tmp_path):
  plan = workdirs.quickstart_plan()
  loaded = report.load_workdir(workdirs.write_workdir(tmp_path / 'w', plan))
  table = tables.summary_table(loaded)
  budgets = [row[0].sort for row in table.rows]
  assert budgets == sorted(budgets) and len(budgets) == 13
  for budget in (0.1, 0.3):
    means = [row[2].sort for row in table.rows if row[0].sort == budget]
    assert means == sorted(means, reverse=True)
  done = loaded.runs.query('method == "p_sgd" and budget == 0.3')['final_accuracy']
  row = next(r for r in table.rows if r[1].text == 'p_sgd' and r[0].sort == 0.3)
  assert row[2].text == f'{np.mean(done):.2f} ± {np.std(done, ddof=1):.2f}'
  assert [cell.text for cell in row[4:7]] == ['0.300', '0.300', '0']
  console = rich.console.Console(width=120, file=io.StringIO())
  console.print(report.summary(loaded))
  printed = console.file.getvalue()
  assert row[2].text in printed and '3/3' in printed and '3 seeds cannot tell' in printed


HOSTILE = r'a_b & 50% $x$ #1 {y} ~z^ \input{/etc/passwd} <script>|`*[link](x)`ψ'


def hostile_table():
  cell = render.Cell(HOSTILE, HOSTILE, HOSTILE, bold=True)
  return render.Table('h&<"', HOSTILE, (HOSTILE, 'n'), [(cell, cell)],
                      pd.DataFrame({'a': [HOSTILE]}), (HOSTILE,))  # fmt: skip


def test_text_is_escaped_in_every_format():
  table = hostile_table()
  shown = workdirs.table_html(table)
  assert '<script' not in shown and '&lt;script&gt;' in shown
  markdown = render.to_markdown(table)
  assert '<script' not in markdown and r'\|\`\*\[link\]' in markdown
  lines = [line for line in markdown.split('\n') if line.startswith('|')]
  assert {len(re.findall(r'(?<!\\)\|', line)) for line in lines} == {3}
  assert next(csv.DictReader(io.StringIO(render.to_csv(table)))) == {'a': HOSTILE}
  assert '\\input' not in render.to_latex(table)


def check_latex(text: str) -> None:
  """What a TeX engine would trip over: braces, environments, columns, unprintable letters."""
  assert text.isascii()
  bare = re.sub(r'\\[{}&%$#_]', '', re.sub(r'(?m)^%.*', '', text))
  assert bare.count('{') == bare.count('}') and bare.count('$') % 2 == 0
  assert re.findall(r'\\begin\{(\w+)\}', bare) == re.findall(r'\\end\{(\w+)\}', bare)[::-1]
  columns = len(re.search(r'\\begin\{tabular\}\{([lr]+)\}', bare).group(1))
  body = bare.split('\\toprule')[1].split('\\bottomrule')[0]
  rows = [line for line in body.split('\n') if line.endswith('\\\\')]
  assert rows and {line.count('&') + 1 for line in rows} == {columns}


def test_latex_syntax(shown):
  for table in (*shown.values(), hostile_table(), sections.paper_equal_compute_table()):
    check_latex(render.to_latex(table))


@pytest.mark.skipif(not shutil.which('pdflatex'), reason='no TeX engine: pdflatex is not installed')
def test_latex_compiles(shown, tmp_path):
  body = '\n'.join(render.to_latex(t) for t in (*shown.values(), hostile_table()))
  head = '\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n'
  (tmp_path / 't.tex').write_text(head + body + '\\end{document}\n')
  done = subprocess.run(
    ['pdflatex', '-interaction=nonstopmode', '-halt-on-error', 't.tex'],
    cwd=tmp_path, capture_output=True, text=True, timeout=120,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-2000:]


def test_a_caption_leaves_numbering_to_latex():
  rows = [(render.text_cell('b'),)]
  table = render.Table('table2', 'Table 2: budgets', ('a',), rows, pd.DataFrame({'a': ['b']}))
  assert "\\caption{The paper's Table 2: budgets}" in render.to_latex(table)


if __name__ == '__main__':
  GOLDEN.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory() as directory:
    for written in golden_tables(pathlib.Path(directory) / 'w'):
      for suffix, writer in WRITERS.items():
        (GOLDEN / f'{written.name}.{suffix}').write_text(writer(written), encoding='utf-8')
