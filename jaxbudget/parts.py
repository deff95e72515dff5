"""Equal parts of the data, so that one model can judge samples that it was not trained on."""

import numpy as np

WHOLE = (0, 1)
_SEED = 42  # of the division, the same for all runs


def part_index(num_examples: int, part: tuple[int, int]) -> np.ndarray:
  """Who is in a part of the data.

  Args:
    num_examples: N.
    part: (i, n), the i-th of n random parts whose sizes differ by one at most.

  Returns:
    i32[N/n], rising.

  Raises:
    ValueError: there is no such part.
  """
  i, n = check(part)
  if n > num_examples:
    raise ValueError(f'{num_examples} samples cannot be divided into {n} parts')
  if part == WHOLE:
    return np.arange(num_examples, dtype=np.int32)
  order = np.random.RandomState(_SEED).permutation(num_examples)
  return np.sort(order[i::n]).astype(np.int32)


def part_size(num_examples: int, part: tuple[int, int]) -> int:
  """How many samples are in a part."""
  i, n = check(part)
  return len(range(i, num_examples, n))


def check(part: tuple[int, int]) -> tuple[int, int]:
  """The part, if it is one.

  Raises:
    ValueError: not (i, n) with 0 <= i < n.
  """
  whole = len(part) == 2 and all(isinstance(x, int) and not isinstance(x, bool) for x in part)
  if not whole or not 0 <= part[0] < part[1]:
    raise ValueError(f'train_part={part!r} is refused: (i, n) with 0 <= i < n, e.g. (0, 2)')
  return tuple(part)
