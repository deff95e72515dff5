"""The fault campaign: disturb launches in every way we know, then compare every final byte.

`tests/faults_test.py` runs it in short, `benchmarks/faults.py` (`make faults`) at length. Each
function returns counts and raises AssertionError at the first difference.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import faulty
import pytest

from jaxbudget.lab.run.process import STOP

ROOT = pathlib.Path(__file__).parents[1]
_TRAINED = re.compile(r'^(\S+): \d+\.\d\d %$', re.MULTILINE)


@contextlib.contextmanager
def place(tmp_path_factory, name: str) -> Iterator[pathlib.Path]:
  """A directory, and a compilation cache for all launches that are started meanwhile."""
  directory = tmp_path_factory.mktemp(name)
  with pytest.MonkeyPatch.context() as patch:
    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
      patch.setenv('JAX_COMPILATION_CACHE_DIR', str(directory / 'cache'))
    yield directory


def start(workdir: pathlib.Path, cells: str, *flags: str, kill_at: int = 0) -> subprocess.Popen:
  """Starts a launch; with `kill_at` one that kills itself at its n-th touch of the disk."""
  script = (
    [ROOT / 'tests' / 'sabotage.py', 'kill', str(kill_at)] if kill_at else [ROOT / 'launch.py']
  )
  config = f'--config={ROOT}/tests/fault_grid.py:cells={cells}'
  stage = '--stage=train' if cells == 'few' else '--stage=all'
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}
  return subprocess.Popen(
    [sys.executable, *script, config, stage, f'--workdir={workdir}', *flags],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT,
  )  # fmt: skip


def finish(process: subprocess.Popen, timeout: float = 600) -> tuple[int, str]:
  """Waits for a launch: (exit code, what it said); it never says a traceback."""
  said, _ = process.communicate(timeout=timeout)
  assert 'Traceback' not in said, said
  return process.returncode, said


def launch(workdir: pathlib.Path, cells: str, *flags: str) -> tuple[int, str]:
  """Launches and waits."""
  code, said = finish(start(workdir, cells, *flags))
  assert code or cells == 'few' or (workdir / 'report' / 'index.html').is_file(), said
  return code, said


def outcomes(workdir: pathlib.Path) -> dict[str, dict]:
  """What the runs of a workdir left, by run id."""
  return {path.name: faulty.outcome(path) for path in sorted((workdir / 'runs').iterdir())}


def reference(workdir: pathlib.Path, cells: str) -> dict[str, dict]:
  """The outcomes of a launch that nobody disturbs."""
  code, said = launch(workdir, cells)
  assert code == 0, said
  found = outcomes(workdir)
  assert all(run['result.json']['status'] == 'done' for run in found.values())
  return found


def assert_same(workdir: pathlib.Path, expected: dict[str, dict]) -> None:
  """All runs are there, and equal in every byte but the seconds; nothing else is."""
  found = outcomes(workdir)
  assert set(found) == set(expected)
  for run_id, run in found.items():
    different = faulty.differences(run, expected[run_id])
    assert not different, f'{run_id}: {different}'
  plan = json.loads((workdir / 'plan.json').read_text())
  assert {entry['run_id'] for entry in plan['runs']} == set(expected)


def kills(
  directory: pathlib.Path, cells: str, expected: dict, count: int, seed: int = 0
) -> Counter:
  """Kills launches, at random moments and at random touches of the disk, until `count` died.

  A killed launch is launched again on what it left; grids that get done are compared, and
  a new one is begun.
  """
  rng, died, grids = random.Random(seed), Counter(), 0
  longest = 25.0  # seconds; shortened to what a launch takes
  while sum(died.values()) < count:
    grids += 1
    workdir = directory / f'kills{grids}'
    while True:
      enough = sum(died.values()) >= count
      by_disk = not enough and rng.random() < 0.6
      began = time.monotonic()
      process = start(workdir, cells, kill_at=rng.randint(1, 250) if by_disk else 0)
      if not by_disk and not enough:
        with contextlib.suppress(subprocess.TimeoutExpired):
          process.wait(rng.uniform(1.5, longest))
        process.kill()
      code, said = finish(process)
      if code == 0:
        longest = min(longest, max(4.0, time.monotonic() - began))
        break
      assert code == -signal.SIGKILL, said
      died[_place(said)] += 1
    assert_same(workdir, expected)
    shutil.rmtree(workdir)
  return died + Counter(grids=grids)


def _place(said: str) -> str:
  """Where a launch was killed, by the file it had in hand."""
  struck = re.search(r'struck at (.*)', said)
  if not struck:
    return 'at a random moment'
  for part, place in (
    ('.ckpt', 'in checkpointing'), ('/report', 'in reporting'), ('metrics.jsonl', 'in training'),
    ('plan.json', 'in planning'), ('lock', 'in locking'),
  ):  # fmt: skip
    if part in struck.group(1):
      return place
  return 'in writing results'


def terminations(
  directory: pathlib.Path, cells: str, expected: dict, count: int, seed: int = 0
) -> Counter:
  """Signals at random moments of training: saved within seconds, then gone on with."""
  rng, stopped, grids = random.Random(seed), Counter(), 0
  numbers = [n for n in STOP if signal.getsignal(n) != signal.SIG_IGN]  # launches inherit that
  while sum(stopped[number.name] for number in numbers) < count:
    grids += 1
    workdir = directory / f'terms{grids}'
    while True:
      enough = sum(stopped[number.name] for number in numbers) >= count
      process = start(workdir, cells)
      if not enough and _wait_for_training(process, workdir):
        time.sleep(rng.uniform(0, 2))
        number = rng.choice(numbers)
        process.send_signal(number)
        asked = time.monotonic()
      code, said = finish(process)
      if code == 0:
        break
      assert code == 128 + number, said
      stopped[number.name] += 1
      stopped['slowest milliseconds'] = max(
        stopped['slowest milliseconds'], round(1000 * (time.monotonic() - asked))
      )
    assert_same(workdir, expected)
    shutil.rmtree(workdir)
  return stopped + Counter(grids=grids)


def _wait_for_training(process: subprocess.Popen, workdir: pathlib.Path) -> bool:
  """Waits until a launch has entered a run that is not finished; False if it ends before."""
  while process.poll() is None:
    if any((workdir / 'runs').glob('*/lock')):
      return True
    time.sleep(0.02)
  return False


def crowd(directory: pathlib.Path, cells: str, expected: dict, count: int) -> Counter:
  """Launches at once on one workdir: each run is trained exactly once, all end well."""
  workdir = directory / 'crowd'
  processes = [start(workdir, cells) for _ in range(count)]
  said = [finish(process) for process in processes]
  assert [code for code, _ in said] == [0] * count, said
  trained = Counter(run_id for _, text in said for run_id in _TRAINED.findall(text))
  assert trained == Counter(dict.fromkeys(expected, 1)), trained
  assert_same(workdir, expected)
  shutil.rmtree(workdir)
  return Counter(launches=count, runs=len(expected), trained_twice=0)


DAMAGES = {
  'delete': lambda content, rng: None,
  'empty': lambda content, rng: b'',
  'cut': lambda content, rng: content[: rng.randrange(len(content))],
  'flip': lambda content, rng: _flipped(content, rng.randrange(8 * len(content))),
}


def _flipped(content: bytes, bit: int) -> bytes:
  changed = bytearray(content)
  changed[bit // 8] ^= 1 << (bit % 8)
  return bytes(changed)


def damages(
  directory: pathlib.Path, cells: str, expected: dict, rounds: int = 1, seed: int = 0
) -> Counter:
  """Damages each kind of file of a workdir, one at a time, in every way of `DAMAGES`.

  Then launches: either all is as it was, or the file is named and the exit code is 1. The
  workdir is one that is done, or one that was terminated in the middle of a run.
  """
  rng, met = random.Random(seed), Counter()
  done, halfway = directory / 'done', directory / 'halfway'
  code, said = launch(done, cells)
  assert code == 0, said
  _halfway(halfway, cells)
  for original in (done, halfway):
    for name in sorted({_kind(path) for path in _files(original)}):
      for how in [*DAMAGES] * rounds:
        file = rng.choice([path for path in _files(original) if _kind(path) == name])
        changed = DAMAGES[how](file.read_bytes(), rng)
        if changed is None or changed != file.read_bytes():
          met[_damage(directory / 'damaged', original, file, changed, cells, expected)] += 1
          met[f'cases ({original.name})'] += 1
  return met


def _halfway(workdir: pathlib.Path, cells: str) -> None:
  """A launch that was terminated when its second run had two checkpoints."""
  process = start(workdir, cells)
  runs = workdir / 'runs'
  while len(list(runs.glob('*/result.json'))) < 1 or len(list(runs.glob('*/*.ckpt'))) < 2:
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  finish(process)


def _files(workdir: pathlib.Path) -> list[pathlib.Path]:
  inside = [*workdir.glob('runs/*/*'), workdir / 'plan.json']
  report = [path for path in workdir.glob('report/*') if path.is_file()]
  return sorted(path for path in inside + report if path.is_file())


def _kind(path: pathlib.Path) -> str:
  return re.sub(r'\d+', '', path.name)


def _damage(copy, original, file, changed, cells, expected) -> str:
  """One case; says how it ended."""
  shutil.copytree(original, copy, dirs_exist_ok=False)
  place = copy / file.relative_to(original)
  place.unlink() if changed is None else place.write_bytes(changed)
  case = f'{place.relative_to(copy)} {"deleted" if changed is None else "damaged"}'
  try:
    code, said = launch(copy, cells)
    if code == 0:
      if file.name in ('params.msgpack', 'best.msgpack') and _finished(original, file):
        return _refused_on_load(place, case)
      assert_same(copy, expected)
      return 'harmless or rebuilt'
    assert code == 1 and place.name in said, f'{case}: {said}'
    shutil.rmtree(place.parent)  # what the message says
    code, said = launch(copy, cells)
    assert code == 0, f'{case}: {said}'
    assert_same(copy, expected)
    return 'refused by name, then rebuilt'
  except AssertionError as e:
    raise AssertionError(f'{case}: {e}') from e
  finally:
    shutil.rmtree(copy)


def _finished(original, file) -> bool:
  return file.with_name('result.json').exists()


def _refused_on_load(place: pathlib.Path, case: str) -> str:
  """Weights are looked at when they are loaded."""
  import jaxbudget

  which = 'best' if place.name.startswith('best') else 'last'
  try:
    jaxbudget.load(place.parent, which)
  except ValueError as e:
    assert place.name in str(e), f'{case}: {e}'
    return 'refused by name on load'
  raise AssertionError(f'{case}: loaded all the same')


def full_disks(
  directory: pathlib.Path, cells: str, expected: dict, count: int, seed: int = 0
) -> Counter:
  """Fills up a small tmpfs at random moments, makes room, and goes on.

  Skips, and says so, where one may not mount a tmpfs.
  """
  rng, met = random.Random(seed), Counter()
  kept = [content for run in expected.values() for content in run.values()]
  needed = 2 * sum(len(content) for content in kept if isinstance(content, bytes))
  for case in range(count):
    with _tmpfs(directory / 'small') as disk:
      if disk is None:
        return Counter({'skipped, no right to mount a tmpfs': 1})
      workdir = disk / 'work'
      _resize(disk, max(1 << 15, int(rng.uniform(0.0, 1.0) * needed)))
      code, said = launch(workdir, cells)
      if code:
        assert code == 1 and 'No space left on device' in said, said
        met['full'] += 1
      assert not list(workdir.rglob('*.tmp')), case
      for path in workdir.rglob('*.json'):
        json.loads(path.read_text())
      _resize(disk, 1 << 28)
      code, said = launch(workdir, cells)
      assert code == 0, said
      assert_same(workdir, expected)
      met['cases'] += 1
  return met


@contextlib.contextmanager
def _tmpfs(mount: pathlib.Path) -> Iterator[pathlib.Path | None]:
  mount.mkdir()
  mounted = subprocess.run(['mount', '-t', 'tmpfs', 'none', mount], capture_output=True)
  try:
    yield None if mounted.returncode else mount
  finally:
    if not mounted.returncode:
      subprocess.run(['umount', mount], check=True)
    mount.rmdir()


def _resize(mount: pathlib.Path, size: int) -> None:
  subprocess.run(['mount', '-o', f'remount,size={size}', mount], check=True)
