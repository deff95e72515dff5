"""A run that stops and goes on gives the bits of one that never stopped."""

import dataclasses
import itertools
import json
import pathlib

import faulty
import jax.numpy as jnp
import numpy as np
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from ml_collections import FrozenConfigDict
from rich.console import Console

from jaxbudget import epoch, recording
from jaxbudget.lab.run import checkpoint, conditions, evaluation, files, ongoing
from jaxbudget.lab.run.checkpoint import Refused
from jaxbudget.lab.run.ongoing import Stopped
from jaxbudget.lab.run.provenance import versions
from jaxbudget.lab.run.record import Diverged
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import local

pytestmark = pytest.mark.usefixtures('linear_model')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')


def placed(datasets):
  (found,) = datasets.values()
  return local._place(found)[:2]


def with_cell(run: Run, **values) -> Run:
  """The run with other incidental settings."""
  cell = FrozenConfigDict({**run.cell.to_dict(), **values})
  return dataclasses.replace(run, cell=cell)


def stop_after(asks: int):
  """Stops at the n-th ask once the two programs are compiled."""
  counter = itertools.count(1)
  return lambda: next(counter) >= asks + 2


def train_whole(values, directory: pathlib.Path) -> int:
  runs, datasets = faulty.planned(values)
  return local.run_all(runs, datasets, directory, Console())


@pytest.mark.parametrize(
  'variant',
  [v if v in faulty.PATHS else pytest.param(v, marks=pytest.mark.long) for v in faulty.VARIANTS],
)
def test_stopping_at_every_chance_changes_no_bit(variant, dataset, tmp_path, monkeypatch):
  values = faulty.settings(dataset, **faulty.VARIANTS[variant])
  assert train_whole(values, tmp_path / 'whole') == 0
  runs, datasets = faulty.planned(values)
  chunks, asks = itertools.cycle((1, 2, 3, 1, 5)), itertools.cycle((2, 1, 3))

  def train_in_pieces(run, train_data, test_data, directory, progress, stop, **more):
    """Stops after an ask or a few, each time with another length of calls."""
    del stop
    for pieces in itertools.count(1):
      piece = with_cell(run, rows_per_call=next(chunks))
      try:
        result = train(
          piece, train_data, test_data, directory, progress, stop_after(next(asks)), **more
        )
        assert pieces > 3
        return result
      except Stopped:
        assert len(list(directory.glob('*.ckpt'))) <= 2

  monkeypatch.setattr(local, 'train', train_in_pieces)
  assert local.run_all(runs, datasets, tmp_path / 'pieces', Console()) == 0
  for run in runs:
    whole, pieces = (faulty.outcome(tmp_path / where / run.run_id) for where in ('whole', 'pieces'))
    assert faulty.differences(whole, pieces) == []
    counts = np.load(tmp_path / 'whole' / run.run_id / 'counts.npy')
    recorded = recording.read(tmp_path / 'whole' / run.run_id)
    np.testing.assert_array_equal(recorded.sum(axis=0, dtype=np.int32), counts)
    assert counts.sum() > 0


def started(values, directory, asks=3, **kwargs):
  """Trains until the given ask; the run, its data and its directory."""
  (run,), datasets = faulty.planned(values)
  directory.mkdir(exist_ok=True)
  data = placed(datasets)
  with pytest.raises(Stopped):
    train(run, *data, directory, stop=stop_after(asks), **kwargs)
  return run, data


@pytest.fixture
def values(dataset):
  return faulty.settings(dataset, selector='unif_sgd', rows_per_call=1)


def dispatched(monkeypatch, module, name: str, then=lambda: None) -> list[tuple]:
  """Notes the arguments of every call of a program, by its name in a module."""
  calls, program = [], getattr(module, name)

  def noted(*arguments, **more):
    calls.append(arguments)
    then()
    return program(*arguments, **more)

  monkeypatch.setattr(module, name, noted)
  return calls


def test_a_stop_does_not_wait_for_an_evaluation_and_loses_none_of_it(
  dataset, tmp_path, monkeypatch
):
  (run,), datasets = faulty.planned(faulty.settings(dataset, evaluate_batch=4, epochs=2))
  whole, pieces = tmp_path / 'whole', tmp_path / 'pieces'
  whole.mkdir()
  pieces.mkdir()
  expected = train(run, *placed(datasets), whole)
  calls = dispatched(monkeypatch, evaluation, 'evaluate')
  seen = []
  for _ in range(20):  # stops after each call of the evaluation
    before = len(calls)
    try:
      result = train(run, *placed(datasets), pieces, stop=lambda: len(calls) > before + 1)  # noqa: B023
      break
    except Stopped:
      seen.append(checkpoint.load(pieces).record['batches'])
  assert seen[:3] == [1, 2, 3], 'batches of the first epoch'
  places = [(int(start), int(stop)) for *_, start, stop in calls]
  assert [place for place in places if place[0] < place[1]] == [(i, i + 1) for i in range(5)] * 2
  assert faulty.without_seconds(result) == faulty.without_seconds(expected)
  for name in ('params.msgpack', 'best.msgpack', 'counts.npy'):
    assert (pieces / name).read_bytes() == (whole / name).read_bytes()


