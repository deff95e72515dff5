"""The golden numbers hold, and a change of any one rule shows in them."""

import copy
import importlib
import json
import pathlib
import shutil

import golden_engine as golden
import pytest

import jaxbudget
from jaxbudget import epoch

RECORDED = json.loads(golden.FILE.read_text())
CASES = golden.cases()


def test_everything_is_recorded_for_the_present_engine():
  assert RECORDED['engine'] == epoch.ENGINE, golden.fault(RECORDED, {'engine': epoch.ENGINE})
  assert sorted(RECORDED['numbers']) == sorted(CASES), 'run python tests/golden_engine.py'


@pytest.mark.parametrize('name', CASES)
def test_results_are_those_of_the_engine_number(name):
  now = golden.as_json(CASES[name](golden.LIBRARY))
  known = {**RECORDED, 'numbers': {name: RECORDED['numbers'].get(name)}}
  found = golden.fault(known, {'engine': epoch.ENGINE, 'numbers': {name: now}})
  assert not found, found


MUTANTS = {
  'decay after momentum': (
    'optimizers.py',
    'clip_norm, decay, trace(momentum, nesterov=nesterov))',
    'clip_norm, trace(momentum, nesterov=nesterov), decay)',
    'weights unif_sgd',
  ),
  'the mean over all of a batch': (
    'step.py',
    'batch.target, loss)) / count',
    'batch.target, loss)) / weight.shape[0]',
    'weights ordered_sgd',
  ),
  'a percentile that is not strict': (
    'selectors/measuring.py',
    'pool[None] < loss[:, None]',
    'pool[None] <= loss[:, None]',
    'decisions selective_backprop',
  ),
  'one key for all rows of an epoch': (
    'step.py',
    "'select', state.epoch, state.row",
    "'select', state.epoch",
    'decisions selective_backprop',
  ),
  'one augmentation for all rows of an epoch': (
    'step.py', "'augment', state.epoch, state.row", "'augment', state.epoch", 'weights unif_sgd',
  ),
  'a picture credited with its difficulty squared': (
    'scores.py', 'take_along_axis(probability', 'take_along_axis(probability**2', 'decisions p_sgd',
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', MUTANTS)
def test_a_change_of_one_rule_shows_and_demands_a_new_number(name, tmp_path, monkeypatch):
  file, old, new, case = MUTANTS[name]
  lib = mutant(tmp_path, monkeypatch, file, old, new)
  found = {**RECORDED['numbers'], case: golden.as_json(CASES[case](lib))}
  now = {'engine': RECORDED['engine'], 'numbers': found}
  assert case in golden.fault(RECORDED, now) and 'raise ENGINE' in golden.fault(RECORDED, now)
  with pytest.raises(ValueError, match='raise ENGINE'):
    golden.write(RECORDED, now)


def test_a_copy_without_a_change_gives_the_same_numbers(tmp_path, monkeypatch):
  case = 'weights unif_sgd'
  same = golden.as_json(CASES[case](mutant(tmp_path, monkeypatch, 'step.py', 'select', 'select')))
  assert golden.difference(RECORDED['numbers'][case], same) == ''


def mutant(folder, monkeypatch, file, old, new) -> golden.Library:
  """A copy of the library in which one line is another."""
  name = f'mutant_{folder.name}'.replace('-', '_')
  source, copied = pathlib.Path(jaxbudget.__file__).parent, folder / name
  shutil.copytree(source, copied, ignore=shutil.ignore_patterns('lab', '__pycache__'))
  text = (copied / file).read_text()
  assert text.count(old) == 1 or old == new, (
    f'{old!r} does not stand in {file} once: mutate what does'
  )
  (copied / file).write_text(text.replace(old, new))
  for path in copied.rglob('*.py'):
    path.write_text(path.read_text().replace('jaxbudget', name))
  monkeypatch.syspath_prepend(folder)
  importlib.invalidate_caches()
  return golden.Library(name)


def test_what_may_be_recorded():
  now = copy.deepcopy(RECORDED)
  name = next(iter(now['numbers']))
  now['numbers']['decisions new'] = [1]
  assert 'not recorded, or gone: decisions new' in golden.fault(RECORDED, now)
  assert golden.write(RECORDED, now) == now, 'what is new may be added'
  now['numbers'][name] = None
  with pytest.raises(ValueError, match='raise ENGINE'):
    golden.write(RECORDED, now)
  now['engine'] += 1
  assert 'the numbers are of' in golden.fault(RECORDED, now)
  assert golden.write(RECORDED, now) == now


@pytest.mark.parametrize(
  ('was', 'now', 'same'),
  [
    (1.0, 1.000009, True),
    (1.0, 1.00002, False),
    (1e-9, 9e-6, True),
    (200.0, 200.001, True),
    (float('nan'), float('nan'), True),
    (float('inf'), float('inf'), True),
    (float('inf'), 1.0, False),
    (1, 2, False),
    ([1, 2], [1], False),
    ({'a': 1}, {'b': 1}, False),
    ('1 2', '1 3', False),
    (None, [1.0], False),
  ],
)
def test_decisions_are_compared_exactly_and_the_rest_within_rounding(was, now, same):
  assert (golden.difference(was, now) == '') is same
