"""`python -m jaxbudget`, and the command `jaxbudget`: the launcher."""

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
  """The program. Until the launcher answers signals there is nothing to save on Ctrl-C."""

  def stop(number, frame):
    # No exception, which imports of extension modules turn into others.
    del number, frame
    os.write(2, b'stopped\n')
    os._exit(130)

  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
    signal.signal(signal.SIGINT, stop)
  from jaxbudget.lab.command import run

  run()


if __name__ == '__main__':
  main()
