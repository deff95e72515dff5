"""Pieces of a row, each compiled alone: a TPU's compiler takes minutes for a whole one."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.aot import figures, hlo, programs, targets
from benchmarks.aot.programs import BATCH, CLASSES, SHAPE
from jaxbudget import losses
from jaxbudget.augment import make_augment
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, Outputs, Spec, draw_ahead, plain_batch, with_epoch

TARGET = 'v5e'
EXAMPLES = 50_000
AUGMENTS = ('standard', 'mixup', 'ricap', 'cutmix', 'randaugment', 'trivialaugment')


Piece = tuple[Any, tuple]  # a function, and the shapes it is compiled for


def _shape(shape, dtype):
  return jax.ShapeDtypeStruct(shape, dtype)


_INDEX = _shape((BATCH,), jnp.int32)
_KEY = jax.eval_shape(lambda: jax.random.key(0))
_BATCH_OF = _shape((BATCH, *SHAPE), jnp.uint8), _INDEX


def gather() -> Piece:
  """Candidates out of the data set."""
  data = Data(_shape((EXAMPLES, *SHAPE), jnp.uint8), _shape((EXAMPLES,), jnp.int32))

  def run(data, index):
    return plain_batch(data, index, jnp.ones(BATCH, jnp.float32), CLASSES)

  return run, (programs.as_placed(data, TARGET), _INDEX)


def _batch(image, label):
  own = jnp.arange(BATCH, dtype=jnp.int32)
  return plain_batch(Data(image, label), own, jnp.ones(BATCH, jnp.float32), CLASSES)


def augment(name: str) -> Piece:
  """An augmentation with the standard transform, of images at hand."""
  stage = make_augment(name, programs.info(EXAMPLES)).train

  drawn = jax.eval_shape(lambda: draw_ahead(stage, jax.random.key(0), BATCH))

  def run(key, image, label, drawn):
    batch = with_epoch(stage, key, jnp.int32(0), _batch(image, label), drawn)
    return batch.image, batch.target

  return run, (_KEY, *_BATCH_OF, drawn)


def select(name: str, **options) -> Piece:
  """A choice among candidates of known losses."""
  spec = Spec(EXAMPLES, BATCH, CLASSES, 200, SHAPE)
  selector = make_selector(name, spec, 0.5, options)
  state = jax.eval_shape(selector.init, _KEY)
  logits = _shape((BATCH, CLASSES), jnp.float32)

  def run(state, key, image, label, logits):
    batch = _batch(image, label)
    batch = batch._replace(image=batch.image.astype(jnp.float32))

    def told(batch):
      return Outputs(logits, losses.cross_entropy(logits, batch.target))

    return selector.select(state, key, batch, told)

  return run, (state, _KEY, *_BATCH_OF, logits)


def plan(name: str) -> Piece:
  """The plan of an epoch."""
  spec = Spec(EXAMPLES, BATCH, CLASSES, 200, SHAPE)
  hook = make_selector(name, spec, 0.5, {})
  state = jax.eval_shape(hook.init, _KEY)
  return hook.plan, (state, _KEY, _shape((), jnp.int32))


MAKERS = {
  'gather': gather,
  **{name: functools.partial(augment, name) for name in AUGMENTS},
  'select selective_backprop': functools.partial(select, 'selective_backprop'),
  'plan p_sgd': functools.partial(plan, 'p_sgd'),
}
NAMES = tuple(f'{TARGET}-{name}' for name in MAKERS)
LOOPS = {'randaugment': 1, 'trivialaugment': 1}  # rounds of operations


def check(name: str) -> tuple[dict[str, Any], list[str]]:
  """Compiles a piece. Returns (its figures, what is wrong)."""
  part = name.removeprefix(f'{TARGET}-')
  function, shapes = MAKERS[part]()
  (device,) = targets.devices(TARGET, 1)
  start = time.perf_counter()
  shapes = programs.place(shapes, jax.sharding.SingleDeviceSharding(device))
  compiled = jax.jit(function).lower(*shapes).compile()
  seconds = time.perf_counter() - start
  module, target = hlo.parse(compiled.as_text()), targets.TARGETS[TARGET]
  most, _ = figures.cost(module, module.entry, target)
  analysis = compiled.cost_analysis() or {}
  record = {
    'target': TARGET,
    'piece': part,
    **figures.plain(most, target, 'bfloat16'),
    'bytes_by_xla': round(analysis.get('bytes accessed', 0)),
    'temp': compiled.memory_analysis().temp_size_in_bytes,
    'compile_seconds': round(seconds, 1),
  }
  wrong = []
  if len(most.loops) > LOOPS.get(part, 0):
    wrong.append(f'loops: {[source for source, _ in most.loops]}')
  return record, wrong
