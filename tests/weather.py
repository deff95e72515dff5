"""Weather: environment, streams and signals of a launch, drawn together with its config.

`faults_test.py` runs it in short, within one process; `benchmarks/faults.py` at length, each launch
in a process of its own.
"""

import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import exposed
import faulty
import fuzzing
import jax

from jaxbudget.lab import config, launcher
from jaxbudget.lab.run import files, process

ROOT = pathlib.Path(__file__).parents[1]

# By name, what it may be set to; None removes it.
ENVIRONMENT: dict[str, list[str | None]] = {
  'HOME': [None, '/no/such/home', '/dev/null', '/'],
  'XDG_CACHE_HOME': ['/proc/nowhere', '', 'relative'],
  'TMPDIR': ['/no/such'],
  'TZ': ['Pacific/Kiritimati', 'America/St_Johns', 'nonsense', ':'],
  'LC_ALL': ['C', 'POSIX', 'C.UTF-8', 'tr_TR.ISO-8859-9', 'nonsense'],
  'LANG': [None, 'ja_JP.eucJP'],
  'NO_COLOR': ['1', ''],
  'FORCE_COLOR': ['1'],
  'TERM': ['dumb', 'xterm', None, ''],
  'COLUMNS': ['0', '1', '7', '10000', '-3', 'wide'],
  'LINES': ['0', '1'],
  'JAX_ENABLE_X64': ['1', '0'],
  'CUDA_VISIBLE_DEVICES': ['', '0,1'],
  'TFDS_DATA_DIR': ['/no/such', ''],
  'SLURM_JOB_ID': ['7'],
}
# What Python or JAX read at their start, so that it is for processes of their own.
AT_START: dict[str, list[str | None]] = {
  'JAX_COMPILATION_CACHE_DIR': ['/proc/nowhere', '/dev/null/x', ''],
  'JAX_NUM_CPU_DEVICES': ['2'],
  'JAX_PLATFORMS': ['cpu', 'cuda', 'tpu', 'nonsense'],
  'XLA_FLAGS': ['--xla_cpu_enable_fast_math=false', ''],
  'PYTHONIOENCODING': ['ascii', 'iso8859-9', 'utf-16', 'ascii:strict'],
  'PYTHONOPTIMIZE': ['2'],
  'PYTHONUTF8': ['0', '1'],
  'PYTHONCOERCECLOCALE': ['0'],
  'PYTHONUNBUFFERED': ['1'],
  'PYTHONHASHSEED': ['1'],
  'PYTHONDONTWRITEBYTECODE': ['1'],
  'PYTHONFAULTHANDLER': ['1'],
}
# Keys that leave the program as it is, so that it need not be compiled again.
LIGHT = (
  'seeds', 'epochs', 'budget', 'evaluate_every', 'rows_per_call', 'checkpoint_every', 'name',
  'record_selection', 'learning_rate', 'final_learning_rate', 'schedule', 'model', 'dataset',
  'fidelity', 'grid', '',
)  # fmt: skip


class Draw(NamedTuple):
  """One launch.

  Attributes:
    config: values by key.
    environment: what differs from that of the test; None removes.
    out: where standard output goes: see `_redirect`.
    err: likewise.
    signal: to send, or None.
    early: it is sent while the launch starts, not in training.
    nohup: SIGHUP is ignored from the start.
  """

  config: dict[str, Any]
  environment: dict[str, str | None]
  out: str = 'file'
  err: str = 'file'
  signal: int | None = None
  early: bool = False
  nohup: bool = False


def draw(rng: random.Random, common: dict[str, Any], light: bool) -> Draw:
  """Draws the weather and a config that fits or does not."""
  keys = [key for key in fuzzing.KEYS if not light or key in LIGHT]
  config = dict(common)
  if not light and rng.random() < 0.5:
    parts = {kind: rng.choice(fuzzing.NAMES[kind]) for kind in ('selector', 'augment', 'schedule')}
    config = fuzzing.consistent({**config, **parts})
  for key in rng.sample(keys, rng.choice((0, 0, 1, 2, 3))):
    valid, invalid = fuzzing.KEYS[key]
    config[key] = rng.choice(valid if valid and (not invalid or rng.random() < 0.8) else invalid)
  known = ENVIRONMENT if light else {**ENVIRONMENT, **AT_START}
  names = rng.sample(list(known), rng.choice((0, 1, 2, 3, 4)))
  environment = {name: rng.choice(known[name]) for name in names}
  out, err = rng.choices(('file', 'full', 'closed', 'left'), (4, 2, 1, 2), k=2)
  number = int(rng.choice(process.STOP)) if rng.random() < 0.35 else None
  if number:  # long enough to be met in training
    config |= {'epochs': 40, 'checkpoint_every': 1e-3, 'rows_per_call': 1}
  early, nohup = rng.random() < 0.2, rng.random() < 0.2
  return Draw(config, environment, out, err, number, early, nohup)


