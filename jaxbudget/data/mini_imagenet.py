"""mini-ImageNet as a TFDS builder; people bring their own copy, a directory or a tar.

Ravi and Larochelle's lists, split as in the study (fidelity.md 1.1): all images of the
lists in one row, shuffled, 50,000 for training and 10,000 for testing.
"""

import collections
import io
import pathlib

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from jaxbudget.data import prepared
from jaxbudget.data.dataset import DataError, Progress, no_progress
from jaxbudget.data.mini_imagenet_source import NEEDED, images, locate, read_lists

_SIZE = (84, 84)


class MiniImagenet(tfds.core.GeneratorBasedBuilder):
  """100 classes of ImageNet, 84x84 pixels; labels are ranks of the wnids.

  Attributes:
    source: directory of the lists, or tar; None looks into the manual directory.
    progress: told of images.
  """

  name = 'mini_imagenet'
  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = NEEDED
  source: pathlib.Path | None = None
  progress: Progress = staticmethod(no_progress)

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description='100 classes of ImageNet at 84x84 pixels, split by images, not by classes.',
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'file_name': tfds.features.Text(),
          'image': tfds.features.Image(shape=(*_SIZE, 3), encoding_format='png'),
          'label': tfds.features.ClassLabel(),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://openreview.net/forum?id=rJY0-Kcll',
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager):
    source = self.source or locate(pathlib.Path(dl_manager.manual_dir))
    if source is None:
      raise DataError(f'no mini-ImageNet in {dl_manager.manual_dir}; needed: {NEEDED}')
    listed = read_lists(source)
    self.info.features['label'].names = sorted({wnid for _, wnid in listed})
    order = np.random.RandomState(42).permutation(len(listed))
    self.info.metadata.update(resampled=0, enlarged=0)
    num_train = train_size(len(listed))
    return {
      'train': self._generate_examples(source, 'train', [listed[i] for i in order[:num_train]]),
      'test': self._generate_examples(source, 'test', [listed[i] for i in order[num_train:]]),
    }

  def _generate_examples(self, source, split, rows):
    task = f'preparing mini_imagenet {split}'
    return prepared.counted(self._examples(source, split, rows), len(rows), task, self.progress)

  def _examples(self, source, split, rows):
    place = collections.defaultdict(list)  # a list may name an image twice
    for i, (name, wnid) in enumerate(rows):
      place[name].append((i, wnid))
    for name, encoded in images(source, place):
      pixels, size = decode(encoded, f'{source}: images/{name}')
      for i, wnid in place[name]:
        self.info.metadata['resampled'] += size != _SIZE
        self.info.metadata['enlarged'] += min(size) < _SIZE[0]
        yield (
          i,
          {
            'id': f'{split}_{i:05d}',
            'file_name': name,
            'image': prepared.encode_png(pixels),
            'label': wnid,
          },
        )


def train_size(num_images: int) -> int:
  """Images for training: 50,000 of 60,000, and the same share of a subset."""
  return 5 * num_images // 6


def decode(encoded: bytes, name: str) -> tuple[np.ndarray, tuple[int, int]]:
  """Decodes an image and squashes it to 84x84 with an area filter if it is larger.

  Args:
    encoded: JPEG or PNG.
    name: for messages.

  Returns:
    (u8[84,84,3], original (width, height)).

  Raises:
    DataError: if it cannot be decoded.
  """
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
      size = image.size
      image = image.convert('RGB')
      if size != _SIZE:
        image = image.resize(_SIZE, PIL.Image.Resampling.BOX)
      return np.asarray(image), size
  except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
    raise DataError(f'{name} cannot be decoded: {error}') from error


def notes(metadata: dict) -> tuple[str, ...]:
  """What the user should know of a prepared copy: its metadata in words."""
  if not metadata['resampled']:
    return ("images were 84x84 already; their makers' resampling filter is not known",)
  return (
    f'{metadata["resampled"]:,} images were squashed to 84x84 with an area filter (Pillow BOX); '
    f'{metadata["enlarged"]:,} of them had a side of less than 84 pixels',
  )
