"""Does to a command what a shell, a terminal or a disk may do to it, and becomes it.

python tests/exposed.py OUT ERR NOHUP SAID command ...

OUT and ERR: `file` (SAID), `full` (a full disk), `closed`, or `left` (by its reader).
"""

import os
import signal
import sys


def open_stream(how: str, said: str) -> int:
  """Opens what a stream is to be."""
  if how == 'left':
    reading, writing = os.pipe()
    os.close(reading)
    return writing
  if how == 'full':
    return os.open('/dev/full', os.O_WRONLY)
  return os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def main(out: str, err: str, nohup: str, said: str, *command: str):
  for name in ('SIGHUP', 'SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'):
    ignored = name == 'SIGHUP' and nohup == 'True'
    signal.signal(signal.Signals[name], signal.SIG_IGN if ignored else signal.SIG_DFL)
  opened = [how != 'closed' and open_stream(how, said) for how in (out, err)]
  for handle, stream in zip((1, 2), opened, strict=True):
    os.close(handle) if stream is False else os.dup2(stream, handle)
  os.execv(command[0], command)  # which closes what was opened, for it is not inheritable


if __name__ == '__main__':
  main(*sys.argv[1:])