def attempt(one: Draw, directory: pathlib.Path, run: Callable) -> str:
  """Launches; says how it ended.

  Args:
    one: what is drawn.
    directory: a new one.
    run: `here` or `launched`.

  Raises:
    AssertionError: it did not end as it should, or something is lost.
  """
  work = directory / 'work'
  code, said = run(one, directory, work)
  assert not list(work.rglob('error.log')), said
  if one.signal and code in (128 + one.signal, -one.signal):
    # Without a handler, so before anything was begun.
    assert code > 0 or one.early and not (work / 'runs').exists(), f'{code}: {said}'
    _goes_on(one, directory, run)
    return f'stopped by {signal.Signals(one.signal).name}'
  return _ended(code, said, work)


def _goes_on(one: Draw, directory: pathlib.Path, run: Callable) -> None:
  """What was stopped goes on to the bits of one that never was."""
  config = {**one.config, 'checkpoint_every': 300.0, 'rows_per_call': 0}  # changes no bit
  calm = one._replace(signal=None, out='file', err='file', config=config)
  first, second = directory / 'work', directory / 'undisturbed'
  codes = [run(calm, directory, work) for work in (first, second)]
  ended = [_ended(*result, work) for result, work in zip(codes, (first, second), strict=True)]
  assert ended[0] == ended[1], codes
  found = [_outcomes(work) for work in (first, second)]
  assert set(found[0]) == set(found[1])
  for run_id in found[0]:
    assert not faulty.differences(found[0][run_id], found[1][run_id]), run_id


def _outcomes(work: pathlib.Path) -> dict[str, Any]:
  paths = [path.parent for path in work.glob('runs/*/params.msgpack')]  # others diverged
  return {path.name: faulty.outcome(path) for path in paths}


def _ended(code: int, said: str, work: pathlib.Path) -> str:
  """Says how a launch ended that was left to itself; what it left is whole."""
  if code == 2:
    assert not work.exists(), 'refused, yet something was written'
    return 'refused'
  results = {path.parent: json.loads(path.read_text()) for path in work.glob('runs/*/result.json')}
  assert code in (0, 1) and results, f'{code}: {said}'
  assert not list(work.rglob('*.tmp')) and not list(work.rglob('*/lock')), said
  for directory, result in results.items():
    if result['status'] == 'done':
      for name in files.read_sums(directory):
        files.verify(directory / name)
  diverged = [result for result in results.values() if result['status'] == 'failed']
  assert all('not finite' in result['error'] for result in diverged)
  assert bool(diverged) == (code == 1), said
  return 'diverged' if diverged else 'trained'


def campaign(
  directory: pathlib.Path, count: int, run: Callable, light: bool = False, seed: int = 0
) -> Counter:
  """Draws and launches; counts how launches ended."""
  rng, ended = random.Random(seed), Counter()
  common = {
    'dataset': faulty.write_images(directory / 'tiny.npz'), 'model': 'linear:linear',
    'selector': 'unif_sgd', 'batch_size': 8, 'epochs': 12, 'budget': 0.5, 'evaluate_batch': 16,
    'seeds': 1,
  }  # fmt: skip
  for number in range(count):
    one, place = draw(rng, common, light), directory / f'draw{number}'
    place.mkdir()
    try:
      ended[attempt(one, place, run)] += 1
    except AssertionError as e:
      raise AssertionError(f'draw {number}, {one}: {e}') from e
    shutil.rmtree(place)
  stopped = sum(number for how, number in ended.items() if how.startswith('stopped'))
  if count >= 30:  # else it tried nothing
    assert ended['trained'] and ended['refused'] and stopped, ended
  return ended


