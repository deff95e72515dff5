"""Conditions: what a run computed under, and what of it must be equal for what.

One table for all who ask: result.json holds every condition, a checkpoint is gone on from only
where those of the first column are equal, and runs are pooled as seeds of a cell, or compared,
only where those of the second are.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from jaxbudget.epoch import ENGINE
from jaxbudget.lab.run import identity, provenance
from jaxbudget.lab.run.run import Run


class Condition(NamedTuple):
  """What a condition must be equal for; one that need not be is told only.

  Attributes:
    resume: for a stopped run to go on: else it might not give the bits of one that never stopped.
    pool: for runs to be seeds of one cell, or to be compared.
  """

  resume: bool = False
  pool: bool = False


_BOTH = Condition(resume=True, pool=True)
TABLE: dict[str, Condition] = {
  'engine': _BOTH,
  'source': Condition(resume=True),  # of the engine and the chosen parts
  'data_fingerprint': _BOTH,
  'jax': _BOTH,
  'jaxlib': _BOTH,
  'flax': _BOTH,
  'optax': _BOTH,
  'numpy': _BOTH,
  'device': _BOTH,  # platform, kind and count
  'processes': Condition(resume=True),  # that train the run together
  'threads': _BOTH,  # that compute, on CPU
  'matmul_precision': _BOTH,
  'prng': _BOTH,
  'threefry_partitionable': _BOTH,
  'x64': _BOTH,
  'seed_offset': _BOTH,
  'xla_flags': _BOTH,
  'cpu': Condition(),
  'host': Condition(),
  'placement': Condition(),  # of images; the bits are the same
  'missing_files': Condition(pool=True),  # that it was trained without; None: without none
}
RESUME = tuple(name for name, condition in TABLE.items() if condition.resume)
POOL = tuple(name for name, condition in TABLE.items() if condition.pool)


def of(run: Run, fingerprint: str, placement: str = 'device') -> dict[str, Any]:
  """The conditions of a run that is trained here and now; plain values by name.

  Args:
    run: of the plan.
    fingerprint: of its data set.
    placement: of its images.

  Returns:
    All of `TABLE`.
  """
  own = {
    'source': identity.source_of(run.cell, run.parts.outside),
    'data_fingerprint': fingerprint,
    'placement': placement,
    'missing_files': None,  # told at the end
  }
  if run.cell.matmul_precision:
    own['matmul_precision'] = run.cell.matmul_precision
  return {**present(run.cell.devices), **own}


def present(devices: int = 0) -> dict[str, Any]:
  """The conditions of this process; plain values.

  Args:
    devices: that a run is split over; 0 is all there are.

  Returns:
    By name; those of `TABLE` but `source`, `data_fingerprint` and `placement`, a run's own.
  """
  device = jax.devices()[0]
  versions = provenance.versions()
  return {
    'engine': ENGINE,
    **{name: versions[name] for name in ('jax', 'jaxlib', 'flax', 'optax', 'numpy')},
    'device': device_phrase(device.platform, device.device_kind, devices or jax.device_count()),
    'processes': jax.process_count(),
    'threads': provenance.cpu_threads() if device.platform == 'cpu' else None,
    'matmul_precision': jax.config.jax_default_matmul_precision,
    'prng': jax.config.jax_default_prng_impl,
    'threefry_partitionable': jax.config.jax_threefry_partitionable,
    'x64': jax.config.jax_enable_x64,
    'seed_offset': jax.config.jax_random_seed_offset,
    'xla_flags': _xla_flags(),
    'cpu': provenance.cpu(),
    'host': provenance.host(),
  }


def _xla_flags() -> str:
  """What XLA was told of how to compile."""
  off = 'jax_disable_most_optimizations'
  return ' '.join(filter(None, (os.environ.get('XLA_FLAGS'), off if jax.config.read(off) else '')))


def device_phrase(platform: str, kind: str, count: int) -> str:
  """A device in words: `cpu`, or `gpu NVIDIA H100 × 2`."""
  names = ' '.join(dict.fromkeys(filter(None, (platform, kind))))
  return names + (f' × {count}' if count != 1 else '')


def differing(
  was: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]
) -> list[dict[str, Any]]:
  """Compares conditions.

  Args:
    was: by name; one that is missing differs from any that is not.
    now: likewise.
    names: of the conditions to compare.

  Returns:
    What differs: `{'field', 'was', 'is'}` each.
  """
  return [
    {'field': name, 'was': was.get(name), 'is': now.get(name)}
    for name in names
    if was.get(name) != now.get(name)
  ]
