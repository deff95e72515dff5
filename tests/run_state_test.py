"""How a run stands: status, report and launcher are of one opinion, in every situation."""

import contextlib
import dataclasses
import json

import pytest
import report_workdirs as workdirs
from faulty import linear_model, planned, settings, write_images  # noqa: F401  a fixture
from rich.console import Console

from jaxbudget.lab import report
from jaxbudget.lab.run import files, identity, lock, run_state
from jaxbudget.lab.run.checkpoint import Refused
from jaxbudget.lab.sweep import control, local, status


def damage(directory, content):
  (directory / files.RESULT).write_text(content)


def drop(directory, *names):
  for name in names:
    (directory / name).unlink()


def crash(directory):
  drop(directory, files.RESULT, files.SUMS)
  (directory / files.ERROR).write_text('Traceback\n  ...\nRuntimeError: a bug\n')


def alter(directory, **changes):
  result = json.loads((directory / files.RESULT).read_text())
  damage(directory, json.dumps(result | changes))


def seal_and_damage(directory):
  files.write_sums(directory, (directory / files.RESULT).read_bytes())
  alter(directory, final_accuracy=1.0)


SITUATIONS = {
  'finished': (lambda d: None, 'done'),
  'finished, an old crash is forgotten': (lambda d: (d / files.ERROR).write_text('x'), 'done'),
  'diverged': (lambda d: damage(d, '{"status": "failed", "error": "not finite"}'), 'failed'),
  'crashed': (crash, 'failed'),
  'stopped or killed': (lambda d: drop(d, files.RESULT, files.SUMS), 'stopped'),
  'stopped early': (lambda d: drop(d, files.RESULT, files.SUMS, files.METRICS), 'stopped'),
  'not begun': (lambda d: [path.unlink() for path in d.iterdir()], 'planned'),
  'cut off': (lambda d: damage(d, '{"status": "done", "final_acc'), 'corrupt'),
  'no object': (lambda d: damage(d, '[]'), 'corrupt'),
  'of another run': (lambda d: alter(d, run_id='another'), 'corrupt'),
  'no percentage': (lambda d: alter(d, final_accuracy=float('nan')), 'corrupt'),
  'not what was written': (seal_and_damage, 'corrupt'),
  'without a status': (lambda d: damage(d, '{"final_accuracy": 90.0}'), 'corrupt'),
}


@pytest.fixture
def one_run(tmp_path):
  """A workdir of one finished run."""
  plan = workdirs.small_plan(seeds=(0,))[:1]
  path = workdirs.write_workdir(tmp_path / 'w', plan, sealed=True)
  return path, path / 'runs' / plan[0]['run_id']


@pytest.mark.parametrize('situation', SITUATIONS)
def test_all_are_of_one_opinion(situation, one_run):
  path, directory = one_run
  change, expected = SITUATIONS[situation]
  change(directory)
  found = run_state.look(directory)
  assert found.name == expected
  (seen,) = status.look(path)
  loaded = report.load_workdir(path)
  assert seen.state == loaded.runs['status'][0] == expected
  assert seen.error == loaded.runs['error'][0] == found.why
  assert bool(found.why) == (expected in ('failed', 'corrupt'))
  assert bool(loaded.problems) == (expected == 'corrupt')
  cell = loaded.cells.iloc[0]
  lacking = {s: cell[s] for s in ('done', 'failed', 'corrupt', 'running', 'stopped') if cell[s]}
  assert lacking == ({} if expected == 'planned' else {expected: 1})


def test_a_result_without_status_or_checksums_is_damaged(one_run):
  path, directory = one_run
  result = json.loads((directory / files.RESULT).read_text())
  damage(directory, json.dumps({key: result[key] for key in result if key != 'status'}))
  drop(directory, files.SUMS)
  assert run_state.look(directory) == (run_state.CORRUPT, {}, 'it has no status', None)
  assert status.look(path)[0].error == 'it has no status'
  assert 'it has no status' in report.load_workdir(path).problems[0].what


@pytest.mark.parametrize('name', [files.COUNTS, files.METRICS, files.SUMS, files.BEST])
def test_a_lost_file_is_damage_but_the_result_is_reported(name, one_run):
  path, directory = one_run
  (directory / files.BEST).write_bytes(b'')
  files.write_sums(directory, (directory / files.RESULT).read_bytes())
  drop(directory, name)
  found, whole = run_state.look(directory), name == files.BEST  # weights may be deleted
  assert found.result and found.name == ('done' if whole else 'corrupt')
  assert found.why == ('' if whole else f'{name} is missing')
  assert status.look(path)[0].state == found.name
  loaded = report.load_workdir(path)
  assert loaded.runs['status'][0] == 'done' and loaded.cells['mean'].notna().all()
  lost = [problem for problem in loaded.problems if problem.what == found.why]
  assert len(lost) == (name in (files.COUNTS, files.METRICS))


