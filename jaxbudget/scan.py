"""Looking at all samples at once: what a method's `scan` is given, and how it is charged."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import checks, feeding, ledger, parallel
from jaxbudget.keys import derive
from jaxbudget.state import TrainState, check_size
from jaxbudget.task import CLASSIFICATION, Task
from jaxbudget.types import Cost, Data, Model, Seen, Selector, as_label, as_target


def observe(
  model: Model,
  transform: Callable[[jax.Array], jax.Array],
  params: Any,
  model_state: Any,
  data: Data,
  batch_size: int,
  wants: tuple[str, ...] = (),
  task: Task = CLASSIFICATION,
  mesh: jax.sharding.Mesh | None = None,
  between: Callable[[], None] = lambda: None,
  meter: feeding.Meter | None = None,
) -> Seen:
  """Passes all samples of a split through the model in eval mode.

  Args:
    model: the network.
    transform: `Augment.test`.
    params: of the model.
    model_state: of the model.
    data: the split, N samples.
    batch_size: samples in a forward pass; the last batch is padded.
    wants: `logits`, `features`, or both, beside the losses.
    task: what is learned.
    mesh: devices to split batches over.
    between: called between batches; what it raises ends the pass.
    meter: told what feeding the images took, if they are not on the device.

  Returns:
    What was seen; features as NumPy arrays, for they may be large.

  Raises:
    ValueError: the labels are not of the type that the task wants.
  """
  checks.check_label_kind(data.label, task)
  total = data.label.shape[0]
  static = model, transform, batch_size, wants, task, mesh
  blocks = []
  with feeding.batches(data, batch_size, mesh, meter=meter) as feed:
    for number in range(-(-total // batch_size)):
      between()
      place = parallel.replicate(np.int32(number), mesh)
      block = _block(*static, params, model_state, feed.at(number, number + 1)[0], place)
      if block.features is not None:
        block = block._replace(features=np.asarray(block.features))
      blocks.append(jax.block_until_ready(block))  # else all would be dispatched before one is done

  def join(*parts):
    together = np.concatenate if isinstance(parts[0], np.ndarray) else jnp.concatenate
    return together(parts)[:total]

  seen = jax.tree.map(join, *blocks)
  return seen._replace(label=as_label(data.label), head_bias=model.head_bias)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _block(model, transform, size, wants, task, mesh, params, model_state, data, number) -> Seen:
  """What there is to see of a batch of `size` samples, the last sample repeated as padding."""
  index = number * size + jnp.arange(size, dtype=jnp.int32)
  index = jnp.minimum(index, data.label.shape[0] - 1)
  image = transform(parallel.split(feeding.fetch(data.image, number, index), mesh))
  logits, _ = model.apply(params, model_state, image, train=False)
  logits = logits.astype(jnp.float32)
  loss = task.loss(logits, as_target(data.label[index], logits.shape[-1]))
  features = model.features(params, model_state, image) if 'features' in wants else None
  seen = Seen(
    loss=loss,
    logits=logits if 'logits' in wants else None,
    features=None if features is None else features.astype(jnp.float32),
    head_bias=None,  # no array: told once for all batches
  )
  return parallel.everywhere(seen, mesh)


def before(
  selector: Selector,
  model: Model,
  transform: Callable[[jax.Array], jax.Array],
  state: TrainState,
  data: Data,
  epoch: int,
  root: jax.Array,
  batch_size: int = 256,
  task: Task = CLASSIFICATION,
  mesh: jax.sharding.Mesh | None = None,
) -> TrainState:
  """Does what a method wants done before an epoch: looks at all samples, or nothing.

  Args:
    selector: the method.
    model: the network.
    transform: `Augment.test`.
    state: between two epochs.
    data: the training split.
    epoch: the epoch about to begin, 0-based.
    root: the run's key.
    batch_size: samples in a forward pass.
    task: what is learned.
    mesh: devices that hold the state.

  Returns:
    The state after; the same if no scan is due, or the budget does not hold one.

  Raises:
    ValueError: the data are not of as many samples as the state, or the labels are not of the
      type that the task wants.
  """
  checks.check_label_kind(
    data.label, task
  )  # scan or not: it is here that a loop of one's own comes by
  wanted = selector.facts.scan
  if not wanted.due(epoch) or not affordable(state):
    return state
  check_size(state, data.label)
  weights = state.params, state.model_state
  seen = observe(model, transform, *weights, data, batch_size, wanted.wants, task, mesh)
  return apply(selector, state, seen, epoch, root)


def affordable(state: TrainState) -> bool:
  """Whether looking at all samples still fits under the budget.

  Args:
    state: between two epochs.

  Returns:
    True if the N forward passes can be paid.
  """
  return bool(ledger.covers(state.allowance, _cost(state)))


def apply(selector: Selector, state: TrainState, seen: Seen, epoch: int, root: jax.Array):
  """Hands what was seen to the method, and charges the N forward passes.

  Args:
    selector: the method.
    state: between two epochs.
    seen: of `observe`, with what `selector.facts.scan` wants.
    epoch: the epoch about to begin, 0-based.
    root: the run's key.

  Returns:
    The state after.

  Raises:
    ValueError: other samples were seen than the state is of.
  """
  check_size(state, seen.loss)
  if selector.facts.scan.on_host:
    key = derive(root, 'scan', epoch)
    old = jax.device_get((state.selector, seen))
    new = selector.scan(old[0], key, old[1])
    placed = jax.tree.map(lambda a, b: jax.device_put(b, a.sharding), state.selector, new)
  else:
    placed = _hook(selector.scan, state.selector, root, np.int32(epoch), seen)
  return state.replace(selector=placed, allowance=ledger.spend(state.allowance, _cost(state)))


@functools.partial(jax.jit, static_argnums=0)
def _hook(scan, selector_state, root, epoch, seen):
  return scan(selector_state, derive(root, 'scan', epoch), seen)


def _cost(state: TrainState) -> Cost:
  return Cost(jnp.int32(state.times_trained.shape[0]), jnp.int32(0), jnp.int32(0))
