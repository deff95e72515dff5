"""Where a result comes from: versions of everything, code revision, device."""

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

_PACKAGES = ('jaxbudget', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')
_SOURCE = pathlib.Path(__file__).parents[2]
# Sources that decide nothing about the numbers of a run that has started.
_NOT_NUMERICS = ('data/', 'lab/launcher.py', 'lab/paper/', 'lab/report/', 'lab/sweep/')
_NOT_NUMERICS_FILES = (
  '__init__.py',
  'hosts.py',
  'loading.py',
  'lock.py',
  'process.py',
  'provenance.py',
)


@functools.cache
def versions() -> dict[str, str]:
  """Versions of Python and of the packages that compute; git commit and hash of the code."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version(), **found, 'commit': _commit(), 'code': code_hash()}


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
def code_hash() -> str:
  """Hashes the sources that decide the numbers of a run.

  A commit that touches documents, reports or the launcher does not keep a run from being
  resumed; one that touches a method, a network or the epoch does.
  """
  digest = hashlib.sha256()
  for path in sorted(_SOURCE.rglob('*.py')):
    place = path.relative_to(_SOURCE).as_posix()
    if not place.startswith(_NOT_NUMERICS) and path.name not in _NOT_NUMERICS_FILES:
      digest.update(f'{place}\0'.encode() + path.read_bytes() + b'\0')
  return digest.hexdigest()[:16]


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
    'host_cpus': len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count(),
  }


def must_agree() -> dict[str, Any]:
  """What must be equal for a resumed run to give the bits of one that never stopped.

  Returns:
    Code, versions and settings that compiled programs depend on, the devices; on CPU the
    instructions it has and the number of threads too. Plain values by name.
  """
  settings = (
    'jax_enable_x64',
    'jax_default_matmul_precision',
    'jax_default_prng_impl',
    'jax_threefry_partitionable',
  )
  device = device_record()
  found: dict[str, Any] = {'code': code_hash()}
  found |= {name: versions()[name] for name in ('jax', 'jaxlib', 'flax', 'optax', 'numpy')}
  found |= {name: getattr(jax.config, name) for name in settings}
  found |= {'XLA_FLAGS': os.environ.get('XLA_FLAGS', '')}
  names = ('platform', 'kind', 'devices', 'processes')  # the last only if there are several
  found |= {name: device[name] for name in names if name in device}
  if device['platform'] == 'cpu':
    found |= {'host': device['host'], 'host_cpus': device['host_cpus'], 'cpu': _cpu()}
  return found


@functools.cache
def _cpu() -> str:
  """Model and instruction set of the processor, for which XLA compiles."""
  model, features = platform.processor(), ''
  try:
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      key, _, value = line.partition(':')
      if key.strip() == 'model name':
        model = value.strip()
      elif key.strip() in ('flags', 'Features'):
        features = ' '.join(sorted(value.split()))
  except OSError:
    pass  # not Linux
  return f'{model} {hashlib.sha256(features.encode()).hexdigest()[:8]}'
