"""What an accelerator does with the compiled epoch: right, fast, overheads, whole, several.

  make gpu                                        # or: python benchmarks/accelerator.py
  python benchmarks/accelerator.py --limit=530    # begins no case after so many seconds
  python benchmarks/accelerator.py --resume       # goes on where it was cut off
  python benchmarks/accelerator.py --only=right,fast
  python benchmarks/accelerator.py --smoke        # one case a part on the CPU, under a minute

Needs jax, flax, optax, chex and numpy, and takes CUDA, ROCm or TPU as it is found; PyTorch is set
beside it where it is installed. The most telling parts come first, and each case is written down as
it ends, in OUT/accelerator.json and as tables in OUT/accelerator.md. Row programs are compiled
before anything is timed, side by side, into a cache that processes started from here share.
"""

import argparse
import concurrent.futures
import importlib.metadata
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
from on_device import ROOT, fast, peer, right, several, trace, whole
from on_device.book import Book
from on_device.rows import Setting, lower

PARTS = 'right', 'fast', 'overheads', 'trace', 'several', 'whole', 'later'


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=pathlib.Path, default=ROOT / 'docs' / 'results')
  parser.add_argument('--only', default=','.join(PARTS), help='parts, joined by commas')
  parser.add_argument('--limit', type=float, default=2400, help='seconds')
  parser.add_argument('--resume', action='store_true', help='keep what is measured already')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes on the CPU, not stored')
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
  """Runs the parts that are wanted."""
  began = time.monotonic()
  told = set()

  def in_time(part: str, case: str) -> bool:
    if time.monotonic() - began <= flags.limit:
      return True
    if part not in told:
      told.add(part)
      book.say(f'{part}: left out from {case} on, for time is up; --resume goes on')
    return False

  small = flags.smoke
  width, repeats = (4, 1) if small else (64, 5)
  settings = sizes(small)
  # The card is left alone while XLA and PyTorch choose their kernels by timing them.
  checking = start_right(book, small) if 'right' in wanted else []
  programs = lower_all(book, [s for part in wanted for s in settings.get(part, [])])
  read_right(book, checking)
  peers = start_peers(book, settings['fast']) if 'fast' in wanted and not small else {}
  compile_all(book, programs)
  for (setting, form), other in peers.items():
    book.say(f'PyTorch {form}, {setting.title}: {other.fault() or "ready"}')
  if 'fast' in wanted:
    for setting in settings['fast']:
      if in_time('fast', setting.title):
        beside = {form: other for (of, form), other in peers.items() if of == setting}
        book.attempt('fast', setting.title, fast.row, setting, repeats, beside)
  for other in peers.values():
    other.close()
  if 'overheads' in wanted:
    fast.measure_overheads(book, settings, repeats, lambda case: in_time('overheads', case))
  if 'trace' in wanted:
    for setting in settings['trace']:
      if in_time('trace', setting.title):
        book.attempt('trace', setting.title, trace.measure, setting)
  if 'several' in wanted:
    for setting, counts in zip(settings['several'], settings['counts'], strict=True):
      if in_time('several', setting.title):
        epochs = 2 if small else 10
        book.attempt(
          'several', setting.title, several.measure, setting, counts, epochs, repeats // 2 + 1
        )
  if 'whole' in wanted:
    for setting in settings['whole']:
      if in_time('whole', setting.title):
        epochs, test = (2, 64) if small else (200, 10_000)
        book.attempt('whole', setting.title, whole.measure, setting, epochs, test)
  if 'later' in wanted:
    for setting in settings['later']:
      if in_time('fast', setting.title):
        book.attempt('fast', setting.title, fast.row, setting, repeats, {})


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
    'overheads': [plain, *methods.values()],
    'plans': (256,) if small else (50_000, 1_000_000, 10_000_000),
    'trace': [plain] if small else [methods['p_sgd'], sb, methods['ordered_sgd compact'], tiny],
    'several': [tiny] if small else [tiny, plain],
    'counts': [(1, 2)] if small else [(1, 2, 4, 8), (1, 2)],
    'whole': [plain] if small else [plain, methods['p_sgd']],
    'later': later,
  }


def share_programs() -> None:
  """Keeps compiled programs where later processes find them."""
  directory = os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', tempfile.mkdtemp())
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  jax.config.update('jax_compilation_cache_dir', directory)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def lower_all(book: Book, settings: list[Setting]) -> dict[Setting, tuple]:
  """Traces and lowers row programs: (lowered, seconds that it took) of each."""
  found = {}
  for setting in dict.fromkeys(settings):
    if not book.has('compiled', setting.title):
      start = time.perf_counter()
      found[setting] = lower(setting), time.perf_counter() - start
  return found


def compile_all(book: Book, programs: dict[Setting, tuple]) -> None:
  """Compiles row programs side by side."""

  def one(setting):
    lowered, traced = programs[setting]
    start = time.perf_counter()
    memory = lowered.compile().memory_analysis()
    figures = {'trace, s': traced, 'compile, s': time.perf_counter() - start}
    return figures | ({'temporaries, MB': memory.temp_size_in_bytes / 1e6} if memory else {})

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
    for setting, future in [(s, pool.submit(one, s)) for s in programs]:
      book.attempt('compiled', setting.title, future.result)


def start_right(book: Book, small: bool) -> list[subprocess.Popen]:
  """Starts part `right`, in processes of their own."""
  names = list(right.cases())
  if small:
    names = ['p_sgd', 'selective_backprop', 'unif_sgd, ricap']
  names = [name for name in names if not book.has('right', name)]
  count = min(len(names), max(1, (os.cpu_count() or 1) // 2), 8)
  command = [sys.executable, '-m', 'on_device.right']
  return [
    subprocess.Popen(
      [*command, *names[i::count]], stdout=subprocess.PIPE, text=True, cwd=ROOT / 'benchmarks'
    )
    for i in range(count)
  ]


def read_right(book: Book, processes: list[subprocess.Popen]) -> None:
  """Waits for part `right`."""
  for number, process in enumerate(processes):
    for line in process.stdout:
      found = json.loads(line)
      book.enter('right', found.pop('case'), found)
    if process.wait():
      book.enter(
        'right', f'process {number}', {'right': False, 'failed': f'exit code {process.wait()}'}
      )


def start_peers(book: Book, settings: list[Setting]) -> dict[tuple[Setting, str], peer.Peer]:
  """PyTorch's side of each setting, getting ready."""
  if not peer.there() or jax.default_backend() != 'gpu':
    return {}
  wanted = [s for s in settings if not book.has('fast', s.title)]
  return {(s, form): peer.Peer(s, form, 'cuda') for s in wanted for form in peer.FORMS}


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
