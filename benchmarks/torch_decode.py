"""Images a second of PyTorch's DataLoader, with this package's decoder: the peer of decode.py.

python torch_decode.py LISTING SIDE BATCH WORKERS SKIPPED

Needs torch, numpy and pillow, and neither jax nor this package: the two modules that decode are
loaded from their files. Prints two numbers, of the batches behind the first SKIPPED ones: images a
second, and images a second of processor time, of this process and its workers.
"""

import importlib.util
import io
import os
import pathlib
import sys
import time

DATA = pathlib.Path(__file__).parents[1] / 'jaxbudget' / 'data'


def module(name):
  spec = importlib.util.spec_from_file_location(name, DATA / f'{name}.py')
  found = importlib.util.module_from_spec(spec)
  sys.modules[name] = found
  spec.loader.exec_module(found)
  return found


class Files:
  """Random resized crops of files."""

  def __init__(self, paths, side):
    self.paths, self.side = paths, side

  def __len__(self):
    return len(self.paths)

  def __getitem__(self, i):
    pictures, crops = (sys.modules.get(n) or module(n) for n in ('pictures', 'crops'))
    path = pathlib.Path(self.paths[i])
    random = crops.generator(1, 0, 0, i)
    look, content = pictures.Look(self.side, 'center'), io.BytesIO(path.read_bytes())
    found = pictures.read(path, look, content, lambda shape: crops.random_box(random, shape))
    import torch  # late: decode.py, which has none, takes `processor_seconds` from here

    return torch.from_numpy(found.pixels.copy())


def processor_seconds() -> float:
  """Of this process and its children, so far."""
  found, own = 0, str(os.getpid())
  for place in pathlib.Path('/proc').glob('[0-9]*'):
    try:
      fields = (place / 'stat').read_text('utf-8').rpartition(')')[2].split()
    except OSError:  # it has just ended
      continue
    if own in (place.name, fields[1]):  # itself, or its parent
      found += int(fields[11]) + int(fields[12])
  return found / os.sysconf('SC_CLK_TCK')


def main():
  import torch

  listing, side, batch, workers, skipped = sys.argv[1], *map(int, sys.argv[2:])
  paths = pathlib.Path(listing).read_text('utf-8').splitlines()
  loader = torch.utils.data.DataLoader(
    Files(paths, side), batch_size=batch, num_workers=workers, drop_last=True
  )
  images = 0
  for number, found in enumerate(loader, 1):
    if number == skipped:
      start, before = time.perf_counter(), processor_seconds()
    images += len(found) * (number > skipped)
    if number == len(loader):  # its workers are there still
      seconds, took = time.perf_counter() - start, processor_seconds() - before
  print(images / seconds, images / took)


if __name__ == '__main__':
  main()
