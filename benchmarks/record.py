"""The figures of a benchmark: shown as a table, and kept in docs/results/NAME.json."""

import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

from jaxbudget import source
from jaxbudget.lab.run.provenance import device_record, versions

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / 'docs' / 'results'
HEAD = '| what | median | spread | unit | target | |\n|---|---:|---|---|---|---|'


class Figure(NamedTuple):
  """One line of the table."""

  what: str
  values: list[float]  # one for each repeat
  unit: str
  at_most: float | None = None  # targets
  at_least: float | None = None

  @property
  def median(self) -> float:
    """Over the repeats."""
    return statistics.median(self.values)

  @property
  def met(self) -> bool:
    """Whether the median meets the targets there are."""
    too_much = self.at_most is not None and self.median > self.at_most
    return not too_much and (self.at_least is None or self.median >= self.at_least)

  def line(self) -> str:
    """The figure as a line of a Markdown table."""
    spread = ''
    if len(self.values) > 1:
      spread = f'{number(min(self.values))} to {number(max(self.values))}'
    bounds = [('<=', self.at_most), ('>=', self.at_least)]
    target = ' '.join(f'{sign} {number(bound)}' for sign, bound in bounds if bound is not None)
    verdict = ('met' if self.met else '**missed**') if target else ''
    return (
      f'| {self.what} | {number(self.median)} | {spread} | {self.unit} | {target} | {verdict} |'
    )


def number(value: float) -> str:
  """Three digits, or all of a large whole number."""
  return f'{value:,.0f}' if abs(value) >= 100 or value == int(value) else f'{value:.3g}'


class Taken(NamedTuple):
  """What a process took, its children included."""

  wall: float  # seconds
  processor: float  # seconds
  memory: float  # MB, of the largest process


def run(command: list[str]) -> Taken:
  """Runs Python at the root of the repository.

  Raises:
    RuntimeError: it failed.
  """
  start = time.monotonic()
  child = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(child.pid, 0)
  child.returncode = os.waitstatus_to_exitcode(status)
  if child.returncode:
    raise RuntimeError(f'{command} ended with exit code {child.returncode}')
  wall = time.monotonic() - start
  return Taken(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def show(figures: list[Figure]) -> None:
  """Prints figures as a table."""
  print('\n'.join([HEAD, *(figure.line() for figure in figures)]), flush=True)


def circumstances() -> dict[str, Any]:
  """Machine, versions, commit and command of this process."""
  return {
    'machine': f'{processor()}, {os.cpu_count()} cores, {platform.system()}',
    'device': device_record(),
    'versions': {**versions(), 'code': code_hash()},
    'command': shlex.join(['python', os.path.relpath(sys.argv[0]), *map(told, sys.argv[1:])]),
  }


def told(argument: str) -> str:
  """An argument as it may be stored: where things lie on a machine is nobody else's business."""
  option, equals, value = argument.rpartition('=')
  if not os.path.isabs(value):
    return argument
  return option + equals + ('DIR' if os.path.isdir(value) else 'FILE')


def code_hash() -> str:
  """The hash of what is measured: the library and how a run is trained, prose left out."""
  package = ROOT / 'jaxbudget'
  places = [path.relative_to(ROOT).with_suffix('') for path in package.rglob('*.py')]
  measured = [place for place in places if place.parts[1] != 'lab' or place.parts[2] == 'run']
  names = ['.'.join(p.parts) for p in measured if p.name != '__init__']
  return source.source_hash(names, [package])


def processor() -> str:
  try:
    with open('/proc/cpuinfo') as file:
      return next(line.split(':')[1].strip() for line in file if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def store(part: str, figures: list[Figure], details: Any = None) -> int:
  """Shows figures and writes docs/results/PART.json, with the circumstances.

  Args:
    part: name of the benchmark.
    figures: lines of the table.
    details: what else was measured, plain values.

  Returns:
    An exit code: 1 if a target was missed.
  """
  show(figures)
  RESULTS.mkdir(parents=True, exist_ok=True)
  record = {**circumstances(), 'figures': [figure._asdict() for figure in figures]}
  if details is not None:
    record['details'] = details
  (RESULTS / f'{part}.json').write_text(json.dumps(record, indent=1) + '\n')
  return int(not all(figure.met for figure in figures))
