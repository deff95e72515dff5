"""plan.json: what a workdir is to hold."""

import json
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxbudget import registry
from jaxbudget.lab.config import literal, parse_pairs
from jaxbudget.lab.run import files, identity, lock
from jaxbudget.lab.run.run import Run, with_needed

FILE = 'plan.json'
SUPERSEDED = 'superseded'  # the mark of an entry that only earlier code would train
_NAMED = 6  # in one sentence
_RUN_ID = re.compile(r'[A-Za-z0-9_][A-Za-z0-9._-]*')  # a name, never a way out of the workdir
_OLD_ID = re.compile(r'-[0-9a-f]{8}-s[0-9]+$')


def write(
  runs: list[Run],
  workdir: pathlib.Path,
  command: str,
  whole: Iterable[Run] = (),
  latest: bool = True,
) -> None:
  """Writes plan.json; runs of an earlier plan stay in it if they have files.

  Those that differ from a cell of this plan only in what no config says, the source of parts from
  outside and the engine's number, are marked: reports and counts leave them out. What they are by
  the source of now stands in their place, asked for or not, as they once were.

  Args:
    runs: what was asked for.
    workdir: created if need be.
    command: the command line.
    whole: the plan, of which less may be asked for (`--only`); what was asked for before stays.
    latest: whether this launch begins now, so that no source is newer than its own. As it ends,
      another may have begun since: then marks stay as they are.
  """
  known = {run.run_id: run for run in (*whole, *runs)}
  workdir.mkdir(parents=True, exist_ok=True)
  new = {run.run_id: run.record() for run in runs}
  with lock.wait_for(workdir):
    for entry in entries(workdir):
      run_id = entry['run_id']
      if run_id in new:
        places = new[run_id]['paper']
        places += [place for place in entry.get('paper', ()) if place not in places]
        if entry.get(SUPERSEDED) and not latest:
          new[run_id][SUPERSEDED] = True
      elif run_id in known or (workdir / 'runs' / run_id / files.CONFIG).exists():
        new[run_id] = entry
    if latest:
      _supersede(new, known, workdir)
    content = {'command': command, 'runs': list(new.values())}
    files.write_bytes(workdir / FILE, _as_json(files.sealed(content)))


def _supersede(
  plan: dict[str, dict[str, Any]], known: dict[str, Run], workdir: pathlib.Path
) -> None:
  """Marks, in place, what earlier code left of a plan's cells, and enters what replaces it."""
  for run_id in plan.keys() & known.keys():
    plan[run_id].pop(SUPERSEDED, None)  # the source is again what it was
  before = [entry for run_id, entry in plan.items() if run_id not in known]
  if not before:
    return
  seeds: dict[str, dict[int, Run]] = {}
  for run in known.values():
    seeds.setdefault(run.cell_id, {})[run.seed] = run
  cells = {identity.without_code(next(iter(s.values())).identity): s for s in seeds.values()}
  for entry in before:
    config = files.read_json(workdir / 'runs' / entry['run_id'] / files.CONFIG)
    found = config.get('identity') if isinstance(config, dict) else None
    anew = cells.get(identity.without_code(found)) if isinstance(found, dict) else None
    if anew:
      entry[SUPERSEDED] = True
      run = anew.get(entry.get('seed'))
      for one in with_needed([run] if run else []):
        plan.setdefault(one.run_id, one.record())
  _supersede_needed(plan, before)


def _supersede_needed(plan: dict[str, dict[str, Any]], before: list[dict[str, Any]]) -> None:
  """Marks what only marked runs need: nobody would know that it is no method."""
  users: dict[str, list[dict[str, Any]]] = {}
  for entry in plan.values():
    for name in needs(entry):
      users.setdefault(name, []).append(entry)
  for entry in reversed(before):  # needed runs stand before those that need them
    own = users.get(entry['run_id'], ())
    if own and all(user.get(SUPERSEDED) for user in own):
      entry[SUPERSEDED] = True


