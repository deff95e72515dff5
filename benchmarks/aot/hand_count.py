"""Bytes that a row of ResNet-18 must move, counted by hand: what the compiler is held to.

For kernels that each read and write main memory once: what must be moved if only elementwise
neighbours are fused. Gathering images and the selector's state are a thousandth of that.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Layer(NamedTuple):
  """A convolution, with the BatchNorm that follows it."""

  values_in: int  # of one image
  values_out: int
  weights: int
  adds: bool = False  # a residual is added to its result


def layers(side: int, width: int) -> Iterator[Layer]:
  """The convolutions of ResNet-18."""
  yield Layer(3 * side**2, width * side**2, 9 * 3 * width)
  channels = width
  for stage in range(4):
    for block in range(2):
      stride = 2 if stage and not block else 1
      features, before = width * 2**stage, channels * side**2
      side //= stride
      after = features * side**2
      yield Layer(before, after, 9 * channels * features)
      yield Layer(after, after, 9 * features**2, adds=True)
      if stride == 2:
        yield Layer(before, after, channels * features)
      channels = features


def step(width: int, item: int, side: int, batch: int) -> int:
  """Main-memory traffic of a training step, with activations of `item` bytes.

  For each convolution, of its input x, its output y and its weights w:
    forward   read x, w, write y;
    backward  to the input: read dy, w, write dx; to the weights: read x, dy, write dw.
  For each BatchNorm with the ReLU or addition that follows it, of y:
    forward   read y for the statistics; read y again, write the result;
    backward  read dy and y for two sums; read both again, write the gradient.
  For each addition of a residual: read the other summand, and pass its gradient on: 2 of y.
  For each weight: SGD with momentum and weight decay reads weight, gradient and momentum and
  writes two of them, in float32; where convolutions compute in fewer bytes, their weights are
  read and written once more to be rounded.
  """
  rounded = 4 + item if item < 4 else 0
  total = 0
  for layer in layers(side, width):
    x, y = (batch * values * item for values in (layer.values_in, layer.values_out))
    total += 3 * (x + y) + layer.weights * (3 * item + 5 * 4 + rounded)
    total += (8 + 2 * layer.adds) * y
  return total


def scoring(width: int, item: int, side: int, batch: int) -> int:
  """The same of a forward pass in eval mode: BatchNorm reads y once and writes the result."""
  total = 0
  for layer in layers(side, width):
    x, y = (batch * values * item for values in (layer.values_in, layer.values_out))
    total += x + y + layer.weights * (item + 4) + (2 + layer.adds) * y
  return total
