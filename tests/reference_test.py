"""`help` reads like a reference: every public name with its arguments, shapes, units, errors."""

import dataclasses
import inspect
import json
import pathlib
import pydoc
import re

import pytest

import jaxbudget
from jaxbudget.lab import api

GALLERY = pathlib.Path(__file__).parents[1] / 'docs' / 'gallery'
PUBLIC = {name: getattr(jaxbudget, name) for name in jaxbudget.__all__}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
MODULES = {name: value for name, value in PUBLIC.items() if inspect.ismodule(value)}
FUNCTIONS = {
  **{name: value for name, value in PUBLIC.items() if inspect.isfunction(value)},
  'train_rows': inspect.unwrap(jaxbudget.train_rows),
  **{
    f'{module}.{name}': function
    for module, value in MODULES.items()
    for name, function in vars(value).items()
    if inspect.isfunction(function) and function.__module__ == value.__name__ and name[0] != '_'
  },
  'api.run': api.run,
  'api.load': api.load,
  'Study.plot': api.Study.plot,
  'Study.compare': api.Study.compare,
  'Study.report': api.Study.report,
}


def section(value, title: str) -> str:
  """A section of a docstring, empty if it is not there."""
  found = re.search(rf'^{title}:\n((?:[ ]+.*\n?|\n)+)', inspect.getdoc(value) or '', re.MULTILINE)
  return found.group(1) if found else ''


def entries(value, title: str) -> list[str]:
  return re.findall(r'^  \*{0,2}(\w+): \S', section(value, title), re.MULTILINE)


def test_every_public_name_is_of_a_kind_that_is_looked_at():
  others = set(PUBLIC) - set(CLASSES) - set(FUNCTIONS) - set(MODULES)
  assert others == {'Needed'} and 'scan' in MODULES


@pytest.mark.parametrize('name', FUNCTIONS)
def test_functions_tell_arguments_results_and_errors(name):
  function = FUNCTIONS[name]
  parameters = [p for p in inspect.signature(function).parameters if p != 'self']
  assert entries(function, 'Args') == parameters
  assert section(function, 'Returns')
  if re.search(r'\braise ', inspect.getsource(function)) and 'Error' in inspect.getsource(function):
    assert section(function, 'Raises')


@pytest.mark.parametrize('name', CLASSES)
def test_classes_tell_their_fields(name):
  value = CLASSES[name]
  dataclass = dataclasses.is_dataclass(value)
  fields = [f.name for f in dataclasses.fields(value)] if dataclass else list(value._fields)
  assert entries(value, 'Attributes') == fields
  told = section(value, 'Attributes')
  arrays = [key for key, kind in value.__annotations__.items() if 'Array' in str(kind)]
  shaped = [key for key in arrays if re.search(rf'^  {key}:.*(\w\[|->|→)', told, re.MULTILINE)]
  assert [key for key in arrays if 'Callable' not in str(value.__annotations__[key])] == [
    key for key in shaped if 'Callable' not in str(value.__annotations__[key])
  ]


def test_help_shows_every_public_name():
  text = pydoc.plain(pydoc.render_doc(jaxbudget))
  overview = jaxbudget.__doc__
  for name in jaxbudget.__all__:
    assert re.search(rf'\b{name}\b', overview), f'{name} is not in the overview'
    entry = rf'^    (class )?{name}\(' if name in {**CLASSES, **FUNCTIONS} else rf'^    {name}\b'
    assert re.search(entry, text, re.MULTILINE), f'{name} is not in help()'
  assert re.search(r'load\(\s*directory', text)  # newer Pythons break long lines


def test_the_gallery_is_executed_and_shows_pictures():
  """What `make docs` runs again, and compares with."""
  for path in GALLERY.glob('*.ipynb'):
    outputs = [o for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', ())]
    kinds = [kind for output in outputs for kind in output.get('data', ())]
    assert kinds.count('image/png') > 1 and 'text/html' in kinds
    assert {output['output_type'] for output in outputs} <= {
      'stream', 'display_data', 'execute_result',
    }  # fmt: skip
