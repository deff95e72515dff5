"""A run that stops and goes on gives the bits of one that never stopped."""

import dataclasses
import itertools
import json
import pathlib

import faulty
import numpy as np
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from ml_collections import FrozenConfigDict
from rich.console import Console

from jaxbudget import checkpoint, results, selection
from jaxbudget import train as train_lib
from jaxbudget.sweep import local, plan
from jaxbudget.train import Diverged, Refused, Stopped, train

pytestmark = pytest.mark.usefixtures('linear_model')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')


def placed(datasets):
  (found,) = datasets.values()
  return local._place(found)[:2]


def with_cell(run: plan.Run, **values) -> plan.Run:
  """The run with other incidental settings."""
  cell = FrozenConfigDict({**run.cell.to_dict(), **values})
  return dataclasses.replace(run, cell=cell)


def stop_after(asks: int):
  counter = itertools.count(1)
  return lambda: next(counter) >= asks


def train_whole(values, directory: pathlib.Path) -> int:
  runs, datasets = faulty.planned(values)
  return local.run_all(runs, datasets, directory, Console())


@pytest.mark.parametrize('variant', faulty.VARIANTS)
def test_stopping_at_every_chance_changes_no_bit(variant, dataset, tmp_path, monkeypatch):
  values = faulty.settings(dataset, **faulty.VARIANTS[variant])
  assert train_whole(values, tmp_path / 'whole') == 0
  runs, datasets = faulty.planned(values)
  chunks = itertools.cycle((1, 2, 3, 1, 5))

  def train_in_pieces(run, train_data, test_data, directory, progress, stop, **kwargs):
    """Stops whenever it is asked, each time with another length of calls."""
    del stop
    for pieces in itertools.count(1):
      piece = with_cell(run, rows_per_call=next(chunks))
      try:
        result = train(piece, train_data, test_data, directory, progress, stop_after(2), **kwargs)
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
    recorded = selection.read(tmp_path / 'whole' / run.run_id)
    np.testing.assert_array_equal(recorded.sum(axis=0, dtype=np.int32), counts)
    assert counts.sum() > 0
