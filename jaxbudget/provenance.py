"""Where a result comes from: versions of everything, code revision, device."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess

import jax

_PACKAGES = ('jaxbudget', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


@functools.cache
def versions() -> dict[str, str]:
  """Versions of Python, of the packages that compute, and the code's git commit if it has one."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version(), **found, 'commit': _commit()}


def _commit() -> str:
  """The commit checked out, '-dirty' if the package differs from it; '' outside git."""
  source = pathlib.Path(__file__).parent
  git = ['git', '-C', str(source)]
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
    'host': platform.machine(),
    'host_cpus': len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count(),
  }
