"""The stages of a launch: config -> plan -> runs -> report. Data flow one way."""

import dataclasses
import errno
import os
import pathlib
import sys
import tempfile
from typing import Any

from ml_collections import ConfigDict
from rich.console import Console

from jaxbudget import data, factories, parallel, paths
from jaxbudget.lab import plain, report
from jaxbudget.lab.paper import deviations
from jaxbudget.lab.run import files, hosts, process
from jaxbudget.lab.run.run import Run, data_key
from jaxbudget.lab.sweep import calibrate as calibrate_lib
from jaxbudget.lab.sweep import (
  control,
  doubts,
  grid,
  inputs,
  local,
  outside,
  plan_file,
  slurm,
  status,
  workers,
)

DONE, FAILED, REFUSED = 0, 1, 2
_WORKDIR_STAGES = ('report', 'status', 'cancel')  # of what is there; they need no config
_FILE_COLUMNS = 120  # of tables that go to a file or a pipe


@dataclasses.dataclass(frozen=True)
class Options:
  """What a launch may be told beside its config.

  Attributes:
    only: `key=value|value,...` of plan.json's entries, narrows every stage.
    allow: fields in which compared runs may differ.
    command: the command line, for the report.
    calibrate: with `plan`, time a few rows on this device to estimate the whole.
    resume: `auto`, or `force` to go on from checkpoints of other code, versions or devices.
    executor: where runs are trained, `local` or `slurm`.
    workers: processes on this host; 0 is one for each GPU, and on CPU this process alone.
    yes: submit without asking, whatever it costs.
    distributed: this process is one of several that train each run together, see `hosts.py`.
    figures: which the report draws: `page`, `all` or `none`.
  """

  only: str = ''
  allow: tuple[str, ...] = ()
  command: str = ''
  calibrate: bool = False
  resume: str = 'auto'
  executor: str = 'local'
  workers: int = 0
  yes: bool = False
  distributed: bool = False
  figures: str = 'page'


def refuse(message: str) -> int:
  """Says why nothing was done, every fault a line; exit code 2."""
  faults = message.splitlines()
  head = 'refused' if len(faults) == 1 else f'refused, {len(faults)} faults'
  if hosts.is_first():
    said = '\n'.join([f'{head}: {faults[0]}', *(f'  {f}' for f in faults[1:])])
    print(plain.text(said), file=sys.stderr)
  return REFUSED


def launch(
  config: ConfigDict | None, workdir: pathlib.Path, stage: str = 'all', **options: Any
) -> int:
  """Runs one or all stages.

  Args:
    config: as `get_config` gave it, overrides applied; report, status and cancel need none.
    workdir: where results go; created only when there is nothing left to refuse.
    stage: all (plan, train, report) or one of them, or status, retry, cancel, data, deviations.
    **options: see `Options`.

  Returns:
    The exit code: 0 done or submitted, 1 a run failed or a file could not be written, 2 refused
    (config, data, or every run there is to resume), 128 + its number stopped by a signal.
  """
  options = Options(**options)
  try:
    workdir = paths.expand(workdir)
  except ValueError as e:
    return refuse(f'--workdir: {e}')
  if options.distributed:
    if stage not in ('all', 'train') or options.executor != 'local' or options.workers > 1:
      return refuse('--distributed trains: --stage=all or train, --executor=local, no --workers')
    try:
      hosts.initialize()
    except ValueError as e:
      return refuse(f'--distributed: {e}')
  if options.workers > workers.most():
    return refuse(
      f'--workers={options.workers}: at most {workers.most()}, for {os.cpu_count()} processors'
    )
  width = None if sys.stdout and sys.stdout.isatty() else _FILE_COLUMNS
  console = plain.make_console(width=width, quiet=not hosts.is_first())
  inputs.use_compilation_cache()
  begin = _on_workdir if stage in _WORKDIR_STAGES else _launch
  try:
    with process.answering(), hosts.together():
      return begin(config, workdir, stage, options, console)
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130
  except process.Signalled as e:
    print(plain.text(e), file=sys.stderr)
    return 128 + e.number
  except slurm.Unwilling as e:
    print(plain.text(f'failed: {e}'), file=sys.stderr)
    return FAILED
  except OSError as e:
    said = f'failed: {e.strerror or e}: {e.filename or workdir}'
    print(plain.text(said), file=sys.stderr)
    return FAILED
  except MemoryError as e:
    print(plain.text(f'failed: not enough memory: {e}'), file=sys.stderr)
    return FAILED
  except hosts.Elsewhere:
    return FAILED  # said there
  except hosts.Gone as e:
    print(plain.text(f'failed: {e}; launch again to go on'), file=sys.stderr, flush=True)
    os._exit(FAILED)  # a proper end would wait for it


