"""Random configs, valid and not, for `fuzz_test.py` and `benchmarks/faults.py`."""

import contextlib
import io
import json
import pathlib
import shutil

from hypothesis import strategies as st

from jaxbudget.augment import AUGMENTS
from jaxbudget.lab import config, launcher
from jaxbudget.selectors import SELECTORS

NAN, INF = float('nan'), float('inf')
# What fits, and what must be refused (or, some of it, does no harm).
VALUES = {
  'dataset': ([], ['npz:/no/such.npz', 'npz:', 'digit', '', 'npz:../../x', 'folder:/', 7]),
  'model': ([], ['resnet', '', 'linear ']),
  'width': ([0], [10**6, -1, 2.5, '4']),
  'bn_gamma_init': (['ones'], ['zeros']),
  'compute_dtype': (['float32'], ['float16', 'bf16']),
  'conv': (['lax'], ['fast', None]),
  'selector': (list(SELECTORS), ['psgd', '', 'replay:/no/such', 'replay:', 'SGD', None]),
  'augment': (list(AUGMENTS), ['mix-up', '', 'standard,ricap']),
  'schedule': (['linear', 'step', 'cosine'], ['steps', 'exponential']),
  'learning_rate': ([0.1, 1, 1e30], [0.0, -1.0, NAN, INF, '0.1', True]),
  'final_learning_rate': ([0.0, 0.01], [-1.0, NAN]),
  'momentum': ([0.0, 0.9], [1.0, -0.1, NAN]),
  'weight_decay': ([0.0], [-1e-4, INF]),
  'budget': ([1.0, 1, 0.5, 0.3], [0.0, -1.0, 1.5, NAN, '0.5', 1e-9]),
  'budget_unit': (['backward', 'compute'], ['flops', '']),
  'epochs': ([1, 2, 3], [0, -1, 1.5, '3', True, 10**12]),
  'batch_size': ([8, 7, 48, 1], [0, -8, 49, 2.0, 10**10]),
  'fidelity': (['released', 'corrected'], ['exact', '']),
  'seeds': ([1, (3,), (0, 1)], [20240501, 10**12, 0, -1, (), (1, 1), 2.5, 'a', (2**31,), None]),
  'evaluate_every': ([1, 2, 100], [0, -1]),
  'evaluate_batch': ([16, 1, 1000, 0, 10**9], [-5, 10**12]),
  'rows_per_call': ([0, 1, 10**6], [-1]),
  'checkpoint_every': ([1e-9, 300.0], [0.0, -1.0, NAN]),
  'devices': ([0, 1, 2], [-1, 64]),
  'record_selection': ([True, False], ['yes', 2]),
  'validation': ([0], [-1, 1000, 0.5]),
  'name': (['<b>[/x]\n'], [3]),
  'grid': ([({'budget': 0.5}, {'budget': 0.3})], [({'bugdet': 1.0},), ({'seeds': 3},), 5, (5,)]),
  'selector_options': (
    [
      {'warmup': 1}, {'history': 16}, {'rate': 'exact'}, {'staleness': 2}, {'average': False},
      {'thresholds': (20.0, 30.0)}, {'backward': 'compact'}, {'replacement': True}, {'b': 1.0},
    ],
    [
      {'warmup': -1}, {'history': 3}, {'rate': 'some'}, {'thresholds': (90, 80)}, {'b': NAN},
      {'warmup': 10**12}, {'history': 10**12},
      {'warmpu': 1}, {'score': 'luck'}, {'staleness': 0}, {'credit': 'all'}, 'warmup', {'b': 'x'},
    ],
  ),
  'augment_options': (
    [{'alpha': 0.3}, {'n': 1}, {'m': 3}],
    [{'alpha': -1.0}, {'alpha': NAN}, {'n': 0}, {'m': 99}, {'beta': 1}, {'alpha': 'x'}],
  ),
  'learning_rat': ([], [0.1]),
  '': ([], [1]),
}  # fmt: skip


def _value(key):
  valid, invalid = VALUES[key]
  choices = [st.sampled_from(values) for values in (valid, valid, invalid) if values]
  return st.one_of(choices)


SETTINGS = st.lists(st.sampled_from(list(VALUES)), max_size=4, unique=True).flatmap(
  lambda keys: st.fixed_dictionaries({key: _value(key) for key in keys})
)


def attempt(common: dict, drawn: dict, workdir: pathlib.Path) -> str:
  """Launches a config as a user would; says how it ended: trained, diverged or refused.

  Raises:
    AssertionError: it ended in any other way.
  """
  said = io.StringIO()
  shutil.rmtree(workdir, ignore_errors=True)
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    try:
      values = config.defaults(**{**common, **drawn})
    except ValueError as e:  # launch.py prints it and exits with 2
      print(e)
      code = 2
    else:
      code = launcher.launch(values, workdir, 'train')
  said = said.getvalue()
  assert 'Traceback' not in said and 'error.log' not in said, said
  if code == 2:
    assert not workdir.exists(), 'refused, yet something was written'
    words = [*drawn, *drawn.values(), *config.defaults()]
    assert any(str(word) in said for word in words if word), (drawn, said)
    return 'refused'
  results = [json.loads(path.read_text()) for path in workdir.glob('runs/*/result.json')]
  assert results, said
  if code == 1:
    assert any('not finite' in result.get('error', '') for result in results), said
    return 'diverged'
  assert code == 0 and all(result['status'] == 'done' for result in results), said
  for path in workdir.glob('runs/*/metrics.jsonl'):
    assert json.loads(path.read_text().splitlines()[0])['epoch'] == 1
  return 'trained'