@pytest.mark.parametrize('situation', ['crashed', 'stopped or killed', 'cut off'])
def test_who_is_at_a_run_counts_more_than_what_was(situation, one_run):
  path, directory = one_run
  SITUATIONS[situation][0](directory)
  with lock.own(directory):
    (seen,) = status.look(path)
    assert seen.state == report.load_workdir(path).runs['status'][0] == 'running'


def test_what_cannot_be_read_is_no_result_and_no_reason_to_train_again(one_run, monkeypatch):
  path, directory = one_run

  def fail(path):
    raise PermissionError(13, 'Permission denied', str(path))

  monkeypatch.setattr(files, 'read_json', fail)
  assert run_state.look(directory).name == 'corrupt'
  assert 'Permission denied' in run_state.look(directory).why
  with pytest.raises(PermissionError):
    run_state.settled(None, directory, print)


@pytest.fixture
def launched(linear_model, tmp_path):  # noqa: F811
  runs, datasets = planned(settings(write_images(tmp_path / 'tiny.npz'), epochs=2))
  again = lambda: local.run_all(runs, datasets, tmp_path / 'runs', Console())
  return runs[0], tmp_path / 'runs' / runs[0].run_id, again


@pytest.mark.parametrize(
  'fault', [RuntimeError('a bug'), OSError(28, 'No space left on device', 'x')], ids=['bug', 'disk']
)
def test_what_the_launcher_calls_failed_is_failed_until_it_goes_on(launched, monkeypatch, fault):
  run, directory, again = launched

  def fail(*args, **kwargs):
    raise fault

  with monkeypatch.context() as patch:
    patch.setattr(local, 'train', fail)
    assert again() == 1
  assert run_state.look(directory).name == 'failed' and str(fault) in run_state.look(directory).why
  assert control.unfinished([run], directory.parents[1]) == [run]

  received = []

  @contextlib.contextmanager
  def signalled():
    yield received

  def stop_at_once(*args, **kwargs):
    received.append(15)

  with monkeypatch.context() as patch:
    patch.setattr(local.process, 'collecting', signalled)
    patch.setattr(local.progress.Launch, 'update', stop_at_once)  # in the first epoch
    assert again() == 143
  assert run_state.look(directory).name == 'stopped', 'the crash of before is over'
  assert again() == 0 and run_state.look(directory).name == 'done'


def test_an_equal_id_with_unequal_content_is_refused(launched, capsys):
  run, directory, again = launched
  other = dataclasses.replace(run, identity={**run.identity, 'data': 'others'})
  assert again() == 0
  kept = {path.name: path.read_bytes() for path in directory.iterdir()}
  with pytest.raises(Refused, match=r"not the same \(data: .* and 'others'\)"):
    run_state.settled(other, directory, print)
  config = json.loads((directory / files.CONFIG).read_text())
  config['identity']['engine'] = 0
  files.write_json(directory / files.CONFIG, config)
  assert again() == 2 and f'engine: 0 and {identity.ENGINE}' in capsys.readouterr().out
  assert {path.name for path in directory.iterdir()} == set(kept)


@pytest.mark.parametrize(('first', 'code'), [('found', 2), ('trained', 1)])
def test_the_exit_code_is_of_what_was_left(
  first,
  code,
  tmp_path,
  monkeypatch,
  linear_model,  # noqa: F811
):
  """Runs that were done before do not soften a refusal of all the others."""
  runs, datasets = planned(settings(write_images(tmp_path / 'tiny.npz'), seeds=3))

  def settled(run, *_):
    return run_state.DONE if (first, run.seed) == ('found', 0) else None

  def train(session, run, *_):
    if run.seed:
      raise Refused('begun under other conditions')

  monkeypatch.setattr(local.run_state, 'settled', settled)
  monkeypatch.setattr(local, '_train_owned', train)
  assert local.run_all(runs, datasets, tmp_path / 'runs', Console(quiet=True)) == code


def test_waiting_for_data_is_counted_once():
  line = {'epoch': 1, 'seconds': {'train': 10.0, 'evaluate': 1.0, 'data_wait': 9.0}}
  assert status._pace([line, line]) == 11.0
  assert status._spent({'data': 1, 'compile': 2, **line['seconds']}) == 14.0
