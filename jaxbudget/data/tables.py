"""Facts of the data sets of the study, known without having the data (fidelity.md 1.1)."""

from typing import NamedTuple

from jaxbudget.data import digits
from jaxbudget.data.dataset import Info


class Archive(NamedTuple):
  """A file to download, in the four columns of tensorflow-datasets' checksum files."""

  url: str
  size: int  # bytes
  sha256: str
  filename: str


_IMAGENET = {
  'num_train': 1_281_167,
  'num_test': 50_000,  # the official validation images
  'num_classes': 1000,
  'mean': (0.485, 0.456, 0.406),
  'std': (0.229, 0.224, 0.225),
  'flip': 0.5,
}
PHOTOGRAPH = 224  # pixels of a side that networks of ImageNet see
# Sides of downsampled ImageNet; random crops move by an eighth, as its makers' do.
DOWNSAMPLED = {f'imagenet{side}': side for side in (64, 32, 16, 8)}
INFO = {
  'digits': digits.INFO,
  'cifar10': Info(
    name='cifar10',
    num_train=50_000,
    num_test=10_000,
    num_classes=10,
    image_shape=(32, 32, 3),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),  # the widespread wrong constant, kept for fidelity
    flip=0.5,
    pad=4,
  ),
  'cifar100': Info(
    name='cifar100',
    num_train=50_000,
    num_test=10_000,
    num_classes=100,
    image_shape=(32, 32, 3),
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    flip=0.5,
    pad=4,
  ),
  'svhn': Info(
    name='svhn',
    num_train=73_257,  # without the split 'extra', which the study leaves out
    num_test=26_032,
    num_classes=10,
    image_shape=(32, 32, 3),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    flip=0.0,
    pad=4,
  ),
  'mini_imagenet': Info(
    name='mini_imagenet',
    num_train=50_000,
    num_test=10_000,
    num_classes=100,
    image_shape=(84, 84, 3),
    mean=(0.4728, 0.4487, 0.4031),
    std=(0.2744, 0.2663, 0.2806),
    flip=0.5,
    pad=4,
  ),
  # Random crops are made where images are decoded: nothing is padded.
  'imagenet': Info(name='imagenet', image_shape=(PHOTOGRAPH, PHOTOGRAPH, 3), pad=0, **_IMAGENET),
  **{
    name: Info(name=name, image_shape=(side, side, 3), pad=side // 8, **_IMAGENET)
    for name, side in DOWNSAMPLED.items()
  },
}
# Data sets that people bring, whole or in part: a copy of their own must be looked at.
BROUGHT = ('mini_imagenet', 'imagenet', *DOWNSAMPLED)

# The official archives; sizes and checksums are those that tensorflow-datasets registers
# (a test compares them). mini-ImageNet has no official archive: people bring their copy.
ARCHIVES = {
  'cifar10': (
    Archive(
      'https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
      170_052_171,
      'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
      'cifar-10-binary.tar.gz',
    ),
  ),
  'cifar100': (
    Archive(
      'https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
      168_513_733,
      '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
      'cifar-100-binary.tar.gz',
    ),
  ),
  'svhn': (
    Archive(
      'http://ufldl.stanford.edu/housenumbers/train_32x32.mat',
      182_040_794,
      '435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8',
      'train_32x32.mat',
    ),
    Archive(
      'http://ufldl.stanford.edu/housenumbers/test_32x32.mat',
      64_275_384,
      'cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b',
      'test_32x32.mat',
    ),
  ),
}
