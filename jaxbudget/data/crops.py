"""Random resized crops of photographs on the host: torchvision's rule, from counted randomness."""

import math
from collections.abc import Sequence

import numpy as np

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10


def generator(seed: int, epoch: int, row: int, column: int) -> np.random.Generator:
  """Random numbers of one place in a plan, whoever asks for them and when.

  Args:
    seed: of the run.
    epoch: 0-based.
    row: of the plan.
    column: in the whole row.

  Returns:
    A generator of its own, of a counter that no other place comes to.
  """
  counter = np.array([0, 0, column, row], np.uint64)
  return np.random.Generator(np.random.Philox(counter=counter, key=_key(seed, epoch)))


def _key(seed, epoch):
  return np.array([seed, epoch], np.uint64)


def random_box(
  random: np.random.Generator,
  shape: tuple[int, int],
  scale: Sequence[float] = SCALE,
  ratio: Sequence[float] = RATIO,
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Draws a part of an image: of ten tries the first that fits, else the middle.

  Args:
    random: draws.
    shape: (height, width) of the image.
    scale: least and most of the area, as shares of the image's, uniform in between.
    ratio: least and most of width over height, uniform in logarithms.

  Returns:
    (corner, size), rows and columns.
  """
  height, width = shape
  for _ in range(TRIES):
    area = height * width * random.uniform(*scale)
    wide = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
    size = round(math.sqrt(area / wide)), round(math.sqrt(area * wide))
    if 0 < size[0] <= height and 0 < size[1] <= width:
      corner = random.integers(height - size[0] + 1), random.integers(width - size[1] + 1)
      return (int(corner[0]), int(corner[1])), size
  return middle(shape, ratio)


def middle(
  shape: tuple[int, int], ratio: Sequence[float]
) -> tuple[tuple[int, int], tuple[int, int]]:
  """The largest box in the middle of an image whose ratio is in range.

  Args:
    shape: (height, width) of the image.
    ratio: as for `random_box`.

  Returns:
    (corner, size), rows and columns.
  """
  height, width = shape
  if width / height < ratio[0]:
    height = min(height, max(1, round(width / ratio[0])))
  elif width / height > ratio[1]:
    width = min(width, max(1, round(height * ratio[1])))
  return ((shape[0] - height) // 2, (shape[1] - width) // 2), (height, width)
