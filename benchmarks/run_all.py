"""Runs every benchmark, each in a process of its own, and renders the table of all of them.

  python benchmarks/run_all.py                  # on an idle machine; about 16 minutes on 2 cores
  python benchmarks/run_all.py plan_cost memory # some of them
  python benchmarks/run_all.py --resume         # those not yet stored for the present code
  python benchmarks/run_all.py --table          # none: renders what is stored

Each part prints its table and stores docs/results/PART.json; docs/results/bench.md is the
table of all that is stored. The side-by-side needs PyTorch (`pip install -e .[bench]`, or
TORCH_PYTHON=/elsewhere/bin/python) and is left out without it.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import record

HERE = pathlib.Path(__file__).parent
PARTS = (
  'side_by_side', 'row_profile', 'selection', 'plan_cost', 'compile_cost', 'memory', 'workers',
  'augment', 'step', 'startup', 'report', 'many_cells', 'subset_search', 'placement',
)  # fmt: skip
TABLE = record.RESULTS / 'bench.md'


def stored(part: str) -> dict | None:
  """What docs/results holds of a part."""
  path = record.RESULTS / f'{part}.json'
  return json.loads(path.read_text()) if path.exists() else None


def render() -> str:
  """The table of all parts, as Markdown."""
  lines = [
    '# Benchmarks',
    '',
    'Medians over repeats. Written by `make bench`; no GPU was measured.',
  ]
  for part in PARTS:
    found = stored(part)
    if not found:
      continue
    versions = found['versions']
    names = 'python', 'jax', 'jaxlib', 'flax', 'numpy'
    packages = [f'{name} {versions[name]}' for name in names]
    packages += [found['details']['against']] if part == 'side_by_side' else []
    lines += ['', f'## {part}', '', f'`{found["command"]}` at commit {versions["commit"]},']
    lines += [f'{found["machine"]}; {", ".join(packages)}.', '', record.HEAD]
    lines += [record.Figure(**figure).line() for figure in found['figures']]
  return '\n'.join(lines) + '\n'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('parts', nargs='*', default=PARTS, metavar='PART', help=', '.join(PARTS))
  parser.add_argument('--resume', action='store_true')
  parser.add_argument('--table', action='store_true')
  flags = parser.parse_args()
  unknown = sorted({*flags.parts} - {*PARTS})
  if unknown:
    parser.error(f'no such part: {", ".join(unknown)}; there are {", ".join(PARTS)}')
  parts = [] if flags.table else list(flags.parts)
  if flags.resume:
    code = record.code_hash()
    parts = [p for p in parts if (stored(p) or {}).get('versions', {}).get('code') != code]
  missed = []
  for part in parts:
    print(f'\n## {part}\n', flush=True)
    if part == 'side_by_side' and not has_torch():
      print('left out: PyTorch is not installed')
    elif subprocess.run([sys.executable, HERE / f'{part}.py']).returncode:
      missed.append(part)
  TABLE.write_text(render())
  print(f'\nfailed or missed a target: {", ".join(missed) or "none"}\n{TABLE}')
  return int(bool(missed))


def has_torch() -> bool:
  return bool(importlib.util.find_spec('torch') or os.environ.get('TORCH_PYTHON'))


if __name__ == '__main__':
  sys.exit(main())
