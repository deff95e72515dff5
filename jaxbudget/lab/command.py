"""Launches jaxbudget: plans, trains and reports what a config describes.

    jaxbudget --config=quickstart --workdir=runs/quickstart
    jaxbudget --config=single:dataset=cifar10,selector=p_sgd,budget=0.3
    jaxbudget --grid='selector=p_sgd|unif_sgd;budget=.1|.3' --config.seeds=5
    jaxbudget --config=my_study.py

`python -m jaxbudget` and, in the repository, `python launch.py` do the same.
"""

# Only flags live here; the stages are in launcher.py.

import contextlib
import difflib
import gc
import os
import pathlib
import re
import shlex
import shutil
import sys
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIGS = pathlib.Path(__file__).parent / 'configs'

# Overrides (--config.KEY=VALUE) are read by `_parse`, not by ml_collections, which knows only the
# keys that a config declares: options are those of whatever part is chosen.
_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'Config file, or the name of a packaged one, with an argument behind a colon. '
  '--config.KEY=VALUE overrides a key, '
  '--config.selector_options.NAME=VALUE an option.',
  lock_config=True,
  sys_argv=[],
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where results go. Default: runs/<name of the config file>.'
)
_STAGE = flags.DEFINE_enum(
  'stage',
  'all',
  ['all', 'plan', 'train', 'report', 'status', 'retry', 'cancel', 'data', 'deviations'],
  'all: plan, train, report. status: how far it is. retry: train again what failed. cancel: what '
  'is queued or running. data: fetch, check and show the data sets. deviations: what differs '
  'from the paper in each cell.',
)
_ONLY = flags.DEFINE_string('only', '', 'Narrow any stage: key=value|value,... of plan.json.')
_GRID = flags.DEFINE_string(
  'grid',
  None,
  "Cells for every combination, --grid='selector=p_sgd|unif_sgd;budget=.1|.3', of "
  '--config, which here is `single` if it is not given.',
)
_EXECUTOR = flags.DEFINE_enum(
  'executor', 'local', ['local', 'slurm'], 'Where runs are trained: on this host, or by SLURM.'
)
_WORKERS = flags.DEFINE_integer(
  'workers',
  0,
  'Processes under --executor=local; 0: one for each GPU, and on CPU this process alone.',
  lower_bound=0,
)
_YES = flags.DEFINE_bool('yes', False, 'Submit to SLURM without asking, whatever it costs.')
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'This process is one of several, on one host or more, that train each run together (srun).',
)
_RESUME = flags.DEFINE_enum(
  'resume',
  'auto',
  ['auto', 'force'],
  'force: go on from checkpoints of other code, versions or devices; results will say so.',
)
_CALIBRATE = flags.DEFINE_bool(
  'calibrate', False, 'With --stage=plan: time a few rows on this device to estimate the whole.'
)
_LIST = flags.DEFINE_string(
  'list', None, 'Show what there is and stop: --list, or --list=selector and the like.'
)
_NO_CONFIG = ('report', 'status', 'cancel')  # stages that look at a workdir
_FIGURES = flags.DEFINE_enum(
  'figures',
  'page',
  ['page', 'all', 'none'],
  'Which figures a report draws: those that its page shows, all, or none.',
)
_ALLOW = flags.DEFINE_list('allow', [], 'Fields in which compared runs may differ (report).')


def main(argv: list[str]) -> int:
  """Hands the flags to the launcher; the exit code is its answer."""
  logging.set_verbosity(logging.WARNING)
  from jaxbudget.lab import launcher  # JAX is not needed for --help
  from jaxbudget.lab.run import process

  process.collect_less()
  gc.enable()  # see `run`
  process.guard_streams()
  if len(argv) > 1:
    return launcher.refuse(f'unexpected arguments: {" ".join(argv[1:])}')
  if _CONFIG.value is None and not (_WORKDIR.value and _STAGE.value in _NO_CONFIG):
    return launcher.refuse(_no_config())
  return launcher.launch(
    _CONFIG.value,
    workdir=pathlib.Path(_WORKDIR.value or f'runs/{_config_name()}'),
    stage=_STAGE.value,
    only=_ONLY.value,
    allow=tuple(_ALLOW.value),
    calibrate=_CALIBRATE.value,
    command=shlex.join([*_program(), *sys.argv[1:]]),
    resume=_RESUME.value,
    executor=_EXECUTOR.value,
    workers=_WORKERS.value,
    yes=_YES.value,
    distributed=_DISTRIBUTED.value,
    figures=_FIGURES.value,
  )


