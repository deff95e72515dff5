"""benchmarks/accelerator.py: what it writes down survives, and it runs where there is no device."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / 'benchmarks'
HERE = {'command': 'c', 'commit': 'abc', 'device': 'd', 'driver': 'v', 'machine': 'm'}


@pytest.fixture(autouse=True)
def parts(monkeypatch):
  monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_what_is_measured_survives_and_what_failed_is_tried_again(tmp_path, capsys):
  from on_device.book import Book

  path = tmp_path / 'accelerator.json'
  book = Book(path, {**HERE, 'versions': {'jax': '1'}}, resume=False)
  book.attempt('fast', 'a', lambda x: {'ms a row': [3.0, x, 1.0]}, 2.0)
  book.attempt('fast', 'b', lambda: 1 / 0)
  assert json.loads(path.read_text())['parts']['fast']['b'] == {
    'failed': 'ZeroDivisionError: division by zero'
  }
  again = Book(path, {**HERE, 'versions': {'jax': '2', 'torch': ''}}, resume=True)
  again.attempt('fast', 'a', lambda: pytest.fail('it was measured'))
  again.attempt('fast', 'b', lambda: {'ms a row': 1234.5, 'right': False})
  text = again.render()
  assert '| a | 2 (1 to 3) |' in text and '| b | 1,234 | **no** |' in text
  assert 'jax 2.' in text and 'torch' not in text
  fresh = Book(path, {**HERE, 'versions': {}}, resume=False)
  assert not fresh.has('fast', 'a')


def test_right_sees_other_choices_and_other_losses(monkeypatch):
  from on_device import right

  found = {'rows': [1], 'plan': [[0]], 'trained': [8], 'counts': [1], 'loss': [2.0]}

  def runs(*answers):
    left = iter(answers)
    monkeypatch.setattr(right, 'run', lambda *args: next(left))
    return right.compare(('sgd', {}, 'none'), jax.devices()[0])

  assert runs(found, found | {'loss': [2.001]})['right']
  assert not runs(found, found | {'loss': [2.01]})['right']
  other = runs(found, found | {'plan': [[1]]})
  assert other['differs in'] == ['plan'] and not other['right']


@pytest.mark.long
def test_smoke():
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, str(BENCHMARKS / 'accelerator.py'), '--smoke']
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  assert '| unif_sgd, ricap | 16 | none |' in done.stdout and 'failed' not in done.stdout
