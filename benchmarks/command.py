"""The command that made a stored figure; needs nothing but Python."""

import os
import shlex
import sys


def command() -> str:
  """What this process was started with, without where things lie on the machine."""
  return shlex.join(['python', os.path.relpath(sys.argv[0]), *map(_told, sys.argv[1:])])


def _told(argument: str) -> str:
  option, equals, value = argument.rpartition('=')
  if not os.path.isabs(value):
    return argument
  return option + equals + ('DIR' if os.path.isdir(value) else 'FILE')
