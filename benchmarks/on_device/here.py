"""Under what a figure was measured: device, driver, versions, and what of the library decides."""

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax
from record import processor, told

from jaxbudget import source
from on_device import ROOT

PACKAGES = 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'libtpu'


def conditions(commit: str | None) -> dict[str, Any]:
  """Device, driver, machine, versions, engine, commit and command.

  Args:
    commit: what is measured, where there is no git.

  Returns:
    Plain values; `engine` changes with the code that trains, not with prose or the laboratory.
  """
  device = jax.devices()[0]
  driver = _first('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')
  git = _first('git', '-C', str(ROOT), 'rev-parse', '--short=12', 'HEAD')
  return {
    'device': f'{jax.device_count()} x {device.device_kind}',
    'driver': f'driver {driver}' if driver else device.platform,
    'machine': f'{os.cpu_count()} cores, {processor()}',
    'versions': {'python': platform.python_version()} | _versions(),
    'engine': _engine(),
    'commit': commit or git or 'unknown',
    'command': shlex.join(['python', 'benchmarks/accelerator.py', *map(told, sys.argv[1:])]),
  }


def _versions() -> dict[str, str]:
  """Of the packages that decide, plugins for CUDA or ROCm among them; of those that are there."""
  names = {d.name for d in importlib.metadata.distributions()}
  plugins = sorted(name for name in names if name and name.startswith(('jax-cuda', 'jax-rocm')))
  return {p: importlib.metadata.version(p) for p in (*PACKAGES, *plugins) if p in names}


def _engine() -> str:
  """A hash of the library without its laboratory, without prose."""
  digest, package = hashlib.sha256(), ROOT / 'jaxbudget'
  for path in sorted(package.rglob('*.py')):
    name = path.relative_to(package).as_posix()
    if not name.startswith(('lab/', 'testing/')):
      digest.update(f'{name} {source.text_hash(path.read_text())}\n'.encode())
  return digest.hexdigest()[:12]


def _first(*command: str) -> str:
  return next(iter(output(command).splitlines()), '')


def output(command) -> str:
  """What a command prints; nothing if it cannot run, or hangs."""
  try:
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
  except (OSError, subprocess.SubprocessError):
    return ''