def _on_workdir(config, workdir, stage, options, console) -> int:
  """The stages that look at what is there."""
  del config
  try:
    if stage == 'report':
      return show_report(workdir, options, console)
    if stage == 'status':
      status.show(workdir, console, options.only)
    else:
      control.cancel(workdir, console, options.only)
    return DONE
  except ValueError as e:
    return refuse(str(e))


def _launch(config, workdir, stage, options, console) -> int:
  """The stages that begin with a plan."""
  try:
    factories.search_last(os.curdir)
    with hosts.together():
      if stage != 'deviations':
        check_writable(workdir)
      if options.allow:
        from jaxbudget.lab.report import comparability  # pandas is slow to import

        comparability.check_launched(options.allow)
      datasets, runs = inputs.begin(config)
      wanted = asked = grid.only(runs, options.only)
      if stage == 'deviations':
        return show_deviations(wanted, console)
      if stage == 'retry':
        wanted = control.failed(asked, workdir)
        if not wanted:
          plain.say(console, 'nothing has failed')
          return DONE
      if stage != 'plan':
        inputs.load_data(datasets, wanted)
      if stage == 'data':
        shown = {data_key(run.cell): datasets[data_key(run.cell)] for run in wanted}
        return show_data(shown, workdir, console)
      notes = [note for d in datasets.values() for note in d.notes]
      for note in dict.fromkeys((*notes, *doubts.doubts(wanted))):
        plain.say(console, f'note: {note}')
      if stage != 'plan':  # which may be made where the devices are not
        _check_executor(wanted, options)
        if options.executor == 'slurm':
          control.ask(wanted, workdir, options.yes, console, again=stage == 'retry')
      elif options.calibrate:
        parallel.all_devices()  # which raises if there are none to measure with
  except (ValueError, hosts.Elsewhere) as e:
    return refuse(str(e))
  except RuntimeError as e:
    if 'backend' not in str(e):
      raise
    return refuse(f'JAX cannot start: {str(e).splitlines()[0]}')
  hosts.first(plan_file.write, asked, workdir, options.command, runs)
  left_out = plan_file.left_out(plan_file.entries(workdir))
  if left_out:
    plain.say(console, f'note: {left_out}')
  before = plan_file.of_before(workdir)
  if before:
    plain.say(
      console,
      f'note: {workdir} holds {before} runs of before ids were changed, from 8 hex digits to 16: '
      'they stay, in the report too, but none counts for this plan, whose runs have new ids',
    )
  if stage == 'plan':
    return show_plan(asked, workdir, options.calibrate, console)
  if stage == 'retry':
    control.forget_failures(wanted, workdir)
  code = _execute(config, wanted, datasets, workdir, options, console)
  if stage == 'all' and options.executor == 'local' and code in (DONE, FAILED):
    # Others may have since.
    hosts.first(plan_file.write, asked, workdir, options.command, runs, False)
    hosts.first(show_report, workdir, options, console)
  return code


def _check_executor(runs: list[Run], options: Options) -> None:
  """Refuses what cannot be executed.

  Raises:
    ValueError: devices, programs, or parts that workers could import are missing.
  """
  if options.executor == 'slurm' or _workers(runs, options) > 1:
    outside.check(runs)
    if options.executor == 'local':
      workers.check_platform()
  if options.executor == 'slurm':
    slurm.check(runs)
  elif _workers(runs, options) == 1:  # others see for themselves: their GPUs are not ours to take
    for run in runs:
      parallel.make_mesh(run.cell.devices, run.cell.batch_size)


