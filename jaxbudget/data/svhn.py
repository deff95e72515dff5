"""SVHN, cropped digits: the stock builder's data without the split `extra` (1.3 GB)."""

import pathlib

import numpy as np
import scipy.io
from tensorflow_datasets.core import registered
from tensorflow_datasets.datasets.svhn_cropped import svhn_cropped_dataset_builder as svhn

from jaxbudget.data import prepared
from jaxbudget.data.dataset import DataError, Progress

with registered.skip_registration():  # the registered builder stays the stock one

  class SvhnCropped(svhn.Builder):
    """SVHN, splits train and test, prepared without TensorFlow.

    Attributes:
      archives: the official files train_32x32.mat and test_32x32.mat, already verified.
      progress: told of images.
    """

    name = 'svhn_cropped'
    pkg_dir_path = svhn.Builder.pkg_dir_path
    archives: tuple[pathlib.Path, pathlib.Path]
    progress: Progress

    def _split_generators(self, dl_manager):
      del dl_manager  # the archives are at hand
      train, test = self.archives
      return {
        'train': self._generate_examples('train', train),
        'test': self._generate_examples('test', test),
      }

    def _generate_examples(self, split, path):
      image, label = parse(path)
      examples = (
        (
          i,
          {
            'id': f'{split}_{i:06d}',
            'image': prepared.encode_png(image[i]),
            'label': int(label[i]),
          },
        )
        for i in range(len(label))
      )
      return prepared.counted(examples, len(label), f'preparing svhn {split}', self.progress)


def parse(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Parses an official file.

  Args:
    path: a MATLAB file with `X` u8[32,32,3,N] and `y` [N,1], the digit zero stored as 10.

  Returns:
    (images u8[N,32,32,3], labels i32[N] in 0..9).

  Raises:
    DataError: if it is something else, or damaged.
  """
  try:
    content = scipy.io.loadmat(path, variable_names=['X', 'y'])
  except Exception as error:  # of a damaged file loadmat says so in nearly any type
    raise DataError(f'{path}: cannot be read, cut short or damaged: {error}') from error
  if missing := [key for key in 'Xy' if key not in content]:
    raise DataError(f'{path} lacks {", ".join(missing)}; needed are X (images) and y (labels)')
  image, label = content['X'], content['y']
  if image.dtype != np.uint8 or image.ndim != 4 or image.shape[:3] != (32, 32, 3):
    raise DataError(f'{path}: X is {image.dtype}{image.shape}, expected uint8 (32, 32, 3, N)')
  if label.size != image.shape[3]:
    raise DataError(f'{path}: {image.shape[3]} images but {label.size} labels')
  label = label.reshape(-1)
  if label.size and not (label.min() >= 1 and label.max() <= 10):
    worst = label.min() if label.min() < 1 else label.max()
    raise DataError(f'{path}: label {worst} is out of range 1..10')
  return np.ascontiguousarray(image.transpose(3, 0, 1, 2)), label.astype(np.int32) % 10
