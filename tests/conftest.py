"""Strict modes for every test, and programs that XLA need not optimise.

Toys run for milliseconds and compile for seconds, most of which goes into optimisation. So the
tests, and the launches that they start, do without; JAXBUDGET_TEST_OPTIMIZED=1 leaves XLA as
people have it (`make test-all`).
"""

import compileall
import functools
import gc
import itertools
import os
import pathlib
import shutil
import signal
import tempfile

import hypothesis
import jax
import pytest
from jax._src.interpreters import mlir

# Nothing of what is imported and collected goes away: to look through it again and again takes
# seconds of every worker.
gc.disable()

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_num_cpu_devices', 2)
# Nobody reads which line of the source an operation is of.
jax.config.update('jax_traceback_in_locations_limit', 0)
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '0'  # of launches that tests start

# JAX lowers each program in a new MLIR context. To make one takes as long as to lower something
# small, some 4 ms, and ten thousand programs are lowered here: let them share one.
mlir.make_ir_context = functools.cache(mlir.make_ir_context)

# To split small programs among threads costs more than it gains.
_PLAIN = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'

if not os.environ.get('JAXBUDGET_TEST_OPTIMIZED'):
  jax.config.update('jax_disable_most_optimizations', True)
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # of launches that tests start
  flags = os.environ.get('XLA_FLAGS', '')
  # A flag that XLA does not know is fatal: later releases are asked for nothing.
  if _PLAIN not in flags and jax.__version_info__ < (0, 11):
    os.environ['XLA_FLAGS'] = f'{_PLAIN} {flags}'

# Small programs are worth keeping too: workers and launches share them.
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
  'untimed', deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile('untimed')

# Under nohup, or in the background of a shell, these are ignored, and launches inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = pathlib.Path(__file__).parents[1]
MAPS = pathlib.Path('/proc/self/maps')
_CACHES = {'.pytest_cache', '.hypothesis', '.ruff_cache', '.jax_cache', '__pycache__'}


def pytest_configure(config):
  """Compiles the library's source once: workers and a hundred launches read that."""
  if not hasattr(config, 'workerinput'):
    compileall.compile_dir(ROOT / 'jaxbudget', quiet=2)


@pytest.fixture(scope='session', autouse=True)
def checkout():
  """Fails if tests leave anything in the checkout, where the next commit would take it along."""
  before = set(os.listdir(ROOT))
  yield
  assert set(os.listdir(ROOT)) - before - _CACHES == set()


@pytest.fixture(scope='session', autouse=True)
def temporary(tmp_path_factory):
  """Fails if tests, or processes that they start, leave temporary files behind."""
  tmp_path_factory.getbasetemp()  # not in here
  place = pathlib.Path(tempfile.mkdtemp(prefix='tests-'))
  place.chmod(0o755)  # SLURM's munged is another user
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tempfile, 'tempdir', str(place))
    patch.setenv('TMPDIR', str(place))
    yield
  left = sorted(path.name for path in place.iterdir())
  shutil.rmtree(place)
  assert left == []


_MAPS = 20_000  # of 65,530 that Linux lets a process have; with more, XLA aborts it
_started = itertools.count()


@pytest.fixture(autouse=True)
def programs():
  """Lets compiled programs go before they are too many: each holds memory maps."""
  if next(_started) % 20 == 0 and MAPS.exists():
    with MAPS.open() as file:
      many = sum(1 for _ in file) > _MAPS
    if many:
      jax.clear_caches()
      gc.collect()


# Long files that would come last in the alphabet, lest the workers wait for one of them.
FIRST = (
  'slurm_test', 'selectors_common_test', 'hosts_test', 'faults_test', 'parts_test', 'lowering_test',
  'networks_test', 'more_methods_test', 'parallel_test', 'selective_backprop_test', 'train_test',
  'rehearsal_test', 'workers_test', 'wheel_test', 'write_a_method_test', 'x64_test',
)  # fmt: skip


def pytest_collection_modifyitems(items):
  """Sorts by file: those of `FIRST`, then the others as collected."""
  rank = {name: place for place, name in enumerate(FIRST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(FIRST)))


def pytest_collection_finish():
  """Collects garbage from here on, and only what the tests leave."""
  gc.freeze()
  gc.set_threshold(20_000)  # tracing makes much that lives for long
  gc.enable()