def _workers(runs: list[Run], options: Options) -> int:
  """How many processes are to train on this host; 1 is this one alone."""
  devices = max((run.cell.devices for run in runs), default=1)
  if options.distributed or len(runs) < 2:
    return 1
  count = options.workers or (len(workers.usable_gpus()) // devices if devices else 1)
  return max(1, min(count, len(runs)))


def _execute(config, runs, datasets, workdir, options, console) -> int:
  """Trains runs where they are to be trained; once they are submitted, that is all."""
  if options.executor == 'slurm':
    try:
      control.submit(config, runs, workdir, console, options.resume)
      return DONE
    except ValueError as e:
      return refuse(str(e))
  count = _workers(runs, options)
  if count > 1 and control.unfinished(runs, workdir):
    return workers.run_all(config, runs, workdir, count, console, options.resume)
  return local.run_all(runs, datasets, workdir / 'runs', console, options.resume)


def check_writable(workdir: pathlib.Path) -> None:
  """Refuses a workdir that cannot be written, without creating it.

  Raises:
    ValueError: not a directory, or nothing can be made there.
  """
  existing = workdir.absolute()
  while not existing.exists():
    if existing.is_symlink():
      raise ValueError(
        f'workdir {str(workdir)!r} cannot be used: {existing} is a link to '
        f'{os.readlink(existing)}, which does not exist'
      )
    existing = existing.parent
  if not existing.is_dir():
    raise ValueError(f'workdir {str(workdir)!r} cannot be used: {existing} is not a directory')
  try:  # permissions do not tell: root may do everything, but not in /proc
    with tempfile.TemporaryDirectory(prefix='.jaxbudget-', dir=existing):
      pass
  except OSError as e:
    if e.errno not in (errno.ENOSPC, errno.EDQUOT):  # nobody's mistake; training will say so
      raise ValueError(
        f'workdir {str(workdir)!r} cannot be used: {existing} is not writable ({e.strerror or e})'
      ) from None


def show_plan(runs: list[Run], workdir: pathlib.Path, calibrate: bool, console: Console) -> int:
  """Prints the plan; with times if it was calibrated on this device, now or before."""
  if calibrate:
    files.write_json(workdir / calibrate_lib.FILE, calibrate_lib.calibrate(runs))
  measured = files.read_json(workdir / calibrate_lib.FILE)
  try:
    console.print(calibrate_lib.plan_table(runs, measured))
  except ValueError as e:
    console.print(calibrate_lib.plan_table(runs))
    plain.say(console, f'no times: {e}; run with --calibrate')
  return DONE


def show_report(workdir: pathlib.Path, options: Options, console: Console) -> int:
  """Writes the report and prints its summary.

  Raises:
    ValueError: there is no such workdir.
  """
  loaded = report.load_workdir(workdir, options.allow, options.only)
  compared = report.equal_compute(loaded, options.allow)
  console.print(report.summary(loaded, compared=compared))
  from jaxbudget.lab.paper.sections import sections  # pandas and matplotlib are slow to import

  page = report.write_report(loaded, options.allow, [sections], options.figures, compared)
  plain.say(console, f'report: {page}')
  return DONE


def show_data(datasets: dict[Any, data.Dataset], workdir: pathlib.Path, console: Console) -> int:
  """Prints what the data sets are and writes a contact sheet of each that is of images."""
  from jaxbudget.lab.report.contact_sheet import contact_sheet  # matplotlib is slow to import

  for dataset in datasets.values():
    plain.say(console, data.describe(dataset))
    if dataset.info.kind != 'images' or dataset.info.label_mean:
      lack = 'no images' if dataset.info.kind != 'images' else 'labels that are no classes'
      plain.say(console, f'no contact sheet: {dataset.info.name} has {lack}')
      continue
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / f'{paths.file_name(dataset.info.name)}.png'
    contact_sheet(dataset, path)
    plain.say(console, f'contact sheet: {path}')
  return DONE


def show_deviations(runs: list[Run], console: Console) -> int:
  """Prints what differs from the paper in each cell (docs/deviations.md)."""
  described = {}
  for run in runs:
    entries = deviations.in_force(local.config_record(run))
    name = f'{run.cell.selector} {run.cell.augment} {run.cell.schedule} ({run.cell.fidelity})'
    described[name] = '\n'.join(f'{e["id"]:>4}  {e["title"]}: {e["effect"]}' for e in entries)
  for name, text in described.items():
    console.print(plain.rich_text(name, 'bold'))
    plain.say(console, f'{text}\n')
  return DONE
