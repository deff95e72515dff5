"""What a compiled program must keep to: rules for all, and ceilings 10 % above what was reached."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from benchmarks.aot.figures import LARGE_COPY
from benchmarks.aot.programs import Row

CEILINGS = pathlib.Path(__file__).with_name('ceilings.json')
ROOM = 1.1
BOUNDED = ('kernels', 'bytes', 'temp', 'cycles', 'collectives')
HAND_COUNT = 1.2  # bytes, over those counted by hand
NHWC = 'b01f_o01i->b01f'

# Open findings: reported, and no fault. (method, augmentation, rule)
KNOWN = {
  ('selective_backprop', 'standard', 'copies'): 'its condition copies the whole state',
  ('selective_backprop', 'standard', 'exchange'): 'the queue of images and the counts move',
  ('ordered_sgd compact', 'standard', 'copies'): 'its condition copies the whole state',
  ('p_sgd', 'mixup', 'loops'): 'draws from Beta are loops',
  ('p_sgd', 'ricap', 'loops'): 'draws from Beta are loops',
}


def ceilings() -> dict[str, dict[str, float]]:
  """The ceilings of each program by name, as stored."""
  return json.loads(CEILINGS.read_text()) if CEILINGS.exists() else {}


def store(records: dict[str, dict[str, Any]]) -> None:
  """Sets the ceilings of these programs to what they reached, and room."""
  kept = ceilings()
  for name, record in records.items():
    kept[name] = {key: round(ROOM * record[key]) for key in BOUNDED if record.get(key)}
  CEILINGS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + '\n')


def over(name: str, record: dict[str, Any]) -> Iterator[str]:
  """Ceilings that a program breaks."""
  found = ceilings().get(name)
  if found is None:
    yield 'it has no ceilings: set them with --set-ceilings'
  for key, most in (found or {}).items():
    if record[key] > most:
      yield f'{key}: {record[key]:,}, but {most:,} is the ceiling'
  if found is not None:
    for key in BOUNDED:
      if record.get(key) and key not in found:
        yield f'{key}: {record[key]:,}, where there was none'


def faults(row: Row, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
  """Rules that a compiled row breaks: (rule, what is wrong)."""
  for case, cost in (('a row', record), ('a row without a step', record['without_step'] or {})):
    if cost.get('copies'):
      moved = sum(size for _, size in cost['copies'])
      yield (
        'copies',
        f'{case} copies {len(cost["copies"])} arrays over {LARGE_COPY >> 10} KB, {moved:,} bytes',
      )
  unknown = [source for source, trips in record['loops'] if trips is None]
  if unknown and row.target != 'v5e':  # a TPU's compiler says of no loop how often it turns
    yield 'loops', f'loops of unknown length in a row: {unknown}'
  if record['alias'] < record['state']:
    yield 'alias', f'{record["state"] - record["alias"]:,} bytes of the state are not donated'
  if record['hand_count'] and record['bytes'] > HAND_COUNT * record['hand_count']:
    yield (
      'bytes',
      f'{record["bytes"]:,} bytes a row, over {HAND_COUNT} x {record["hand_count"]:,} by hand',
    )
  yield from _convolutions(row, record)
  large = sorted((size for _, size in record['exchange']), reverse=True)
  if large and large[0] > record['gradient']:
    yield (
      'exchange',
      f'{large[0]:,} bytes are exchanged at once; a gradient has {record["gradient"]:,}',
    )
  if large[1:] and large[1] > LARGE_COPY:
    yield 'exchange', f'{[size for size in large[1:] if size > LARGE_COPY]} bytes are exchanged'


def _convolutions(row, record):
  """They multiply in the compute dtype; with channels last, where XLA wants them so."""
  if row.target == 'v5e':
    return
  kind = {'bfloat16': 'bf16', 'float32': 'f32'}[row.dtype]
  allowed = f'{kind} x {kind} -> {kind}, '
  if not (row.target == 'a100' and kind == 'f32'):  # there XLA chooses channels first
    allowed += NHWC
  wrong = {what: n for what, n in record['convolutions'].items() if not what.startswith(allowed)}
  if wrong:
    yield 'convolutions', f'{wrong}, where all should be {allowed!r}'
