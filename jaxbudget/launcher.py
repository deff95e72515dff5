"""The stages of a launch: config -> plan -> runs -> report. Data flow one way."""

import os
import pathlib
import re
import sys
from typing import Any

import jax
import rich.markup
from ml_collections import ConfigDict
from rich.console import Console

from jaxbudget import config as config_lib
from jaxbudget import data, deviations, parallel, report, results
from jaxbudget.sweep import calibrate as calibrate_lib
from jaxbudget.sweep import local, lock, plan

DONE, FAILED, REFUSED = 0, 1, 2
PLAN, CALIBRATION = 'plan.json', 'calibration.json'
_FILE_COLUMNS = 120  # of tables that go to a file or a pipe
_RUN_ID = re.compile(r'[A-Za-z0-9_][A-Za-z0-9._-]*')  # a name, never a way out of the workdir


def refuse(message: str) -> int:
  """Says why nothing was done, every fault a line; exit code 2."""
  faults = message.splitlines()
  head = 'refused' if len(faults) == 1 else f'refused, {len(faults)} faults'
  print('\n'.join([f'{head}: {faults[0]}', *(f'  {f}' for f in faults[1:])]), file=sys.stderr)
  return REFUSED


def launch(
  config: ConfigDict,
  workdir: pathlib.Path,
  stage: str = 'all',
  only: str = '',
  allow: tuple[str, ...] = (),
  command: str = '',
  resume: str = 'auto',
  calibrate: bool = False,
) -> int:
  """Runs one or all stages.

  Args:
    config: as `get_config` gave it, overrides applied.
    workdir: where results go; created only when there is nothing left to refuse.
    stage: all, plan, train, report, data or deviations.
    only: `key=value,...`, narrows what is trained.
    allow: fields in which compared runs may differ.
    command: the command line, for the report.
    calibrate: with `plan`, time a few rows on this device to estimate the whole.
    resume: `auto`, or `force` to go on from checkpoints of other code, versions or devices.

  Returns:
    The exit code: 0 done, 1 a run failed or a file could not be written, 2 refused (config,
    data, or every run there is to resume), 130 or 143 stopped by a signal.
  """
  try:
    return _launch(config, workdir, stage, only, allow, command, resume, calibrate)
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130
  except OSError as e:
    print(f'failed: {e.strerror or e}: {e.filename or workdir}', file=sys.stderr)
    return FAILED


def _launch(config, workdir, stage, only, allow, command, resume, calibrate) -> int:
  console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
  use_compilation_cache()
  try:
    if stage == 'report':
      return show_report(workdir, allow, console)
    datasets, runs = plan_runs(config)
    wanted = plan.only(runs, config_lib.parse_arg(only))
    if stage == 'deviations':
      return show_deviations(wanted, console)
    if stage != 'plan':
      load_data(datasets, wanted)
    if stage == 'data':
      return show_data(datasets, workdir, console)
    for note in dict.fromkeys(note for d in datasets.values() for note in d.notes):
      console.print(f'note: {note}', markup=False)
    check_writable(workdir)
    if stage != 'plan':  # which may be made where the devices are not
      for run in wanted:
        parallel.make_mesh(run.cell.devices, run.cell.batch_size)
  except ValueError as e:
    return refuse(str(e))
  write_plan(runs, workdir, command)
  if stage == 'plan':
    return show_plan(runs, workdir, calibrate, console)
  code = local.run_all(wanted, datasets, workdir / 'runs', console, resume)
  if stage == 'all' and code in (DONE, FAILED):
    write_plan(runs, workdir, command)  # another launch may have written its own in between
    show_report(workdir, allow, console)
  return code


