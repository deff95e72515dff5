"""digits: the 1,797 handwritten 8x8 digits that ship inside scikit-learn; needs no network."""

import importlib.util
import pathlib

import numpy as np

from jaxbudget.data.dataset import Dataset, Info, fingerprint, hold_out

TEST_PER_CLASS = 36  # 360 test images, 1,437 training images

# Mean and std are those of the training split (asserted by a test).
INFO = Info(
  name='digits',
  num_train=1437,
  num_test=360,
  num_classes=10,
  image_shape=(8, 8, 1),
  mean=(0.30490955080710086,),
  std=(0.37554779421692036,),
  flip=0.0,
  pad=1,
  class_names=tuple('0123456789'),
)


def load() -> Dataset:
  """Loads the digits; grey levels 0..16 are scaled to 0..255.

  The test set is 36 images of each class, drawn once and for all with seed 42.

  Returns:
    1,437 training and 360 test images u8[N,8,8,1].
  """
  table = _table()
  image = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
  label = table[:, 64].astype(np.int32)
  train, test = hold_out(label, TEST_PER_CLASS)
  arrays = image[train], label[train], image[test], label[test]
  return Dataset(INFO, *arrays, fingerprint(*arrays))


def _table() -> np.ndarray:
  """f64[1797,65]: 64 grey levels and the digit."""
  package = importlib.util.find_spec('sklearn').submodule_search_locations[0]
  file = pathlib.Path(package, 'datasets', 'data', 'digits.csv.gz')
  if file.is_file():  # importing scikit-learn would take a second
    return np.loadtxt(file, delimiter=',')
  from sklearn import datasets

  return np.column_stack(datasets.load_digits(return_X_y=True))
