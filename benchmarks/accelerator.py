"""What an accelerator does with the compiled epoch: right, fast, overheads, whole, several.

  make gpu                                      # or: python benchmarks/accelerator.py
  python benchmarks/accelerator.py              # once more: goes on where time was up
  python benchmarks/accelerator.py --only=right,fast --limit=1800 --case=p_sgd
  python benchmarks/accelerator.py --again=overheads --again='fast|batch 128'
  python benchmarks/accelerator.py --only=whole --data=cifar10.npz    # else on random images
  python benchmarks/accelerator.py --render     # the tables of what is stored, on any machine
  python benchmarks/accelerator.py --smoke      # one case a part on the CPU, under a minute

Needs jax, flax, optax, chex and numpy, and takes CUDA, ROCm or TPU as it is found; PyTorch is set
beside it where it is installed. The most telling parts come first, and each case is written down
as it ends, with device, driver, versions and commit, in OUT/accelerator.json and as tables in
OUT/accelerator.md. A call begins no case after seven minutes; the next goes on. What failed, was
wrong, or was measured on another device, with other versions or of another engine is measured
again; what is not reached stays. Nothing is timed while anything of ours is compiled.
"""

import argparse
import atexit
import functools
import itertools
import math
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import jax
from on_device import ROOT, ahead, fast, rights, several, trace, whole
from on_device.book import TITLES, Book
from on_device.here import conditions
from on_device.rows import Setting
from on_device.sizes import Case, Sizes, beside_torch, sizes

LIMIT = 420  # seconds: what has begun then ends within nine minutes of the start
PARTS = 'right', 'fast', 'overheads', 'trace', 'whole', 'several', 'later'
SMOKE = ['p_sgd', 'ordered_sgd compact, q falls', 'unif_sgd, ricap']  # of part `right`


def main(given: list[str] | None = None) -> int:
  parser = parser_of_flags()
  flags = parser.parse_args(given)
  wanted = flags.only.split(',')
  again = [what.partition('|')[0] for what in flags.again]
  for flag, named, there in (('only', wanted, PARTS), ('again', again, TITLES)):
    unknown = [part for part in named if part not in there]
    if unknown:
      parser.error(f'--{flag}: no such part: {", ".join(unknown)}; there are {", ".join(there)}')
  if flags.render:
    print(Book(flags.out / 'accelerator.json').render())
    return 0
  # Several processes share the card; each takes what it needs.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  if flags.smoke:
    os.environ['JAX_PLATFORMS'] = 'cpu'  # of processes started from here too
    jax.config.update('jax_platforms', 'cpu')
    flags.out = pathlib.Path(temporary())
  if jax.default_backend() == 'cpu' and not flags.smoke:
    parser.error(
      f'jax {jax.__version__} of {sys.executable} finds no accelerator: give this Python '
      "jax for one (pip install 'jax[cuda12]', 'jax[cuda13]', 'jax[tpu]'), or name another that "
      'has it (make gpu GPU_PYTHON=...); --smoke runs tiny sizes on the CPU'
    )
  flags.out.mkdir(parents=True, exist_ok=True)
  kept = flags.resume, flags.again, flags.case
  book = Book(flags.out / 'accelerator.json', conditions(flags.commit), *kept)
  share_programs()
  bench(book, wanted, flags)
  print(book.render())
  for what in book.failed():
    book.say(f'failed or wrong: {what}')
  return int(bool(book.failed()))


