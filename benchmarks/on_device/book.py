"""What was measured so far, and under what: one JSON file and its tables, written case by case."""

import json
import os
import pathlib
import statistics
import threading
import time
from collections.abc import Iterable
from typing import Any

from record import number

TITLES = {
  'right': 'Right: the device against the host CPU, from the same state and keys',
  'trace': 'What one row launches, by the profiler',
  'fast': 'Fast: a row of training',
  'overheads': 'Overheads of selection and augmentation',
  'whole': 'Whole: a run from its first epoch to its last',
  'several': 'Several runs on one card at a time',
}
# Where these are others, a figure is another one.
SAME = 'device', 'driver', 'versions', 'engine'


class Book:
  """Cases of parts; each survives what happens after it, and keeps what it was measured under.

  In the file: `parts`, figures by part and case; `conditions`, a list; and `under`, by part and
  case the number of its conditions.
  """

  def __init__(
    self,
    path: pathlib.Path,
    conditions: dict[str, Any] | None = None,
    resume: bool = False,
    again: Iterable[str] = (),
    only: Iterable[str] = (),
  ):
    """Opens a book; the file need not be there.

    Args:
      path: of the JSON file; the tables lie beside it, as .md.
      conditions: what is measured from now on is measured under, see `here.conditions`; None only
        reads.
      resume: whether a case counts as measured under whatever conditions it was.
      again: `PART`, or `PART|TEXT` for its cases with this text in their names: these do not count
        as measured, until they are in this book.
      only: texts, one of which a case has in its name, or it counts as measured; none is all.

    Raises:
      ValueError: the file is not of this form.
    """
    self.path, self.now, self.resume = path, conditions, resume
    self.again, self.only = tuple(again), tuple(only)
    self.began, self.lock = time.monotonic(), threading.RLock()
    self.entered: set[tuple[str, str]] = set()
    empty = {'conditions': [], 'under': {}, 'parts': {}}
    self.content = json.loads(path.read_text()) if path.exists() else empty
    if set(self.content) != set(empty):
      raise ValueError(
        f'{path} has {sorted(self.content)}, where {sorted(empty)} are expected: it is not of '
        'this version; take it away or name another folder with --out'
      )

  def has(self, part: str, case: str) -> bool:
    """Whether a case is measured, by this engine, on this device, and neither failed nor wrong.

    What is not asked for counts as measured too.
    """
    asked = not self.only or any(text in case for text in self.only)
    if (part, case) in self.entered or not asked:
      return True
    found = self.of(part).get(case)
    if found is None or 'failed' in found or found.get('right') is False:
      return False
    for what in self.again:
      name, _, text = what.partition('|')
      if name == part and text in case:
        return False
    before = self.content['conditions'][self.content['under'][part][case]]
    return self.resume or all(before.get(key) == self.now.get(key) for key in SAME)

  def of(self, part: str) -> dict[str, dict]:
    """The cases of a part, by name."""
    return self.content['parts'].get(part, {})

  def enter(self, part: str, case: str, figures: dict[str, Any]) -> None:
    """Writes a case down, in the file and in the tables, and says so."""
    with self.lock:
      self.entered.add((part, case))
      known = self.content['conditions']
      if self.now not in known:
        known.append(self.now)
      self.content['under'].setdefault(part, {})[case] = known.index(self.now)
      self.content['parts'].setdefault(part, {})[case] = figures
      self._drop_unused()
      _replace(self.path, json.dumps(self.content, indent=1) + '\n')
      self.render()
      self.say(f'{part}: {case}: {told(figures)}')

  def _drop_unused(self) -> None:
    under, known = self.content['under'], self.content['conditions']
    used = sorted({number for cases in under.values() for number in cases.values()})
    self.content['conditions'] = [known[number] for number in used]
    for cases in under.values():
      cases.update({case: used.index(number) for case, number in cases.items()})

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

  def failed(self) -> list[str]:
    """Cases that failed or are wrong."""
    return [
      f'{part}: {case}'
      for part, cases in self.content['parts'].items()
      for case, figures in cases.items()
      if 'failed' in figures or figures.get('right') is False
    ]

  def render(self) -> str:
    """Writes the tables of all parts beside the file. Returns them, as Markdown."""
    conditions = self.content['conditions']
    lines = [
      '# On an accelerator',
      '',
      'Medians over repeats, the spread in brackets. `on` tells under which of these conditions a '
      'case was measured.',
      '',
      '| on | device | driver | machine | versions | engine | commit | command |',
      '|---:|---|---|---|---|---|---|---|',
    ]  # fmt: skip
    for n, found in enumerate(conditions):
      versions = ', '.join(f'{name} {v}' for name, v in found['versions'].items() if v)
      cells = found | {'versions': versions, 'command': f'`{found["command"]}`'}
      order = 'device', 'driver', 'machine', 'versions', 'engine', 'commit', 'command'
      lines.append(f'| {n + 1} | ' + ' | '.join(shown(cells[key]) for key in order) + ' |')
    for part, title in TITLES.items():
      cases = self.of(part)
      if cases:
        on = {case: number + 1 for case, number in self.content['under'][part].items()}
        lines += ['', f'## {title}', '', *table(cases, on)]
        lines += [
          f'\n{case}, kernels and microseconds a row: {"; ".join(figures["dearest"])}.'
          for case, figures in cases.items()
          if figures.get('dearest')
        ]
    text = '\n'.join(lines) + '\n'
    _replace(self.path.with_suffix('.md'), text)
    return text


def _replace(path, text):
  temporary = path.with_name(path.name + '.tmp')
  temporary.write_text(text)
  os.replace(temporary, path)


def table(cases: dict[str, dict], on: dict[str, int]) -> list[str]:
  """Cases as rows, what was measured as columns; `on` numbers the conditions of each."""
  named = (name for figures in cases.values() for name in figures if name != 'dearest')
  columns = list(dict.fromkeys(named))
  lines = ['| case | on | ' + ' | '.join(columns) + ' |', '|---|' + '---:|' * (1 + len(columns))]
  for case, figures in cases.items():
    cells = [str(on[case]), *(shown(figures.get(name)) for name in columns)]
    lines.append(f'| {case} | ' + ' | '.join(cells) + ' |')
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
