"""What an accelerator does with the compiled epoch: right, fast, overheads, whole, several.

  make gpu                                        # or: python benchmarks/accelerator.py
  python benchmarks/accelerator.py --limit=530    # begins no case after so many seconds
  python benchmarks/accelerator.py --resume       # goes on where it was cut off
  python benchmarks/accelerator.py --only=right,fast
  python benchmarks/accelerator.py --only=whole --data=cifar10.npz    # else on random images
  python benchmarks/accelerator.py --smoke        # one case a part on the CPU, under a minute

Needs jax, flax, optax, chex and numpy, and takes CUDA, ROCm or TPU as it is found; PyTorch is set
beside it where it is installed. The most telling parts come first, and each case is written down
as it ends, in OUT/accelerator.json and as tables in OUT/accelerator.md. Nothing is timed while
anything is compiled.
"""

import argparse
import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
import time

import jax
from on_device import ROOT, fast, right, several, trace, whole
from on_device.book import Book
from on_device.rows import Setting
from on_device.whole import Whole

PARTS = 'right', 'fast', 'trace', 'overheads', 'several', 'whole', 'later'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'results')
  parser.add_argument(
    '--only', default=','.join(PARTS), help='parts in the order wanted, by commas'
  )
  parser.add_argument('--limit', type=float, default=2400, help='seconds')
  parser.add_argument('--resume', action='store_true', help='keep what is measured already')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes on the CPU, not stored')
  parser.add_argument(
    '--data', help='npz file of real images for whole runs: x_train, y_train, ...'
  )
  parser.add_argument('--commit', help='what is measured, where there is no git')
  flags = parser.parse_args()
  wanted = flags.only.split(',')
  unknown = sorted({*wanted} - {*PARTS})
  if unknown:
    parser.error(f'no such part: {", ".join(unknown)}; there are {", ".join(PARTS)}')
  # Several processes share the card; each takes what it needs.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  if flags.smoke:
    os.environ['JAX_PLATFORMS'] = 'cpu'  # of processes started from here too
    jax.config.update('jax_platforms', 'cpu')
    flags.out = pathlib.Path(tempfile.mkdtemp())
  if jax.default_backend() == 'cpu' and not flags.smoke:
    parser.error('there is no accelerator here; --smoke runs tiny sizes on the CPU')
  flags.out.mkdir(parents=True, exist_ok=True)
  book = Book(flags.out / 'accelerator.json', circumstances(flags.commit), flags.resume)
  share_programs()
  bench(book, wanted, flags)
  text = book.render()
  (flags.out / 'accelerator.md').write_text(text)
  print(text)
  failed = [case for part in book.content['parts'].values() for case in part.values()
            if 'failed' in case or case.get('right') is False]  # fmt: skip
  return int(bool(failed))


def bench(book: Book, wanted: list[str], flags) -> None:
  """Runs the parts that are wanted, in the order in which they are."""
  began, told = time.monotonic(), set()
  small, settings = flags.smoke, sizes(flags.smoke)
  repeats = 1 if small else 5

  def attempt(part: str, case: str, measure, *arguments) -> None:
    if time.monotonic() - began <= flags.limit:
      book.attempt(part, case, measure, *arguments)
    elif part not in told:
      told.add(part)
      book.say(f'{part}: left out from {case} on, for time is up; --resume goes on')

  def beside_torch(part: str) -> None:
    for setting in settings[part]:
      attempt('fast', setting.title, fast.row, setting, repeats, not small and part == 'fast')

  def traced() -> None:
    for setting in settings['trace']:
      attempt('trace', setting.title, trace.measure, setting)

  def overheads() -> None:
    plain = functools.cache(lambda: fast.Rows(settings['plain']))
    for name, setting in settings['methods'].items():
      attempt('overheads', name, fast.ratio, setting, plain, repeats)
    for samples, name in itertools.product(settings['plans'], ('p_sgd', 'unif_sgd')):
      case = f'plan of {name}, {samples:,} samples'
      attempt('overheads', case, fast.plan, name, samples, settings['plain'].batch, repeats)

  def together() -> None:
    for setting, counts in settings['several']:
      epochs = 2 if small else 10
      given = setting, counts, epochs, repeats // 2 + 1
      attempt('several', setting.title, several.measure, *given)

  def wholes() -> None:
    where = 'real data' if flags.data else 'random data'
    for setting in settings['whole']:
      attempt('whole', f'{setting.title}, {where}', whole.measure, setting, flags.data)

  parts = {
    'right': lambda: check(book, small),
    'fast': lambda: beside_torch('fast'),
    'trace': traced,
    'overheads': overheads,
    'several': together,
    'whole': wholes,
    'later': lambda: beside_torch('later'),
  }
  for part in wanted:
    parts[part]()


