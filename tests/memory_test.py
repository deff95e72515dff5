"""What a run needs of a device's memory, by the memory analysis of its compiled program."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / 'benchmarks'))

import memory  # noqa: E402


def test_mini_imagenet_fits_the_papers_card():
  case = memory.CASES['mini-ImageNet, 84x84']
  side, num_examples, _ = case
  data_bytes = num_examples * side**2 * 3
  assert data_bytes < memory.peak_bytes(memory.memory(*case)) <= memory.CARD * 2**30
