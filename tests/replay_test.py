"""Replay: another network is trained on exactly what was recorded."""

import dataclasses

import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console

from jaxbudget import ledger
from jaxbudget import recording as recording_lib
from jaxbudget.lab import cells, config
from jaxbudget.lab.sweep import local
from jaxbudget.selectors import make_selector

COUNTS = np.zeros((3, 48), np.int32)
COUNTS[0, :24] = 1
COUNTS[1, 5:16] = 2  # 22 samples: two rows of 8 and one of 6
COUNTS[1, 30] = 1
COUNTS[2, 47] = 40


@pytest.fixture
def recording(tmp_path):
  path = tmp_path / recording_lib.FILE
  path.write_bytes(recording_lib.to_bytes([recording_lib.pack(c) for c in COUNTS], 48))
  return str(path)


def plans(recording, size=8, seed=0):
  spec = dataclasses.replace(toys.SPEC, batch_size=size)
  selector = make_selector('replay', spec, 0.5, {'recording': recording})
  state = selector.init(jax.random.key(0))
  for e in range(selector.facts.epochs):
    state, plan = selector.plan(state, jax.random.key(10 * seed + e), jnp.int32(e))
    yield selector.facts, plan


@pytest.mark.parametrize('size', [8, 7, 48, 1])
def test_each_epoch_holds_the_multiset_recorded(recording, size):
  for (facts, plan), count in zip(plans(recording, size), COUNTS, strict=True):
    rows = -(-int(count.sum()) // size)
    index, weight = np.asarray(plan.index), np.asarray(plan.weight)
    assert int(plan.rows) == rows <= facts.rows <= len(index)
    assert set(np.unique(weight)) <= {0.0, 1.0}
    assert weight[rows:].sum() == 0 and (weight[:rows].sum(axis=1) > 0).all()
    found = np.bincount(index[weight > 0], minlength=48)
    np.testing.assert_array_equal(found, count)
    assert facts.planned.trained == COUNTS.sum()


def test_order_is_random_and_its_own(recording):
  first, other = (next(plans(recording, seed=seed))[1].index[:3].ravel() for seed in (0, 1))
  assert sorted(first.tolist()) == sorted(other.tolist()) == list(range(24))
  assert first.tolist() != other.tolist() and first.tolist() != list(range(24))


def test_a_run_on_it_counts_what_was_recorded(recording):
  selector = make_selector('replay', toys.SPEC, 0.5, {'recording': recording})
  state, history = toys.run(selector, 0.5)
  np.testing.assert_array_equal(state.times_trained, COUNTS.sum(axis=0))
  assert sum(int(p.metrics.trained.sum()) for p in history) == COUNTS.sum()


@pytest.mark.parametrize(
  'spec, budget, options, match',
  [
    ({}, 0.5, {'recording': ''}, 'replay needs a recording'),
    ({'num_examples': 49}, 0.5, {}, '48 training samples.*49'),
    ({'epochs': 2}, 0.9, {}, '3 epochs, more than epochs=2'),
    ({}, 0.2, {}, 'budget=0.2 is less than'),
    ({}, ledger.as_budget(0.44, 'compute'), {}, 'less than'),
    ({}, 0.5, {'recording_digest': 'no'}, 'digest'),
  ],
)
def test_misfits_are_refused(recording, spec, budget, options, match):
  spec = dataclasses.replace(toys.SPEC, **spec)
  with pytest.raises(ValueError, match=match):
    make_selector('replay', spec, budget, {'recording': recording, **options})


def test_the_config_names_a_directory_and_the_content_counts(recording, tmp_path):
  dataset = faulty.write_images(tmp_path / 'tiny.npz')
  values = {'dataset': dataset, 'model': 'resnet8', 'batch_size': 8, 'epochs': 3, 'budget': 0.9}

  def run_of(place):
    return faulty.planned(config.defaults(**values, selector=f'replay:{place}', seeds=1))[0][0]

  copy = tmp_path / 'elsewhere'
  copy.mkdir()
  (copy / recording_lib.FILE).write_bytes((tmp_path / recording_lib.FILE).read_bytes())
  here, there = run_of(tmp_path), run_of(copy)
  assert here.cell.selector == 'replay' and here.cell.selector_options.recording == str(tmp_path)
  assert here.run_id == there.run_id and 'replay' in here.run_id
  changed = recording_lib.to_bytes([recording_lib.pack(c) for c in COUNTS[::-1]], 48)
  (copy / recording_lib.FILE).write_bytes(changed)
  assert run_of(copy).run_id != here.run_id
  (cell,) = cells.lay_out(config.defaults(selector='replay:/no/such'))
  assert 'does not exist' in cell.faults[0]


def test_record_then_replay_by_launching(linear_model, tmp_path):  # noqa: F811
  dataset = faulty.write_images(tmp_path / 'tiny.npz')

  def trained(**values):
    runs, datasets = faulty.planned(faulty.settings(dataset, **values))
    assert local.run_all(runs, datasets, tmp_path, Console()) == 0
    return tmp_path / runs[-1].run_id

  first = trained(selector='selective_backprop', selector_options={'history': 16})
  again = trained(selector=f'replay:{first}', learning_rate=0.1, batch_size=6)
  assert (first / 'counts.npy').read_bytes() == (again / 'counts.npy').read_bytes()
  assert (first / recording_lib.FILE).read_bytes() == (again / recording_lib.FILE).read_bytes()
  assert recording_lib.read(first).max() >= 1
