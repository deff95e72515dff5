"""What one row launches, by the profiler: kernels, copies to the host, time on the card."""

import collections
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from on_device.rows import Rows

ROWS = 20  # in the trace


def measure(made: Callable[[], Rows], most: int = 12) -> dict[str, Any]:
  """Traces rows of a setting.

  Args:
    made: gives them.
    most: kernels to name, the dearest.

  Returns:
    Figures for a row; `dearest` names kernels with their microseconds a row.
  """
  rows = made()
  with tempfile.TemporaryDirectory() as directory:
    with jax.profiler.trace(directory):
      seconds = rows.seconds(ROWS)
    path = next(pathlib.Path(directory).rglob('*.xplane.pb'))
    spent, launched = read(jax.profiler.ProfileData.from_file(str(path)))
  copies = {name: n for name, n in launched.items() if name.lower().startswith(('memcpy', 'copy'))}
  to_host = sum(n for name, n in copies.items() if 'd2h' in name.lower().replace('to', '2'))
  fused = (t for name, t in spent.items() if 'fusion' in name or name.startswith('wrapped_'))
  dearest = sorted(spent, key=spent.get, reverse=True)[:most]
  return {
    'launches': sum(launched.values()) / ROWS,
    'copies': sum(copies.values()) / ROWS,
    'copies to the host': to_host / ROWS,
    'ms on the card': sum(spent.values()) / ROWS / 1e6,
    'of them in fusions': sum(fused) / ROWS / 1e6,
    'ms by the clock': 1e3 * seconds,
    'dearest': [f'{name[:60]} {spent[name] / ROWS / 1e3:.0f}' for name in dearest],
  }


def read(profile) -> tuple[dict[str, float], dict[str, int]]:
  """Nanoseconds and launches by name, over the streams of a GPU or the operations of a TPU.

  Raises:
    ValueError: the profile tells of a device, and of neither.
  """
  spent, launched = collections.Counter(), collections.Counter()
  seen = []
  for plane in profile.planes:
    if not plane.name.startswith('/device:'):
      continue
    for line in plane.lines:
      seen.append(f'{plane.name} {line.name}')
      if not (line.name.startswith('Stream') or line.name == 'XLA Ops'):
        continue
      for event in line.events:
        spent[event.name] += event.duration_ns
        launched[event.name] += 1
  if seen and not launched:
    raise ValueError(f'nothing was launched, by the lines {seen}; known are Stream... and XLA Ops')
  return spent, launched
