"""The two floors: imports run one way, and the library needs no more than its five packages."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A room may import those before it. What stands on the library's floor imports nothing of the lab.
ROOMS = ('run', 'sweep', 'report', 'paper')
# What can be set and how it is said: everything in the laboratory may read these.
READ_BY_ALL = ('config', 'frozen_config', 'fidelity', 'cells', 'differences', 'plain', 'columns')
# The one lazy name that reaches up, and the program.
EXEMPT = (
  ('jaxbudget/__init__.py', 'jaxbudget.lab.run.loading'),
  ('jaxbudget/__main__.py', 'jaxbudget.lab.command'),
)

ALONE = """
import sys

class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {blocked}:
      raise ImportError('blocked: ' + name)

sys.meta_path.insert(0, Blocked())
import jaxbudget
from jaxbudget import selectors
import jaxbudget.selectors.sgd as module
assert module is sys.modules['jaxbudget.selectors.sgd']
spec = jaxbudget.Spec(48, 8, 3, 4, (2, 2, 1))
selector = selectors.make_selector('p_sgd', spec, budget=0.5)
# What trains, and what one trains with: nothing of this needs more either.
import jaxbudget.engine, jaxbudget.epoch, jaxbudget.evaluation, jaxbudget.recipes, jaxbudget.scan
from jaxbudget import data, factories, registry
names = [getattr(jaxbudget, name) for name in jaxbudget.__all__ if name != 'load']
for kind in ('selector', 'augment', 'model', 'schedule', 'optimizer', 'task'):
  [factories.find(kind, name) for name in registry.names(kind)]
assert not [name for name in sys.modules if name.startswith('jaxbudget.lab')]
{also}
"""


def imports():
  """(file, module) for every import in the package, wherever it stands."""
  for path in sorted((ROOT / 'jaxbudget').rglob('*.py')):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and node.module:
        for name in node.names:
          yield path.relative_to(ROOT).as_posix(), f'{node.module}.{name.name}'
      elif isinstance(node, ast.Import):
        for name in node.names:
          yield path.relative_to(ROOT).as_posix(), name.name


def height(place: str) -> int:
  """0 for the library, then the rooms of the laboratory; what binds them stands on top."""
  parts = place.removesuffix('.py').replace('/', '.').split('.')
  if parts[:2] != ['jaxbudget', 'lab']:
    return 0
  if parts[2:3] and parts[2] in READ_BY_ALL:
    return 1
  return 2 + ROOMS.index(parts[2]) if parts[2:3] and parts[2] in ROOMS else 2 + len(ROOMS)


def test_no_import_runs_upward():
  upward = [
    (file, module)
    for file, module in imports()
    if module.startswith('jaxbudget.') and height(module) > height(file)
    if (file, module.rpartition('.')[0]) not in EXEMPT
  ]
  assert not upward


# What the laboratory needs besides; scipy is not among it, for JAX needs it itself.
BLOCKED = {
  'PIL', 'filelock', 'google_crc32c', 'grain', 'importlib_resources', 'jinja2', 'matplotlib',
  'ml_collections', 'pandas', 'pooch', 'requests', 'sklearn', 'submitit', 'tensorflow_datasets',
  'torch',
}  # fmt: skip
MEASURED = """
sys.path.insert(0, 'benchmarks')
import accelerator
"""


@pytest.mark.parametrize('also', ['', MEASURED], ids=['library', 'accelerator'])
def test_the_library_stands_alone(also):
  script = ALONE.replace('{blocked}', repr(BLOCKED)).replace('{also}', also)
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr


def test_what_is_private_to_jax_is_there_and_used_in_one_place():
  """The store of processes that train together, and whether JAX has started."""
  private = sorted({file for file, module in imports() if module.startswith('jax._src')})
  assert private == ['jaxbudget/lab/run/hosts.py', 'jaxbudget/lab/run/provenance.py']
  from jax._src import distributed

  wanted = ('client', 'num_processes', 'process_id')
  missing = [name for name in wanted if not hasattr(distributed.global_state, name)]
  assert not missing, f'--distributed (lab/run/hosts.py) cannot work with this jax: no {missing}'
  from jax._src.lib import _jax as extension

  client = extension.DistributedRuntimeClient
  wanted = ('key_value_set', 'key_value_delete', 'blocking_key_value_get')
  missing = [name for name in wanted if not hasattr(client, name)]
  assert not missing, f'--distributed (lab/run/hosts.py) cannot work with this jax: no {missing}'
