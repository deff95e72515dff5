"""Half precision in the convolutions: as accurate as single, within seed noise."""

import numpy as np

from jaxbudget import config, data
from jaxbudget.sweep import plan
from jaxbudget.train import train

SEEDS = (0, 1, 2)


def _new(directory):
  directory.mkdir()
  return directory


def test_digits_are_learned_as_well_in_bfloat16(tmp_path):
  placed = data.place(data.load('digits'))
  accuracy = {}
  for dtype in ('float32', 'bfloat16'):
    values = {'model': 'resnet8', 'width': 8, 'epochs': 3, 'batch_size': 32, 'seeds': SEEDS}
    runs = plan.make_runs(config.defaults(dataset='digits', compute_dtype=dtype, **values))
    results = [train(run, *placed, _new(tmp_path / run.run_id)) for run in runs]
    accuracy[dtype] = np.array([result['final_accuracy'] for result in results])
  single, half = accuracy.values()
  assert single.mean() > 80
  noise = max(1.0, single.std(ddof=1))
  assert abs(half.mean() - single.mean()) < 2 * noise
