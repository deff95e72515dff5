"""The examples run as they are printed in the README, for every method."""

import pathlib
import re
import runpy
import sys

import jax
import numpy as np
import pytest
import toys

from jaxbudget import registry

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'
DIGITS = 1437


def run(name: str, capsys, monkeypatch, *arguments) -> tuple[float, int]:
  """Runs an example; gives the accuracy and the number of samples that it prints."""
  monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
  with jax.numpy_dtype_promotion('standard'):  # optax.adam needs it
    runpy.run_path(str(EXAMPLES / name), run_name='__main__')
  printed = capsys.readouterr().out
  trained = re.search(r'on (\d+) samples', printed)
  accuracy = float(re.search(r'test accuracy ([\d.]+)%', printed).group(1))
  return accuracy, int(trained.group(1)) if trained else 0


# One for each thing that the loop does: a plan, candidates, steps not taken, a file, a recording,
# features. The others differ in what their hooks compute.
HOOKS = ('p_sgd', 'gradient_bound', 'selective_backprop', 'rho_loss', 'replay', 'craig')


@pytest.mark.parametrize(
  'name',
  [
    name if name in HOOKS else pytest.param(name, marks=pytest.mark.long)
    for name in registry.names('selector')
  ],
)
def test_every_method_in_somebodys_own_loop(name, capsys, monkeypatch, tmp_path):
  assert len((EXAMPLES / 'own_loop.py').read_text().splitlines()) <= 40
  file = ()
  if name == 'replay':
    name = f'replay:{toys.recording(DIGITS)}'
  elif given := toys.needed(name, n=DIGITS, classes=10):
    np.savez(tmp_path / 'needed.npz', **given)
    file = (tmp_path / 'needed.npz',)
  accuracy, trained = run('own_loop.py', capsys, monkeypatch, name, *file)
  assert accuracy > (65 if name == 'mentornet' else 80)  # it leaves out half of the first batches
  full = 8 * DIGITS
  assert trained <= (1.0 if name in ('sgd', 'dynamics_sgd') else 0.3) * full + DIGITS


def test_the_hooks_in_a_plain_nnx_loop(capsys, monkeypatch):
  accuracy, trained = run('nnx_loop.py', capsys, monkeypatch)
  assert accuracy > 85 and 0 < trained < 0.5 * 10 * DIGITS


@pytest.mark.parametrize('name', ['compiled_epoch', 'own_loop', 'nnx_loop', 'torch_loader'])
def test_labels_are_checked_before_a_loop(name):
  before, *_ = (EXAMPLES / f'{name}.py').read_text().split('for epoch in', 1)
  assert 'engine.prepare(run, train)' in before or 'check_labels(' in before


def test_a_whole_compiled_epoch(capsys, monkeypatch):
  assert run('compiled_epoch.py', capsys, monkeypatch)[0] > 95


def test_a_pytorch_loader(capsys, monkeypatch):
  pytest.importorskip('torch', reason='the extra `bench` is not installed')
  accuracy, trained = run('torch_loader.py', capsys, monkeypatch)
  assert accuracy > 85 and trained == 10 * 13 * 32
