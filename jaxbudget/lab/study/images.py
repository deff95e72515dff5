"""The images of the study, made of official archives: the same ones on every machine.

  python -m jaxbudget.lab.study.images cifar10 cifar-10-binary.tar.gz data/study
  python -m jaxbudget.lab.study.images fashion /usr/share/datasets/fashion-mnist data/study

The first writes `cifar.npz`, `cifar_noise.npz` and `cifar_tail.npz`, the second `fashion.npz`,
files for `dataset=npz:PATH`. Of CIFAR-10 exactly the images are taken whose digests stand in
`docs/study/images.txt`, in its order, whatever else the archive holds; of Fashion-MNIST the first
of each class. Images are halved by area average.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxbudget.data.dataset import DataError
from jaxbudget.data.tar import members
from jaxbudget.lab import plain
from jaxbudget.lab.run import files

CLASSES = 10
PER_CLASS = 1_000  # to train on: N = 10,000
TAIL_FIRST, TAIL_RATIO = 2_000, 100  # images of the commonest class, and how many times the rarest
NOISE = 0.2  # of the labels are another class
SEED = 2026  # of what is drawn here: which labels are flipped, and to what
LIST = 'docs/study/images.txt'
_RECORD = 1 + 3 * 32 * 32  # bytes of CIFAR-10: a label, then pixels channel by channel
_SPLITS = ('train', 'test')


def digest(record: bytes) -> str:
  """The 64-bit digest of a record of the binary version, label and pixels: 16 hex digits."""
  return hashlib.blake2b(record, digest_size=8).hexdigest()


def halve(image: np.ndarray) -> np.ndarray:
  """Halves images by the mean of 2 x 2 pixels, rounded half up.

  Args:
    image: u8[N,H,W,C], H and W even.

  Returns:
    u8[N,H/2,W/2,C].
  """
  n, height, width, channels = image.shape
  blocks = image.reshape(n, height // 2, 2, width // 2, 2, channels)
  return ((blocks.sum(axis=(2, 4), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def flip_labels(label: np.ndarray, share: float, seed: int) -> np.ndarray:
  """Gives a share of samples a label that is wrong, every wrong one equally likely.

  Args:
    label: i32[N].
    share: of the samples; floor(N*share) of them are changed.
    seed: of the draws.

  Returns:
    i32[N].
  """
  random = np.random.default_rng(seed)
  changed = random.choice(len(label), int(len(label) * share), replace=False)
  noisy = label.copy()
  noisy[changed] = (label[changed] + random.integers(1, CLASSES, len(changed))) % CLASSES
  return noisy


def tail_counts(first: int = TAIL_FIRST, ratio: float = TAIL_RATIO) -> list[int]:
  """Images of each class in the long tail: from `first` down to first/ratio, in equal ratios.

  Returns:
    One count a class, in the order of the labels.
  """
  return [round(first * ratio ** (-c / (CLASSES - 1))) for c in range(CLASSES)]


def first_of_each(label: np.ndarray, counts: Sequence[int]) -> np.ndarray:
  """The places of the first so many samples of each class, in rising order: i64[n]."""
  found = [np.flatnonzero(label == c)[:count] for c, count in enumerate(counts)]
  if short := [c for c, count in enumerate(counts) if len(found[c]) < count]:
    raise DataError(f'too few images of class {short[0]}: {len(found[short[0]])}')
  return np.sort(np.concatenate(found))


def read_cifar(archive: pathlib.Path) -> dict[str, list[bytes]]:
  """The records of an archive in the official layout, by split and in its order."""
  wanted = {f'cifar-10-batches-bin/data_batch_{i}.bin': 'train' for i in range(1, 6)}
  wanted['cifar-10-batches-bin/test_batch.bin'] = 'test'
  files = dict(members(archive, wanted.__contains__))
  found = {split: [] for split in _SPLITS}
  for name, split in wanted.items():  # in the order of the batches, not of the tar
    blob = files.get(name)
    if not blob or len(blob) % _RECORD:
      raise DataError(f'{archive} holds no whole {name}')
    found[split] += [blob[i : i + _RECORD] for i in range(0, len(blob), _RECORD)]
  return found


def choose(records: Mapping[str, Sequence[bytes]]) -> dict[str, list[str]]:
  """Chooses the study's images from an archive: how `docs/study/images.txt` came to be.

  Args:
    records: of `read_cifar`.

  Returns:
    Digests by split: of each class as many as one of the sets trains on, and all test images.
  """
  label = np.array([record[0] for record in records['train']])
  counts = [max(PER_CLASS, count) for count in tail_counts()]
  train = [records['train'][i] for i in first_of_each(label, counts)]
  return {'train': list(map(digest, train)), 'test': list(map(digest, records['test']))}


def write_list(path: pathlib.Path, chosen: Mapping[str, Sequence[str]]) -> None:
  """Writes digests, one a line under the name of their split."""
  lines = [line for s in _SPLITS for line in (f'# {s}', *chosen[s])]
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def read_list(path: pathlib.Path) -> dict[str, list[str]]:
  """Reads what `write_list` wrote."""
  found: dict[str, list[str]] = {}
  for line in path.read_text(encoding='utf-8').split('\n')[:-1]:
    if line.startswith('# '):
      found[line[2:]] = []
    else:
      found[list(found)[-1]].append(line)
  return found


def cifar(
  records: Mapping[str, Sequence[bytes]], chosen: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
  """Picks the images of a list, whichever split of the archive they stand in.

  Args:
    records: of `read_cifar`.
    chosen: digests by split.

  Returns:
    `x_train` u8[N,16,16,3], `y_train` i32[N], `x_test` and `y_test`, in the order of the list.

  Raises:
    DataError: the archive lacks some of them.
  """
  place = {digest(record): record for split in _SPLITS for record in records[split]}
  arrays = {}
  for split in _SPLITS:
    if missing := [name for name in chosen[split] if name not in place]:
      raise DataError(f'{len(missing)} images of the list are not in the archive: {missing[0]} ...')
    record = np.frombuffer(b''.join(place[name] for name in chosen[split]), np.uint8)
    record = record.reshape(-1, _RECORD)
    image = record[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    arrays |= {f'x_{split}': halve(image), f'y_{split}': record[:, 0].astype(np.int32)}
  return arrays


def read_idx(path: pathlib.Path) -> np.ndarray:
  """An array of bytes in the idx format, gzipped: u8, of the shape that its head says."""
  blob = gzip.decompress(path.read_bytes())
  if blob[:3] != b'\0\0\x08':
    raise DataError(f'{path} is no idx file of bytes')
  shape = np.frombuffer(blob, '>i4', count=blob[3], offset=4)
  return np.frombuffer(blob, np.uint8, offset=4 + 4 * blob[3]).reshape(shape)


def fashion(directory: pathlib.Path) -> dict[str, np.ndarray]:
  """Fashion-MNIST from its four official files: x u8[N,14,14,1], the first 1,000 of each class."""
  arrays = {}
  for split, name in zip(_SPLITS, ('train', 't10k'), strict=True):
    image = read_idx(directory / f'{name}-images-idx3-ubyte.gz')[..., None]
    arrays[f'x_{split}'] = halve(image)
    arrays[f'y_{split}'] = read_idx(directory / f'{name}-labels-idx1-ubyte.gz').astype(np.int32)
  return _train_on(arrays, first_of_each(arrays['y_train'], [PER_CLASS] * CLASSES))


def _train_on(arrays, index, label=None):
  """The same set with some of its training samples, and perhaps other labels."""
  own = {'x_train': arrays['x_train'][index], 'y_train': arrays['y_train'][index]}
  return {**arrays, **own, **({} if label is None else {'y_train': label})}


def sets_of_cifar(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
  """The three sets that are trained on, by name: plain, with label noise, with a long tail."""
  label = arrays['y_train']
  even = first_of_each(label, [PER_CLASS] * CLASSES)
  return {
    'cifar': _train_on(arrays, even),
    'cifar_noise': _train_on(arrays, even, flip_labels(label[even], NOISE, SEED)),
    'cifar_tail': _train_on(arrays, first_of_each(label, tail_counts())),
  }


def main(arguments: Sequence[str] | None = None) -> None:
  """The command, see the head of this module."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('source', choices=('cifar10', 'fashion'))
  parser.add_argument('path', type=pathlib.Path, help='the archive, or the folder of the idx files')
  parser.add_argument('out', type=pathlib.Path, help='folder that the npz files go to')
  parser.add_argument('--list', type=pathlib.Path, default=LIST, help='digests of the images')
  parser.add_argument('--choose', action='store_true', help='write that list anew')
  told = parser.parse_args(arguments)
  try:
    if told.source == 'fashion':
      sets = {'fashion': fashion(told.path)}
    else:
      records = read_cifar(told.path)
      if told.choose:
        write_list(told.list, choose(records))
      sets = sets_of_cifar(cifar(records, read_list(told.list)))
    told.out.mkdir(parents=True, exist_ok=True)
    for name, arrays in sets.items():
      whole = io.BytesIO()
      np.savez_compressed(whole, **arrays)
      files.write_bytes(told.out / f'{name}.npz', whole.getvalue())
  except (DataError, OSError) as e:
    parser.error(plain.text(str(e)))
  for name, arrays in sets.items():
    print(plain.text(f'{told.out / name}.npz: {len(arrays["y_train"]):,} to train on'))


if __name__ == '__main__':
  main()
