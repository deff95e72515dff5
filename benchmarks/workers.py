"""What several processes cost: 200 tiny runs by 2 workers, beside one process.

  python benchmarks/workers.py
  python benchmarks/workers.py --runs=6 --smoke   # nothing is stored

Each run trains a small network on the digits for one epoch, about a third of a second. Both
launches find their programs compiled in the cache. Wall-clock seconds from the command to its
end; the overhead of the workers is what they take longer than one process, for each run, so
it is negative where the second process helps. `nothing left` launches again on what is done.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import record
from record import Figure

ROOT = pathlib.Path(__file__).parents[1]
TARGET = 1.5  # seconds a run


def launch(workdir: pathlib.Path, runs: int, *flags: str) -> float:
  """Seconds that a launch takes."""
  config = (
    f'--config={ROOT}/configs/single.py:dataset=digits,model=resnet8,width=4,epochs=1,'
    f'batch_size=32,budget=0.5,seeds={runs}'
  )
  command = [sys.executable, ROOT / 'launch.py', config, f'--workdir={workdir}', '--stage=train']
  start = time.perf_counter()
  subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
  return time.perf_counter() - start


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--runs', type=int, default=200)
  parser.add_argument('--smoke', action='store_true')
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as directory:
    place = pathlib.Path(directory)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(place / 'cache')
    launch(place / 'first', 1)
    alone = launch(place / 'alone', flags.runs)
    several = launch(place / 'several', flags.runs, '--workers=2')
    again = launch(place / 'several', flags.runs, '--workers=2')
  n = flags.runs
  table = [
    Figure(f'{n} runs, one process', [alone], 's'),
    Figure(f'{n} runs, 2 workers', [several], 's'),
    Figure('overhead of the workers, a run', [(several - alone) / n], 's', at_most=TARGET),
    Figure(f'{n} runs, 2 workers, nothing left', [again], 's'),
  ]
  return record.show(table) or 0 if flags.smoke else record.store('workers', table)


if __name__ == '__main__':
  sys.exit(main())
