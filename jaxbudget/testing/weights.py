"""The rules for the numbers that a method gives: its weights, and what its state begins with."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.state import RowMetrics, TrainState
from jaxbudget.types import Plan, Selector, take_all

_FAULTS = (
  '',
  'gives a weight that is not finite',
  'gives a negative weight: who has one is in no books; 0 leaves somebody out',
)


def begun(selector: Selector) -> Iterator[str]:
  """What is wrong with the first plan's weights, or whether it is made of NaN.

  What is only written to may be NaN, such as a record with blanks, and inf may be read.
  """
  state = selector.init(jax.random.key(0))
  given = state, jax.random.key(1), jnp.int32(0)
  yield from planned(jax.jit(selector.plan)(*given)[1])
  program = jax.make_jaxpr(selector.plan)(*given).jaxpr
  read = {id(one) for step in program.eqns for one in step.invars}
  for (path, leaf), given in zip(jax.tree.leaves_with_path(state), program.invars, strict=False):
    leaf = jnp.asarray(leaf)
    if id(given) in read and jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.isnan(leaf).any():
      where = f'state{jax.tree_util.keystr(path)}'
      yield f'init makes {where} NaN, and plan reads it: inf may stand for who was never seen'


def watcher(told: set[str]) -> Callable[[Selector], Selector]:
  """Makes methods that tell what is wrong with the weights of their `select` and `weigh`.

  Args:
    told: is given a line for each fault, while the program runs.

  Returns:
    `selector -> selector`; what is equal before is equal after, and shares a program.
  """

  def tell(hook, given, left):
    def on_host(code):
      if int(code):
        told.add(f'{hook} {_FAULTS[int(code)]}')

    # Who is given bad numbers is not to blame for bad weights.
    jax.debug.callback(on_host, jnp.where(_code(given) == 0, _code(left), 0))

  @functools.cache
  def selecting(hook):
    def select(state, key, batch, forward):
      state, chosen, info = hook(state, key, batch, forward)
      tell('select', batch.weight, chosen.weight)
      return state, chosen, info

    return hook if hook is take_all else select

  @functools.cache
  def weighing(hook):
    def weigh(state, loss, weight):
      left = hook(state, loss, weight)
      tell('weigh', jnp.where(jnp.isfinite(loss), weight, jnp.nan), left)
      return left

    return weigh

  return lambda s: s._replace(select=selecting(s.select), weigh=weighing(s.weigh))


def planned(plan: Plan) -> set[str]:
  """What is wrong with the weights of a plan."""
  code = int(_code(np.asarray(plan.weight)))
  return {f'plan {_FAULTS[code]}'} if code else set()


def finite(state: TrainState, metrics: RowMetrics) -> bool:
  """Whether the losses of an epoch's rows, and the parameters after it, are finite."""
  numbers = jax.device_get(jax.tree.leaves((metrics.loss, state.params)))
  return all(np.isfinite(x).all() for x in numbers)


def left(state: TrainState, trained: int, lost: int | None, told: set[str]) -> Iterator[str]:
  """What is wrong with a run by its weights.

  Args:
    state: after the run.
    trained: samples.
    lost: the first epoch that was not `finite`.
    told: of `planned` and of a `watcher`.
  """
  yield from sorted(told)
  if told:
    return  # what follows from them is no fault of its own
  if trained and not np.asarray(state.times_trained).any():
    yield f'weigh leaves no weight at all: {trained} samples were trained on, none of them counts'
  if lost is not None:
    yield (
      f'epoch {lost}: losses or parameters are not finite, though all weights are: these are too '
      'large, or select makes images or targets that are no numbers'
    )


def _code(weight) -> jax.Array:
  """Which of `_FAULTS` an array of weights has, i32[]."""
  bad = jnp.where((weight < 0).any(), jnp.int32(2), jnp.int32(0))
  return jnp.where(jnp.isfinite(weight).all(), bad, jnp.int32(1))
