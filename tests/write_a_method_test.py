"""docs/write_a_method.md, followed to the letter."""

import json
import pathlib
import re
import sys

import pytest

from jaxbudget.lab import launcher

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'write_a_method.md'
FILES = ('recent_loss', 'recent_loss_test', 'my_study')  # in the order of its code blocks


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with the files that the page gives."""
  blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
  for name, code in zip(
    ('recent_loss.py', 'recent_loss_test.py', 'my_study.py'), blocks, strict=True
  ):
    (tmp_path / name).write_text(code)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  yield tmp_path
  for name in FILES:
    sys.modules.pop(name, None)


def test_from_nothing_to_a_compared_method(folder):
  import recent_loss_test

  recent_loss_test.test_recent_loss()
  import my_study

  config = my_study.get_config('epochs=2,seeds=2,model=mlp')
  workdir = folder / 'runs'
  assert launcher.launch(config, workdir) == 0
  planned = json.loads((workdir / 'plan.json').read_text())['runs']
  assert len(planned) == 2 * 3 * 2
  table = (workdir / 'report' / 'tables' / 'equal_compute.csv').read_text()
  assert 'recent_loss' in table
