"""plan.json: what a workdir is to hold."""

import pathlib
import re
from typing import Any

from jaxbudget.lab.run import files, lock
from jaxbudget.lab.run.run import Run

FILE = 'plan.json'
_RUN_ID = re.compile(r'[A-Za-z0-9_][A-Za-z0-9._-]*')  # a name, never a way out of the workdir
_OLD_ID = re.compile(r'-[0-9a-f]{8}-s[0-9]+$')


def write(runs: list[Run], workdir: pathlib.Path, command: str) -> None:
  """Writes plan.json; runs of an earlier plan stay in it if they have files.

  Args:
    runs: the plan.
    workdir: created if need be.
    command: the command line.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  new = {run.run_id: run.record() for run in runs}
  with lock.wait_for(workdir):
    for entry in entries(workdir):
      run_id = entry['run_id']
      if run_id in new:
        places = new[run_id]['paper']
        places += [place for place in entry.get('paper') or () if place not in places]
      elif (workdir / 'runs' / run_id / files.CONFIG).exists():
        new[run_id] = entry
    content = {'command': command, 'runs': list(new.values())}
    files.write_json(workdir / FILE, files.sealed(content))


def of_before(workdir: pathlib.Path) -> int:
  """How many runs a workdir holds under ids of before, which have 8 hex digits, not 16."""
  ids = (entry['run_id'] for entry in entries(workdir))
  return sum(
    bool(_OLD_ID.search(run_id)) and (workdir / 'runs' / run_id / files.CONFIG).exists()
    for run_id in ids
  )


def entries(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Entries of plan.json; none if it is damaged, for its runs are planned again or forgotten."""
  content = files.read_json(workdir / FILE)
  if not isinstance(content, dict) or not files.seal_holds(content):
    return []
  found = content.get('runs')
  return [
    entry
    for entry in (found if isinstance(found, list) else ())
    if isinstance(entry, dict) and _RUN_ID.fullmatch(str(entry.get('run_id', '')))
  ]
