"""Half precision in the convolutions: as accurate as single, within seed noise."""

import os
import pathlib

import numpy as np
import pytest

from jaxbudget import data
from jaxbudget.lab import config
from jaxbudget.lab.run.run import data_key
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import grid

REAL = os.environ.get('JAXBUDGET_TEST_DATA')


def accuracies(directory, width, seeds, **settings):
  """Final accuracies by compute dtype, one for each seed."""
  dataset = data.load(settings['dataset'])
  placed = data.place(dataset)
  found = {}
  for dtype in ('float32', 'bfloat16'):
    values = {'model': 'resnet8', 'width': width, 'seeds': tuple(seeds), 'compute_dtype': dtype}
    cell = config.defaults(**values, **settings)
    runs = grid.make_runs(cell, {data_key(cell): dataset})
    for run in runs:
      (directory / run.run_id).mkdir()
    results = [train(run, *placed, directory / run.run_id) for run in runs]
    found[dtype] = np.array([result['final_accuracy'] for result in results])
  return found.values()


def assert_parity(single, half, least):
  """Means differ by less than three standard errors, which few seeds may put too low."""
  assert single.mean() > least
  error = np.sqrt((single.var(ddof=1) + half.var(ddof=1)) / len(single))
  assert abs(half.mean() - single.mean()) < 3 * max(0.7, error)


@pytest.mark.parametrize('seeds', [3, pytest.param(8, marks=pytest.mark.long)])
def test_digits_are_learned_as_well_in_bfloat16(seeds, tmp_path):
  found = accuracies(tmp_path, 8, range(seeds), dataset='digits', epochs=3, batch_size=32)
  assert_parity(*found, least=80)


@pytest.mark.long
@pytest.mark.skipif(not REAL, reason='set JAXBUDGET_TEST_DATA to a directory with CIFAR-10')
def test_real_images_are_learned_as_well_in_bfloat16(tmp_path):
  folder = pathlib.Path(REAL)
  loaded = data.load('cifar10', tmp_path / 'tfds', REAL, folder / 'checksums.tsv')
  sample = tmp_path / 'sample.npz'
  np.savez(
    sample,
    x_train=loaded.train_image[:1_500],
    y_train=loaded.train_label[:1_500],
    x_test=loaded.test_image[:1_000],
    y_test=loaded.test_label[:1_000],
  )
  found = accuracies(tmp_path, 4, range(3), dataset=f'npz:{sample}', epochs=4, batch_size=32)
  assert_parity(*found, least=20)