def launched(one: Draw, directory: pathlib.Path, work: pathlib.Path) -> tuple[int, str]:
  """Runs a draw in a process of its own: (exit code, what could be read of what it said)."""
  (directory / 'config.txt').write_text(repr(one.config))
  said = directory / 'said.txt'
  said.unlink(missing_ok=True)
  path = f'{ROOT}:{ROOT / "tests"}'
  environment = {**os.environ, 'PYTHONPATH': path, **one.environment}
  environment = {name: value for name, value in environment.items() if value is not None}
  exposure = [ROOT / 'tests' / 'exposed.py', one.out, one.err, str(one.nohup), said]
  grid = f'--config={ROOT}/tests/weather_grid.py:{directory}/config.txt'
  launch = [sys.executable, ROOT / 'launch.py', grid, '--stage=train', f'--workdir={work}']
  child = subprocess.Popen(
    [sys.executable, '-S', *exposure, *launch], env=environment, stdin=subprocess.DEVNULL, cwd=ROOT
  )
  if one.signal:
    _strike(one, child.pid, work, lambda seconds: _wait_for(child, seconds))
  assert _wait_for(child, 900), f'it does not end: {one}'
  return child.returncode, _read(said)


def here(one: Draw, directory: pathlib.Path, work: pathlib.Path) -> tuple[int, str]:
  """The same in this process, where most is compiled already."""
  said = directory / 'said.txt'
  said.unlink(missing_ok=True)
  with process.answering(), _surrounded(one, said):
    over = threading.Event()
    striking = threading.Thread(target=_strike, args=(one, os.getpid(), work, over.wait))
    try:
      if one.signal:
        striking.start()
      values = config.defaults(**one.config)
      code = launcher.launch(values, work, 'train')
    except ValueError as e:  # as launch.py does
      print(e, file=sys.stderr)
      code = 2
    except (KeyboardInterrupt, process.Signalled):
      code = 128 + one.signal
    finally:
      over.set()
      with contextlib.suppress(KeyboardInterrupt, process.Signalled):
        striking.join() if one.signal else None
  return code, _read(said)


@contextlib.contextmanager
def _surrounded(one: Draw, said: pathlib.Path) -> Iterator[None]:
  """Sets environment, streams and nohup, and takes them back."""
  before = dict(os.environ)
  os.environ.update({name: value for name, value in one.environment.items() if value is not None})
  for name in [name for name, value in one.environment.items() if value is None]:
    os.environ.pop(name, None)
  time.tzset()
  ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN) if one.nohup else None
  wide = os.environ.get('JAX_ENABLE_X64') == '1'
  try:
    with (
      _stream(one.out, said) as out,
      _stream(one.err, said) as err,
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
      jax.enable_x64(wide),
    ):
      yield
  finally:
    os.environ.clear()
    os.environ.update(before)
    time.tzset()
    if one.nohup:
      signal.signal(signal.SIGHUP, ignored)


@contextlib.contextmanager
def _stream(how: str, said: pathlib.Path) -> Iterator[io.TextIOWrapper | None]:
  if how == 'closed':
    yield None
    return
  raw = process._Stream(exposed.open_stream(how, str(said)), 'w')
  with io.TextIOWrapper(
    io.BufferedWriter(raw), 'ascii', 'backslashreplace', write_through=True
  ) as stream:
    yield stream


def _wait_for(child: subprocess.Popen, seconds: float) -> bool:
  with contextlib.suppress(subprocess.TimeoutExpired):
    child.wait(seconds)
  return child.returncode is not None


def _read(said: pathlib.Path) -> str:
  text = said.read_text(errors='replace') if said.exists() else ''
  assert 'Traceback' not in text and 'Exception ignored' not in text, text
  return text


def _strike(one: Draw, pid: int, work: pathlib.Path, over: Callable[[float], bool]) -> None:
  """Sends the signal, in training or before, unless it is over."""
  ended = False
  while not one.early and not ended and not any(work.glob('runs/*/checkpoint*')):
    ended = over(0.02)
  if not ended and not over(random.Random(repr(one)).uniform(0, 1.5 if one.early else 0.3)):
    with contextlib.suppress(ProcessLookupError):
      os.kill(pid, one.signal)