def _no_config() -> str:
  """Says that there is no config, and how the workdir was launched if it is known."""
  from jaxbudget.lab.sweep import plan_file

  known = plan_file.command(pathlib.Path(_WORKDIR.value).expanduser()) if _WORKDIR.value else ''
  if not known:
    return '--config is missing, e.g. --config=quickstart'
  if known.startswith('api.run('):
    return f'--config is missing; {_WORKDIR.value} was planned by {known}'
  with contextlib.suppress(ValueError):  # it is no command line
    words = [word for word in shlex.split(known) if not re.match('--?stage=', word)]
    known = shlex.join([*words, f'--stage={_STAGE.value}'])
  return f'--config is missing; the command for {_WORKDIR.value} is: {known}'


def _program() -> list[str]:
  """How this program was called."""
  path = pathlib.Path(sys.argv[0])
  if path.name == '__main__.py':
    return ['python', '-m', 'jaxbudget']
  return ['python', sys.argv[0]] if path.suffix == '.py' else [path.name]


def _config_place() -> tuple[str, str]:
  """The file of the config, and what stands behind the colon."""
  file, _, arg = flags.FLAGS['config'].config_filename.partition(':')
  return file, arg


def _config_name() -> str:
  return pathlib.Path(_config_place()[0]).stem


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; a config that cannot be read is refused like any other fault."""
  message, overrides = '', {}
  try:
    argv, overrides = _overrides(argv)
    rest = flags.FLAGS(argv)
    if _LIST.value is not None:
      return _show_list()
    if _CONFIG.value is not None:
      _CONFIG.value.keys()  # a file that is not there comes to light only now
      _set(_CONFIG.value, _GRID.value, overrides, _config_place()[1])
    elif overrides:
      raise ValueError(f'--config.{next(iter(overrides))} needs a config: --config=FILE')
    return rest
  except (flags.Error, ValueError, TypeError, OSError) as e:
    # What a config file refuses comes with a traceback; what it says is enough.
    said = re.split(r'\n(?:ValueError|jaxbudget\.lab\.config\.Refusal): ', str(e))[-1]
    message = '\n'.join(dict.fromkeys([*said.splitlines(), *_others(e, overrides)]))
  except Exception as e:  # a config file is a program, anything can happen in it
    said = str(e).strip().splitlines() or ['']
    message = f'the config cannot be read: {type(e).__name__}: {said[-1].strip()}'
  from jaxbudget.lab import plain
  from jaxbudget.lab.run import process

  process.guard_streams()
  faults = message.strip().splitlines()
  print(plain.text('\n  '.join(['refused: ' + faults[0], *faults[1:]])), file=sys.stderr)
  sys.exit(2)


def _others(error: BaseException | None, overrides: dict[str, str]) -> list[str]:
  """What else is wrong where values were refused, so that no fault waits for another's end."""
  from jaxbudget.lab import config as config_lib

  while error and not (isinstance(error, config_lib.Refusal) and error.config is not None):
    error = error.__context__  # flags wrap it
  if error is None:
    return []
  faults, keys = [], [*error.keys]
  try:  # what stands behind the colon was refused before these were looked at
    config_lib.override(error.config, _read(overrides))
  except config_lib.Refusal as e:
    faults, keys = str(e).splitlines(), [*keys, *e.keys]
  from jaxbudget.lab.sweep import inputs  # JAX is not needed for less

  return faults + inputs.others(config_lib.Refusal('', error.config, keys))


def _read(overrides: dict[str, str]) -> dict[str, Any]:
  """The values of --config.KEY=VALUE."""
  from jaxbudget.lab import config as config_lib

  return {key: config_lib.literal(text) for key, text in overrides.items()}