def sizes(small: bool) -> dict:
  """What each part trains, most telling first."""
  plain = Setting()
  tiny = Setting(model='resnet8', width=16, side=16, examples=10_000, format='tf32')
  if small:
    plain = Setting(model='mlp', width=1, batch=8, side=8, format='tf32', examples=64)
    tiny = plain
  scoring = {'prime': False} | ({'history': 16} if small else {})
  sb = plain._replace(selector='selective_backprop', options=tuple(scoring.items()))
  methods = {
    'p_sgd': plain._replace(selector='p_sgd'),
    'selective_backprop': sb,
    'a row that takes no step': sb._replace(options=tuple((scoring | {'b': 1e9}).items())),
    'ordered_sgd compact': plain._replace(
      selector='ordered_sgd', options=(('backward', 'compact'),)
    ),
    **{name: plain._replace(augment=name) for name in ('randaugment', 'mixup', 'ricap', 'cutmix')},
  }
  formats = [
    plain._replace(format=f, batch=b * plain.batch) for b in (1, 4) for f in ('bfloat16', 'tf32')
  ]
  later = [
    plain._replace(side=84, examples=38_400),
    plain._replace(batch=1024),
    plain._replace(format='float32'),
  ]
  if small:
    methods = {name: methods[name] for name in ('p_sgd', 'a row that takes no step')}
    formats, later = [plain], []
  return {
    'fast': formats,
    'plain': plain,
    'methods': methods,
    'plans': (256,) if small else (50_000, 1_000_000, 10_000_000),
    'trace': [plain] if small else [methods['p_sgd'], sb, tiny],
    'several': [(tiny, (1, 2) if small else (1, 2, 4, 8))],
    'whole': _wholes(small),
    'later': later,
  }


def _wholes(small: bool) -> list[Whole]:
  if small:
    tiny = (('model', 'mlp'), ('batch_size', 8), ('epochs', 2))
    return [Whole(others=tiny, side=8, examples=64, tested=64)]
  return [Whole(), Whole('airbench94', budget=1.0), Whole(selector='p_sgd')]


def share_programs() -> None:
  """Keeps compiled programs where later processes find them."""
  directory = os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp())
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  jax.config.update('jax_compilation_cache_dir', directory)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def check(book: Book, small: bool) -> None:
  """Part `right`, in processes of its own: most of it is compiling tiny programs."""
  names = list(right.cases())
  if small:
    names = ['p_sgd', 'selective_backprop', 'unif_sgd, ricap']
  names = [name for name in names if not book.has('right', name)]
  count = min(len(names), max(1, (os.cpu_count() or 1) // 2), 8)
  command = [sys.executable, '-m', 'on_device.right']
  processes = [
    subprocess.Popen(
      [*command, *names[i::count]], stdout=subprocess.PIPE, text=True, cwd=ROOT / 'benchmarks'
    )
    for i in range(count)
  ]
  for number, process in enumerate(processes):
    for line in process.stdout:
      found = json.loads(line)
      book.enter('right', found.pop('case'), found)
    if process.wait():
      failed = {'right': False, 'failed': f'exit code {process.wait()}'}
      book.enter('right', f'process {number}', failed)


def circumstances(commit: str | None) -> dict:
  """Device, driver, machine, versions, commit and command."""
  device = jax.devices()[0]
  said = lambda *command: output(command).splitlines()[:1]
  driver = said('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader')
  git = said('git', '-C', str(ROOT), 'rev-parse', '--short=12', 'HEAD')
  packages = 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'jax-cuda13-plugin', 'libtpu'
  return {
    'command': shlex.join(['python', 'benchmarks/accelerator.py', *sys.argv[1:]]),
    'commit': commit or (git[0] if git else 'unknown'),
    'device': f'{jax.device_count()} x {device.device_kind}',
    'driver': f'driver {driver[0]}' if driver else device.platform,
    'machine': f'{os.cpu_count()} cores {platform.machine()}',
    'versions': {'python': platform.python_version()} | {p: version(p) for p in packages},
  }


def output(command) -> str:
  """What a command prints; nothing if it cannot run."""
  try:
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
  except OSError:
    return ''


def version(package: str) -> str:
  """Of an installed package; nothing if it is not."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ''


if __name__ == '__main__':
  sys.exit(main())
