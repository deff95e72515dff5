"""Several runs on one card at a time, each in a process of its own, against one after the other."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from on_device.rows import Setting

HERE = pathlib.Path(__file__).parents[1]


class Runner:
  """A process that trains epochs of a setting when told to."""

  def __init__(self, setting: Setting):
    environment = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    self.process = subprocess.Popen(
      [sys.executable, '-m', 'on_device.several', json.dumps(setting)],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, env=environment,
    )  # fmt: skip

  def tell(self, epochs: int) -> None:
    """Has it train, without waiting."""
    self.process.stdin.write(f'{epochs}\n')
    self.process.stdin.flush()

  def answer(self) -> dict:
    """Waits for the next answer."""
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f'a run ended with {self.process.wait()}')
    return json.loads(line)


def measure(setting: Setting, counts: tuple[int, ...], epochs: int, repeats: int) -> dict[str, Any]:
  """Rows a second of K runs together, for each K.

  Args:
    setting: what each trains.
    counts: the Ks, 1 among them.
    epochs: that each trains in a repeat.
    repeats: of each K.

  Returns:
    By K, rows a second of all together; the best over one alone; memory of one run.
  """
  runners = [Runner(setting) for _ in range(max(counts))]
  try:
    ready = [runner.answer() for runner in runners]
    speed: dict[int, list[float]] = {k: [] for k in counts}
    for _ in range(repeats):
      for k in counts:
        for runner in runners[:k]:
          runner.tell(epochs)
        found = [runner.answer() for runner in runners[:k]]
        span = max(f['end'] for f in found) - min(f['start'] for f in found)
        speed[k].append(sum(f['rows'] for f in found) / span)
  finally:
    for runner in runners:
      runner.process.kill()
      runner.process.wait()
  alone = statistics.median(speed[1])
  best = max(counts, key=lambda k: statistics.median(speed[k]))
  return {
    **{f'rows/s, {k} at a time': speed[k] for k in counts},
    'best at a time': best,
    'best over one after the other': statistics.median(speed[best]) / alone,
    'peak MB of a run': ready[0]['peak'] / 1e6,
    'temporaries by analysis, MB': ready[0]['temporaries'] / 1e6,
    'start-up and compilation of all, s': max(r['seconds'] for r in ready),
  }


def main(text: str) -> None:
  """Trains epochs as standard input says."""
  import time

  began = time.time()
  import jax

  from on_device.rows import Rows, lower

  rows = Rows(Setting.of(json.loads(text)))
  stats = jax.devices()[0].memory_stats() or {}
  peak = stats.get('peak_bytes_in_use', 0)
  seconds = time.time() - began
  memory = lower(rows.setting).compile().memory_analysis()
  temporaries = memory.temp_size_in_bytes if memory else 0
  print(json.dumps({'peak': peak, 'temporaries': temporaries, 'seconds': seconds}), flush=True)
  for line in sys.stdin:
    start, done = time.time(), 0
    for _ in range(int(line)):
      done += int(rows.epoch().row)
    print(json.dumps({'start': start, 'end': time.time(), 'rows': done}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1])
