"""Some cells of every table really run, on digits, with a smaller net and fewer epochs."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
from rich.console import Console

from jaxbudget import data, ledger
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run.run import data_key
from jaxbudget.lab.sweep import grid, local
from jaxbudget.scoring import dynamics

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
EXACT = ('sgd', 'scan_sgd', 'unif_sgd', 'p_sgd', 'c_sgd', 'coreset', 'ordered_sgd')


def rehearse(name, arg, directory):
  """Trains the cells that an argument leaves, in 3 epochs; gives runs and their results."""
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(f'scale=rehearsal,{arg}')
  if name == 'table1':
    config_lib.apply(config, {'epochs': 3, 'model_options.width': 2})
  else:  # one table is enough to see that their network is trained
    config_lib.apply(config, {'epochs': 3, 'model': 'tests.linear:as_resnet'})
  runs = grid.make_runs(config)
  datasets = {data_key(run.cell): data.load(run.cell.dataset) for run in runs}
  assert local.run_all(runs, datasets, directory, Console(quiet=True)) == 0
  return runs, [json.loads((directory / run.run_id / 'result.json').read_text()) for run in runs]


@pytest.mark.parametrize(
  ('name', 'arg', 'count'),
  [
    ('table1', 'method=c_sgd,dataset=cifar10', 2),
    ('table2', 'method=scan_sgd+ordered_sgd,budget=0.5,schedule=linear,dataset=cifar10', 2),
    ('table3', 'method=unif_sgd,augment=ricap,budget=0.2', 1),
    ('table4', 'method=SB,augment=mixup,budget=0.3,dataset=svhn,fidelity=released', 1),
    ('table5', 'method=p_sgd,augment=randaugment', 1),
    ('table6', 'method=SB,augment=ricap,budget=0.05,fidelity=corrected', 1),
    ('figure1', 'method=coreset,budget=0.2', 2),
  ],
)
def test_cells_of_every_file_run(name, arg, count, tmp_path):
  runs, results = rehearse(name, arg, tmp_path)
  assert len(runs) == count
  for run, result in zip(runs, results, strict=True):
    spec, facts = run.parts.spec, run.parts.selector.facts
    planned, cost = run.record()['planned'], result['cost']
    assert result['status'] == 'done'
    assert cost['backward'] <= ledger.cap(spec, run.cell.budget, facts)
    if run.cell.selector in EXACT:
      assert {key: cost[key] for key in planned} == planned
    else:  # an expectation, and few samples
      assert cost['forward_equivalents'] == pytest.approx(planned['forward_equivalents'], rel=0.15)
    counts = np.load(tmp_path / run.run_id / 'counts.npy')
    assert counts.sum() == pytest.approx(cost['backward'], abs=spec.batch_size)
    assert result['entropy_nats'] == pytest.approx(ledger.entropy_nats(counts))
    assert result['seconds'].keys() >= {'data', 'compile', 'train', 'evaluate'}
    if run.needs:  # trained on its subset and nothing else
      scores = dynamics.forgetting(np.load(tmp_path / run.needs[0].run_id / 'scores.npy'))
      trained = scores[counts > 0]
      subset = ledger.share(1437, run.cell.budget)
      assert np.count_nonzero(counts) <= subset
      hardest = np.sort(scores)[::-1][:subset]
      assert trained.min() >= hardest[-1]
