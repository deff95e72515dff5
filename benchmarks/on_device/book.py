"""What was measured so far: one JSON file, written as each case ends, and tables of it."""

import json
import os
import pathlib
import statistics
import time
from typing import Any

from record import number

TITLES = {
  'right': 'Right: the device against the host CPU, from the same state and keys',
  'fast': 'Fast: a row of training',
  'overheads': 'Overheads of selection and augmentation',
  'trace': 'What one row launches, by the profiler',
  'whole': 'Whole: a run from its first epoch to its last',
  'several': 'Several runs on one card at a time',
}


class Book:
  """Cases of parts; each survives what happens after it."""

  def __init__(self, path: pathlib.Path, circumstances: dict[str, Any], resume: bool):
    self.path, self.began = path, time.monotonic()
    kept = json.loads(path.read_text()) if resume and path.exists() else {}
    self.content = {**circumstances, 'commits': {}, 'parts': {}, **kept, **circumstances}

  def has(self, part: str, case: str) -> bool:
    """Whether a case was measured, and did not fail."""
    found = self.content['parts'].get(part, {}).get(case)
    return found is not None and 'failed' not in found

  def of(self, part: str) -> dict[str, dict]:
    """The cases of a part, by name."""
    return self.content['parts'].get(part, {})

  def enter(self, part: str, case: str, figures: dict[str, Any]) -> None:
    """Writes a case down, and says so."""
    self.content['parts'].setdefault(part, {})[case] = figures
    self.content['commits'].setdefault(part, {})[case] = self.content['commit']
    temporary = self.path.with_suffix('.tmp')
    temporary.write_text(json.dumps(self.content, indent=1) + '\n')
    os.replace(temporary, self.path)
    self.say(f'{part}: {case}: {told(figures)}')

  def say(self, line: str) -> None:
    """Prints a line with the seconds since the start."""
    print(f'[{time.monotonic() - self.began:5.0f} s] {line}', flush=True)

  def attempt(self, part: str, case: str, measure, *arguments) -> None:
    """Measures a case unless it is there; a failure is written down and costs no other case."""
    if self.has(part, case):
      return
    try:
      self.enter(part, case, measure(*arguments))
    except Exception as e:
      self.enter(part, case, {'failed': f'{type(e).__name__}: {str(e)[:500]}'})

  def render(self) -> str:
    """The tables of all parts, as Markdown."""
    content = self.content
    lines = [
      '# On an accelerator',
      '',
      f'`{content["command"]}`, {content["device"]} '
      f'({content["driver"]}), {content["machine"]}; '
      + ', '.join(f'{name} {version}' for name, version in content['versions'].items() if version)
      + '. Medians over repeats, the spread in brackets.',
    ]
    for part, title in TITLES.items():
      cases = self.of(part)
      if cases:
        commits = sorted({*content['commits'].get(part, {}).values()})
        lines += ['', f'## {title}', '', f'Commit {", ".join(commits)}.', '', *table(cases)]
        lines += [
          f'\n{case}, kernels and microseconds a row: {"; ".join(figures["dearest"])}.'
          for case, figures in cases.items()
          if figures.get('dearest')
        ]
    return '\n'.join(lines) + '\n'


def table(cases: dict[str, dict]) -> list[str]:
  """Cases as rows, what was measured as columns."""
  named = (name for figures in cases.values() for name in figures if name != 'dearest')
  columns = list(dict.fromkeys(named))
  lines = ['| case | ' + ' | '.join(columns) + ' |', '|---|' + '---:|' * len(columns)]
  for case, figures in cases.items():
    lines.append(f'| {case} | ' + ' | '.join(shown(figures.get(name)) for name in columns) + ' |')
  return lines


def shown(value: Any) -> str:
  """A figure for a table; the median and spread of repeats."""
  if value is None:
    return ''
  if isinstance(value, bool):
    return 'yes' if value else '**no**'
  if isinstance(value, str):
    return value.replace('|', '/').replace('\n', ' ')
  if isinstance(value, list):
    if not value:
      return 'none'
    if not all(isinstance(v, (int, float)) for v in value):
      return ', '.join(map(str, value))
    spread = f' ({number(min(value))} to {number(max(value))})' if len(value) > 1 else ''
    return number(statistics.median(value)) + spread
  return number(value)


def told(figures: dict[str, Any]) -> str:
  """A case on one line."""
  return ', '.join(f'{name} {shown(value)}' for name, value in figures.items())
