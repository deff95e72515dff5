"""Part `right`, in processes of its own: most of it is compiling tiny programs."""

import concurrent.futures
import json
import os
import subprocess
import sys

from on_device import ROOT, right
from on_device.book import Book

COMMAND = sys.executable, '-m', 'on_device.right'


def check(book: Book, until: float, only: list[str] | None = None) -> None:
  """Checks the cases that are not in the book, those first that never were in one.

  Each is written down as it ends.

  Args:
    book: what is known.
    until: no case begins after it, by `time.time`.
    only: names of cases; None is all.
  """
  names = [name for name in only or right.cases() if not book.has('right', name)]
  names.sort(key=lambda name: name in book.of('right'))
  count = min(len(names), max(1, (os.cpu_count() or 1) // 2), 8)
  if not names:
    return
  with concurrent.futures.ThreadPoolExecutor(count) as pool:
    list(pool.map(lambda i: _listen(book, until, names[i::count]), range(count)))
  left = [name for name in names if ('right', name) not in book.entered]
  if left:
    book.say(f'right: {len(left)} cases left out, from {left[0]} on, for time is up')


def _listen(book: Book, until: float, names: list[str]) -> None:
  """Starts a process for these cases and writes down what it says."""
  command = [*COMMAND, str(until), *names]
  here = ROOT / 'benchmarks'
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
    for line in process.stdout:
      if line.startswith('{'):
        found = json.loads(line)
        book.enter('right', found.pop('case'), found)
  if process.returncode:
    for name in names:
      if ('right', name) not in book.entered:
        failed = f'its process ended with {process.returncode}'
        book.enter('right', name, {'right': False, 'failed': failed})
