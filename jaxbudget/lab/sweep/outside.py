"""Parts from outside, in other processes: found there as here, or nothing is started.

A worker imports a part anew, by its name; nothing of it is carried over. Whether it can, and
whether it finds the same source, is seen by trying it in a fresh process, as a worker is one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

from jaxbudget import factories
from jaxbudget.lab.run import process
from jaxbudget.lab.run.identity import part_source
from jaxbudget.lab.run.run import Run

_TIMEOUT = 300  # seconds; a module may import much


def check(runs: Iterable[Run]) -> None:
  """Refuses parts that a worker could not import.

  Args:
    runs: that others are to train.

  Raises:
    ValueError: every part that a fresh process does not find, or finds otherwise, one a line.
  """
  parts = {(part.kind, part.name): part for run in runs for part in run.parts.outside}
  faults = []
  for kind, name in list(parts):
    if parts[kind, name].factory.__module__ == '__main__':
      del parts[kind, name]
      faults.append(
        f'{kind} {name!r} is of this program alone: workers cannot import it; put it into a module'
      )
  if parts:
    found = _in_a_fresh_process(list(parts))
    for (kind, name), part in parts.items():
      said = found.get(f'{kind}={name}', 'nothing is said of it')
      if said != part_source(part):
        hint = f' (the launch folder, {os.getcwd()}, is searched last)'
        faults.append(f'{kind} {name!r} is not found by workers as it is here: {said}{hint}')
  if faults:
    raise ValueError('\n'.join(faults))


def _in_a_fresh_process(parts: list[tuple[str, str]]) -> dict[str, str]:
  """By `kind=name` the source hash that a worker sees, or why it sees none."""
  named = [f'{kind}={name}' for kind, name in parts]
  command = [sys.executable, '-m', 'jaxbudget.lab.sweep.outside', os.getcwd(), *named]
  environment = {**os.environ, **process.same_package()}
  try:
    done = subprocess.run(
      command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT
    )
    return json.loads(done.stdout.splitlines()[-1])
  except subprocess.TimeoutExpired:
    return dict.fromkeys(named, f'importing takes more than {_TIMEOUT} seconds')
  except (IndexError, ValueError):
    said = (done.stderr.strip().splitlines() or ['it ended without a word'])[-1]
    return dict.fromkeys(named, said)


def _look(named: list[str]) -> dict[str, str]:
  """What this process sees of parts."""
  found = {}
  for one in named:
    kind, _, name = one.partition('=')
    try:
      found[one] = part_source(factories.find(kind, name))
    except ValueError as e:
      found[one] = str(e)
  return found


if __name__ == '__main__':  # python -m jaxbudget.lab.sweep.outside FOLDER KIND=NAME ...
  factories.search_last(sys.argv[1])
  print(json.dumps(_look(sys.argv[2:])))
