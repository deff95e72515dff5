"""The rules for a method's hooks, one by one."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.state import slots
from jaxbudget.testing import toy
from jaxbudget.testing.toy import SPEC
from jaxbudget.types import CAPABILITIES, Batch, Outputs, Plan, Selector, blank_batch, take_all

_ROW = ('select', 'weigh', 'update', 'report')
_COSTS = ('exact', 'expected', 'bound')


def declared(selector: Selector) -> Iterator[str]:
  """What is wrong with the facts, before anything is run."""
  facts = selector.facts
  for name in ('init', 'plan', *_ROW, 'scores', 'scan'):
    if not callable(getattr(selector, name)):
      yield f'{name} is {getattr(selector, name)!r}: every hook is a function, see types.py'
  if facts.cost not in _COSTS:
    yield f'facts.cost={facts.cost!r}: one of {", ".join(_COSTS)}'
  for one in facts.asks:
    if one not in CAPABILITIES:
      yield f'facts.asks names {one!r}: one of {", ".join(CAPABILITIES)}'
  if facts.rows < 1 or facts.epochs < 1 or facts.candidates < 1:
    yield f'facts={facts}: epochs, rows and candidates are at least 1'
  if not 0 <= facts.looking < facts.rows:
    yield f'facts.looking={facts.looking}: of {facts.rows} rows at least one may train'
  if not isinstance(selector.sizes, tuple):
    yield f'sizes={selector.sizes!r} must be a tuple: it is a part of the program, and hashed'
  elif list(selector.sizes) != sorted(set(selector.sizes)):
    yield f'sizes={selector.sizes} must rise'


def fitting(selector: Selector) -> Iterator[str]:
  """States that change structure or dtypes, plans out of range or changed by jit."""
  state = selector.init(jax.random.key(0))
  batch = blank_batch(SPEC, selector.facts.candidates)
  key, place = jax.random.key(1), jnp.int32(0)

  def same(hook: str, after: Any) -> Iterator[str]:
    before, later = jax.tree.structure(state), jax.tree.structure(after)
    if before != later:
      yield f'{hook} changes the structure of the state from {before} to {later}'
      return
    after = jax.tree.leaves_with_path(after)
    for old, (path, new) in zip(jax.tree.leaves(state), after, strict=True):
      old, new = jax.typeof(jnp.asarray(old)), jax.typeof(new)
      if (old.shape, old.dtype) != (new.shape, new.dtype):
        where = f'state{jax.tree_util.keystr(path)}'
        yield f'{hook} makes {where} {new.str_short()}, init made it {old.str_short()}'

  def chosen(state, key, batch):
    return selector.select(state, key, batch, _forward)

  planned = jax.eval_shape(selector.plan, state, key, place)
  yield from same('plan', planned[0])
  selected = jax.eval_shape(chosen, state, key, batch)
  yield from same('select', selected[0])
  trained = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), selected[1])
  yield from same('update', jax.eval_shape(selector.update, state, trained, _forward(trained)))
  if selector.facts.scan.every:
    yield from same('scan', _scanned(selector, state))
  if selector.sizes and selector.sizes[-1] < len(trained.weight):
    yield f'sizes={selector.sizes} end below the {len(trained.weight)} examples that select gives'
  if 'scored' not in selected[2] or selected[2]['scored'].dtype != jnp.int32:
    yield "select must give info['scored'] as i32[]: the forward passes it has spent"
  if _is_identity(chosen, state, key, batch) and selector.select is not take_all:
    yield 'select does nothing: use types.take_all, for a wrapped one costs a cond in every row'
  yield from _asked_faults(selector, state, trained, batch)
  yield from _plan_faults(selector, state)
  yield from jit_faults(selector)


def _forward(batch: Batch) -> Outputs:
  logits = batch.image.reshape(batch.index.shape[0], -1)[:, : SPEC.num_classes]
  return Outputs(logits, jnp.sum(logits * batch.target, axis=-1))


def _scanned(selector: Selector, state: Any) -> Any:
  """The state after a scan, by the hook as the engine calls it."""
  key, seen = jax.random.key(1), toy.seen(selector.facts.scan.wants)
  if selector.facts.scan.on_host:
    return selector.scan(jax.device_get(state), key, seen)
  return jax.eval_shape(selector.scan, state, key, seen)


def _is_identity(select, state, key, batch) -> bool:
  """Whether a hook hands state and batch through as they are."""
  closed = jax.make_jaxpr(select)(state, key, batch)
  given = [v for v in closed.jaxpr.invars]
  count = len(jax.tree.leaves(state))
  handed = given[:count] + given[-len(jax.tree.leaves(batch)) :]
  return all(a is b for a, b in zip(handed, closed.jaxpr.outvars, strict=False))


def _asked_faults(selector: Selector, state: Any, trained: Batch, batch: Batch) -> Iterator[str]:
  """What is looked at and not asked for, found by a task that tells no more than that."""
  asks = selector.facts.asks
  if {'probabilities', 'confidence'} & set(asks):
    return

  def forward(batch: Batch) -> Outputs:
    loss = jnp.sum(batch.target, axis=-1)
    norm = loss if 'gradient_norm' in asks else None
    return Outputs(None, loss, part_loss=jnp.zeros_like(batch.part_share), gradient_norm=norm)

  def hooks(state, key, batch, trained):
    state, *_ = selector.select(state, key, batch, forward)
    return selector.update(state, trained, forward(trained))

  try:
    jax.eval_shape(hooks, state, jax.random.key(1), batch, trained)
  except Exception as e:  # of anybody's code, given None where it did not ask
    yield (
      'select or update looks at what not every task can tell: name it in facts.asks, of '
      f'{", ".join(CAPABILITIES)} ({type(e).__name__}: {e})'
    )


def _plan_faults(selector: Selector, state: Any) -> Iterator[str]:
  facts, place = selector.facts, jnp.int32(0)
  jitted = jax.jit(selector.plan)(state, jax.random.key(1), place)
  again = jax.jit(selector.plan)(state, jax.random.key(1), place)
  if not equal(jitted, again):
    yield 'plan is not deterministic: the same key gives another plan'
  plan = jax.device_get(jitted[1])
  rows, room = int(plan.rows), slots(facts, SPEC)
  if plan.index.dtype != np.int32 or plan.weight.dtype != np.float32:
    yield f'a plan has index i32 and weight f32, not {plan.index.dtype} and {plan.weight.dtype}'
  if plan.index.shape != plan.weight.shape or plan.index.shape[1:] != (facts.candidates,):
    yield f'a plan is [R,{facts.candidates}], not {plan.index.shape} and {plan.weight.shape}'
    return
  if len(plan.index) != room:
    yield (
      f'a plan has {len(plan.index)} row slots, and must have R={room}, '
      'max(num_examples // candidates, facts.rows): where R depends on the budget, every cell is '
      'compiled anew'
    )
  if not 0 < rows <= min(facts.rows, len(plan.index)):
    yield f'plan.rows={rows}: facts.rows={facts.rows}, and there is room for {len(plan.index)}'
  if plan.index.min() < 0 or plan.index.max() >= SPEC.num_examples:
    yield f'plan.index runs from {plan.index.min()} to {plan.index.max()}, out of [0, N)'
  real = plan.weight[:rows] > 0
  if (plan.weight[rows:] != 0).any():
    yield 'rows behind plan.rows must have weight 0'
  if idle(selector, plan):
    yield IDLE
  if not real.all() and not selector.partial:
    yield 'the plan holds padding (weight 0): say partial=True, so that BatchNorm leaves it out'
  used = plan.index[:rows][real]
  if facts.distinct and len(np.unique(used)) != used.size:
    yield 'facts.distinct, but a sample comes twice in an epoch'


IDLE = (
  'a row of the plan has no weight at all: take_all takes the step all the same, weight decay and '
  'momentum included; leave the row out, or give a select that is not take_all'
)


def idle(selector: Selector, plan: Plan) -> bool:
  """Whether a plan has a row without weight, where no `select` makes it a step not taken."""
  weight = np.asarray(plan.weight)[: int(plan.rows)]
  return selector.select is take_all and not (weight > 0).any(axis=1).all()


def jit_faults(selector: Selector) -> Iterator[str]:
  """Hooks that say something else when they are compiled."""
  state, key = selector.init(jax.random.key(0)), jax.random.key(1)
  jitted = jax.jit(selector.plan)(state, key, jnp.int32(0))
  with jax.disable_jit():
    plain = selector.plan(state, key, jnp.int32(0))
  if not equal(jitted[1], plain[1]):
    yield 'plan gives another plan under jit than without'
  batch, key = blank_batch(SPEC, selector.facts.candidates), jax.random.key(2)
  places = jnp.arange(selector.facts.candidates, dtype=jnp.int32) % SPEC.num_examples
  image = jax.random.normal(key, batch.image.shape, jnp.float32)
  target = jax.nn.one_hot(places % SPEC.num_classes, SPEC.num_classes, dtype=jnp.float32)
  batch = batch._replace(index=places, image=image, target=target, weight=batch.weight + 1)
  batch = batch._replace(part_index=places[:, None], part_share=batch.part_share + 1)

  def row(state, key, batch):
    state, batch, info = selector.select(state, key, batch, _forward)
    outputs = _forward(batch)
    weight = selector.weigh(state, outputs.loss, batch.weight)
    return selector.update(state, batch, outputs), batch.index, weight, info['scored']

  compiled = jax.jit(row)(state, key, batch)
  with jax.disable_jit():
    plain = row(state, key, batch)
  for name, a, b in zip(('state', 'index', 'weight', 'scored'), compiled, plain, strict=True):
    if not all(map(_near, jax.tree.leaves(a), jax.tree.leaves(b))):
      yield f'select, weigh and update leave another {name} under jit than without'


def _near(a: jax.Array, b: jax.Array) -> bool:
  a, b = np.asarray(a), np.asarray(b)
  if np.issubdtype(a.dtype, np.integer):
    return np.array_equal(a, b)
  return np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def sharing(one: Selector, other: Selector) -> Iterator[str]:
  """Two budgets of equal K must be one program: equal functions, equal shapes of the state."""
  if one.facts.candidates != other.facts.candidates:
    return  # K is a shape: one program each, by design
  for name in _ROW:
    a, b = getattr(one, name), getattr(other, name)
    if a != b:
      yield (
        f'{name} is another function for another budget{_closure(a, b)}: every cell would be '
        'compiled anew; make it in a functools.cache-d factory, and keep in the state what '
        'depends on the budget'
      )
  if (one.sizes, one.partial) != (other.sizes, other.partial):
    yield 'sizes and partial must not depend on the budget'
  shapes = [
    jax.tree.map(lambda x: jax.typeof(x).str_short(), jax.eval_shape(s.init, jax.random.key(0)))
    for s in (one, other)
  ]
  if shapes[0] != shapes[1]:
    yield f'the state has other shapes for another budget: {shapes[0]} and {shapes[1]}'


def _closure(a: Callable, b: Callable) -> str:
  """What two functions made by one line of code hold that differs."""
  try:
    held = [inspect.getclosurevars(f).nonlocals for f in (a, b)]
  except TypeError:
    return ''
  differing = [n for n in held[0] if held[0][n] is not held[1].get(n)]
  return (
    f' ({getattr(a, "__qualname__", a)} closes over {", ".join(differing)})' if differing else ''
  )


def equal(a: Any, b: Any) -> bool:
  """Whether two trees of arrays are equal to the bit."""
  if jax.tree.structure(a) != jax.tree.structure(b):
    return False
  pairs = zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)), strict=True)
  return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)