def test_a_stop_while_programs_are_compiled_leaves_all_as_it_was(values, tmp_path):
  (run,), datasets = faulty.planned(values)
  with pytest.raises(Stopped, match='left as it was'):
    train(run, *placed(datasets), tmp_path, stop=lambda: True)
  assert list(tmp_path.iterdir()) == []


def test_calls_last_about_a_second(monkeypatch):
  assert [ongoing.next_size(8, seconds) for seconds in (0.1, 0.4, 0.6, 1.9, 2.1)] == [
    16, 16, 8, 8, 4,
  ]  # fmt: skip
  assert ongoing.next_size(1, 600.0) == 1
  monkeypatch.setattr(ongoing.jax, 'default_backend', lambda: 'gpu')
  assert [ongoing.next_size(8, seconds) for seconds in (4.0, 6.0, 25.0)] == [16, 8, 4]


def test_seconds_of_evaluation_are_told_from_those_of_training(dataset, tmp_path, monkeypatch):
  (run,), datasets = faulty.planned(faulty.settings(dataset, evaluate_batch=4, epochs=2))
  now = 0.0

  def last(seconds):
    def wait():
      nonlocal now
      now += seconds

    return wait

  monkeypatch.setattr(ongoing.time, 'monotonic', lambda: now)
  rows = dispatched(monkeypatch, epoch, 'train_rows', last(1.0))
  batches = dispatched(monkeypatch, evaluation, 'evaluate', last(100.0))
  result = train(run, *placed(datasets), tmp_path)
  lines = [json.loads(x) for x in (tmp_path / files.METRICS).read_text().splitlines()]
  assert [line['seconds']['evaluate'] for line in lines] == [500.0, 500.0]
  assert sum(line['seconds']['train'] for line in lines) == len(rows) - 1
  assert result['seconds']['compile'] == 101.0 and len(batches) == 1 + 2 * 5


def test_other_conditions_are_refused_with_what_differs(values, tmp_path, monkeypatch):
  run, data = started(values, tmp_path, fingerprint='x')
  here = conditions.present(1)
  other = {**here, 'jax': '0.0.1', 'threads': 96, 'cpu': 'another', 'host': 'elsewhere'}
  monkeypatch.setattr(conditions, 'present', lambda devices: other)
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
  with pytest.raises(Refused, match=r'--resume=force') as refused:
    train(run, *data, tmp_path, fingerprint='x')
  assert {d['field'] for d in refused.value.differing} == {'jax', 'threads'}
  assert "'0.0.1' now" in str(refused.value)
  assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

  result = train(run, *data, tmp_path, fingerprint='x', resume='force')
  assert [d['field'] for d in result['forced']] == ['jax', 'threads']
  assert result['forced'][1]['is'] == 96


def test_force_is_remembered_by_later_checkpoints(values, tmp_path, monkeypatch):
  run, data = started(values, tmp_path, asks=2)
  here = conditions.present(1)
  monkeypatch.setattr(conditions, 'present', lambda devices: {**here, 'jax': 'new'})
  with pytest.raises(Stopped):
    train(run, *data, tmp_path, stop=stop_after(3), resume='force')
  result = train(run, *data, tmp_path)
  assert {'field': 'jax', 'was': versions()['jax'], 'is': 'new'} in result['forced']


def test_other_data_or_another_run_cannot_be_forced(values, tmp_path):
  run, data = started(values, tmp_path, fingerprint='x')
  with pytest.raises(Refused, match='other data'):
    train(run, *data, tmp_path, fingerprint='y', resume='force')
  other = dataclasses.replace(run, run_id='another')
  with pytest.raises(Refused, match='another run'):
    train(other, *data, tmp_path, fingerprint='x', resume='force')


def test_a_recording_is_never_incomplete(values, tmp_path):
  run, data = started(values, tmp_path / 'a', asks=5)  # in the second epoch
  unrecorded = with_cell(run, record_selection=False)
  (tmp_path / 'b').mkdir()
  with pytest.raises(Stopped):
    train(unrecorded, *data, tmp_path / 'b', stop=stop_after(5))
  with pytest.raises(Refused, match='record_selection'):
    train(run, *data, tmp_path / 'b')
  train(unrecorded, *data, tmp_path / 'b')
  train(run, *data, tmp_path / 'a')
  assert (tmp_path / 'a' / 'selection.npz').exists()
  assert not (tmp_path / 'b' / 'selection.npz').exists()


