"""The row programs of the library, compiled for devices that are not there."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.aot import figures, hand_count, hlo, targets
from jaxbudget import engine, epoch, parallel
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.data.flat import FlatImages
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, Spec

BATCH, SIDE, CLASSES, WIDTH = 128, 32, 10, 64
SHAPE = (SIDE, SIDE, 3)
LAYERS = 20  # convolutions: each forward, to the weights, and all but the first to the input
ITEM = {'bfloat16': 2, 'float32': 4}


class Row(NamedTuple):
  """A row program: ResNet-18 on images of 32x32, in batches of 128."""

  target: str
  selector: str
  dtype: str = 'bfloat16'
  augment: str = 'standard'
  devices: int = 1
  options: tuple[tuple[str, object], ...] = ()  # of the selector
  examples: int = 50_000

  @property
  def method(self) -> str:
    """The selector with its options."""
    return ' '.join([self.selector, *(str(value) for _, value in self.options)])

  @property
  def name(self) -> str:
    """As it is called in tables and files."""
    parts = [self.target, self.method.replace(' ', '_'), self.augment, self.dtype]
    return '-'.join([*parts, f'{self.devices}x{self.examples}'])


def info(examples: int) -> Info:
  """A data set in the shape of CIFAR-10."""
  return Info('aot', examples, 0, CLASSES, SHAPE, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=4)


def arguments(row: Row) -> tuple:
  """The arguments of `epoch.train_rows`, as shapes on the devices of the target."""
  augment = make_augment(row.augment, info(row.examples))
  spec = Spec(row.examples, BATCH, CLASSES, 200, SHAPE, augment.parts)
  model = make_model('resnet18', CLASSES, SHAPE, width=WIDTH, conv='lax', compute_dtype=row.dtype)
  selector = make_selector(row.selector, spec, 0.5, dict(row.options))
  program, *arrays = engine.row_shapes(spec, model, augment, selector, make_optimizer(), 0.5)
  arrays[1] = as_placed(arrays[1], row.target)
  found = targets.devices(row.target, row.devices)
  if row.devices == 1:
    return program, *place(arrays, SingleDeviceSharding(found[0]))
  mesh = Mesh(np.array(found), (parallel.AXIS,), axis_types=(AxisType.Auto,))
  return program._replace(mesh=mesh), *place(arrays, NamedSharding(mesh, PartitionSpec()))


def as_placed(data: Data, target: str) -> Data:
  """A split as `data.place` would put it on a device, as shapes."""
  if targets.TARGETS[target].config is not None:
    return data
  return data._replace(image=jax.eval_shape(FlatImages.of, data.image))


def place(shapes, sharding):
  """Shapes that are somewhere."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def size(shapes) -> int:
  """Bytes of arrays, as they are or would be."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def compile_row(row: Row) -> dict[str, Any]:
  """Compiles a row program and reads what the compiler made of it: plain values."""
  target, shapes = targets.TARGETS[row.target], arguments(row)
  start = time.perf_counter()
  compiled = epoch.train_rows.lower(*shapes).compile()
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  most, least = figures.row_cost(hlo.parse(compiled.as_text()), target)
  _, state, *_ = shapes
  weights = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  return {
    **row._asdict(),
    **figures.plain(most, target, row.dtype),
    'without_step': figures.plain(least, target, row.dtype) if least != most else None,
    'hand_count': by_hand(row, most) if row.devices == 1 and row.target != 'v5e' else None,
    'temp': memory.temp_size_in_bytes,
    'alias': memory.alias_size_in_bytes,
    'state': size(state),
    'gradient': weights * ITEM[row.dtype],
    'compile_seconds': round(seconds, 1),
  }


def by_hand(row: Row, cost: figures.Cost) -> int:
  """Bytes counted by hand: of a step, and of scoring where there is more than a step."""
  shape = WIDTH, ITEM[row.dtype], SIDE, BATCH
  scores = sum(cost.convolutions.values()) > 3 * LAYERS - 1
  return hand_count.step(*shape) + scores * hand_count.scoring(*shape)
