"""Threads per run: as many as the config says, and told; of workers see `parts_test`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxbudget.lab import config, launcher
from jaxbudget.lab.run import conditions, provenance
from jaxbudget.lab.sweep import inputs

ROOT = pathlib.Path(__file__).parents[1]

COUNTING = """
import os, pathlib, sys
from jaxbudget.lab import config
from jaxbudget.lab.configs import airbench
from jaxbudget.lab.sweep import inputs

# To read and to plan, whatever it counts, starts no device: `methods` plans as it is read.
airbench.get_config('part=equal')
common = {'dataset': 'digits', 'threads': int(sys.argv[1])}
scored = {'model': 'resnet8', 'selector': 'selective_backprop', 'score_size': 4}
inputs.plan_runs(config.defaults(**common, **scored))
outside = {'model': 'jaxbudget.models.resnet:resnet8', 'model_options': {'conv': 'lax'}}
given = config.defaults(**common, **outside, augment='jaxbudget.augment.named:standard')
inputs.plan_runs(given)
inputs.use_processor(given)
import jax

jax.devices()
names = [(task / 'comm').read_text().strip() for task in pathlib.Path('/proc/self/task').iterdir()]
print(names.count('tf_XLAEigen'))
inputs.use_processor(given)  # again, in a second launch
try:
  inputs.use_processor(config.defaults(threads=7))
except ValueError as e:
  print(e)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_xla_computes_with_as_many_threads():
  command = [sys.executable, '-c', COUNTING, '3']
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  counted, refused = done.stdout.splitlines()
  assert int(counted) == 3
  assert 'threads=7 comes too late: JAX has started with 3' in refused


def test_zero_leaves_all_as_it_is(monkeypatch):
  before = dict(os.environ)
  inputs.use_processor(config.defaults())
  provenance.limit_threads(provenance.cpu_threads())
  assert dict(os.environ) == before
  assert conditions.present()['threads'] == provenance.cpu_threads()
  monkeypatch.setenv('NPROC', '5')
  assert conditions.present()['threads'] == 5
  monkeypatch.setattr(conditions.jax, 'devices', lambda: [_Gpu()])
  assert conditions.present()['threads'] is None, 'of a GPU they decide nothing'


def test_xla_optimises_as_much_as_asked_unless_told_or_started(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--a=1')
  asked = config.defaults(xla_optimization=2)
  monkeypatch.setattr(provenance.xla_bridge, 'backends_are_initialized', lambda: True)
  inputs.use_processor(asked)
  assert os.environ['XLA_FLAGS'] == '--a=1', 'JAX has started'
  monkeypatch.setattr(provenance.xla_bridge, 'backends_are_initialized', lambda: False)
  inputs.use_processor(config.defaults())
  assert os.environ['XLA_FLAGS'] == '--a=1', 'as XLA does by itself'
  for _ in range(2):  # a worker is told by its launch, and reads the config too
    inputs.use_processor(asked)
    assert os.environ['XLA_FLAGS'] == '--a=1 --xla_backend_optimization_level=2'
  assert conditions.present()['xla_flags'].startswith(os.environ['XLA_FLAGS'])
  with pytest.raises(ValueError, match=r'xla_optimization=\[2, 3\]'):
    inputs.use_processor(config.defaults(grid=({'xla_optimization': 2}, {'xla_optimization': 3})))
  with pytest.raises(ValueError, match='xla_optimization=1.*2 or 3'):
    inputs.plan_runs(config.defaults(dataset='digits', xla_optimization=1))


@pytest.mark.parametrize('key', ['threads', 'xla_optimization'])
@pytest.mark.parametrize('value', [[2], 'x', 2.5, None, True])
def test_what_is_no_number_is_refused_with_all_other_faults(key, value, tmp_path, capsys):
  before = os.environ.get('NPROC'), os.environ.get('XLA_FLAGS')
  grid = ({key: value, 'budget': 2.0}, {})
  code = launcher.launch(config.defaults(dataset='digits', grid=grid), tmp_path / 'w', 'plan')
  error = capsys.readouterr().err
  assert code == 2 and f'{key}={value!r}: ' in error and 'budget=2.0' in error
  assert (os.environ.get('NPROC'), os.environ.get('XLA_FLAGS')) == before and not (
    tmp_path / 'w'
  ).exists()


@pytest.mark.long
def test_bits_do_not_depend_on_how_much_xla_optimises(tmp_path):
  environment = {k: v for k, v in os.environ.items() if 'XLA' not in k and 'OPTIMIZATIONS' not in k}
  environment['JAX_ENABLE_COMPILATION_CACHE'] = '0'  # each compiles for itself
  weights = []
  for level in (2, 3):
    flags = f'xla_optimization={level},seeds=1,selector=p_sgd,budget=0.3,epochs=3'
    place = tmp_path / str(level)
    command = [sys.executable, ROOT / 'launch.py', '--stage=train', f'--workdir={place}']
    command += [f'--config={ROOT}/configs/single.py:dataset=digits,model=resnet8,{flags}']
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (run,) = (place / 'runs').iterdir()
    weights.append((run / 'params.msgpack').read_bytes())
    told = json.loads((run / 'result.json').read_text())['conditions']['xla_flags']
    assert told == ('--xla_backend_optimization_level=2' if level == 2 else '')
  assert weights[0] == weights[1]


class _Gpu:
  platform, device_kind = 'gpu', 'NVIDIA H100'


def test_cells_of_a_launch_have_one_number():
  grid = ({'threads': 1}, {'threads': 2})
  with pytest.raises(ValueError, match=r'threads=\[1, 2\]'):
    inputs.use_processor(config.defaults(grid=grid))
  with pytest.raises(ValueError, match='threads=-1 is refused'):
    inputs.plan_runs(config.defaults(dataset='digits', threads=-1))
