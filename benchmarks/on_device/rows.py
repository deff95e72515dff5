"""A method's rows inside the compiled epoch, on random images: made, compiled, timed."""

import collections
import functools
import itertools
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, epoch, factories, ledger, selectors
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.data.flat import FlatImages
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.types import Data, Spec

# What a number format asks of the network and of products: (compute_dtype, precision).
FORMATS = {
  'bfloat16': ('bfloat16', 'default'),
  'tf32': ('float32', 'default'),
  'float32': ('float32', 'highest'),
}


ROWS = 'jit(train_rows)'


class Heard(threading.local):
  """What JAX told of the programs that this thread looked for.

  Attributes:
    programs: how many, by name and whether they lay on disk.
    hits: of the program that is being looked for.
  """

  def __init__(self):
    self.programs = collections.Counter()
    self.hits = 0


HEARD = Heard()


def _hear(event: str, **_: Any) -> None:
  HEARD.hits += event == '/jax/compilation_cache/cache_hits'


def _hear_end(event: str, seconds: float, fun_name: str = '', **_: Any) -> None:
  del seconds
  if event == '/jax/core/compile/backend_compile_duration':
    HEARD.programs[fun_name, HEARD.hits > 0] += 1
    HEARD.hits = 0


jax.monitoring.register_event_listener(_hear)
jax.monitoring.register_event_duration_secs_listener(_hear_end)


class Setting(NamedTuple):
  """What is trained; settings that are equal but for their state share a compiled program."""

  selector: str = 'unif_sgd'
  options: tuple[tuple[str, Any], ...] = ()  # of the selector
  augment: str = 'standard'
  model: str = 'resnet18'
  width: int = 64
  batch: int = 128
  side: int = 32
  format: str = 'bfloat16'
  budget: float = 0.3
  examples: int = 50_000
  state: tuple[tuple[str, int], ...] = ()  # of the selector, set before each epoch

  @classmethod
  def of(cls, content: list) -> 'Setting':
    """From what JSON makes of one."""
    read = cls(*content)
    options, state = (tuple(map(tuple, pairs)) for pairs in (read.options, read.state))
    return read._replace(options=options, state=state)

  @property
  def title(self) -> str:
    """For a table."""
    given = ''.join(f' {name}={value}' for name, value in (*self.options, *self.state))
    return (
      f'{self.model} {self.width}, {self.format}, batch {self.batch}, {self.side} px: '
      f'{self.selector}{given}, {self.augment}'
    )


class Parts(NamedTuple):
  """What `engine.start` takes."""

  spec: Spec
  model: Any
  augment: Any
  selector: Any
  optimizer: Any
  budget: Any


def parts(setting: Setting) -> Parts:
  """Makes the parts of a run. Nothing touches a device."""
  shape = (setting.side, setting.side, 3)
  info = Info(
    'random', setting.examples, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5,
    pad=setting.side // 8,
  )  # fmt: skip
  spec = Spec(setting.examples, setting.batch, 10, epochs=10_000, image_shape=shape)
  options = dict(setting.options)
  needed = stand_ins(setting.selector, options, spec)
  selector = selectors.make_selector(setting.selector, spec, setting.budget, options, needed)
  known = factories.find('model', setting.model).options
  asked = {'conv': 'lax', 'compute_dtype': FORMATS[setting.format][0], 'width': setting.width}
  model = make_model(setting.model, 10, shape, **{k: v for k, v in asked.items() if k in known})
  # What is timed is whole epochs: no cap may end them.
  budget = ledger.as_budget(1, 'compute')
  return Parts(spec, model, make_augment(setting.augment, info), selector, make_optimizer(), budget)


def stand_ins(name: str, options: dict, spec: Spec) -> dict[str, Any]:
  """Something for each array that a method takes from other runs."""
  filled = factories.find('selector', name).fill(options)
  rng, n = np.random.RandomState(0), spec.num_examples
  arrays = {
    'label': np.arange(n, dtype=np.int32) % spec.num_classes,
    'features': rng.rand(n, 4).astype(np.float32),
  }
  some = rng.rand(n).astype(np.float32)
  return {n.parameter: arrays.get(n.takes, some) for n in selectors.needs(name, filled)}


def random_data(examples: int, side: int) -> Data:
  """Uint8 images and labels, drawn on the host so that all devices have the same."""
  rng = np.random.RandomState(0)
  image = rng.randint(0, 256, (examples, side, side, 3), np.uint8)
  return Data(image, rng.randint(0, 10, examples).astype(np.int32))


def placed(data: Data, device: jax.Device | None = None) -> Data:
  """A split as `data.place` puts it on a device, which is the default one where none is named."""
  return jax.device_put(laid_out(data, (device or jax.devices()[0]).platform), device)


@functools.lru_cache(4)
def _shared(examples: int, side: int) -> Data:
  return placed(random_data(examples, side))


def laid_out(data: Data, platform: str) -> Data:
  """A split, or its shapes, in the layout that a platform wants."""
  if platform != 'tpu':
    return data
  shapes = isinstance(data.image, jax.ShapeDtypeStruct)
  flat = jax.eval_shape(FlatImages.of, data.image) if shapes else FlatImages.of(data.image)
  return data._replace(image=flat)


def lower(setting: Setting) -> Any:
  """Traces a row program and lowers it for the device."""
  program, state, data, *rest = engine.row_shapes(*parts(setting))
  data = laid_out(data, jax.default_backend())
  with jax.default_matmul_precision(FORMATS[setting.format][1]):
    return epoch.train_rows.lower(program, state, data, *rest)


class Rows:
  """A run at work: epochs on demand.

  Attributes:
    compiling: seconds to trace and compile; None where programs were there, in memory or on disk.
    alone: whether nothing else was compiled meanwhile.
  """

  def __init__(self, setting: Setting, alone: bool = True):
    self.setting, self.alone = setting, alone
    self.data = _shared(setting.examples, setting.side)
    made = parts(setting)
    with self._precision():
      self.trained = engine.start(*made)
    self.per_epoch = made.selector.facts.rows
    self.numbers = itertools.count()
    compiled = HEARD.programs[ROWS, False]
    first = self.per_epoch * self.seconds()
    anew = HEARD.programs[ROWS, False] > compiled
    again = self.per_epoch * self.seconds()  # warms up: there are losses to choose by
    self.compiling = first - again if anew else None

  def compilation(self) -> dict[str, float | None]:
    """Its seconds, for a table."""
    return {f'compilation{"" if self.alone else " beside others"}, s': self.compiling}

  def _precision(self):
    return jax.default_matmul_precision(FORMATS[self.setting.format][1])

  def epoch(self, rows: int | None = None):
    """Trains an epoch, or its first rows. Returns its figures, and waits for them."""
    trained = self.trained
    forced = {name: jnp.int32(value) for name, value in self.setting.state}
    if forced:
      selector = trained.state.selector._replace(**forced)
      trained = trained._replace(state=trained.state.replace(selector=selector))
    with self._precision():
      self.trained, progress = engine.run_epoch(trained, self.data, next(self.numbers), 0.01, rows)
    jax.block_until_ready((self.trained.state, progress))
    return progress

  def seconds(self, rows: int | None = None) -> float:
    """Wall-clock seconds of one row, plan of the epoch included."""
    start = time.perf_counter()
    self.epoch(rows)
    return (time.perf_counter() - start) / (rows or self.per_epoch)
