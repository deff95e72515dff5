"""What a compiled program must keep to: rules for all, and ceilings 10 % above what was reached."""

import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from benchmarks.aot.figures import LARGE_COPY
from benchmarks.aot.programs import BATCH, SHAPE, Row

CEILINGS = pathlib.Path(__file__).with_name('ceilings.json')
ROOM = 1.1
BOUNDED = ('kernels', 'bytes', 'temp', 'cycles', 'collectives')
HAND_COUNT = {'h100': 1.12, 'a100': 1.19}  # bytes, over those counted by hand
NHWC = 'b01f_o01i->b01f'
IMAGES = BATCH * math.prod(SHAPE)  # bytes of a batch as uint8; four times that as float32


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


def faults(row: Row, record: dict[str, Any]) -> Iterator[str]:
  """Rules that a compiled row breaks."""
  for case, cost in (('a row', record), ('a row without a step', record['without_step'] or {})):
    # Loops and conditions may begin with a copy of a device's images, which is little.
    images = [bytes * IMAGES // share for bytes in (1, 2, 4) for share in (1, row.devices)]
    sizes = [size for _, size in cost.get('copies', ()) if size not in images]
    if sizes:
      yield f'{case} copies {len(sizes)} arrays over {LARGE_COPY >> 10} KB, {sum(sizes):,} bytes'
  unknown = [source for source, trips in record['loops'] if trips is None]
  if unknown:
    yield f'loops of unknown length in a row: {unknown}'
  if record['alias'] < record['state']:
    yield f'{record["state"] - record["alias"]:,} bytes of the state are not donated'
  if record['hand_count']:
    times = record['bytes'] / record['hand_count']
    if times > HAND_COUNT[row.target]:
      yield f'{times:.2f} times the bytes counted by hand; {HAND_COUNT[row.target]} are allowed'
  yield from _convolutions(row, record)
  yield from _exchanges(row, record)


def _exchanges(row, record):
  """In large only the gradient, and a batch of images where they change places; none as long as N.

  They do where a queue gives them back, or where one is mixed with another: as float32, with their
  targets, and by some compilers with each device's own.
  """
  large = sorted(size for _, size in record['exchange'] if size > LARGE_COPY)
  images = [
    size for size in large for whole in (1, 1 + 1 / row.devices)
    if 4 * whole <= size / IMAGES <= 4.04 * whole
  ]  # fmt: skip
  if len(images) > 1:
    yield f'{len(images)} batches of images are exchanged'
  others = sum(large) - sum(images)
  if others > record['gradient']:
    yield f'{others:,} bytes are exchanged in large; a gradient has {record["gradient"]:,}'


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
    yield f'{wrong}, where all should be {allowed!r}'