def use_compilation_cache() -> None:
  """Keeps compiled programs on disk, in JAX_COMPILATION_CACHE_DIR or ~/.cache/jaxbudget."""
  if not jax.config.jax_compilation_cache_dir:
    cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    jax.config.update('jax_compilation_cache_dir', str(pathlib.Path(cache) / 'jaxbudget/jax'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


def plan_runs(config: ConfigDict) -> tuple[dict[Any, data.Dataset], list[plan.Run]]:
  """Plans, reading only the data without which there is no plan.

  Args:
    config: with or without a grid.

  Returns:
    (data sets read so far by `plan.data_key`, runs).

  Raises:
    ValueError: every fault of config and data, one a line.
  """
  datasets = {}
  for cell, _ in config_lib.cells(config):
    if plan.must_be_read(cell) and plan.data_key(cell) not in datasets:
      try:
        datasets[plan.data_key(cell)] = _load(cell)
      except data.DataError:
        pass  # `make_runs` meets the same fault and lists it among the others
  return datasets, plan.make_runs(config, datasets)


def load_data(datasets: dict[Any, data.Dataset], runs: list[plan.Run]) -> None:
  """Loads what runs train on, into `datasets`.

  Raises:
    DataError: the data are missing or unfit.
  """
  for run in runs:
    key = plan.data_key(run.cell)
    if key not in datasets:
      datasets[key] = _load(run.cell)


def _load(cell) -> data.Dataset:
  with data.progress_bars() as progress:
    return data.load(
      cell.dataset, validation=cell.validation, progress=progress, **plan.where(cell)
    )


def check_writable(workdir: pathlib.Path) -> None:
  """Refuses a workdir that cannot be written, without creating it.

  Raises:
    ValueError: not a directory, or no permission.
  """
  existing = workdir.absolute()
  while not existing.exists():
    existing = existing.parent
  if not existing.is_dir():
    raise ValueError(f'workdir {str(workdir)!r} cannot be used: {existing} is not a directory')
  if not os.access(existing, os.W_OK | os.X_OK):
    raise ValueError(f'workdir {str(workdir)!r} cannot be used: {existing} is not writable')


def write_plan(runs: list[plan.Run], workdir: pathlib.Path, command: str) -> None:
  """Writes plan.json; runs of an earlier plan stay in it if they have files.

  Args:
    runs: the plan.
    workdir: created if need be.
    command: the command line.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  entries = {run.run_id: run.record() for run in runs}
  with lock.wait_for(workdir):
    for entry in _earlier_entries(workdir / PLAN):
      run_id = entry['run_id']
      if run_id in entries:
        places = entries[run_id]['paper']
        places += [place for place in entry.get('paper') or () if place not in places]
      elif (workdir / 'runs' / run_id / results.CONFIG).exists():
        entries[run_id] = entry
    content = {'command': command, 'runs': list(entries.values())}
    results.write_json(workdir / PLAN, results.sealed(content))


def _earlier_entries(path: pathlib.Path) -> list[dict[str, Any]]:
  """Entries of a plan.json; none if it is damaged, for its runs are planned again or forgotten."""
  earlier = results.read_json(path)
  if not isinstance(earlier, dict) or not results.seal_holds(earlier):
    return []
  entries = earlier.get('runs')
  return [
    entry
    for entry in (entries if isinstance(entries, list) else ())
    if isinstance(entry, dict) and _RUN_ID.fullmatch(str(entry.get('run_id', '')))
  ]


def show_plan(
  runs: list[plan.Run], workdir: pathlib.Path, calibrate: bool, console: Console
) -> int:
  """Prints the plan; with times if it was calibrated on this device, now or before."""
  if calibrate:
    results.write_json(workdir / CALIBRATION, calibrate_lib.calibrate(runs))
  measured = results.read_json(workdir / CALIBRATION)
  try:
    console.print(calibrate_lib.plan_table(runs, measured))
  except ValueError as e:
    console.print(calibrate_lib.plan_table(runs))
    console.print(f'no times: {e}; run with --calibrate')
  return DONE


def show_report(workdir: pathlib.Path, allow: tuple[str, ...], console: Console) -> int:
  """Writes the report and prints its summary.

  Raises:
    ValueError: there is no such workdir.
  """
  loaded = report.load_workdir(workdir)
  console.print(report.summary(loaded, allow))
  page = report.write_report(loaded, allow)
  console.print(f'report: {page}')
  return DONE


def show_data(datasets: dict[Any, data.Dataset], workdir: pathlib.Path, console: Console) -> int:
  """Prints what the data sets are and writes a contact sheet of each."""
  from jaxbudget.report.contact_sheet import contact_sheet  # matplotlib is slow to import

  for dataset in datasets.values():
    console.print(data.describe(dataset))
    check_writable(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    name = dataset.info.name.replace(':', '_').replace('/', '_')
    path = workdir / f'{name}.png'
    contact_sheet(dataset, path)
    console.print(f'contact sheet: {path}')
  return DONE


def show_deviations(runs: list[plan.Run], console: Console) -> int:
  """Prints what differs from the paper in each cell (docs/deviations.md)."""
  described = {}
  for run in runs:
    entries = deviations.in_force(local.config_record(run))
    name = f'{run.cell.selector} {run.cell.augment} {run.cell.schedule} ({run.cell.fidelity})'
    described[name] = '\n'.join(f'{e["id"]:>4}  {e["title"]}: {e["effect"]}' for e in entries)
  for name, text in described.items():
    console.print(f'[bold]{name}[/bold]\n{rich.markup.escape(text)}\n')
  return DONE
