"""benchmarks/accelerator.py: what it writes down survives, and it runs where there is no device."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
BENCHMARKS = ROOT / 'benchmarks'
HERE = {
  'device': '1 x H100', 'driver': 'v', 'machine': 'm', 'versions': {'jax': '1', 'torch': ''},
  'engine': 'e', 'commit': 'abc', 'command': 'c',
}  # fmt: skip


@pytest.fixture(autouse=True)
def parts(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def book(tmp_path):
  """Opens the same book, under `HERE` or what is changed of it."""
  from on_device.book import Book

  def opened(resume=False, again=(), only=(), **changed):
    return Book(tmp_path / 'accelerator.json', HERE | changed, resume, again, only)

  return opened


def never():
  pytest.fail('it was measured')


def test_what_is_measured_survives_and_what_failed_is_tried_again(book):
  first = book()
  first.attempt('fast', 'a', lambda x: {'ms a row': [3.0, x, 1.0]}, 2.0)
  first.attempt('fast', 'b', lambda: 1 / 0)
  assert json.loads(first.path.read_text())['parts']['fast']['b'] == {
    'failed': 'ZeroDivisionError: division by zero'
  }
  page = first.path.with_suffix('.md')
  assert '| a | 1 | 2 (1 to 3) |' in page.read_text().replace('2.00', '2')  # not at the end
  assert 'jax 1 |' in page.read_text() and 'torch' not in page.read_text()
  again = book()
  again.attempt('fast', 'a', never)
  again.attempt('fast', 'b', lambda: {'ms a row': 1234.5, 'right': False})
  assert '| b | 1 | 1,234 | **no** |' in page.read_text()
  last = book(resume=True)
  assert last.has('fast', 'a') and not last.has('fast', 'b')  # what is wrong is tried again too
  assert last.failed() == ['fast: b']


@pytest.mark.parametrize(
  'changed', [{'device': '1 x H200'}, {'versions': {'jax': '2'}}, {'engine': 'f'}]
)
def test_each_case_keeps_what_it_was_measured_under(book, changed):
  first = book()
  first.attempt('fast', 'x', lambda: {'ms a row': 2.0})
  first.attempt('right', 'sgd', lambda: {'right': True})
  resumed = book(resume=True, commit='def', **changed)
  resumed.attempt('fast', 'x', never)
  resumed.attempt('fast', 'y', lambda: {'ms a row': 3.0})
  content = json.loads(resumed.path.read_text())
  assert content['conditions'] == [HERE, HERE | {'commit': 'def'} | changed]
  assert content['under']['fast'] == {'x': 0, 'y': 1}
  text = resumed.render()
  assert '| x | 1 | 2.00 |' in text.replace('| 2 |', '| 2.00 |')
  assert '| y | 2 |' in text and text.count('| abc |') == text.count('| def |') == 1
  # Without --resume what others measured is measured here, and what is not reached stays.
  fresh = book(commit='def', **changed)
  fresh.attempt('fast', 'x', lambda: {'ms a row': 4.0})
  content = json.loads(fresh.path.read_text())
  assert content['under'] == {'fast': {'x': 1, 'y': 1}, 'right': {'sgd': 0}}
  assert content['parts']['right'] == {'sgd': {'right': True}}
  fresh.attempt('right', 'sgd', lambda: {'right': True})
  assert len(json.loads(fresh.path.read_text())['conditions']) == 1  # nothing is left of the first


def test_a_part_or_a_case_is_measured_again(book):
  first = book()
  for part, case in (('fast', 'bfloat16, batch 128'), ('fast', 'tf32'), ('right', 'sgd')):
    first.attempt(part, case, lambda: {'ms': 1.0})
  again = book(again=['right', 'fast|batch 128'])
  again.attempt('fast', 'tf32', never)
  assert not again.has('right', 'sgd') and not again.has('fast', 'bfloat16, batch 128')
  again.attempt('right', 'sgd', lambda: {'ms': 2.0})
  again.attempt('right', 'sgd', never)  # once is enough
  assert again.of('fast') == first.of('fast') and again.of('right') == {'sgd': {'ms': 2.0}}


def test_a_file_of_another_form_is_not_taken_for_a_book(book, tmp_path):
  (tmp_path / 'accelerator.json').write_text('{"parts": {}, "device": "1 x H100"}')
  with pytest.raises(ValueError, match="has .'device', 'parts'., where .*--out"):
    book()


def test_only_what_is_asked_for_is_measured(book):
  few = book(only=['batch 8', 'sgd'])
  assert few.has('fast', 'batch 128') and not few.has('fast', 'batch 8, tf32')
  assert not few.has('overheads', 'p_sgd') and not book().has('fast', 'batch 128')


# Stands for on_device.right: a name is the seconds that a case takes, or how its process ends.
FAKE = """
import json, sys, time
until, *names = sys.argv[1:]
for name in names:
  if time.time() > float(until):
    continue
  if name == 'dies':
    sys.exit(3)
  time.sleep(float(name))
  print(json.dumps({'case': name, 'right': True}), flush=True)
