"""Images a second that stay in their files, beside PyTorch's DataLoader with the same decoder.

  python benchmarks/decode.py --samples DIR --torch-python PYTHON
  python benchmarks/decode.py --samples DIR --smoke    # 64 files of 32 pixels; nothing is stored

A folder of JPEGs is made from the real photographs of a mini-ImageNet tar in DIR, each enlarged to
`--side` pixels. Rows of random resized crops are then read in a shuffled order by threads of this
process, by worker processes, and by a DataLoader with as many of them (benchmarks/torch_decode.py,
run by PYTHON, which has torch, numpy and pillow): they take turns. Pillow decodes for all, by the
same functions. Rates are those of a pass behind its first chunk, or batches: workers have started.
"""

import argparse
import functools
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
import PIL.Image
import record
from record import Figure
from torch_decode import processor_seconds

from jaxbudget.data.encoded import ImageFiles
from jaxbudget.data.pictures import Look
from jaxbudget.placement import Walk

THEIRS = pathlib.Path(__file__).parent / 'torch_decode.py'
TENTH = 0.1


def write_files(samples: pathlib.Path, directory: pathlib.Path, count: int, side: int) -> list[str]:
  """JPEGs of `side` pixels, each of a real photograph, no two alike."""
  (tar,) = samples.glob('mini-imagenet*.tar')
  with tarfile.open(tar) as opened:
    members = [m for m in opened if m.name.lower().endswith(('.jpg', '.jpeg', '.png'))]
    contents = [opened.extractfile(m).read() for m in members[: min(count, len(members))]]
  paths = []
  for i in range(count):
    image = PIL.Image.open(io.BytesIO(contents[i % len(contents)])).convert('RGB')
    turn = i // len(contents)  # the same photograph again: another part of it
    left = turn % max(1, image.width // 8)
    image = image.crop((left, 0, image.width, image.height)).resize((side, side))
    path = directory / f'{i:06d}.jpg'
    image.save(path, quality=90)
    paths.append(str(path))
  return paths


def ours(paths, order, flags, workers: int) -> tuple[float, float]:
  """Images a second of a pass, and of processor time; threads if there are no workers."""
  sizes = np.array([os.path.getsize(path) for path in paths])
  source = ImageFiles(paths, sizes, Look(flags.side, 'center'), 'random_resized', 1, workers)
  index = order[: len(order) // flags.batch * flags.batch].reshape(-1, flags.batch)
  rows = min(flags.rows, len(index) // 3)
  passed = source.walk(Walk(index, np.arange(flags.batch), 0, len(index), rows, 0))
  next(passed)
  start, before, images = time.perf_counter(), processor_seconds(), 0
  for _ in passed:
    images += rows * flags.batch
  seconds, took = time.perf_counter() - start, processor_seconds() - before
  images = min(images, (len(index) - rows) * flags.batch)
  return images / seconds, images / took


def theirs(listing: pathlib.Path, flags) -> tuple[float, float]:
  """The same of a DataLoader."""
  numbers = map(str, (flags.side, flags.batch, flags.workers, flags.rows))
  command = [flags.torch_python, str(THEIRS), str(listing), *numbers]
  said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
  return tuple(map(float, said.split()))


def measure(flags, directory: pathlib.Path) -> list[Figure]:
  """Reads in turns; the figures."""
  paths = write_files(flags.samples, directory, flags.count, flags.side)
  sizes = np.array([os.path.getsize(path) for path in paths])
  order = np.random.default_rng(0).permutation(len(paths)).astype(np.int32)
  listing = directory / 'order.txt'
  listing.write_text('\n'.join(paths[i] for i in order), 'utf-8')
  readers = {
    'threads of this process': functools.partial(ours, paths, order, flags, 0),
    f'{flags.workers} worker processes': functools.partial(
      ours, paths, order, flags, flags.workers
    ),
  }
  if flags.torch_python:
    readers[f'DataLoader, {flags.workers} workers'] = lambda: theirs(listing, flags)
  rates = {name: [] for name in readers}
  for _ in range(flags.rounds):
    for name, read in readers.items():
      rates[name].append(read())
  table = []
  for position, unit in enumerate(('a second', 'a second of a core')):
    each = {name: [rate[position] for rate in values] for name, values in rates.items()}
    table += [Figure(f'{name}: images {unit}', values, '1/s') for name, values in each.items()]
    if flags.torch_python:
      _, mine, other = each.values()
      ratios = [a / b for a, b in zip(mine, other, strict=True)]
      table.append(Figure(f'worker processes over DataLoader, {unit}', ratios, '', at_least=1.0))
  source = ImageFiles(paths, sizes, Look(flags.side, 'center'))
  rows = max(1, round(TENTH * len(order) / flags.batch))
  for _ in source.walk(
    Walk(np.resize(order, (rows, flags.batch)), np.arange(flags.batch), 0, rows, 1)
  ):
    pass
  share = source.bytes_read / sizes.sum()
  table.append(Figure('bytes read at B = .1, of all', [share], '', at_most=1.1 * TENTH))
  print(f'{flags.count:,} files of {flags.side} pixels, {sizes.sum() / 2**20:,.0f} MiB')
  return table


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--samples', type=pathlib.Path, required=True, help='with a mini-ImageNet tar'
  )
  parser.add_argument('--torch-python', default='', help='an interpreter that has torch')
  parser.add_argument('--count', type=int, default=20_000)
  parser.add_argument('--side', type=int, default=224)
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--rows', type=int, default=3, help='in a chunk')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--smoke', action='store_true')
  flags = parser.parse_args()
  if flags.smoke:
    flags.count, flags.side, flags.batch, flags.workers, flags.rounds = 64, 32, 8, 1, 1
  with tempfile.TemporaryDirectory() as directory:
    table = measure(flags, pathlib.Path(directory))
  if flags.smoke:
    record.show(table)
    return 0
  return record.store('decode', table)


if __name__ == '__main__':
  sys.exit(main())