def _set(config, grid: str | None, overrides: dict[str, str], arg: str = '') -> None:
  """Writes what the command line says into a config made of `arg`; all faults in one message."""
  from jaxbudget.lab import alternatives
  from jaxbudget.lab import config as config_lib

  found, faults = ({}, []) if grid is None else alternatives.read(grid)
  try:
    if found:
      alternatives.multiply(config, found)
  except ValueError as e:
    faults.append(str(e))
  refused, values = ['grid'] if faults else [], _read(overrides)
  try:
    config_lib.override(config, values)
  except config_lib.Refusal as e:
    faults.append(str(e))
    refused += e.keys
  if not faults:
    faults, refused = config_lib.overruled(arg, config, values), ['recipe']
  if faults:
    raise config_lib.Refusal('\n'.join(faults), config, refused)


def _packaged(given: str) -> str:
  """The file of a config that is given by the name of a packaged one."""
  from jaxbudget import registry

  name, colon, arg = given.partition(':')
  path = pathlib.Path(os.path.expanduser(name))  # shells know no `~` behind a flag
  known = sorted(p.stem for p in _CONFIGS.glob('[!_]*.py'))
  if path.exists():
    return f'{path}{colon}{arg}'
  if re.fullmatch(r'\w+', name):
    registry.check('config', name, known)
    return f'{_CONFIGS / name}.py{colon}{arg}'
  if path.stem in known:
    raise ValueError(f'there is no file {name} here; --config={path.stem} is the packaged config')
  there = [*known, *map(str, path.parent.glob('*.py'))]
  close = difflib.get_close_matches(name, there, n=1)
  hint = f'; did you mean {close[0]}?' if close else ''
  raise ValueError(f'--config={name}: there is no such file{hint}')


def _show_list() -> NoReturn:
  """Prints what there is."""
  from jaxbudget import listing

  text = listing.text(_LIST.value, shutil.get_terminal_size((100, 24)).columns)
  _answer(text)


def _overrides(argv: list[str]) -> tuple[list[str], dict[str, str]]:
  """Takes --config.KEY=VALUE out of the command line; gives --list its default, names a path."""
  rest, found, words = [], {}, list(argv)
  while words:
    word = words.pop(0)
    key = re.fullmatch(r'--?(no)?config\.([^=]+)(=(?s:.*))?', word)
    if word in ('--list', '-list'):
      word = '--list=all'
    if word in ('--config', '-config') and words:
      word = f'--config={words.pop(0)}'
    if word.startswith(('--config=', '-config=')):
      word = f'--config={_packaged(word.partition("=")[2])}'
    if not key:
      rest.append(word)
      continue
    negated, name, value = key.groups()
    if value is not None:
      found[name] = value[1:]
    elif negated:
      found[name] = 'False'
    else:  # `--config.KEY VALUE`, or a switch
      found[name] = words.pop(0) if words and not words[0].startswith('--') else 'True'
  words = [word.partition('=')[0].lstrip('-') for word in rest]
  if 'grid' in words and 'config' not in words:
    rest.append(f'--config={_packaged("single")}')
  return rest, found


def run() -> NoReturn:
  """The program: whoever calls it, launch.py, `python -m jaxbudget` or the command."""
  sys.modules['__main__'].__doc__ = __doc__  # absl looks there for what it says of wrong usage
  for flag in flags.FLAGS.get_flags_for_module(__name__):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  if not _HELP.isdisjoint(sys.argv[1:]):
    listed = flags.FLAGS.main_module_help().strip().partition('\n')[2]  # without the module's name
    _answer(f'{__doc__.strip()}\n\nFlags:\n\n{listed}')
  gc.disable()  # until all modules are there: looking through them takes a tenth of a second
  app.run(main, flags_parser=_parse)


_HELP = frozenset(('--help', '-help', '-h', '--helpshort', '-helpshort', '-?'))


def _answer(text: str) -> NoReturn:
  """Prints what was asked for and ends; a reader that has seen enough may close the pipe."""
  from jaxbudget.lab import plain

  code = 0
  try:
    print(plain.text(text), flush=True)
  except BrokenPipeError:
    pass
  except OSError as e:
    print(plain.text(f'failed: standard output: {e.strerror}'), file=sys.stderr)
    code = 1
  os._exit(code)  # nothing to end in order, and no second complaint about the pipe
