"""Runs every benchmark, one after the other, each in a process of its own.

  python benchmarks/run_all.py            # on an idle machine; about half an hour on 2 cores

PyTorch is needed for the side-by-side (`pip install .[bench]`); without it that part is left out.
"""

import importlib.util
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
SCRIPTS = ('compile_cost', 'plan_cost', 'step', 'selection', 'augment', 'report')


def main() -> int:
  names = [*SCRIPTS, *(['side_by_side'] if importlib.util.find_spec('torch') else [])]
  failed = []
  for name in names:
    print(f'\n## {name}\n', flush=True)
    if subprocess.run([sys.executable, HERE / f'{name}.py']).returncode:
      failed.append(name)
  if 'side_by_side' not in names:
    print('\nside_by_side was left out: PyTorch is not installed')
  print(f'\nfailed or missed a target: {", ".join(failed) or "none"}')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
