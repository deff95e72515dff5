"""The fault campaign in short; `make faults` runs it at length.

Launches are processes of their own that die by real signals. Everything that was not the
cause is compared byte by byte with a workdir that nobody disturbed.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import time
from collections import Counter

import campaign
import faulty
import pytest
import weather
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console

import jaxbudget
from jaxbudget.lab import cells, config, launcher
from jaxbudget.lab.run import files
from jaxbudget.lab.run.process import STOP
from jaxbudget.lab.run.run import label
from jaxbudget.lab.sweep import local, plan_file, status

CELLS = 'few'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  with campaign.place(tmp_path_factory, 'faults') as directory:
    yield directory


@pytest.fixture(scope='module')
def expected(place):
  return campaign.reference(place / 'reference', CELLS)


def test_killed_launches_lose_nothing(place, expected):
  # A seed that draws a touch of the disk first, then a moment.
  died = campaign.kills(place, CELLS, expected, count=2, seed=741)
  assert sum(died.values()) - died['grids'] == 2


def test_terminated_launches_save_and_go_on(place, expected):
  stopped = campaign.terminations(place, CELLS, expected, count=1)
  assert sum(stopped[number.name] for number in STOP) == 1


def test_launches_at_once_share_the_work(place, expected):
  campaign.crowd(place, CELLS, expected, count=2)


@pytest.mark.usefixtures('linear_model')
def test_launches_end_as_promised_in_any_weather(tmp_path):
  assert weather.campaign(tmp_path, 30, weather.here, light=True).total() == 30


class Killed(BaseException):
  """Stands in for SIGKILL, so that every touch of the disk can be tried in one process."""


def test_death_at_any_touch_of_the_disk_changes_no_bit(linear_model, tmp_path, monkeypatch):  # noqa: F811
  values = faulty.settings(
    faulty.write_images(tmp_path / 'tiny.npz'),
    epochs=2, rows_per_call=2, checkpoint_every=1e-9, selector='selective_backprop',
    selector_options={'history': 16},
  )  # fmt: skip
  runs, datasets = faulty.planned(values)
  assert local.run_all(runs, datasets, tmp_path / 'whole', Console(quiet=True)) == 0
  whole = faulty.outcome(tmp_path / 'whole' / runs[0].run_id)

  left = 0
  replace, append = os.replace, files.append_text

  def strike(midway=lambda: None):
    nonlocal left
    left -= 1
    if left == 0:
      midway()
      raise Killed

  def struck_replace(source, target):
    strike()
    replace(source, target)
    strike()

  def struck_append(path, text):
    strike(lambda: append(path, text[: len(text) // 2]))
    append(path, text)

  monkeypatch.setattr(files.os, 'replace', struck_replace)
  monkeypatch.setattr(files, 'append_text', struck_append)
  deaths = 0
  while True:
    left = deaths + 1
    directory = tmp_path / 'struck'
    try:
      local.run_all(runs, datasets, directory, Console(quiet=True))
      break  # there is no such touch any more
    except Killed:
      deaths += 1
    left = 0
    assert local.run_all(runs, datasets, directory, Console(quiet=True)) == 0
    assert faulty.differences(faulty.outcome(directory / runs[0].run_id), whole) == []
    shutil.rmtree(directory)
  assert deaths > 20


@pytest.mark.parametrize('errno', [28, 30])
def test_a_full_or_read_only_disk_is_told_and_survived(
  errno,
  linear_model,  # noqa: F811
  tmp_path,
  monkeypatch,
  capsys,  # noqa: F811
):
  dataset = faulty.write_images(tmp_path / 'tiny.npz')
  values = faulty.settings(dataset, epochs=2, rows_per_call=2, checkpoint_every=1e-9)
  assert launcher.launch(values, tmp_path / 'whole', 'train') == 0
  whole = campaign.outcomes(tmp_path / 'whole')
  left = 0
  fsync = os.fsync

  def full(handle):
    nonlocal left
    left -= 1
    if left < 0:
      os.ftruncate(handle, 1)  # what is left of what was written
      raise OSError(errno, os.strerror(errno))
    fsync(handle)

  monkeypatch.setattr(os, 'fsync', full)
  failures = 0
  while True:
    left = 3 * failures
    if launcher.launch(values, tmp_path / 'w', 'train') == 0:
      break
    failures += 1
    said = capsys.readouterr()
    assert os.strerror(errno) in said.out + said.err and str(tmp_path) in said.out + said.err
    assert 'error.log' not in said.out
    assert not list(tmp_path.glob('w/**/*.tmp')) and not list(tmp_path.glob('w/**/lock'))
  assert failures > 3
  for run_id, run in campaign.outcomes(tmp_path / 'w').items():
    assert faulty.differences(run, whole[run_id]) == []


def damaged_launch(values, workdir, capsys):
  code = launcher.launch(values, workdir, 'train')
  captured = capsys.readouterr()
  return code, captured.out + captured.err


@pytest.mark.parametrize('how', campaign.DAMAGES)
def test_damaged_files_are_rebuilt_or_named(how, linear_model, tmp_path, capsys):  # noqa: F811
  rng = random.Random(7)
  values = faulty.settings(faulty.write_images(tmp_path / 'tiny.npz'), epochs=2)
  assert launcher.launch(values, tmp_path / 'whole', 'train') == 0
  expected = campaign.outcomes(tmp_path / 'whole')
  (run_id,) = expected
  names = sorted(path.name for path in (tmp_path / 'whole' / 'runs' / run_id).iterdir())
  assert len(names) == 8
  for name in [*(f'runs/{run_id}/{name}' for name in names), 'plan.json']:
    workdir = tmp_path / 'copy'
    shutil.copytree(tmp_path / 'whole', workdir)
    file = workdir / name
    changed = campaign.DAMAGES[how](file.read_bytes(), rng)
    file.unlink() if changed is None else file.write_bytes(changed)
    capsys.readouterr()
    code, said = damaged_launch(values, workdir, capsys)
    weights = file.suffix == '.msgpack'
    if weights:  # looked at when they are loaded
      assert code == 0
      with pytest.raises(ValueError, match=file.name):
        jaxbudget.load(file.parent, 'best' if 'best' in name else 'last')
    elif code:  # 2: what is damaged reads like the config of another run
      assert file.name in said or (code == 2 and str(file.parent) in said), said
      shutil.rmtree(file.parent)
      code, said = damaged_launch(values, workdir, capsys)
    assert code == 0, said
    if not weights:
      found = campaign.outcomes(workdir)
      assert faulty.differences(found[run_id], expected[run_id]) == []
    shutil.rmtree(workdir)


def test_a_plan_cannot_lead_out_of_the_workdir(linear_model, tmp_path, capsys):  # noqa: F811
  outside = tmp_path / 'outside'
  outside.mkdir()
  (outside / 'config.json').write_text('{}')
  work = tmp_path / 'deep' / 'work'
  (work / 'runs').mkdir(parents=True)
  entries = [{'run_id': '../../../outside', 'paper': []}, {'run_id': str(outside)}, 'x', {}]
  (work / 'plan.json').write_text(json.dumps({'runs': entries}))
  sneaky = tmp_path / 'deep' / '..' / 'tiny.npz'
  faulty.write_images(sneaky)
  values = faulty.settings(f'npz:{sneaky}', epochs=1, name='../../../name')
  assert launcher.launch(values, work, 'all') == 0
  (entry,) = files.read_json(work / 'plan.json')['runs']
  assert pathlib.PurePath(entry['run_id']).name == entry['run_id']
  assert [path.name for path in outside.iterdir()] == ['config.json']
  assert {path.name for path in tmp_path.iterdir()} == {'outside', 'deep', 'tiny.npz'}


def test_run_ids_are_names(tmp_path):
  for path in ('../../x.npz', '..', 'a b/ü?.npz', '/', '.npz'):
    ((cell, _, _),) = cells.lay_out(config.defaults(dataset=f'npz:{path}'))
    name = label(cell)
    assert plan_file._RUN_ID.fullmatch(name) and pathlib.PurePath(name).name == name


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGKILL])
def test_workers_share_the_work_and_end_with_their_launch(number, place, expected):
  """Two workers, and a signal in the middle to the launch that started them."""
  workdir = place / f'workers{number}'
  process = campaign.start(workdir, CELLS, '--workers=2')
  assert campaign._wait_for_training(process, workdir)
  process.stdout.close()  # a terminal that is closed
  process.send_signal(number)
  assert process.wait(60) == (129 if number == signal.SIGHUP else -number)
  until = time.monotonic() + 60
  while any(s.state == 'running' for s in status.look(workdir)):
    assert time.monotonic() < until, 'workers outlive their launch'
    time.sleep(0.1)
  code, said = campaign.launch(workdir, CELLS)
  assert code == 0, said
  assert max(Counter(campaign._TRAINED.findall(said)).values()) == 1
  campaign.assert_same(workdir, expected)