"""


def test_right_writes_cases_down_as_they_end_and_heeds_the_time(book, monkeypatch, capsys):
  from on_device import rights

  monkeypatch.setattr(rights, 'COMMAND', (sys.executable, '-c', FAKE))
  monkeypatch.setattr(rights.os, 'cpu_count', lambda: 16)
  first = book()
  rights.check(first, time.time() + 60, ['1.5', '0', 'dies'])
  assert list(first.of('right')) in (['0', 'dies', '1.5'], ['dies', '0', '1.5'])
  assert first.failed() == ['right: dies']
  assert first.of('right')['dies']['failed'] == 'its process ended with 3'
  monkeypatch.setattr(rights, 'COMMAND', (sys.executable, '-c', FAKE.replace('dies', 'lives')))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(rights.right, 'cases', lambda: {'0': 0, '1.5': 0, '0.1': 0})
    rights.check(first, time.time() - 1)  # time is up
  assert first.of('right').keys() == {'0', '1.5', 'dies'}
  assert '1 cases left out, from 0.1 on' in capsys.readouterr().out
  rights.check(book(), time.time() + 60, ['0', '1.5'])  # nothing to do


def test_right_sees_other_choices_counts_and_losses(monkeypatch):
  from on_device import right

  found = {
    'rows': [1],
    'plan': [[0]],
    'trained': [8],
    'scored': [0],
    'counts': [[1]],
    'loss': [2.0],
  }
  found |= {'states': None}

  def runs(*answers, selector='sgd'):
    left = iter(answers)
    monkeypatch.setattr(right, 'run', lambda *args: next(left))
    return right.compare((selector, {}, 'none'), jax.devices()[0])

  assert runs(found, found | {'loss': [2.001]})['right']
  assert not runs(found, found | {'loss': [2.01]})['right']
  for name, value in (('plan', [[1]]), ('scored', [8])):
    other = runs(found, found | {name: value})
    assert other['differs in'] == [name] and not other['right']
  other_plan = found | {'plan': [[1]]}
  assert runs(found, other_plan, selector='craig')['right']  # near ties
  assert not runs(found, other_plan | {'loss': [2.01]}, selector='craig')['right']


def test_each_row_is_begun_from_the_states_that_are_given():
  from on_device import right

  case, device = right.cases()['unif_sgd'], jax.devices()[0]
  first = right.run(*case, device)
  assert first['rows'] == [*range(1, 9)] * 2 and len(first['states']) == 16
  other = jax.tree.map(lambda x: x.copy(), first['states'])
  other[3] = other[3].replace(params=jax.tree.map(lambda x: 2 * x, other[3].params))
  again = right.run(*case, device, other)
  differs = [a != b for a, b in zip(first['loss'], again['loss'], strict=True)]
  assert differs == [row == 3 for row in range(16)]
  assert again['plan'][0] == first['plan'][0] and again['counts'] == first['counts']


@pytest.mark.parametrize(
  ('name', 'scored', 'trained'),
  [
    ('gradient_bound that scores', [24] * 16, [8] * 16),
    ('ordered_sgd compact, q falls', [0] * 8 + [8] * 8, [8] * 8 + [2] * 8),
    ('ordered_sgd, q falls', [0] * 16, [8] * 16),
  ],
)
def test_what_chooses_in_a_row_does_so_in_a_case_of_right(name, scored, trained):
  from on_device import right

  found = right.run(*right.cases()[name], jax.devices()[0])
  assert (found['scored'], found['trained']) == (scored, trained)


def test_compact_ordered_sgd_is_timed_where_it_ranks():
  from on_device import fast
  from on_device.rows import HEARD, ROWS, Setting
  from on_device.sizes import sizes

  compact = sizes(small=True).methods['ordered_sgd compact, q = s/16']
  assert compact.state == (('q', 1),)
  forced = {dict(s.state).get('q') for s in sizes(small=False).methods.values()}
  assert forced == {None, 8, 32, 64, 128}
  before = HEARD.programs.copy()
  compact = compact._replace(examples=compact.examples + 8)  # nobody else trains so
  rows = fast.Rows(compact)
  programs = {from_disk: (HEARD.programs - before)[ROWS, from_disk] for from_disk in (False, True)}
  metrics = rows.epoch().metrics
  assert (int(metrics.scored[0]), int(metrics.trained[0])) == (8, 1)
  assert sum(programs.values()) == 1
  assert rows.compiling is None if programs[True] else rows.compiling > 0
  assert fast.Rows(compact._replace(state=(('q', 4),))).compiling is None  # it was there
  assert Setting.of(json.loads(json.dumps(compact))) == compact


def test_rows_are_made_before_they_are_timed_and_what_chooses_kernels_alone(monkeypatch):
  from on_device import ahead
  from on_device.rows import Setting

  at_work, most, made = [], [], []

  class Slow:
    def __init__(self, setting, alone):
      at_work.append(setting)
      most.append((len(at_work), alone))
      time.sleep(0.2)
      at_work.remove(setting)
      if setting.augment == 'ricap':
        raise ValueError(setting.augment)
      made.append(setting)

  monkeypatch.setattr(ahead, 'Rows', Slow)
  monkeypatch.setattr(ahead, 'TOGETHER', 3)
  plain, said = Setting(), []
  wide = plain._replace(batch=512)
  others = [plain._replace(augment=name) for name in ('mixup', 'ricap', 'none')]
  rows, peers = ahead.make([plain, wide], [plain, *others], [], time.time() + 60, said.append)
  assert made[:2] == [plain, wide]
  assert most == [(1, True), (1, True), (1, False), (2, False), (3, False)]
  assert isinstance(rows[plain].result(), Slow) and len(said) == 4 and not peers
  with pytest.raises(ValueError, match='ricap'):
    rows[others[1]].result()
  late = ahead.make([plain], [], [], time.time() - 1, said.append).rows
  with pytest.raises(TimeoutError):
    late[plain].result()
  assert len(most) == 5


def test_every_augmentation_is_timed():
  from on_device.sizes import sizes

  from jaxbudget import registry

  timed = {setting.augment for setting in sizes(small=False).methods.values()}
  assert timed == {*registry.names('augment')} - {'none'}


def test_plans_are_timed():
  from on_device import fast

  assert fast.plan('p_sgd', 256, 8, 2)['rows planned'] == 9


def test_nothing_is_compiled_while_a_whole_run_is_timed(monkeypatch):
  from on_device import whole

  compiled, timed = [], []
  monitor = jax.monitoring.register_event_duration_secs_listener
  monitor(lambda event, seconds, **_: compiled.append(event) if 'backend_comp' in event else None)
  run_epoch = whole.engine.run_epoch

  def watched(*arguments, stop=None):
    before = len(compiled)
    done = run_epoch(*arguments, stop=stop)
    timed.append((stop, len(compiled) - before))
    return done

  monkeypatch.setattr(whole.engine, 'run_epoch', watched)
  tiny = (('model', 'mlp'), ('batch_size', 8), ('epochs', 2))
  whole.measure(whole.Whole(others=tiny, side=8, examples=64, tested=64), None)
  assert [stop for stop, _ in timed] == [0, None, None]
  assert timed[0][1] > 0 and timed[1:] == [(None, 0)] * 2
  assert whole._of_the_paper(whole.Whole()) == {'minutes in the paper, GTX 1080 Ti': 47}


def test_a_tpu_has_its_layout_its_profile_and_its_peak():
  from on_device import fast, trace
  from on_device.rows import laid_out, random_data

  from jaxbudget.data.flat import FlatImages

  data = random_data(4, 8)
  assert isinstance(data.image, np.ndarray) and laid_out(data, 'gpu') is data
  assert isinstance(laid_out(data, 'tpu').image, FlatImages)
  shapes = jax.eval_shape(lambda: data)
  assert laid_out(shapes, 'tpu').image.pixels.shape == (4, 192)
  event = types.SimpleNamespace(name='copy.1', duration_ns=5)
  lines = [types.SimpleNamespace(name=name, events=[event]) for name in ('XLA Ops', 'Steps')]
  profile = types.SimpleNamespace(planes=[types.SimpleNamespace(name='/device:TPU:0', lines=lines)])
  assert trace.read(profile) == ({'copy.1': 5}, {'copy.1': 1})
  del lines[0]
  with pytest.raises(ValueError, match='nothing was launched.*Steps'):
    trace.read(profile)
  assert fast.card('TPU v5 lite').peaks['bfloat16'] == 197e12


def test_shares_are_of_this_card_and_of_this_row():
  from on_device import fast
  from on_device.rows import Setting

  assert [fast.card(f'NVIDIA {kind}').target for kind in ('H100 80GB HBM3', 'H200')] == ['h100', '']
  for other in ('NVIDIA H100 PCIe', 'NVIDIA H100 NVL', 'NVIDIA H200 NVL', 'cpu'):
    assert not fast.card(other).peaks  # 989e12 is not theirs
  found = fast.shares(Setting(), 2.67e-3, 'NVIDIA H100 80GB HBM3')
  assert found['share of peak, padding counted, %'] == pytest.approx(16.2, abs=0.05)
  assert found['share of the compiled bound %'] == pytest.approx(38.1, abs=0.05)
  assert list(fast.shares(Setting(batch=512), 1.0, 'NVIDIA H100 80GB HBM3')) == [*found][:1]
  assert fast.flops('resnet18', 64, 84) / 6 == pytest.approx(3.92e9, rel=0.002)


def test_a_command_that_hangs_costs_nothing(monkeypatch):
  from on_device import here

  def hangs(*arguments, **named):
    raise subprocess.TimeoutExpired('nvidia-smi', 20)

  monkeypatch.setattr(here.subprocess, 'run', hangs)
  assert here.output(['nvidia-smi']) == ''
  assert here.conditions('abc')['commit'] == 'abc'


def test_make_gpu_takes_a_python_that_has_an_accelerator():
  told = subprocess.run(
    ['make', '-n', '--no-print-directory', 'gpu', 'GPU_PYTHON=python9', 'ARGS=--only=fast'],
    capture_output=True, text=True, cwd=ROOT, check=True,
  ).stdout  # fmt: skip
  assert told.split() == ['python9', 'benchmarks/accelerator.py', '--only=fast']


def test_tables_of_what_is_stored_are_rendered_without_a_card(book, capsys, monkeypatch):
  import accelerator

  stored = book()
  stored.attempt('fast', 'a', lambda: {'ms a row': 2.0})
  stored.path.with_suffix('.md').unlink()
  assert accelerator.main(['--render', f'--out={stored.path.parent}']) == 0
  assert '| a | 1 | 2 |' in stored.path.with_suffix('.md').read_text().replace('2.00', '2')
  for flag in ('--again=later|x', '--only=quick'):
    with pytest.raises(SystemExit):
      accelerator.main([flag, '--smoke'])
    assert re.search(r'no such part: \w+; there are right, ', capsys.readouterr().err)
  monkeypatch.setattr(accelerator.jax, 'default_backend', lambda: 'cpu')
  with pytest.raises(SystemExit):
    accelerator.main([f'--out={stored.path.parent}'])
  assert 'finds no accelerator' in capsys.readouterr().err


def test_what_is_stored_is_what_the_page_shows(tmp_path):
  from on_device.book import Book

  kept = ROOT / 'docs' / 'results' / 'accelerator.json'
  (tmp_path / 'accelerator.json').write_text(kept.read_text())
  assert Book(tmp_path / 'accelerator.json').render() == kept.with_suffix('.md').read_text()


@pytest.mark.long
def test_smoke():
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, str(BENCHMARKS / 'accelerator.py'), '--smoke']
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  assert '| unif_sgd, ricap | 1 | 16 | 0 | none |' in done.stdout and 'failed' not in done.stdout
