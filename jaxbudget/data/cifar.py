"""CIFAR-10 and CIFAR-100: the stock builders' data, prepared without TensorFlow."""

import pathlib

import numpy as np
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification import cifar

from jaxbudget.data import prepared
from jaxbudget.data.dataset import DataError, Progress
from jaxbudget.data.tar import members


class _WithoutTensorFlow:
  """Replaces the parts of the stock builders that need TensorFlow.

  Attributes:
    archive: the official tar file, already verified.
    progress: told of images.
  """

  archive: pathlib.Path
  progress: Progress

  def _split_generators(self, dl_manager):
    del dl_manager  # the archive is at hand
    facts = self._cifar_info
    wanted = {facts.prefix + f for f in facts.train_files + facts.test_files + facts.label_files}
    files = dict(members(self.archive, wanted.__contains__))
    if missing := sorted(wanted - set(files)):
      raise DataError(f'{self.archive} lacks {", ".join(missing)}')
    for key, file in zip(facts.label_keys, facts.label_files, strict=True):
      names = files[facts.prefix + file].decode().split('\n')
      self.info.features[key].names = [name for name in names if name]
    splits = {'train': facts.train_files, 'test': facts.test_files}
    return {
      split: self._generate_examples(split, {name: files[facts.prefix + name] for name in names})
      for split, names in splits.items()
    }

  def _generate_examples(self, split, files):
    keys = self._cifar_info.label_keys
    records = [parse(f'{self.archive}: {name}', blob, len(keys)) for name, blob in files.items()]
    label = np.concatenate([label for label, _ in records])
    image = np.concatenate([image for _, image in records])
    self._check_labels(label, split)
    examples = (
      (
        i,
        dict(zip(keys, map(int, label[i]), strict=True))
        | {'id': f'{split}_{i:05d}', 'image': prepared.encode_png(image[i])},
      )
      for i in range(len(label))
    )
    task = f'preparing {self.name} {split}'
    return prepared.counted(examples, len(label), task, self.progress)

  def _check_labels(self, label, split):
    for column, key in enumerate(self._cifar_info.label_keys):
      classes = self.info.features[key].num_classes
      if label[:, column].max() >= classes:
        first = int(np.argmax(label[:, column] >= classes))
        raise DataError(
          f'{self.archive}: {key} {label[first, column]} of {split} image {first} is out of '
          f'range 0..{classes - 1}'
        )


with registered.skip_registration():  # the registered builders stay the stock ones

  class Cifar10(_WithoutTensorFlow, cifar.Cifar10):
    """CIFAR-10."""

    name = 'cifar10'

  class Cifar100(_WithoutTensorFlow, cifar.Cifar100):
    """CIFAR-100."""

    name = 'cifar100'


def parse(name: str, blob: bytes, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
  """Parses a file of the official binary version.

  Args:
    name: for messages.
    blob: records of `num_labels` bytes and 3072 bytes of pixels, channel by channel.
    num_labels: 1 for CIFAR-10, 2 (coarse, fine) for CIFAR-100.

  Returns:
    (labels u8[N,num_labels], images u8[N,32,32,3]).

  Raises:
    DataError: if the file does not consist of whole records.
  """
  size = num_labels + 3072
  if not blob or len(blob) % size:
    raise DataError(f'{name} has {len(blob):,} bytes, not a multiple of {size} (cut short?)')
  record = np.frombuffer(blob, np.uint8).reshape(-1, size)
  image = record[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return record[:, :num_labels], image