def current(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
  """The entries of a plan that count: without those of an earlier source."""
  return [entry for entry in entries if entry.get(SUPERSEDED) is not True]


def left_out(entries: Iterable[dict[str, Any]]) -> str:
  """Says which entries `current` leaves out; nothing if there are none."""
  old = [entry for entry in entries if entry.get(SUPERSEDED) is True]
  if not old:
    return ''
  names = list(dict.fromkeys(str(entry.get('selector', entry['run_id'])) for entry in old))
  more = f' and {len(names) - _NAMED} others' if len(names) > _NAMED else ''
  runs = f'{len(old)} run{"s" * (len(old) > 1)} of an earlier source'
  are = 'are' if len(old) > 1 else 'is'
  return f'{runs} {are} left out: {", ".join(names[:_NAMED])}{more}.'


def _as_json(plan: dict[str, Any]) -> bytes:
  """A run a line, which takes a fifth of the time and shows what differs between two plans."""
  rest = json.dumps({key: value for key, value in plan.items() if key != 'runs'})
  runs = ',\n'.join(map(json.dumps, plan['runs']))
  return f'{rest[:-1]}, "runs": [\n{runs}\n]}}\n'.encode()


def of_before(workdir: pathlib.Path) -> int:
  """How many runs a workdir holds under ids of before, which have 8 hex digits, not 16."""
  if not (workdir / 'runs').is_dir():
    return 0
  ids = (entry['run_id'] for entry in entries(workdir))
  return sum(
    bool(_OLD_ID.search(run_id)) and (workdir / 'runs' / run_id / files.CONFIG).exists()
    for run_id in ids
  )


def entries(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Entries of plan.json; none if it is damaged, for its runs are planned again or forgotten.

  What is of a wrong type in an entry is left out; `cell_id` is always there.
  """
  content = files.read_json(workdir / FILE)
  if not isinstance(content, dict) or not files.seal_holds(content):
    return []
  found = content.get('runs')
  return [
    _checked(entry)
    for entry in (found if isinstance(found, list) else ())
    if isinstance(entry, dict)
    and isinstance(entry.get('run_id'), str)
    and _RUN_ID.fullmatch(entry['run_id'])
  ]


def command(workdir: pathlib.Path) -> str:
  """What planned a workdir last, a command line or a call of `api.run`; empty if nobody knows."""
  content = files.read_json(workdir / FILE)
  sound = isinstance(content, dict) and files.seal_holds(content)
  found = content.get('command') if sound else None
  return found if isinstance(found, str) else ''


_TYPES = {'epochs_run': int, 'planned': dict, 'paper': list, SUPERSEDED: bool}


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
  """An entry without what is of a wrong type; without a cell it is one of its own."""
  kept = {k: v for k, v in entry.items() if isinstance(v, _TYPES.get(k, object))}
  return kept if isinstance(kept.get('cell_id'), str) else {**kept, 'cell_id': kept['run_id']}


def needs(entry: dict[str, Any]) -> list[str]:
  """The runs that a planned run needs; older plans name one without a list."""
  given = entry.get('needs') or []
  return [str(name) for name in (given if isinstance(given, list) else [given])]


def narrow(entries: Sequence[dict[str, Any]], only: str) -> list[dict[str, Any]]:
  """Narrows a plan, as `--only` does.

  Args:
    entries: of the plan, those that others need before them.
    only: `key=value,...` of entries; alternatives are joined by `|`. Empty is all of them.

  Returns:
    The entries that have these values, and those that they need.

  Raises:
    ValueError: a key or a value that no entry has, or values that none has together.
  """
  wanted = {}
  for key, value in parse_pairs(only).items():
    registry.check('key of --only', key, entries[0] if entries else ())
    seen = sorted({str(entry.get(key)) for entry in entries}, key=registry.by_number)
    # A value of that very name is no list of alternatives.
    wanted[key] = [str(value)] if str(value) in seen else str(value).split('|')
    for choice in wanted[key]:
      if not any(_same(entry.get(key), choice) for entry in entries):
        registry.check(f'{key} of --only', choice, seen)
  kept = {
    entry['run_id']
    for entry in entries
    if all(any(_same(entry.get(key), c) for c in choices) for key, choices in wanted.items())
  }
  if not kept:
    raise ValueError(f'--only={only} leaves no run: none of the plan has all of these')
  for entry in reversed(entries):
    if entry['run_id'] in kept:
      kept |= set(needs(entry))
  return [entry for entry in entries if entry['run_id'] in kept]


def _same(value: Any, choice: str) -> bool:
  """Whether a value is the one that somebody wrote, 0.30 for 0.3 too."""
  return str(value) == choice or (isinstance(value, int | float) and value == literal(choice))
