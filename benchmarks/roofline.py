"""A PREDICTION, not a measurement: the least time of a training row on an A100 and an H100.

  python benchmarks/roofline.py           # writes docs/results/roofline.md; runs anywhere

A row of ResNet-18 at batch 128 needs at least FLOPs / peak speed, and at least bytes /
memory bandwidth; the larger bounds it. FLOPs are XLA's count for the un-looped model with
plain convolutions, which leaves out products with padding. Bytes are counted by hand from
the shapes of the layers, for kernels that each read and write main memory once: what a row
must move if only elementwise neighbours are fused; gathering images and the selector's state
are a thousandth of that. Peaks are the makers' published ones for dense matrices. Nothing
here has run on a GPU; a real one reaches a part of such bounds, small networks the least.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import record

from jaxbudget.losses import cross_entropy
from jaxbudget.models import make_model

BATCH = 128


class Card(NamedTuple):
  """Published peaks: FLOP/s on dense matrices, bytes/s of main memory."""

  name: str
  float32: float
  tf32: float
  bfloat16: float
  bandwidth: float


CARDS = (
  Card('A100 SXM 40 GB', 19.5e12, 156e12, 312e12, 1.555e12),
  Card('A100 SXM 80 GB', 19.5e12, 156e12, 312e12, 2.039e12),
  Card('H100 SXM 80 GB', 67e12, 494e12, 989e12, 3.35e12),
)


class Layer(NamedTuple):
  """A convolution, with the BatchNorm that follows it."""

  values_in: int  # of one image
  values_out: int
  weights: int
  adds: bool = False  # a residual is added to its result


def layers(side: int, width: int):
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


def row_bytes(width: int, item: int, side: int = 32, batch: int = BATCH) -> float:
  """Main-memory traffic of one training row, with activations of `item` bytes.

  For each convolution, of its input x, its output y and its weights w:
    forward   read x, w, write y;
    backward  to the input: read dy, w, write dx; to the weights: read x, dy, write dw.
  For each BatchNorm with the ReLU or addition that follows it, of y:
    forward   read y for the statistics; read y again, write the result;
    backward  read dy and y for two sums; read both again, write the gradient.
  For each addition of a residual: read the other summand, and pass its gradient on: 2 of y.
  For each weight: SGD with momentum and weight decay reads weight, gradient and momentum and
  writes two of them, in float32.
  """
  total = 0.0
  for layer in layers(side, width):
    x, y = (batch * values * item for values in (layer.values_in, layer.values_out))
    total += 3 * (x + y) + layer.weights * (3 * item + 5 * 4)
    total += (8 + 2 * layer.adds) * y
  return total


def row_flops(width: int) -> float:
  """FLOPs of one training row: forward and backward, by XLA's cost analysis."""
  shape = (32, 32, 3)
  model = make_model('resnet18', 10, shape, width=width, conv='lax')
  params, model_state = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)
  target = jax.ShapeDtypeStruct((BATCH, 10), jnp.float32)

  def step(params, model_state, image, target):
    def objective(params):
      logits, _ = model.apply(params, model_state, image, train=True)
      return jnp.mean(cross_entropy(logits, target))

    return jax.grad(objective)(params)

  return jax.jit(step).lower(params, model_state, image, target).cost_analysis()['flops']


def lines():
  """The table, as Markdown."""
  yield (
    '| width | numbers | GFLOP a row | GB a row | card | compute, ms | memory, ms | bound '
    '| rows/s, at most |'
  )
  yield '|---|---|---:|---:|---|---:|---:|---|---:|'
  for width in (64, 16):
    flops = row_flops(width)
    for kind, item in (('float32', 4), ('tf32', 4), ('bfloat16', 2)):
      moved = row_bytes(width, item)
      for card in CARDS:
        compute, memory = flops / getattr(card, kind), moved / card.bandwidth
        bound = 'compute' if compute > memory else 'memory'
        yield (
          f'| {width} | {kind} | {flops / 1e9:.0f} | {moved / 1e9:.2f} | {card.name} | '
          f'{1e3 * compute:.2f} | {1e3 * memory:.2f} | {bound} | {1 / max(compute, memory):,.0f} |'
        )


def main() -> int:
  text = '\n'.join(
    [
      '# Roofline: a prediction, not a measurement',
      '',
      f'ResNet-18, 32x32, batch {BATCH}, by `python benchmarks/roofline.py`. No GPU was used.',
      'An upper bound of rows a second from counted work and published peaks.',
      '',
      *lines(),
    ]
  )
  print(text)
  (record.RESULTS / 'roofline.md').write_text(text + '\n')
  return 0


if __name__ == '__main__':
  sys.exit(main())
