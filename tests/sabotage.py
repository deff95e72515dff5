"""Runs launch.py and strikes at the n-th time it touches the disk.

  python tests/sabotage.py kill 17 --config=... --workdir=...

`kill`: SIGKILL, before the disk is touched or after, or in the middle of what is written.
"""

import contextlib
import os
import pathlib
import runpy
import signal
import sys

ROOT = pathlib.Path(__file__).parents[1]


def main():
  fault, count, *arguments = sys.argv[1:]
  assert fault == 'kill'
  left = int(count)

  def strike(what: str, midway=lambda: None):
    nonlocal left
    left -= 1
    if left == 0:
      with contextlib.suppress(OSError):  # a directory is synced too, but cannot be cut
        midway()
      print(f'struck at {what}', file=sys.stderr, flush=True)
      os.kill(os.getpid(), signal.SIGKILL)

  fsync, replace, unlink = os.fsync, os.replace, pathlib.Path.unlink

  def struck_fsync(handle):
    name = os.readlink(f'/proc/self/fd/{handle}')
    strike(f'fsync {name}', lambda: os.ftruncate(handle, os.fstat(handle).st_size // 2))
    fsync(handle)

  def struck_replace(source, target, **more):
    strike(f'before rename {target}')
    replace(source, target, **more)
    strike(f'after rename {target}')

  def struck_unlink(path, **more):
    strike(f'before unlink {path}')
    unlink(path, **more)

  os.fsync, os.replace, pathlib.Path.unlink = struck_fsync, struck_replace, struck_unlink
  from jaxbudget.lab.run import files

  append = files.append_text

  def struck_append(path, text):
    strike(f'append {path}', lambda: append(path, text[: len(text) // 2]))
    append(path, text)

  files.append_text = struck_append
  sys.argv = [str(ROOT / 'launch.py'), *arguments]
  runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
  main()
