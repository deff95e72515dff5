"""Where a result comes from: versions of everything, code revision, device."""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import socket
import subprocess

import jax
from jax._src import xla_bridge  # whether JAX has started has no public name

_PACKAGES = ('jaxbudget', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
_SOURCE = pathlib.Path(__file__).parents[2]
# What XLA sizes its thread pool on CPU by, when it starts. With jax 0.10.2 contractions run on as
# many threads; `--xla_cpu_multi_thread_eigen=false` and OMP_NUM_THREADS change nothing.
_THREADS = 'NPROC'
MOST_THREADS = 1024  # more are a mistake, and none could be started
OPTIMIZATION = 2, 3  # levels at which XLA is known to compute the same bits, on CPU
_LEVEL = '--xla_backend_optimization_level'


@functools.cache
def versions() -> dict[str, str]:
  """Versions of Python and of the packages that compute, and the git commit."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version(), **found, 'commit': _commit()}


def _commit() -> str:
  """The commit checked out, '-dirty' if the package differs from it; '' outside git."""
  git = ['git', '-C', str(_SOURCE)]
  try:
    head = subprocess.run([*git, 'rev-parse', 'HEAD'], capture_output=True, text=True, timeout=10)
    tracked = subprocess.run(
      [*git, 'ls-files', '--error-unmatch', __file__], capture_output=True, timeout=10
    )
    if head.returncode or tracked.returncode:  # an installed copy inside somebody else's tree
      return ''
    changed = subprocess.run(
      [*git, 'status', '--porcelain', '--', '.'], capture_output=True, text=True, timeout=10
    )
    return head.stdout.strip()[:12] + ('-dirty' if changed.stdout.strip() else '')
  except (OSError, subprocess.TimeoutExpired):
    return ''


@functools.cache
def device_record() -> dict[str, object]:
  """The device results were computed on."""
  device = jax.devices()[0]
  return {
    'platform': device.platform,
    'kind': device.device_kind,
    'devices': jax.device_count(),
    **({'processes': jax.process_count()} if jax.process_count() > 1 else {}),
    'host': platform.machine(),
    'host_cpus': _available_cpus(),
  }


def _available_cpus() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def cpu_threads() -> int:
  """Threads that XLA computes with on CPU: NPROC, or one for each core that it may use."""
  return int(os.environ.get(_THREADS) or _available_cpus())


def limit_threads(count: int) -> None:
  """Sets the threads that XLA computes with on CPU, here and in processes started from here.

  Args:
    count: of threads; 0 leaves them as they are.

  Raises:
    ValueError: there are too many, or JAX computes already, with another number.
  """
  if not count or count == cpu_threads():
    return
  if not 0 < count <= MOST_THREADS:
    raise ValueError(f'threads={count} is refused: 0 (all cores) to {MOST_THREADS}')
  if xla_bridge.backends_are_initialized():
    raise ValueError(
      f'threads={count} comes too late: JAX has started with {cpu_threads()}; set the environment '
      f'variable {_THREADS} before'
    )
  os.environ[_THREADS] = str(count)


def limit_optimization(level: int) -> None:
  """Sets how much XLA optimises, here and in processes started from here.

  What JAX has compiled, or is told in XLA_FLAGS, stays: it decides how fast programs are, not what
  they compute.

  Args:
    level: one of `OPTIMIZATION`; 3 is XLA's own. Others are refused where runs are planned.
  """
  flags, started = os.environ.get('XLA_FLAGS', ''), xla_bridge.backends_are_initialized()
  if level in OPTIMIZATION[:-1] and _LEVEL not in flags and not started:
    os.environ['XLA_FLAGS'] = f'{flags} {_LEVEL}={level}'.strip()


@functools.cache
def cpu() -> str:
  """Model and instruction set of the processor, for which XLA compiles."""
  model, features = platform.processor(), ''
  try:
    for line in pathlib.Path('/proc/cpuinfo').read_text('utf-8', 'replace').splitlines():
      key, _, value = line.partition(':')
      if key.strip() == 'model name':
        model = value.strip()
      elif key.strip() in ('flags', 'Features'):
        features = ' '.join(sorted(value.split()))
  except OSError:
    pass  # not Linux
  return f'{model} {hashlib.sha256(features.encode()).hexdigest()[:8]}'


def host() -> str:
  """The name of this machine."""
  return socket.gethostname()
