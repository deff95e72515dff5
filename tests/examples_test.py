"""The examples run as they are printed in the README."""

import pathlib
import re
import runpy

import jax

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'


def test_a_selector_in_somebodys_own_loop(capsys):
  path = EXAMPLES / 'own_loop.py'
  assert len(path.read_text().splitlines()) <= 40
  with jax.numpy_dtype_promotion('standard'):  # optax.adam needs it
    runpy.run_path(str(path))
  accuracy, trained = re.search(r'accuracy ([\d.]+)% on (\d+)', capsys.readouterr().out).groups()
  assert float(accuracy) > 85
  assert int(trained) == 20 * 13 * 32
