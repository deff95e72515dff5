"""Trains the runs of a plan one after the other, in this process.

Several processes may do so in one workdir at once: each run has one owner (`lock.py`), the
others take other runs, and in the end wait for those that are still in progress elsewhere.
Processes that train each run *together* (`hosts.py`) count as one here.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from rich.console import Console

from jaxbudget import data
from jaxbudget.lab import plain
from jaxbudget.lab.config import OPTION_KEYS
from jaxbudget.lab.run import (
  classes,
  conditions,
  files,
  hosts,
  identity,
  lock,
  process,
  record,
  run_state,
)
from jaxbudget.lab.run.checkpoint import Refused
from jaxbudget.lab.run.ongoing import Stopped
from jaxbudget.lab.run.record import Diverged
from jaxbudget.lab.run.run import Run, data_key, with_needed
from jaxbudget.lab.run.run_state import DONE, FAILED
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import needs, notebook, progress
from jaxbudget.parts import WHOLE, part_index
from jaxbudget.placement import part as part_of
from jaxbudget.placement import seeded
from jaxbudget.types import Data

REFUSED, BUSY = 'refused', 'busy'
_FOUND = 'found done'  # with nothing to do
_PROGRAMS = 200  # kept compiled, in hundreds of memory mappings
_WAITS = 0.05, 1.0  # seconds between looks at runs that others train, the first and the longest


class Session(NamedTuple):
  """What all runs of a launch share."""

  datasets: Mapping[Any, data.Dataset]
  directory: pathlib.Path
  bars: 'progress.Launch | notebook.Bars'
  resume: str
  received: list[int]  # signals
  placed: dict[Any, tuple[Data, Data, float]]  # the data set, by its key and where it is to lie
  programs: dict[Any, int]  # what has been compiled for, see `_make_room`


def run_all(
  runs: list[Run],
  datasets: Mapping[Any, data.Dataset],
  directory: pathlib.Path,
  console: Console,
  resume: str = 'auto',
  brief: bool = False,
  everywhere: Callable[[], float] | None = None,
) -> int:
  """Trains what is not finished.

  Args:
    runs: of the plan; what they need and is not among them is trained too.
    datasets: by `plan.data_key`.
    directory: that holds the run directories.
    console: for progress; quiet when it is not a terminal.
    resume: `auto` or `force`, see `train.train`.
    brief: somebody else shows how far it is.
    everywhere: seconds that all will take, if other processes train some of them too.

  Returns:
    0 all done; 1 a run failed or was refused; 2 all that were left were refused; 128 + signal
    number when stopped by one.
  """
  runs = with_needed(runs)
  differing = hosts.count() > 1 and hosts.differing(_conditions(runs, datasets))
  if differing:
    plain.say(console, f'refused: the processes of this launch differ: {differing}')
    return 2
  ended: dict[str, str] = {}
  found: set[str] = set()
  with process.collecting() as received, progress.show(console, runs, brief, everywhere) as bars:
    session = Session(datasets, directory, bars, resume, received, {}, {})
    waiting, told, wait = runs, False, _WAITS[0]
    while waiting:
      held_up = []
      for run in waiting:
        how = _attempt(session, run, ended)
        number = hosts.any_of(received[0] if received else 0)
        if number:
          return 128 + number
        if how == BUSY:
          held_up.append(run)
        else:
          found |= {run.run_id} if how == _FOUND else set()
          ended[run.run_id] = DONE if how == _FOUND else how
          bars.settled(run.run_id)
      if len(held_up) == len(waiting):
        told = told or _tell_waiting(session, held_up)
        time.sleep(wait)
        wait = min(2 * wait, _WAITS[1])
      else:
        wait = _WAITS[0]
      waiting = held_up
  if {how for run_id, how in ended.items() if run_id not in found} == {REFUSED}:
    return 2
  return 0 if set(ended.values()) <= {DONE} else 1


def _conditions(runs: list[Run], datasets: Mapping[Any, data.Dataset]) -> dict[str, Any]:
  """What processes that train runs together must have in common."""
  planned = json.dumps([(run.run_id, run.cell.to_dict()) for run in runs], default=str)
  here = conditions.present()
  return {
    **{name: here[name] for name in conditions.RESUME if name in here},
    'source': sorted({identity.source_of(run.cell, run.parts.outside) for run in runs}),
    'plan': hashlib.sha256(planned.encode()).hexdigest()[:16],
    'data': [dataset.fingerprint for dataset in datasets.values()],
  }


def _tell_waiting(session: Session, runs: list[Run]) -> bool:
  owner = lock.owner(session.directory / runs[0].run_id) or {}
  where = f'process {owner["pid"]} on {owner["host"]}' if owner else 'another process'
  count = 'a run' if len(runs) == 1 else f'{len(runs)} runs'
  session.bars.say(f'waiting for {count} in progress elsewhere: {runs[0].run_id} ({where})')
  return True


def _attempt(session: Session, run: Run, ended: Mapping[str, str]) -> str:
  """Trains a run unless it is finished or somebody else does; whatever happens is told."""
  return hosts.agree(_attempt_here(session, run, ended))


def _attempt_here(session: Session, run: Run, ended: Mapping[str, str]) -> str:
  directory, say = session.directory / run.run_id, session.bars.say
  try:
    with hosts.together():
      how = _standing(directory, run, say)
      if how:
        return _FOUND if how == DONE else how
      for needed in run.needs:
        if needed.run_id not in ended:
          return BUSY
        if ended[needed.run_id] != DONE:
          say(f'failed: {run.run_id}: it needs run {needed.run_id}, which is not done')
          return FAILED
      with _own(directory) as check:
        how = _standing(directory, run, lambda line: None)  # somebody may just have been done
        if how is None:
          _train_owned(session, run, directory, check)
        return how or DONE
  except lock.Busy:
    return BUSY
  except lock.Lost as e:
    say(f'left to its new owner: {run.run_id}: {e}')
    return BUSY
  except Stopped as e:
    say(str(e))
    return BUSY
  except Diverged as e:
    say(f'failed: {run.run_id}: {e}')
  except Refused as e:
    say(f'refused: {run.run_id}: {e}')
    return REFUSED
  except data.DataError as e:
    say(f'failed: {run.run_id}: {e}')
    _log_error(directory)
  except OSError as e:
    say(f'failed: {run.run_id}: {e.strerror or e}: {e.filename or directory} (it can be resumed)')
    _log_error(directory)
  except hosts.Elsewhere as e:
    say(f'failed: {run.run_id}: {e}')
  except Exception as e:  # a bug in one run must not cost the others
    first = (str(e).splitlines() or [''])[0]
    say(f'failed: {run.run_id}: {type(e).__name__}: {first} ({_log_error(directory)})')
  return FAILED


def _log_error(directory: pathlib.Path) -> str:
  """Writes the traceback that is being handled to a file; says where it is."""
  try:
    files.write_bytes(directory / files.ERROR, traceback.format_exc().encode())
    return f'see {directory / files.ERROR}'
  except OSError as e:
    return f'{files.ERROR} could not be written: {e.strerror or e}'


@contextlib.contextmanager
def _own(directory: pathlib.Path) -> Iterator[Callable[[], None]]:
  """Owns the directory of a run; gives what raises if it is not ours any more."""
  if not hosts.is_first():
    yield lambda: None
    return
  directory.mkdir(parents=True, exist_ok=True)
  with lock.own(directory) as owned:
    yield owned.check


def _standing(directory: pathlib.Path, run: Run, say) -> str | None:
  """How a run ended that is finished; None if it is not."""
  return hosts.agree(run_state.settled(run, directory, say) if hosts.is_first() else None)


def _train_owned(
  session: Session, run: Run, directory: pathlib.Path, check: Callable[[], None]
) -> None:
  """Trains a run that is ours, as `check` knows."""
  hosts.first(files.remove_temporaries, directory)
  for name in (files.RESULT, files.SUMS):  # in this order: what is not whole may look so without
    hosts.first((directory / name).unlink, missing_ok=True)
  place = _place_key(run)
  if place not in session.placed:
    session.placed.clear()  # one data set on the device at a time
    session.placed[place] = _place(session.datasets[place[0]], place[1], session.bars.say)

  def stop() -> bool:
    check()
    return bool(session.received)

  def heed() -> None:
    if stop():
      raise Stopped(f'{run.run_id} is stopped while its samples are looked at')

  try:
    run = needs.prepare(run, session.directory, session.placed[place][0], heed)
  except ValueError as e:
    raise data.DataError(str(e)) from e
  run_one(session, run, directory, stop)


def run_one(session: Session, run: Run, directory: pathlib.Path, stop) -> None:
  """Trains one run and writes its result, the last file of a run to appear.

  Args:
    session: of the launch.
    run: of the plan.
    directory: of the run; ours.
    stop: asked between dispatches.

  Raises:
    Stopped: the state is saved.
    Diverged: after the failure was written down.
    Refused: its checkpoint is of other conditions.
    OSError: a file could not be written; the run can be resumed.
  """
  place = _place_key(run)
  train_data, test_data, data_seconds = session.placed[place]
  train_data = seeded(train_data, run.seed)
  train_data = _part(train_data, run.cell.train_part)
  _make_room(session.programs, run)
  fingerprint = session.datasets[place[0]].fingerprint
  facts = run.parts.selector.facts
  hosts.first(files.write_json, directory / files.CONFIG, config_record(run))
  session.bars.begin(run)

  def move(done: int, rows: int) -> None:
    session.bars.update(done + rows / facts.rows)

  try:
    result = train(
      run,
      train_data,
      test_data,
      directory,
      move,
      stop,
      told=session.bars.told,
      fingerprint=fingerprint,
      resume=session.resume,
      note=session.bars.say,
    )
  except Diverged as e:
    if hosts.is_first():
      record.write_failure(directory, run, e)
    raise
  finally:
    session.bars.end()
  stop()  # raises if the run is no longer ours
  result['data_fingerprint'] = fingerprint
  result['seconds'] = {'data': data_seconds, **result['seconds']}
  hosts.first(record.write_result, directory, result)
  name = '' if result['score_name'] == 'accuracy' else f' {result["score_name"]}'
  read = f', {result["bytes_read"]:,} bytes read' if result.get('bytes_read') else ''
  said = f'{result["score"]:.2f} %{name}{read}{classes.warning(result)}'
  session.bars.finished(f'{run.run_id}: {said}')


def _make_room(programs: dict[Any, int], run: Run) -> None:
  """Lets compiled programs go once there are many; those that come again are read from disk.

  JAX keeps all it has compiled, and Linux grants a process 65,530 memory mappings: without this,
  a sweep would die after some hundred cells.

  Args:
    programs: what has been compiled for, and some hundred mappings that each takes.
    run: about to be trained.
  """
  own = {run.program: 8, run.parts.selector.plan: 1}  # a cell plans by a program of its own
  if sum((programs | own).values()) > _PROGRAMS:
    jax.clear_caches()
    programs.clear()
  programs |= own


def config_record(run: Run) -> dict[str, Any]:
  """The content of config.json: what the run is, and what its network needs to be rebuilt."""
  parts = run.parts
  return {
    **run.cell.to_dict(),
    'run_id': run.run_id,
    'seed': run.seed,
    'identity': run.identity,
    **{OPTION_KEYS[kind]: options for kind, options in parts.options.items()},
    'parts': parts.augment.parts,
    'data': dataclasses.asdict(run.info),
  }


def _place_key(run: Run) -> tuple[Any, str]:
  return data_key(run.cell), run.cell.placement


def _place(
  dataset: data.Dataset, placement: str = 'auto', say: Callable[[str], None] = lambda line: None
) -> tuple[Data, Data, float]:
  """Places a data set, uint8, one copy; says where, if nobody chose and it is not the device."""
  start = time.monotonic()
  # What is free differs between processes that train a run together.
  chosen = data.Choice(*hosts.agree(data.choose(dataset, placement)))
  if placement == 'auto' and chosen.placement != 'device':
    say(f'placement={chosen.placement}: {chosen.why}')
  placed = data.place(dataset, placement=chosen.placement)
  jax.block_until_ready(jax.tree.leaves(placed))
  return (*placed, time.monotonic() - start)


def _part(data: Data, part: tuple[int, int]) -> Data:
  """A part of a split, where that lies."""
  if tuple(part) == WHOLE:
    return data
  return part_of(data, part_index(data.label.shape[0], part))