def test_a_damaged_newest_checkpoint_falls_back(values, tmp_path):
  notes = []
  run, data = started(values, tmp_path / 'whole', asks=2)
  whole = train(run, *data, tmp_path / 'whole')
  started(values, tmp_path / 'x', asks=2)
  with pytest.raises(Stopped):
    train(run, *data, tmp_path / 'x', stop=stop_after(3))
  newest = max((tmp_path / 'x').glob('*.ckpt'))
  newest.write_bytes(newest.read_bytes()[:-9])
  result = train(run, *data, tmp_path / 'x', note=notes.append)
  assert len(notes) == 1 and newest.name in notes[0]
  assert faulty.without_seconds(result) == faulty.without_seconds(whole)
  for name in ('params.msgpack', 'best.msgpack', 'counts.npy'):
    assert (tmp_path / 'x' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


@pytest.mark.parametrize('damage', ['', '{"epoch": 1}\n{"epo', 'not json\n' * 9])
def test_metrics_are_rebuilt_from_the_checkpoint(damage, values, tmp_path):
  run, data = started(values, tmp_path, asks=8)
  metrics = tmp_path / 'metrics.jsonl'
  before = metrics.read_text()
  metrics.write_text(damage)
  train(run, *data, tmp_path)
  after = metrics.read_text()
  assert after.startswith(before) and before.count('\n') == 2 and after.count('\n') == 4


def test_divergence_is_told_with_its_place(dataset, tmp_path, capsys):
  grid = ({'learning_rate': 1e25}, {'learning_rate': 0.1})
  values = faulty.settings(dataset, selector='unif_sgd', schedule='linear', grid=grid)
  runs, datasets = faulty.planned(values)
  assert local.run_all(runs, datasets, tmp_path, Console()) == 1
  bad, good = (json.loads((tmp_path / run.run_id / 'result.json').read_text()) for run in runs)
  assert bad['status'] == 'failed' and good['status'] == 'done'
  assert bad['epoch'] >= 1 and bad['row'] >= 0 and 'not finite' in bad['error']
  assert f'epoch {bad["epoch"]}, row {bad["row"]}' in capsys.readouterr().out
  again = local.run_all(runs, datasets, tmp_path, Console())
  said = capsys.readouterr().out
  assert again == 1 and f'failed earlier: {runs[0].run_id}: ' in said
  assert '(to try again: --stage=retry with the same --config; of api.run, remove ' in said


def test_the_last_step_may_diverge_too(values, tmp_path):
  (run,), datasets = faulty.planned(values)
  finite = run.parts.table

  def table(e):  # no schedule may say so
    row, last = finite(e), jnp.int32(2)
    rates = jnp.asarray(row.learning_rate)
    return row._replace(learning_rate=rates.at[last].set(jnp.inf) if e == 3 else rates)

  run = dataclasses.replace(run, parts=run.parts._replace(table=table))
  with pytest.raises(Diverged, match='weights are not finite at epoch 4, row 2'):
    train(run, *placed(datasets), tmp_path)


def test_checkpoints_come_by_the_clock(values, tmp_path, monkeypatch):
  saved = []
  save = checkpoint.save
  monkeypatch.setattr(checkpoint, 'save', lambda *a: saved.append(save(*a)))
  (run,), datasets = faulty.planned(values)
  train(with_cell(run, checkpoint_every=1e9), *placed(datasets), tmp_path)
  assert not saved
  train(with_cell(run, checkpoint_every=1e-9), *placed(datasets), tmp_path)
  assert len(saved) == 12 + 1 and len(list(tmp_path.glob('*.ckpt'))) == 2


def test_seconds_before_a_stop_are_not_lost(values, tmp_path, monkeypatch):
  clock = itertools.count(step=10)
  monkeypatch.setattr(ongoing.time, 'monotonic', lambda: next(clock))
  run, data = started(values, tmp_path, asks=2)
  saved = checkpoint.load(tmp_path)
  assert saved.record['open_seconds'] > 0 and saved.record['epochs'] == 0
  result = train(run, *data, tmp_path)
  lines = (tmp_path / files.METRICS).read_text().splitlines()
  seconds = [json.loads(line)['seconds']['train'] for line in lines]
  assert seconds[0] > saved.record['open_seconds']
  assert sum(seconds) == result['seconds']['train']
