"""Compiles row programs for accelerators that are not there, and checks what becomes of them.

  python -m benchmarks.aot few            # three rows for an H100: the check of every commit
  python -m benchmarks.aot gpu tpu        # all rows and pieces; writes docs/accelerators.md
  python -m benchmarks.aot gpu --only ricap
  python -m benchmarks.aot page           # writes the page from what is stored

Nothing runs on an accelerator. Compilers are those of benchmarks/aot/*.txt, see `make aot`.
"""

import argparse
import os
import sys

os.environ['JAX_PLATFORMS'] = 'cpu'  # the plugins would look for a driver
os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')  # or for a cloud

from benchmarks.aot import checks, page, pieces, programs
from benchmarks.aot.programs import Row

METHODS = (
  ('unif_sgd', 'standard', ()),
  ('p_sgd', 'standard', ()),
  ('selective_backprop', 'standard', ()),
  ('ordered_sgd', 'standard', (('backward', 'dense'),)),
  ('ordered_sgd', 'standard', (('backward', 'compact'),)),
  ('p_sgd', 'mixup', ()),
  ('p_sgd', 'ricap', ()),
  ('p_sgd', 'randaugment', ()),
)
CARDS = (
  ('h100', 'bfloat16', 1), ('h100', 'bfloat16', 4), ('a100', 'bfloat16', 1),
  ('h100', 'float32', 1), ('h100', 'float32', 4),
)  # fmt: skip
GPU = [
  Row(target, selector, dtype, augment, devices, options)
  for target, dtype, devices in CARDS
  for selector, augment, options in METHODS
]
FEW = [
  Row('h100', 'p_sgd'),
  Row('h100', 'selective_backprop'),
  Row('h100', 'selective_backprop', devices=4),
]
TPU = [Row('v5e', 'p_sgd'), Row('v5e', 'selective_backprop')]  # minutes each


def check_row(row: Row) -> tuple[dict, list[str]]:
  """Compiles a row. Returns (its figures, what is wrong)."""
  record = programs.compile_row(row)
  return record, list(checks.faults(row, record))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('parts', nargs='+', choices=['few', 'gpu', 'tpu', 'pieces', 'page'])
  parser.add_argument('--only', default='', help='programs with this in their name')
  parser.add_argument('--set-ceilings', action='store_true', help='to 10 %% above what is reached')
  flags = parser.parse_args()
  work = [(row.name, check_row, row) for row in rows_of(flags.parts)]
  if {'tpu', 'pieces'} & set(flags.parts):
    work[:0] = [(name, pieces.check, name) for name in pieces.NAMES]
  records, red = {}, 0
  for name, check, what in work:
    if flags.only not in name:
      continue
    records[name], wrong = check(what)
    if flags.set_ceilings:
      checks.store({name: records[name]})
    wrong += checks.over(name, records[name])
    red += bool(wrong)
    print(f'{"RED  " if wrong else "green"} {name}: {page.line(records[name])}', flush=True)
    for each in wrong:
      print(f'  {each}', flush=True)
    if flags.parts != ['few']:
      page.store({name: records[name]})
  if flags.parts != ['few']:
    page.write()
  return int(red > 0)


def rows_of(parts: list[str]) -> list[Row]:
  """The rows of these parts."""
  lists = {'few': FEW, 'gpu': GPU, 'tpu': TPU}
  return [row for part in parts for row in lists.get(part, ())]


if __name__ == '__main__':
  sys.exit(main())
