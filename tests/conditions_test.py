"""Conditions: each, one at a time, keeps from resuming and from pooling as its column says."""

import json

import numpy as np
import pytest
import report_workdirs as workdirs

from jaxbudget.lab import launcher, report
from jaxbudget.lab.report import cells, comparison_tables, frontier, tables
from jaxbudget.lab.run import checkpoint, conditions

BOTH = {
  'engine', 'data_fingerprint', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'device', 'threads',
  'matmul_precision', 'prng', 'threefry_partitionable', 'x64', 'seed_offset', 'xla_flags',
}  # fmt: skip
RESUME_ONLY = {'source', 'processes'}
TOLD_ONLY = {'cpu', 'host', 'placement'}
POOL_ONLY = {'missing_files'}
OF_A_RUN = {'source', 'data_fingerprint', 'placement', 'missing_files'}
ALL = sorted(BOTH | RESUME_ONLY | POOL_ONLY | TOLD_ONLY)
HERE = {**workdirs.CONDITIONS, 'data_fingerprint': 'digits-fingerprint'}


def test_the_table_holds_these_and_no_others():
  assert sorted(conditions.TABLE) == ALL
  assert set(conditions.present()) == set(ALL) - OF_A_RUN
  assert set(HERE) == set(ALL)


@pytest.mark.parametrize('name', ALL)
def test_resuming(name, tmp_path):
  saved = checkpoint.Checkpoint(tmp_path / 'x.ckpt', {}, {}, {'run': 'r', **HERE})
  now = {'run': 'r', **HERE, name: 'other'}
  if name in TOLD_ONLY | POOL_ONLY:
    assert checkpoint.agree(saved, now) == []
    return
  with pytest.raises(checkpoint.Refused, match=f"{name}: .* then, 'other' now"):
    checkpoint.agree(saved, now)
  if name != 'data_fingerprint':
    forced = checkpoint.agree(saved, now, resume='force')
    assert forced == [{'field': name, 'was': HERE[name], 'is': 'other'}]


def edit(path, run, **changes):
  file = path / 'runs' / run['run_id'] / 'result.json'
  result = json.loads(file.read_text())
  file.write_text(json.dumps(result | changes))


CELLS = (('unif_sgd', 0.1), ('p_sgd', 0.1))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Two cells of three seeds, p_sgd one point better."""
  plan = [workdirs.plan_run(s, b, seed, epochs=2) for s, b in CELLS for seed in range(3)]
  accuracy = lambda run: 80 + run['seed'] + (run['selector'] == 'p_sgd')
  path = workdirs.write_workdir(tmp_path_factory.mktemp('pooling') / 'w', plan, accuracy)
  return path, plan


@pytest.fixture
def odd(workdir):
  """Gives the last seed of p_sgd another condition for the time of a test."""
  path, plan = workdir
  yield lambda name, value: edit(path, plan[-1], conditions={**HERE, name: value})
  edit(path, plan[-1], conditions=HERE, forced=[])


def p_sgd(loaded):
  return loaded.cells[loaded.cells['selector'] == 'p_sgd'].set_index('apart')


@pytest.mark.parametrize('name', ALL)
def test_pooling(name, workdir, odd):
  path, _ = workdir
  odd(name, 'other')
  loaded = report.load_workdir(path)
  found = p_sgd(loaded)
  if name not in BOTH | POOL_ONLY:
    assert loaded.pooling == [] and list(found['done']) == [3]
    assert found['mean'].tolist() == [82]
    return
  apart = f'{name} other'
  assert found['done'].to_dict() == {'': 2, apart: 1}
  assert found['mean'].to_dict() == {'': 81.5, apart: 83}
  assert cells.state(found.loc['']) == '1 not pooled'
  (said,) = loaded.pooling
  assert said.startswith('Not pooled') and f'{name} differs' in said and 'other: seed 2' in said
  assert said in tables.summary_table(loaded).notes

  pooled = report.load_workdir(path, allow=[name])
  assert p_sgd(pooled)['mean'].tolist() == [82]
  assert 'Pooled all the same' in pooled.pooling[0] and f'{name} differs' in pooled.pooling[0]


@pytest.mark.parametrize('name', ALL)
def test_comparing(name, workdir, odd):
  path, _ = workdir
  odd(name, 'other')
  states = frontier.equal_compute(report.load_workdir(path))
  if name not in BOTH | POOL_ONLY:
    assert list(states['state']) == [''] and list(states['n']) == [3]
    return
  assert list(states['state']) == ['', 'refused'] and f'{name} differs' in states['reason'][1]
  allowed = frontier.equal_compute(report.load_workdir(path, [name]), [name])
  assert list(allowed['state']) == [''] and list(allowed['mean']) == [1]
  notes = ' '.join(comparison_tables.equal_compute_table(allowed).notes)
  assert f'{name} differs' in notes


def test_what_is_allowed_is_printed(workdir, odd, capsys):
  path, _ = workdir
  odd('device', 'other')
  assert launcher.launch(None, path, 'report', allow=('device',), figures='none') == 0
  page = (path / 'report' / 'index.html').read_text()
  said = f'device differs ({HERE["device"]}: seed 0, 1 | other: seed 2)'
  assert 'Pooled all the same' in page and said in page
  assert launcher.launch(None, path, 'report', allow=('devise',), figures='none') == 2
  assert "unknown field to allow 'devise'; did you mean 'device'" in capsys.readouterr().err


def test_seeds_set_apart_are_compared_with_those_of_the_same_conditions(tmp_path):
  plan = [workdirs.plan_run(s, b, seed, epochs=2) for s, b in CELLS for seed in range(5)]
  accuracy = lambda run: 80 + (run['selector'] == 'p_sgd') * (1 + (run['seed'] > 2))
  path = workdirs.write_workdir(tmp_path / 'w', plan, accuracy)
  for run in plan:
    if run['seed'] > 2:
      edit(path, run, conditions={**HERE, 'device': 'gpu H100'})
  loaded = report.load_workdir(path)
  compared = frontier.equal_compute(loaded).set_index('variant')
  assert compared['mean'].to_dict() == {'': 1, 'device=gpu H100': 2}
  assert compared['n'].to_dict() == {'': 3, 'device=gpu H100': 2}
  assert report.write_report(path).is_file()


def test_a_run_that_was_forced_is_of_both_conditions(workdir, odd):
  path, plan = workdir
  odd('jax', '9')
  edit(path, plan[-1], forced=[{'field': 'jax', 'was': '8', 'is': '9'}, {'field': 'source'}, 3])
  assert 'jax 8 then 9' in p_sgd(report.load_workdir(path)).index


def test_what_is_set_to_nothing_is_not_unknown(workdir, odd):
  path, _ = workdir
  odd('matmul_precision', '')
  assert 'none: seed 0, 1 | unknown: seed 2' in report.load_workdir(path).pooling[0]


def test_unfinished_seeds_stay_with_the_most(workdir, odd):
  path, plan = workdir
  odd('numpy', '1')
  result = path / 'runs' / plan[-2]['run_id'] / 'result.json'
  kept = result.read_bytes()
  result.unlink()
  found = p_sgd(report.load_workdir(path))
  result.write_bytes(kept)
  assert found['planned'].to_dict() == {'': 2, 'numpy 1': 1}
  assert found['stopped'].to_dict() == {'': 1, 'numpy 1': 0}
  assert np.isnan(found.loc['numpy 1', 'std'])
