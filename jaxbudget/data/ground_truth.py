"""Classes of images that lie flat in a folder: the lists that validation splits come with.

Read are `LOC_val_solution.csv` (ImageNet at Kaggle), the ground truth of ImageNet's development
kit, `ILSVRC2012_validation_ground_truth.txt` beside `meta.mat`, and lines of a file name and a
class, `val.txt` (Caffe) or `val_annotations.txt` (Tiny ImageNet).
"""

import csv
import pathlib
from collections.abc import Sequence

WANTED = (
  'put them into class folders, or beside them LOC_val_solution.csv, val.txt (lines of FILE CLASS) '
  'or the devkit (ILSVRC2012_validation_ground_truth.txt and meta.mat)'
)
_DEVKIT, _META = 'ILSVRC2012_validation_ground_truth.txt', 'meta.mat'
_KITS = ('', 'data', 'devkit/data', 'ILSVRC2012_devkit_t12/data')  # folders of the development kit


def find(
  root: pathlib.Path, split: str, names: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[str]] | None:
  """Finds and reads the list of a split.

  Args:
    root: of the data set.
    split: name of the folder of the images.
    names: of the images, in sorted order.
    classes: names of the classes, in the order of the labels.

  Returns:
    (the class of each image, what is wrong with the list); None if there is no list.
  """
  # Kaggle's archive has images in ILSVRC/Data/CLS-LOC and the list at its top.
  for directory in (root / split, root, *root.parents[:3]):
    if (file := directory / f'LOC_{split}_solution.csv').is_file():
      return _looked_up(file, _kaggle(file), names, classes)
  for directory in (root / split, root):
    for name in (f'{split}.txt', f'{split}_annotations.txt'):
      if (file := directory / name).is_file():
        return _looked_up(file, _lines(file), names, classes)
  validated = () if split == 'test' else (root / split, root, root.parent)
  for directory in validated:
    for kit in _KITS:
      if (file := directory / kit / _DEVKIT).is_file():
        return _of_devkit(file, names, classes)
  return None


def _kaggle(file: pathlib.Path) -> dict[str, str]:
  """Rows of an image, and of its class with boxes."""
  with file.open(encoding='utf-8-sig', newline='') as opened:
    rows = [row for row in csv.reader(opened) if len(row) == 2 and row[1].split()]
  return {name: told.split()[0] for name, told in rows}


def _lines(file: pathlib.Path) -> dict[str, str]:
  """Lines of an image and its class, and of more that is left alone."""
  words = [line.split() for line in file.read_text('utf-8-sig').splitlines()]
  return {pathlib.PurePosixPath(line[0]).name: line[1] for line in words if len(line) > 1}


def _looked_up(file, known, names, classes) -> tuple[list[int], list[str]]:
  """The class of each image, of a list by name, with suffix or without."""
  told = [known.get(name) or known.get(pathlib.PurePosixPath(name).stem) for name in names]
  if missing := [name for name, one in zip(names, told, strict=True) if one is None]:
    return [], [f'{file} does not name {len(missing)} images, the first is {missing[0]}']
  label = {name: i for i, name in enumerate(classes)}
  if not any(one in label for one in told):  # Caffe's numbers, of sorted folder names
    label = {str(i): i for i in range(len(classes))}
  if strange := sorted({one for one in told if one not in label}):
    return [], [f'{file} has classes that train has not: {", ".join(strange[:10])}']
  return [label[one] for one in told], []


def _of_devkit(file, names, classes) -> tuple[list[int], list[str]]:
  """The class of each image by its place in the list, whose numbers meta.mat explains."""
  meta, numbers = file.parent / _META, file.read_text('utf-8').split()
  if not meta.is_file():
    return [], [f'{file} needs {_META} of the development kit beside it']
  if len(numbers) != len(names):
    return [], [f'{file} has {len(numbers)} lines for {len(names)} images']
  import scipy.io  # late: few need it

  try:
    synsets = scipy.io.loadmat(meta, squeeze_me=True)['synsets']
    wnid = {str(int(one['ILSVRC2012_ID'])): str(one['WNID']) for one in synsets}
  except Exception as error:  # of damaged files SciPy raises anything
    return [], [f'{meta} cannot be read: {error}']
  return _looked_up(
    file, {name: wnid.get(n, n) for name, n in zip(names, numbers, strict=True)}, names, classes
  )
