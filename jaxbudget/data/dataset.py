"""What a data set is: static facts, four host arrays, and a hash of their content.

Inputs are images, features (vectors of numbers) or tokens (sequences of whole numbers).
"""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Progress = Callable[[str, int, int | None], None]  # (task, done, total if known)

_HASH_CHUNK = 8 << 20  # bytes; part of the definition of the fingerprint, so never change it


class DataError(ValueError):
  """The data are missing or unfit; the message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class Info:
  """Static facts of a data set.

  Attributes:
    name: as given to `load`.
    num_train: training images.
    num_test: test images.
    num_classes: C; labels are 0..C-1, or C numbers to predict.
    image_shape: of an input: (height, width, channels) of an image, (D,) features, (L,) tokens.
    mean: per channel, of the training pixels divided by 255; empty for other inputs.
    std: per channel, likewise.
    flip: probability of a horizontal flip in training.
    pad: zero padding of the random crop, pixels on each side.
    class_names: in the order of the labels; empty if nobody named them.
    label_mean: of the training labels, one for each output, where they are numbers to predict;
      empty where they are classes.
    label_std: likewise.
    vocabulary: V of tokens 0..V-1; 0 for other inputs.
  """

  name: str
  num_train: int
  num_test: int
  num_classes: int
  image_shape: tuple[int, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  flip: float
  pad: int
  class_names: tuple[str, ...] = ()
  label_mean: tuple[float, ...] = ()
  label_std: tuple[float, ...] = ()
  vocabulary: int = 0

  @property
  def kind(self) -> str:
    """What the inputs are: `images`, `features` or `tokens`."""
    if self.vocabulary:
      return 'tokens'
    return 'images' if len(self.image_shape) == 3 else 'features'

  @property
  def dtype(self) -> str:
    """Of the inputs as they are kept; images become float32 by augmentation."""
    return {'images': 'uint8', 'features': 'float32', 'tokens': 'int32'}[self.kind]


class Dataset(NamedTuple):
  """A data set in host memory; the arrays may be read-only memory maps.

  Attributes:
    info: static facts.
    train_image: u8[N,H,W,channels]; f32[N,D] of features; i32[N,L] of tokens. Of images that stay
      in their files an `encoded.ImageFiles`, and the fingerprint is one of names and sizes.
    train_label: i32[N]; f32[N,C] of numbers to predict.
    test_image: [N_test,...], likewise.
    test_label: [N_test,...], likewise.
    fingerprint: hash of the four arrays, the same on every machine.
    notes: what the user should know (subset, resampling filter, validation split, ...).
    where: file or directory the arrays come from; empty for built-in data.
  """

  info: Info
  train_image: np.ndarray
  train_label: np.ndarray
  test_image: np.ndarray
  test_label: np.ndarray
  fingerprint: str
  notes: tuple[str, ...] = ()
  where: str = ''

  @property
  def is_encoded(self) -> bool:
    """Whether the images stay in their files."""
    return hasattr(self.train_image, 'walk')


def no_progress(task: str, done: int, total: int | None) -> None:
  """Reports nothing."""
  del task, done, total


class Where(NamedTuple):
  """Where data are looked for and kept; what the factory of a data set is given.

  Attributes:
    root: directory of prepared data; None if none is named and no home directory is known.
    manual_dir: directory with archives that are on disk already.
    checksums: file with the checksums of archives other than the official ones.
    progress: told of slow work.
    placement: of images, of `placement.PLACEMENTS`; `files` leaves them encoded where they are.
  """

  root: pathlib.Path | None
  manual_dir: pathlib.Path | None = None
  checksums: str | None = None
  progress: Progress = no_progress
  placement: str = 'auto'


def fingerprint(*arrays: np.ndarray) -> str:
  """Hashes dtype, shape and content of arrays.

  The hash of the hashes of 8 MiB chunks, so that all cores take part: 184 MB of CIFAR
  must not delay a start.

  Args:
    *arrays: any arrays, possibly memory maps.

  Returns:
    The first 16 hex digits of a sha256.
  """
  # Canonical little-endian bytes; no copy on the machines JAX runs on.
  arrays = [np.ascontiguousarray(a, a.dtype.newbyteorder('<')) for a in arrays]
  head = [f'{a.dtype.str}{a.shape}'.encode() for a in arrays]
  flat = [a.reshape(-1).view(np.uint8) for a in arrays]
  chunks = [f[i : i + _HASH_CHUNK] for f in flat for i in range(0, f.size, _HASH_CHUNK)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    digests = pool.map(lambda chunk: hashlib.sha256(chunk).digest(), chunks)
    return hashlib.sha256(b''.join([*head, *digests])).hexdigest()[:16]


def pixel_statistics(image: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and standard deviation of each channel, of uint8 pixels divided by 255.

  Exact integer sums, hence independent of the order of the images.

  Args:
    image: u8[N,H,W,channels].

  Returns:
    (mean, std), one Python float per channel; the std of a constant channel is given as 1.
  """
  mean, std = [], []
  for channel in range(image.shape[-1]):
    level = np.arange(256, dtype=np.int64)
    count = np.zeros(256, np.int64)
    for start in range(0, len(image), 4096):
      block = image[start : start + 4096, ..., channel]
      count += np.bincount(block.reshape(-1), minlength=256)
    total = int(count.sum())
    m = int((count * level).sum()) / total
    variance = int((count * level**2).sum()) / total - m**2
    mean.append(m / 255)
    std.append(max(variance, 0.0) ** 0.5 / 255 or 1.0)
  return tuple(mean), tuple(std)


def hold_out(label: np.ndarray, per_class: int, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
  """Splits positions into a kept part and a held-out one, equally many of each class.

  Class by class, the first `per_class` of the class's positions shuffled by one
  `RandomState(seed)`: the study's rule for a validation split (fidelity.md 1.7).

  Args:
    label: i32[N].
    per_class: positions to hold out of each class.
    seed: of the shuffle.

  Returns:
    (kept, held), int arrays of rising positions.

  Raises:
    DataError: if a class has no position left to keep.
  """
  random = np.random.RandomState(seed)
  held = []
  for c in np.unique(label):
    position = np.flatnonzero(label == c)
    if per_class >= len(position):
      raise DataError(f'class {c} has {len(position)} images, too few to hold out {per_class}')
    random.shuffle(position)
    held.append(position[:per_class])
  held = np.sort(np.concatenate(held))
  return np.setdiff1d(np.arange(len(label)), held), held
