"""Runs of an earlier source: kept, marked, and left out of whatever counts the plan."""

import json
import pathlib
import subprocess
import sys

import pytest

from jaxbudget.lab import config, launcher, report
from jaxbudget.lab.run import files, identity
from jaxbudget.lab.sweep import control, grid, local, plan_file, status

ROOT = pathlib.Path(__file__).parents[1]
METHOD = '''"""Uniform sampling by another name."""
from jaxbudget.selectors.sgd import unif_sgd

EXTRA = 0

def own(spec, budget):
  """Uniform samples."""
  return unif_sgd(spec, budget)
'''
CONFIG = """from jaxbudget.lab import config

def get_config(arg=None):
  grid = tuple({'selector': n, 'budget': b} for b in (0.2, 0.4) for n in ('unif_sgd', 'own:own'))
  found = config.defaults(
    dataset='digits', model='mlp', epochs=1, batch_size=64, seeds=1, threads=1, grid=grid
  )
  config.override(found, config.parse_arg(arg))
  return found
"""


def launch(folder: pathlib.Path, *flags: str) -> str:
  """In a process of its own, which imports the method anew."""
  command = [sys.executable, ROOT / 'launch.py', '--workdir=work', '--figures=none', *flags]
  done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
  assert done.returncode == 0, done.stdout + done.stderr
  return ' '.join(done.stdout.split())  # as if no line were broken


def test_an_edited_method_stands_alone(tmp_path):
  """In the headline, the tables and the counts, after a launch of a part and of the whole."""
  (tmp_path / 'own.py').write_text(METHOD)
  (tmp_path / 'study.py').write_text(CONFIG)
  launch(tmp_path, '--config=study.py')
  work = tmp_path / 'work'
  old = [run for run in report.load_workdir(work).runs['run_id'] if 'own' in run]
  (tmp_path / 'own.py').write_text(METHOD.replace('EXTRA = 0', 'EXTRA = 1'))
  said = 'of an earlier source are left out: own:own.'

  launched = launch(tmp_path, '--config=study.py', '--stage=train', '--only=budget=0.2')
  assert f'note: 2 runs {said}' in launched
  shown = launch(tmp_path, '--stage=report')
  page = (work / 'report' / 'index.html').read_text()
  assert f'2 runs {said}' in shown and f'2 runs {said}' in page
  loaded = report.load_workdir(work)
  assert not set(old) & set(loaded.runs['run_id']) and not any(run in page for run in old)
  assert set(loaded.runs['method']) == {'unif_sgd', 'own:own'}, 'nothing but names'
  missing = loaded.runs[loaded.runs['status'] == 'planned']
  assert missing[['selector', 'budget']].values.tolist() == [['own:own', 0.4]]
  compared = report.equal_compute(loaded).set_index('budget')
  assert compared['state'].to_dict() == {0.2: '', 0.4: 'missing'}
  assert 'own:own at budget 0.2' in shown and 'own:own at budget 0.4' not in shown
  shown = launch(tmp_path, '--stage=status')
  assert '3 of 4 runs are done' in shown and f'2 runs {said}' in shown

  shown = launch(tmp_path, '--config=study.py')
  assert f'2 runs {said}' in shown
  compared = report.equal_compute(report.load_workdir(work))
  assert list(compared['state']) == ['', ''] and not set(old) & set(compared['cell_id'])
  assert len(status.look(work)) == 4 and all(s.state == 'done' for s in status.look(work))
  assert all((work / 'runs' / run / files.RESULT).exists() for run in old)

  (tmp_path / 'own.py').write_text(METHOD)
  assert f'2 runs {said}' in launch(tmp_path, '--config=study.py', '--stage=plan')
  loaded = report.load_workdir(work)
  assert set(old) < set(loaded.runs['run_id']) and set(loaded.runs['status']) == {'done'}


def runs_of(*cells, **values):
  """A plan of cells; the engine's number stands for all code that no config tells."""
  given = {'dataset': 'digits', 'model': 'mlp', 'epochs': 4, 'seeds': 2}
  return grid.make_runs(config.defaults(**{**given, **values, 'grid': cells}))


def begin(workdir: pathlib.Path, runs) -> None:
  """What the start of a run leaves."""
  for run in runs:
    directory = workdir / 'runs' / run.run_id
    directory.mkdir(parents=True)
    files.write_json(directory / files.CONFIG, local.config_record(run))


@pytest.fixture
def edit(monkeypatch):
  """Renames all runs that are planned from now on."""
  return lambda number: monkeypatch.setattr(identity, 'ENGINE', number)


def ids(entries, marked: bool) -> set[str]:
  return {e['run_id'] for e in entries if (e.get(plan_file.SUPERSEDED) is True) == marked}


def names(runs) -> set[str]:
  return {run.run_id for run in runs}


CELLS = {'selector': 'p_sgd', 'budget': 0.2}, {'selector': 'p_sgd', 'budget': 0.4}


def of_earlier_source(workdir, edit):
  """Runs that were begun before the method was edited."""
  edit(101)
  old = runs_of(*CELLS)
  plan_file.write(old, workdir, 'old')
  begin(workdir, old)
  edit(102)
  return old