def parser_of_flags() -> argparse.ArgumentParser:
  """The flags, see the head of this file."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'results')
  parser.add_argument(
    '--only', default=','.join(PARTS), help='parts in the order wanted, by commas'
  )
  parser.add_argument(
    '--case', action='append', default=[], metavar='TEXT',
    help='only cases with this text in their names; may be given often',
  )  # fmt: skip
  parser.add_argument(
    '--limit', type=float, help='seconds after which no case begins (420; with --smoke none)'
  )
  parser.add_argument(
    '--resume', action='store_true',
    help='keep what is measured already on any device, with any versions, of any engine',
  )  # fmt: skip
  parser.add_argument(
    '--again', action='append', default=[], metavar='PART|CASE',
    help='measure a part anew, or its cases with this text in their names; may be given often',
  )  # fmt: skip
  parser.add_argument('--render', action='store_true', help='only write the tables')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes on the CPU, not stored')
  parser.add_argument(
    '--data', help='npz file of real images for whole runs: x_train, y_train, ...'
  )
  parser.add_argument('--commit', help='what is measured, where there is no git')
  return parser


def bench(book: Book, wanted: list[str], flags) -> None:
  """Runs the parts that are wanted, in the order in which they are."""
  usual = math.inf if flags.smoke else LIMIT
  until, told = time.time() + (usual if flags.limit is None else flags.limit), set()
  small, made = flags.smoke, sizes(flags.smoke)
  repeats = 1 if small else 5

  def attempt(part: str, case: str, measure, *arguments) -> None:
    if time.time() <= until:
      book.attempt(part, case, measure, *arguments)
    elif part not in told and not book.has(part, case):
      told.add(part)
      book.say(f'{part}: left out from {case} on, for time is up; the next call goes on')

  rows = parts_of_rows(book, wanted, made, until, attempt, small)

  def overheads() -> None:
    rows['overheads']()
    for samples, name in itertools.product(made.plans, ('p_sgd', 'unif_sgd')):
      case = f'plan of {name}, {samples:,} samples'
      attempt('overheads', case, fast.plan, name, samples, made.plain.batch, repeats)

  def together() -> None:
    for setting, counts in made.several:
      epochs = 2 if small else 10 if setting.model == 'resnet8' else 3
      given = setting, counts, epochs, repeats // 2 + 1
      attempt('several', setting.title, several.measure, *given)

  def wholes() -> None:
    where = 'real data' if flags.data else 'random data'
    for setting in made.whole:
      attempt('whole', f'{setting.title}, {where}', whole.measure, setting, flags.data)

  parts = rows | {
    'right': lambda: rights.check(book, until, SMOKE if small else None),
    'overheads': overheads,
    'whole': wholes,
    'several': together,
  }
  for part in wanted:
    parts[part]()


def parts_of_rows(
  book: Book, wanted: list[str], made: Sizes, until: float, attempt: Callable, small: bool
) -> dict[str, Callable[[], None]]:
  """The parts that measure rows, which are made before any is measured.

  Args:
    book: what is known.
    wanted: parts of this call.
    made: the cases.
    until: nothing is compiled after it, by `time.time`.
    attempt: `(part, case, measure, *arguments)`, measures a case if there is time.
    small: once each, and not beside PyTorch.
  """
  repeats = 1 if small else 5
  measures = {
    'fast': lambda there, of: fast.row(there.rows[of].result, there.peers.get(of, {}), repeats),
    'trace': lambda there, of: trace.measure(there.rows[of].result),
    'overheads': lambda there, of: fast.ratio(
      there.rows[of].result, there.rows[made.plain].result, repeats
    ),
  }

  def ready(cases: list[Case], first: Iterable[Setting] = ()) -> ahead.Made:
    missing = [case for case in cases if not book.has(case.part, case.name)]
    timed = [case.setting for case in missing if case.part == 'fast']
    others = [case.setting for case in missing]
    return ahead.make([*first, *timed], others, [] if small else timed, until, book.say)

  @functools.cache
  def all_ready() -> ahead.Made:
    plain = [made.plain] if 'overheads' in wanted else []
    apart = [s for s, _ in made.several if 'several' in wanted and not book.has('several', s.title)]
    return ready([case for case in made.cases() if case.part in wanted], [*plain, *apart])

  def measure(cases: list[Case], ready: Callable[[], ahead.Made]) -> None:
    for part, name, setting in cases:
      if not book.has(part, name):
        there = ready() if time.time() <= until else None
        attempt(part, name, measures[part], there, setting)

  def usual(part: str) -> None:
    measure([case for case in made.cases() if case.part == part], all_ready)

  def later() -> None:
    for few in map(beside_torch, made.later):
      measure(few, functools.cache(functools.partial(ready, few)))

  return {part: functools.partial(usual, part) for part in measures} | {'later': later}


def temporary() -> str:
  """A folder that goes when this process ends."""
  path = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, path, ignore_errors=True)
  return path


def share_programs() -> None:
  """Keeps compiled programs where later processes find them."""
  directory = os.environ.get('JAX_COMPILATION_CACHE_DIR') or temporary()
  os.environ['JAX_COMPILATION_CACHE_DIR'] = directory
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  jax.config.update('jax_compilation_cache_dir', directory)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


if __name__ == '__main__':
  sys.exit(main())
