"""What every benchmark says of itself, and where its figures are kept."""

import json
import os
import pathlib
import platform
import shlex
import sys

from jaxbudget.provenance import device_record, versions

RESULTS = pathlib.Path(__file__).parents[1] / 'docs' / 'results'


def circumstances() -> dict:
  """Machine, versions, commit and command of this process."""
  return {
    'machine': f'{processor()}, {os.cpu_count()} cores, {platform.system()}',
    'device': device_record(),
    'versions': versions(),
    'command': shlex.join(['python', *map(os.path.relpath, sys.argv[:1]), *sys.argv[1:]]),
  }


def processor() -> str:
  try:
    with open('/proc/cpuinfo') as file:
      return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def store(name: str, figures: object) -> pathlib.Path:
  """Writes docs/results/NAME.json: the circumstances, then the figures."""
  RESULTS.mkdir(parents=True, exist_ok=True)
  path = RESULTS / f'{name}.json'
  path.write_text(json.dumps({**circumstances(), 'figures': figures}, indent=1) + '\n')
  return path