def test_only_what_a_cell_of_the_latest_plan_replaces_is_marked(tmp_path, edit):
  old = of_earlier_source(tmp_path, edit)
  new = runs_of(CELLS[0], seeds=1)
  plan_file.write(new, tmp_path, 'new')
  entries = plan_file.entries(tmp_path)
  assert ids(entries, True) == names(run for run in old if run.cell.budget == 0.2), 'both seeds'
  assert ids(entries, False) == names(new) | names(r for r in old if r.cell.budget == 0.4)
  assert {s.run_id for s in status.look(tmp_path)} == ids(entries, False)
  assert set(report.load_workdir(tmp_path).runs['run_id']) == ids(entries, False)
  plan_file.write(runs_of(CELLS[0], epochs=6), tmp_path, 'another config')
  assert ids(plan_file.entries(tmp_path), True) == ids(entries, True), 'a mark stays'
  plan_file.write(old, tmp_path, 'back')
  assert not ids(plan_file.entries(tmp_path), True) & names(old)


def test_a_part_of_a_plan_brings_in_what_replaces_the_rest(tmp_path, edit):
  edit(101)
  old = [run for run in runs_of(*CELLS) if run.seed == 0]
  plan_file.write(old, tmp_path, 'old')
  begin(tmp_path, old)
  edit(102)
  whole = runs_of(*CELLS)
  new = [run for run in whole if run.seed == 0]
  plan_file.write(new[:1], tmp_path, 'new', whole)
  entries = plan_file.entries(tmp_path)
  assert (ids(entries, True), ids(entries, False)) == (names(old), names(new)), 'no seed more'
  begin(tmp_path, new)
  plan_file.write(old[:1], tmp_path, 'back', old)
  entries = plan_file.entries(tmp_path)
  assert (ids(entries, True), ids(entries, False)) == (names(new), names(old))


def test_who_ends_later_but_began_before_changes_no_mark(tmp_path, edit):
  old = of_earlier_source(tmp_path, edit)
  new = runs_of(*CELLS)
  plan_file.write(new, tmp_path, 'new')
  begin(tmp_path, new)
  plan_file.write(old, tmp_path, 'old, at its end', latest=False)
  entries = plan_file.entries(tmp_path)
  assert (ids(entries, True), ids(entries, False)) == (names(old), names(new))
  files.write_json(
    tmp_path / 'runs' / old[0].run_id / files.RESULT, {'status': 'failed', 'error': 'x'}
  )
  assert control.failed(old, tmp_path) == old, 'who goes back may try again'


def test_what_only_marked_runs_need_is_no_method(tmp_path, edit):
  edit(101)
  old = runs_of({'selector': 'coreset', 'budget': 0.5})
  plan_file.write(old, tmp_path, 'old')
  begin(tmp_path, old)
  (scoring,) = (run for run in old if not run.needs)
  record = local.config_record(scoring)
  record['identity'] = {**record['identity'], 'data': 'such as the new source does not ask for'}
  files.write_json(tmp_path / 'runs' / scoring.run_id / files.CONFIG, record)
  edit(102)
  plan_file.write(runs_of({'selector': 'coreset', 'budget': 0.5}), tmp_path, 'new')
  assert ids(plan_file.entries(tmp_path), True) == names(old)


@pytest.mark.parametrize('content', ['', '[]', '{"identity": 3}', '{}'])
def test_what_is_not_known_counts_as_before(content, tmp_path, edit):
  edit(101)
  old = runs_of(CELLS[0])
  plan_file.write(old, tmp_path, 'old')
  begin(tmp_path, old)
  for run in old:
    (tmp_path / 'runs' / run.run_id / files.CONFIG).write_text(content)
  edit(102)
  plan_file.write(runs_of(CELLS[0]), tmp_path, 'new')
  assert ids(plan_file.entries(tmp_path), False) > names(old)


def test_cancel_reaches_runs_of_an_earlier_source(tmp_path, edit, monkeypatch, capsys):
  edit(101)
  old = runs_of(CELLS[0])
  plan_file.write(old, tmp_path, 'old')
  begin(tmp_path, old)
  edit(102)
  plan_file.write(runs_of(CELLS[0]), tmp_path, 'new')
  asked = []
  monkeypatch.setattr(control.lock, 'alive', lambda directory: asked.append(directory.name))
  assert launcher.launch(None, tmp_path, 'cancel') == 0
  assert names(old) < set(asked)
  assert 'nothing is queued' in capsys.readouterr().out


def test_the_sentence_names_a_few_and_counts_the_rest():
  entries = [{'run_id': str(n), 'selector': f'm{n}', plan_file.SUPERSEDED: True} for n in range(8)]
  assert plan_file.left_out(entries) == (
    '8 runs of an earlier source are left out: m0, m1, m2, m3, m4, m5 and 2 others.'
  )
  assert plan_file.left_out(entries[:1]) == '1 run of an earlier source is left out: m0.'
  assert plan_file.left_out(json.loads('[{"run_id": "a", "superseded": "yes"}]')) == ''
