"""Everything a run must remember: one pytree, donated, checkpointed, sharded as a whole.

`to_bytes` and `from_bytes` take it to a file and back.
"""

from typing import Any

import flax.serialization
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbudget import averaging as averaging_lib
from jaxbudget import ledger
from jaxbudget.averaging import Averaging
from jaxbudget.keys import derive
from jaxbudget.ledger import Allowance, Budget
from jaxbudget.types import Facts, Model, Plan, Selector, Spec, State


@flax.struct.dataclass
class RowMetrics:
  """What a row did, or each of the R rows of an epoch; zero where nothing happened."""

  loss: jax.Array  # f32[R]  weighted mean training loss
  correct: jax.Array  # i32[R]  examples classified as their main label
  examples: jax.Array  # i32[R]  examples of positive weight before `weigh`
  scored: jax.Array  # i32[R]  forward passes spent on ranking candidates
  trained: jax.Array  # i32[R]  samples forwarded and back-propagated by the step

  @classmethod
  def blank(cls, *rows: int) -> 'RowMetrics':
    """All zero, for `rows` row slots; without an argument for one row."""
    counts = (jnp.zeros(rows, jnp.int32) for _ in range(4))
    return cls(jnp.zeros(rows, jnp.float32), *counts)


@flax.struct.dataclass
class TrainState:
  """A run between two rows. No random key: keys are derived (see `keys.py`)."""

  epoch: jax.Array  # i32[]   the epoch under way
  row: jax.Array  # i32[]   the next row of its plan
  params: Any
  model_state: Any
  opt_state: Any
  average: Any  # of the weights, see `averaging.py`
  selector: State
  plan: Plan
  metrics: RowMetrics
  times_trained: jax.Array  # i32[N]  times each sample was trained on
  allowance: Allowance


def weight_shapes(model: Model) -> tuple[Any, Any]:
  """What a network's weights are, without making any; starts no device, so that plans may ask.

  Args:
    model: the network.

  Returns:
    (params, model_state) of `jax.ShapeDtypeStruct`s.
  """
  return jax.eval_shape(lambda: model.init(jax.random.key(0)))


def init_state(
  seed: int,
  spec: Spec,
  model: Model,
  selector: Selector,
  optimizer: optax.GradientTransformation,
  budget: Budget | float,
  averaging: Averaging = averaging_lib.NONE,
) -> TrainState:
  """The state before the first epoch.

  Args:
    seed: of the run.
    spec: sizes of the run.
    model: to initialise.
    selector: the method.
    optimizer: as for `step.make_step`.
    budget: for the cap; a number counts back-propagated samples.
    averaging: of the weights.

  Returns:
    A state with an empty plan. Its arrays are its own: donating it leaves those of the parts.
  """
  root = jax.random.key(seed)
  params, model_state = model.init(derive(root, 'init_model'))
  candidates = selector.facts.candidates
  padded = slots(selector.facts, spec)
  state = TrainState(
    epoch=jnp.int32(0),
    row=jnp.int32(0),
    params=params,
    model_state=model_state,
    opt_state=optimizer.init(params),
    average=averaging.init((params, model_state)),
    selector=selector.init(derive(root, 'init_selector')),
    plan=Plan(
      index=np.zeros((padded, candidates), np.int32),
      weight=np.zeros((padded, candidates), np.float32),
      rows=jnp.int32(0),
    ),
    metrics=RowMetrics.blank(padded),
    times_trained=np.zeros(spec.num_examples, np.int32),
    allowance=ledger.allowance(spec, budget, selector.facts),
  )
  return _owned(state)


@jax.jit  # one program for a state, not one for each shape in it
def _owned(state: TrainState) -> TrainState:
  """Copies, since a state is donated: its arrays may be the caller's, or one of them come twice."""
  # Weak types would turn strong in the first call and make the second one compile again.
  return jax.tree.map(lambda x: jnp.array(x, x.dtype), state)


def slots(facts: Facts, spec: Spec) -> int:
  """Row slots of an epoch, R: those of a full one, whatever the budget."""
  return max(spec.num_examples // facts.candidates, facts.rows)


def check_size(state: TrainState, samples: jax.Array) -> None:
  """Refuses data of another size than a run: gathers would be clamped, and nothing said.

  Args:
    state: of the run, sized by its `Spec`.
    samples: [N,...], what there is of each; only its shape is looked at.

  Raises:
    ValueError: naming both sizes.
  """
  if len(samples) != len(state.times_trained):
    raise ValueError(
      f'the data have {len(samples)} samples, but the run was set up for a Spec of '
      f'num_examples={len(state.times_trained)}'
    )


def to_bytes(tree: Any) -> bytes:
  """Writes a pytree of arrays, a `TrainState` or a network's weights, as msgpack.

  Args:
    tree: on a device or on the host.

  Returns:
    What `from_bytes` reads; nothing is pickled.
  """
  on_host = jax.tree.map(np.asarray, jax.device_get(tree))
  return flax.serialization.msgpack_serialize(flax.serialization.to_state_dict(on_host))


def from_bytes(content: bytes, target: Any) -> Any:
  """Reads what `to_bytes` wrote.

  Args:
    content: the bytes.
    target: a pytree of the structure, shapes and dtypes expected, of arrays or of
      `jax.ShapeDtypeStruct`.

  Returns:
    A pytree like the target, of NumPy arrays that lie in `content`: copy them before they are
    donated.

  Raises:
    ValueError: these are no such bytes, or they hold something else than the target.
  """
  try:
    stored = flax.serialization.msgpack_restore(content)
  except (TypeError, ValueError) as e:
    raise ValueError(f'it holds no arrays: {e}') from e
  if jax.tree.structure(stored) != jax.tree.structure(flax.serialization.to_state_dict(target)):
    raise ValueError('it holds a tree of another structure')
  tree = flax.serialization.from_state_dict(target, stored)
  for wanted, got in zip(jax.tree.leaves(target), jax.tree.leaves(tree), strict=True):
    if np.shape(wanted) != np.shape(got) or wanted.dtype != got.dtype:
      raise ValueError(
        f'it holds an array {got.dtype}{list(np.shape(got))} '
        f'where {wanted.dtype}{list(np.shape(wanted))} belongs'
      )
  return tree
