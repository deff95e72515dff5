"""Ids: what enters them, what renames no run, and what becomes of runs of before."""

import pathlib
import shutil

import pytest

from jaxbudget.lab import config as config_lib
from jaxbudget.lab import launcher, report
from jaxbudget.lab.report import frontier
from jaxbudget.lab.sweep import grid, plan_file

GOLDEN = pathlib.Path(__file__).parent / 'golden'
ROOT = pathlib.Path(__file__).parents[1]
P_SGD = {'dataset': 'digits', 'model': 'resnet8', 'selector': 'p_sgd', 'budget': 0.3, 'seeds': 1}


def run_of(**values):
  (run,) = grid.make_runs(config_lib.defaults(**{**P_SGD, **values}))
  return run


@pytest.fixture
def of_before(tmp_path):
  """A workdir of two runs whose ids are of before."""
  shutil.copytree(GOLDEN / 'before_ids', tmp_path / 'w')
  return tmp_path / 'w'


def test_a_workdir_of_before_is_still_reported(of_before):
  loaded = report.load_workdir(of_before)
  assert loaded.problems == [] and list(loaded.runs['status']) == ['done', 'done']
  compared = frontier.equal_compute(loaded)
  assert list(compared['state']) == [''] and compared['mean'].notna().all()
  assert loaded.conditions[loaded.runs['run_id'][0]] | {'engine': '', 'device': ''} == {
    **dict.fromkeys(loaded.conditions[loaded.runs['run_id'][0]], ''),
    'data_fingerprint': '04593b0508148011',
    'jax': '0.10.2', 'jaxlib': '0.10.2', 'flax': '0.12.8', 'optax': '0.2.8', 'numpy': '2.4.6',
  }  # fmt: skip
  assert report.write_report(of_before).is_file()


def test_launching_in_a_workdir_of_before_says_what_happened(of_before, capsys):
  entries = plan_file.entries(of_before)
  config = config_lib.defaults(**P_SGD)
  assert launcher.launch(config, of_before, 'plan') == 0
  said = capsys.readouterr().out
  assert 'holds 2 runs of before ids were changed' in said and 'none counts for this plan' in said
  new, *old = plan_file.entries(of_before)
  assert new['run_id'] == run_of().run_id and old == entries
