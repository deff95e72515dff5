"""Rows a second by where the images lie, in one run, and the memory and the bytes that they take.

  python benchmarks/placement.py
  python benchmarks/placement.py --model resnet18 --side 96
  python benchmarks/placement.py --samples DIR --side 224 --batch 32   # JPEGs in files too
  python benchmarks/placement.py --smoke     # a few small images; nothing is stored

Random uint8 images in a file that is mapped into memory, ten times as large as a chunk may be.
Epochs of each placement take turns, a fixed number of rows each, planned afresh: a fed epoch pays
for its first chunk, which nothing hides. Memory is what the process has beside the mapped file
(RssAnon), sampled each millisecond: how far it rises in an epoch, less the rise of an epoch
on images that are on the device, which is the network's. On CPU the chunks on the device are in it.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import decode
import jax
import numpy as np
import record
from record import Figure

from jaxbudget import engine, feeding
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.data.encoded import ImageFiles
from jaxbudget.data.pictures import Look
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.placement import HostImages
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, Spec

CLASSES, TIMES, BUDGET = 10, 10, 0.5
TARGET = 0.95  # of the rows a second of images on the device
BOUND = 3  # chunks: one on the host, two on the device


def write_images(path: pathlib.Path, count: int, side: int) -> np.ndarray:
  """Random images in a file, mapped into memory."""
  shape = (count, side, side, 3)
  array = np.lib.format.open_memmap(path, 'w+', np.uint8, shape)
  rng = np.random.default_rng(0)
  for start in range(0, count, 1024):
    part = array[start : start + 1024]
    part[:] = rng.integers(0, 256, part.shape, np.uint8)
  array.flush()
  del array
  return np.load(path, mmap_mode='r')


def places(images: np.ndarray, files: ImageFiles | None) -> dict[str, tuple]:
  """What stands for the images under each placement, and bytes that its source has read."""
  source = HostImages(images)
  found = {
    'host': (lambda: source, lambda: source.bytes_read),
    'device': (lambda: jax.device_put(np.asarray(images)), lambda: None),
  }
  return found | ({'files': (lambda: files, lambda: None)} if files else {})


def encoded(flags, directory: pathlib.Path, count: int) -> ImageFiles | None:
  """As many images in files of their own, if there are samples to make them of."""
  if not flags.samples:
    return None
  (directory / 'files').mkdir()
  paths = decode.write_files(flags.samples, directory / 'files', count, flags.side)
  sizes = np.array([pathlib.Path(path).stat().st_size for path in paths])
  return ImageFiles(paths, sizes, Look(flags.side, 'center'), 'none', 1, flags.workers)


class Trained:
  """A run under one placement."""

  def __init__(self, image, label, flags):
    count, side = image.shape[:2]
    shape = image.shape[1:]
    self.spec = Spec(count, flags.batch, CLASSES, 10**4, shape)
    info = Info('x', count, 0, CLASSES, shape, (0.5,) * 3, (0.2,) * 3, 0.5, side // 8)
    options = {'width': flags.width} if flags.width else {}
    model = make_model(flags.model, CLASSES, shape, **options)
    selector = make_selector('unif_sgd', self.spec, BUDGET)
    self.rows = flags.rows
    parts = model, make_augment('standard', info), selector, make_optimizer()
    self.run, self.epoch = engine.start(self.spec, *parts, BUDGET), 0
    self.data = Data(image, jax.device_put(label))

  def train(self) -> float:
    """Plans an epoch and trains on its first rows; seconds."""
    start = time.perf_counter()
    self.run, progress = engine.run_epoch(self.run, self.data, self.epoch, 1e-3, self.rows)
    done = int(progress.row)
    self.epoch += 1
    assert done == self.rows, f'{done} rows of {self.rows}: fewer --rows, or more images'
    return time.perf_counter() - start


class Memory:
  """The most memory of its own that this process has in the time of a `with` block."""

  def __enter__(self):
    self.before = self.most = _anonymous()
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def _watch(self):
    while not self._over.wait(1e-3):
      self.most = max(self.most, _anonymous())

  def __exit__(self, *raised):
    self._over.set()
    self._thread.join()


def _anonymous() -> int:
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('RssAnon:'):
      return int(line.split()[1]) * 1024
  raise OSError('/proc/self/status tells no RssAnon')


def measure(flags, directory: pathlib.Path) -> list[Figure]:
  """Trains under every placement; the figures."""
  feeding.CHUNK_BYTES = chunk = int(flags.chunk_mib * 2**20)
  count = TIMES * chunk // (flags.side**2 * 3)
  images = write_images(directory / 'images.npy', count, flags.side)
  label = np.random.default_rng(1).integers(0, CLASSES, count).astype(np.int32)
  runs, table = {}, []
  asked = flags.rows * flags.batch * flags.side**2 * 3
  rose = {}
  for name, (make, read) in places(images, encoded(flags, directory, count)).items():
    runs[name] = Trained(make(), label, flags)
    runs[name].train()  # compiles
    before = read()
    with Memory() as memory:
      runs[name].train()
    rose[name] = memory.most - memory.before
    if before is not None:
      got = (read() - before) / asked
      table.append(Figure(f'{name}: bytes read over those of the rows', [got], '', 1.1))
  for name in runs.keys() - {'device'}:
    extra = (rose[name] - rose['device']) / chunk
    what = f'{name}: peak memory beyond that of device, chunks of {flags.chunk_mib:g} MiB'
    table.append(Figure(what, [extra], '', BOUND))
  seconds = {name: [] for name in runs}
  for _ in range(flags.rounds):
    for name, run in runs.items():
      seconds[name].append(run.train())
  rates = {name: [flags.rows / s for s in times] for name, times in seconds.items()}
  table += [Figure(f'{name}: rows a second', rates[name], '1/s') for name in rates]
  for name in rates:
    if name != 'device':
      ratios = [a / b for a, b in zip(rates[name], rates['device'], strict=True)]
      least = TARGET if name == 'host' else None
      table.append(Figure(f'{name} over device', ratios, '', at_least=least))
  print(
    f'{count:,} images of {flags.side} pixels, {images.nbytes / 2**20:,.0f} MiB; {flags.model}, '
    f'{flags.rows} rows of {flags.batch} an epoch, {runs["device"].spec.num_examples:,} samples; '
    f'a row on the device takes {1000 * statistics.median(seconds["device"]) / flags.rows:.1f} ms'
  )
  return table


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--model', default='resnet8')
  parser.add_argument('--width', type=int, default=4, help='0: of the network itself')
  parser.add_argument('--side', type=int, default=32, help='pixels')
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--rows', type=int, default=400, help='of an epoch')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--chunk-mib', type=float, default=64.0)
  parser.add_argument('--samples', type=pathlib.Path, help='with a mini-ImageNet tar')
  parser.add_argument('--workers', type=int, default=0, help='that decode; 0: threads')
  parser.add_argument('--smoke', action='store_true')
  flags = parser.parse_args()
  if flags.smoke:
    flags.side, flags.batch, flags.rows, flags.rounds, flags.chunk_mib = 8, 16, 3, 1, 0.01
  with tempfile.TemporaryDirectory() as directory:
    table = measure(flags, pathlib.Path(directory))
  if flags.smoke:
    record.show(table)
    return 0
  return record.store('placement_files' if flags.samples else 'placement', table)


if __name__ == '__main__':
  sys.exit(main())
