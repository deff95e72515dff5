"""Figures of a report as values, and the files they become: only what changed is drawn.

What a figure shows is plain data (`picture.py`). Their digest is kept beside the files; as long
as it holds, nothing is drawn. What has to be drawn goes to worker processes, which load
matplotlib and nothing else.
"""

import base64
import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxbudget.lab.run import files
from jaxbudget.paths import file_name

DIGESTS = 'digests.json'
KINDS = ('svg', 'pdf', 'png')
_PICTURE = pathlib.Path(__file__).with_name('picture.py')  # imports matplotlib, which is slow
_ALONE = 4  # so few figures are drawn before a worker has loaded matplotlib


class Drawing(NamedTuple):
  """A figure and what to say of it.

  Attributes:
    name: stem of its files.
    title: heading on the page.
    caption: what is shown, with units.
    picture: gives what is drawn, see `picture.py`; called only if it is needed.
  """

  name: str
  title: str
  caption: str
  picture: Callable[[], dict[str, Any]]


def save(drawings: Sequence[Drawing], directory: pathlib.Path) -> None:
  """Writes the files of figures, of those that are not there as they would be drawn now.

  Args:
    drawings: to write, each as SVG, PDF and PNG.
    directory: of the files; the digests of what they show stand in it too.

  Raises:
    OSError: a file cannot be written.
  """
  digests = known(directory)
  changed = _changed(drawings, directory, digests)
  with contextlib.closing(_drawn(changed, len(drawings))) as drawn:  # ends the workers in any case
    for name, digest, content in drawn:
      for kind, data in content.items():
        files.write_bytes(directory / f'{name}.{kind}', data)
      digests[name] = digest
      files.write_json(directory / DIGESTS, digests)


def known(directory: pathlib.Path) -> dict[str, str]:
  """The figures in a directory: name -> digest of what it shows; no name leads out of it."""
  found = files.read_json(directory / DIGESTS)
  named = found.items() if isinstance(found, dict) else ()
  return {name: digest for name, digest in named if file_name(name) == name}


def forget(names: Iterable[str], directory: pathlib.Path) -> None:
  """Removes the files of figures that the report does not have any more.

  Args:
    names: of figures.
    directory: of their files.
  """
  digests, names = known(directory), set(names)
  for name in names & set(digests):
    for kind in KINDS:
      (directory / f'{name}.{kind}').unlink(missing_ok=True)
  if names & set(digests):
    kept = {name: digest for name, digest in digests.items() if name not in names}
    files.write_json(directory / DIGESTS, kept)


def _changed(drawings, directory, digests) -> Iterator[tuple[str, str, str]]:
  """(name, digest, picture as JSON) of what has to be drawn, computed one after the other."""
  for drawing in drawings:
    text = json.dumps(drawing.picture(), default=_rounded, sort_keys=True)
    digest = hashlib.sha256(text.encode() + _code()).hexdigest()
    there = all((directory / f'{drawing.name}.{kind}').is_file() for kind in KINDS)
    if not there or digests.get(drawing.name) != digest:
      yield drawing.name, digest, text


def _rounded(value):
  """Arrays for JSON, with the six digits that can be seen."""
  array = np.asarray(value)
  if array.dtype.kind != 'f':
    return array.tolist()
  return [float(f'{x:.6g}') for x in array.ravel()] if array.ndim < 2 else list(array)


@functools.cache
def _code() -> bytes:
  """What else decides how a figure looks: the drawing code and matplotlib."""
  return _PICTURE.read_bytes() + importlib.metadata.version('matplotlib').encode()


def _drawn(changed: Iterator, most: int) -> Iterator[tuple[str, str, dict[str, bytes]]]:
  """(name, digest, files) of what was drawn, here or in worker processes."""
  first = list(itertools.islice(changed, _ALONE))
  cpus = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  workers = min(cpus, -(-most // _ALONE)) if len(first) == _ALONE else 0
  if not workers:
    from jaxbudget.lab.report import picture

    for name, digest, text in first:
      yield name, digest, picture.render(json.loads(text))
    return
  yield from _in_workers(itertools.chain(first, changed), workers)


def _in_workers(jobs: Iterator, count: int) -> Iterator[tuple[str, str, dict[str, bytes]]]:
  """Feeds worker processes, one job each at a time, so that little is held in memory."""
  done: queue.Queue = queue.Queue(maxsize=count)
  lock, over = threading.Lock(), threading.Event()
  threads = [
    threading.Thread(target=_attend, args=(jobs, lock, done, over), daemon=True)
    for _ in range(count)
  ]
  for thread in threads:
    thread.start()
  try:
    running = count
    while running:
      found = done.get()
      if isinstance(found, BaseException):
        raise found
      if found is None:
        running -= 1
      else:
        yield found
  finally:
    over.set()
    while any(thread.is_alive() for thread in threads):
      with contextlib.suppress(queue.Empty):
        done.get(timeout=0.05)


def _attend(jobs: Iterator, lock: threading.Lock, done: queue.Queue, over) -> None:
  """Hands jobs to one worker process and its answers back; what goes wrong goes back too."""
  command = [sys.executable, '-P', str(_PICTURE)]
  environment = {**os.environ, 'PYTHONIOENCODING': 'utf-8'}
  try:
    with subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8',
      env=environment, start_new_session=True,
    ) as process:  # fmt: skip
      while not over.is_set():
        with lock:
          job = next(jobs, None)
        if job is None:
          break
        process.stdin.write(job[2] + '\n')
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
          raise BrokenPipeError
        answer = json.loads(line)
        if 'error' in answer:
          raise RuntimeError(f'figure {job[0]} cannot be drawn: {answer["error"]}')
        content = {kind: base64.b64decode(data) for kind, data in answer.items()}
        done.put((job[0], job[1], content))
      process.stdin.close()
    done.put(None)
  except BrokenPipeError:  # for want of memory, perhaps
    done.put(ChildProcessError('a process that draws figures was ended'))
  except BaseException as e:  # told in the thread that waits
    done.put(e)
