"""What augmentation costs: epochs compared with `standard`, and each alone against Pillow.

  python benchmarks/augment.py                      # ResNet-18 width 64, batch 128, 32x32
  python benchmarks/augment.py --smoke              # seconds: does it run?

The epochs are the engine's own, with unif_sgd at budget 1. Each case is run once per round,
in turn, so that a slow minute hits all of them; a ratio is that of one round. Pillow does
the same operations, image by image, in this process; both sides start from uint8 arrays and
end with a normalised float32 batch.
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import record
from jax import lax
from PIL import Image, ImageOps
from record import Figure

from jaxbudget import engine, optimizers
from jaxbudget.augment import make_augment, operations
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.types import Data, Spec, plain_batch, with_epoch

# The operations that the tests find equal to ours.
sys.path.append(str(pathlib.Path(__file__).parents[1] / 'tests'))
from pillow_operations import by_pillow  # noqa: E402

TARGET = 1.05  # an epoch, over the epoch with `standard`
NAMES = ('standard', 'randaugment', 'mixup', 'ricap')
ALPHA, M, N = 0.3, 4, 2  # the defaults, for the host's versions


def make_epoch(augment, spec, model, data):
  """Compiles an epoch. Returns `number -> seconds`."""
  selector, optimizer = unif_sgd(spec, 1.0), optimizers.make_optimizer()
  trained = engine.start(spec, model, augment, selector, optimizer, 1.0)

  def run(number, stop=None):
    nonlocal trained
    jax.block_until_ready(trained.state)
    start = time.perf_counter()
    trained, progress = engine.run_epoch(trained, data, number, 0.01, stop)
    jax.block_until_ready((trained.state, progress))
    return time.perf_counter() - start

  for _ in range(2):  # compile; the second call settles types and buffers
    run(0, stop=1)
  return run


def make_alone(augment, data, size, rows):
  """Compiles a loop of nothing but augmentation. Returns `() -> images per second`."""

  @jax.jit
  def loop(data, key):
    def body(row, image):
      del image  # carried, so that no row is computed in vain
      index = (row * size + jnp.arange(size, dtype=jnp.int32)) % data.label.shape[0]
      batch = plain_batch(data, index, jnp.ones(size), 10)
      return with_epoch(augment.train, jax.random.fold_in(key, row), jnp.int32(0), batch).image

    blank = jnp.zeros((size, *data.image.shape[1:]), jnp.float32)
    return lax.fori_loop(0, rows, body, blank)

  key = jax.random.key(0)
  loop(data, key).block_until_ready()

  def run():
    start = time.perf_counter()
    loop(data, key).block_until_ready()
    return rows * size / (time.perf_counter() - start)

  return run


def make_host(name, info, data, size):
  """The same by Pillow, and NumPy for mixing. Returns `() -> images per second`."""
  images = np.asarray(data.image[:size])
  rng = np.random.default_rng(0)
  mean, std = (np.float32(v) for v in (info.mean, info.std))

  def one(array):
    image = Image.fromarray(array)
    for operation in rng.integers(0, 16, N) if name == 'randaugment' else ():
      operation = operations.OPERATIONS[operation]
      value = operations.magnitude(operation, M, array.shape[:2])
      image = by_pillow(operation, image, value, rng.random() < 0.5, rng.uniform(1, image.size))
    left, top = (int(v) for v in rng.integers(0, 2 * info.pad + 1, 2))
    image = ImageOps.expand(image, info.pad, 0)
    image = image.crop((left, top, left + array.shape[1], top + array.shape[0]))
    image = ImageOps.mirror(image) if rng.random() < info.flip else image
    return (np.asarray(image, np.float32) / 255 - mean) / std

  def run():
    start = time.perf_counter()
    batch = np.stack([one(array) for array in images])
    if name == 'mixup':
      share = np.float32(rng.beta(ALPHA, ALPHA))
      batch = share * batch + (1 - share) * batch[rng.permutation(size)]
    if name == 'ricap':
      batch = host_ricap(batch, rng)
    return len(batch) / (time.perf_counter() - start)

  return run


def host_ricap(batch, rng):
  """RICAP by slices, as usual on a host."""
  size, side = batch.shape[:2]
  w, h = np.round(side * rng.beta(ALPHA, ALPHA, 2)).astype(int)
  out = np.empty_like(batch)
  for top, left, rows, cols in (
    (0, 0, w, h),
    (w, 0, side - w, h),
    (0, h, w, side - h),
    (w, h, side - w, side - h),
  ):
    i, j = rng.integers(0, side - rows + 1), rng.integers(0, side - cols + 1)
    crop = batch[rng.permutation(size), i : i + rows, j : j + cols]
    out[:, top : top + rows, left : left + cols] = crop
  return out


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--examples', type=int, default=256, help='training samples')
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--side', type=int, default=32, help='pixels')
  parser.add_argument('--model', default='resnet18')
  parser.add_argument('--width', type=int, default=64, help='channels of its first stage')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--rows_alone', type=int, default=40, help='batches without a network')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes; nothing is stored')
  flags = parser.parse_args()
  if flags.smoke:
    flags.examples, flags.batch_size, flags.side, flags.repeats = 256, 32, 8, 1
    flags.model, flags.width = 'resnet8', 4
  side, examples, size = flags.side, flags.examples, flags.batch_size
  shape = (side, side, 3)
  spec = Spec(examples, size, 10, 1 + flags.repeats, shape)
  info = Info('random', examples, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=side // 8)
  image_key, label_key = jax.random.split(jax.random.key(1))
  data = Data(
    jax.random.bits(image_key, (examples, *shape), jnp.uint8),
    jax.random.randint(label_key, (examples,), 0, 10),
  )
  model = make_model(flags.model, 10, shape, width=flags.width)
  augments = {name: make_augment(name, info) for name in NAMES}
  runs = {
    name: (
      make_epoch(augment, spec, model, data),
      make_alone(augment, data, size, flags.rows_alone),
      make_host(name, info, data, size),
    )
    for name, augment in augments.items()
  }
  rounds = [
    {name: (run(number), alone(), host()) for name, (run, alone, host) in runs.items()}
    for number in range(1, 1 + flags.repeats)
  ]
  table = list(figures(rounds))
  if flags.smoke:
    return record.show(table)
  return record.store('augment', table, {'flags': vars(flags)})


def figures(rounds):
  """Lines of the table."""
  for name in NAMES:
    epochs, alone, host = zip(*(results[name] for results in rounds), strict=True)
    if name != 'standard':
      over = [
        seconds / results['standard'][0] for seconds, results in zip(epochs, rounds, strict=True)
      ]
      yield Figure(f'{name} epoch / standard epoch', over, 'x', at_most=TARGET)
    yield Figure(f'{name} alone', list(alone), 'images/s')
    yield Figure(f'{name} by Pillow, one process', list(host), 'images/s')


if __name__ == '__main__':
  sys.exit(main())
