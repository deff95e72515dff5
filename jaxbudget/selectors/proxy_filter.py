"""Proxy filter: a small network beside the large one chooses what that trains on.

Jordan, airbench96_faster of https://github.com/KellerJordan/cifar10-airbench, 2024. The proxy sees
the same stream of augmented samples, keeps the hardest of each row, and is trained on these itself.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.losses import cross_entropy
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.sampling import present_first, shuffle
from jaxbudget.selectors.kept import recorded
from jaxbudget.selectors.sgd import as_plan
from jaxbudget.types import Batch, Cost, Facts, Model, Selector, Spec, as_initialised, no_scores

_WHOLE = 1024  # units of price in a forward pass of the network that is trained
_START, _PEAK = 0.2, 0.1  # of the proxy's learning rate, the shape of airbench96


class State(NamedTuple):
  """The proxy, and what its work costs."""

  params: Any
  model_state: Any
  opt_state: Any
  step: jax.Array  # i32[]  rows so far
  total: jax.Array  # i32[]  rows of the run
  price: jax.Array  # i32[]  of a forward pass of the proxy, in 1/1024
  owed: jax.Array  # i32[]  less than one forward pass that is not in the books yet, see `_unit`
  kept: Any  # i32[S,s]  who was kept in each row, -1 is nobody, if that is recorded


class _Proxy(NamedTuple):
  """What of a proxy is static, and equal for all budgets."""

  model: Model
  size: int  # s, kept of a row
  every: int
  mode: str
  smoothing: float
  rate: float
  decay: float
  record: bool = False

  @property
  def optimizer(self):
    # The bias of a whitening layer is never trained.
    return make_optimizer('airbench_sgd', weight_decay=self.decay, whiten_share=0.0)


def _unit(every: int) -> int:
  """In what the proxy's work is counted: so many are a forward pass of the large network."""
  return _WHOLE * every


def work(candidates: int, proxy: _Proxy) -> int:
  """Forward equivalents of a proxy's own in as many rows as one of its training steps takes.

  Args:
    candidates: K.
    proxy: in `train` mode one pass scores a row's candidates, and its gradient is that of the kept;
      in `eval` mode they are scored, and the kept of one row are passed again to be trained on.

  Returns:
    A whole number; each row pays an equal part of it.
  """
  more = 2 * candidates if proxy.mode == 'train' else 3 * proxy.size
  return candidates * proxy.every + more


@functools.lru_cache(maxsize=64)
def _filter(proxy: _Proxy):
  """`select` that keeps the s hardest candidates; the same function object for all budgets."""
  model, optimizer = proxy.model, proxy.optimizer

  def losses(params, model_state, batch, train):
    logits, model_state = model.apply(
      params, model_state, batch.image.astype(jnp.float32), train=train
    )
    classes = batch.target.shape[-1]
    target = (1 - proxy.smoothing) * batch.target + proxy.smoothing / classes
    return cross_entropy(logits.astype(jnp.float32), target), model_state

  def hardest(loss, weight):
    return present_first(weight, -jax.lax.stop_gradient(loss))[: proxy.size]

  def everybody(loss, weight):
    del weight
    return jnp.arange(loss.shape[0], dtype=jnp.int32)

  def objective(params, model_state, batch, pick):
    loss, model_state = losses(params, model_state, batch, train=True)
    top = pick(loss, batch.weight)
    real = batch.weight[top] > 0
    share = jnp.maximum(jnp.sum(real.astype(jnp.float32)), 1) / top.shape[0]
    return jnp.mean(jnp.where(real, loss[top], 0)) / share, (top, model_state)

  def step(state, gradient):
    before, total = state.step.astype(jnp.float32), state.total.astype(jnp.float32)
    told = {'step': state.step + 1, 'progress': (before + 1) / total}
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, **told)
    rate = jnp.float32(proxy.rate) * _height(before / total)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
    return state._replace(params=params, opt_state=opt_state)

  def learn(state, batch, pick):
    weights = state.params, state.model_state
    found = jax.value_and_grad(objective, has_aux=True)(*weights, batch, pick)
    (_, (top, model_state)), gradient = found
    return step(state, gradient)._replace(model_state=model_state), top

  def look(state, batch):
    _, (top, model_state) = objective(state.params, state.model_state, batch, hardest)
    return state._replace(model_state=model_state), top

  def in_train_mode(state, batch, due):
    return jax.lax.cond(due, lambda: learn(state, batch, hardest), lambda: look(state, batch))

  def in_eval_mode(state, batch, due):
    loss, _ = losses(state.params, state.model_state, batch, train=False)
    top = hardest(loss, batch.weight)
    kept = jax.tree.map(lambda x: x[top], batch)
    return jax.lax.cond(due, lambda: learn(state, kept, everybody)[0], lambda: state), top

  run = in_train_mode if proxy.mode == 'train' else in_eval_mode

  def select(state: State, key, batch: Batch, forward):
    del key, forward
    state = _prepared(model, state, batch.image)
    due = state.step % proxy.every == proxy.every - 1
    state, top = run(state, batch, due)
    unit = _unit(proxy.every)
    owed = state.owed + state.price * work(batch.index.shape[0], proxy)
    kept = ()
    if proxy.record:  # in the place of an image that is missing stands another, of weight 0
      who = jnp.where(batch.weight[top] > 0, batch.index[top], jnp.int32(-1))
      kept = state.kept.at[state.step].set(who)
    state = state._replace(step=state.step + 1, owed=owed % unit, kept=kept)
    return state, jax.tree.map(lambda x: x[top], batch), {'scored': owed // unit}

  return select


def _prepared(model: Model, state: State, images: jax.Array) -> State:
  """The proxy, prepared with the images of the first row if it wants that."""
  if model.prepare is as_initialised:
    return state
  weights = jax.lax.cond(
    state.step == 0,
    lambda: model.prepare(state.params, state.model_state, images),
    lambda: (state.params, state.model_state),
  )
  return state._replace(params=weights[0], model_state=weights[1])


def _height(done: jax.Array) -> jax.Array:
  """Height of the learning rate of a row before which a share of the run is done."""
  up = _START + (1 - _START) * done / _PEAK
  return jnp.minimum(up, (1 - done) / (1 - _PEAK))


def proxy_filter(
  spec: Spec,
  budget: Budget | float,
  *,
  proxy: str = 'mlp',
  width: int | None = None,
  keep: float | None = None,
  train_every: int = 4,
  mode: Literal['train', 'eval'] = 'train',
  learning_rate: float = 512 * 9 / 7850.67,
  weight_decay: float = 0.012 / 4.5,
  label_smoothing: float = 0.2,
  record: bool = False,
  recording: str = '',
  recording_digest: str = '',
) -> Selector:
  """Of each row's K candidates the s of the largest loss by a small network, trained beside.

  The proxy's loss is smoothed. It is trained in the last of every four rows, on the mean loss of
  the kept, by the optimizer of airbench, with a learning rate that climbs to row 0.1 S and falls
  to 0. A proxy that is prepared with data is so with the candidates of the first row.

  Its passes are charged as scored: `Budget.scoring` is what a forward pass of it costs, by
  FLOPs, over one of the network that is trained; a backward pass is two. Rows pay for its training
  in equal parts, the rows behind the last of its steps too.

  Args:
    spec: sizes of the run; s samples of a row are trained on.
    budget: B.
    proxy: name of a network, or `package.module:factory`: `airbench_proxy` for images of 32x32;
      `mlp`, the default, takes any input, tokens as numbers. `recorded` trains on what
      another run's proxy kept, in its order, see `kept.recorded`.
    width: its option; None is its default.
    keep: share of the candidates that is kept, s/K; None looks at all samples in each epoch,
      K = floor(N/rows).
    train_every: rows from one training step of the proxy to the next.
    mode: `train`: candidates are scored as the proxy is trained, by batch statistics; `eval`:
      by running ones.
    learning_rate: of the proxy, for a mean loss of 512 kept ones at first.
    weight_decay: of the proxy.
    label_smoothing: of the proxy's loss, in [0, 1).
    record: leaves who was kept in each row as scores.npy, i32[S,s]; -1 where images were missing.
    recording: what is trained on again, such a file.
    recording_digest: what it must hold, see `kept.recorded`.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or more is to be kept than there is.
  """
  if keep is not None and not 0 < keep <= 1:
    raise ValueError(f'keep={keep!r} is refused: it must be in (0, 1], or None')
  if train_every < 1:
    raise ValueError(f'train_every={train_every!r} is refused: it must be a whole number from 1')
  if not 0 < learning_rate < float('inf'):
    raise ValueError(f'learning_rate={learning_rate!r} is refused: it must be positive and finite')
  if not 0 <= label_smoothing < 1:
    raise ValueError(f'label_smoothing={label_smoothing!r} is refused: it must be in [0, 1)')
  budget = ledger.left_of(spec, budget)
  if proxy == 'recorded':
    return recorded(spec, budget, recording, recording_digest)
  if recording:
    raise ValueError(f"recording={recording!r} is only for proxy='recorded', not for {proxy!r}")
  options = {} if width is None else {'width': width}
  model = make_model(proxy, spec.num_classes, spec.image_shape, **options)
  static = _Proxy(
    model, spec.batch_size, train_every, mode, label_smoothing, learning_rate, weight_decay, record
  )
  price = round(budget.scoring * _WHOLE)
  facts = _facts(spec, budget, keep, static, price)

  def init(key):
    params, model_state = model.init(key)
    numbers = (0, facts.epochs * facts.rows, price, 0)
    opt_state = static.optimizer.init(params)
    kept = jnp.zeros((numbers[1], spec.batch_size), jnp.int32) if record else ()
    return State(params, model_state, opt_state, *(jnp.int32(n) for n in numbers), kept)

  def plan(state, key, epoch):
    del epoch
    index = shuffle(key, jnp.arange(spec.num_examples, dtype=jnp.int32))
    padded = max(spec.num_examples // facts.candidates, facts.rows)
    return state, as_plan(index, facts.rows, facts.candidates, padded)

  scores = _kept if record else no_scores
  return Selector(facts, init, plan, select=_filter(static), scores=scores)


def _kept(state: State) -> jax.Array:
  return state.kept


def _facts(spec, budget, keep, proxy, price) -> Facts:
  """As many rows as the budget holds, none of which sees a sample that an earlier one saw."""
  size, count = spec.batch_size, spec.num_examples
  most = ledger.rows_of(ledger.share(count, budget), spec)
  cap = ledger.share(3 * spec.epochs * count, budget)
  for rows in range(most, 0, -1):
    candidates = count // rows if keep is None else round(size / ledger.exact(keep))
    row, total = price * work(candidates, proxy), spec.epochs * rows
    planned = Cost(total * row // _unit(proxy.every), total * size, total * size)
    row_cost = Cost(-(-row // _unit(proxy.every)), size, size)
    if budget.unit == 'backward' or planned.forward_equivalents + 1 <= cap:
      break
  else:
    raise ValueError(
      f'proxy_filter has no row at budget={budget} ({budget.unit}): no batch of {size} fits'
    )
  if rows * candidates > count:
    raise ValueError(
      f'keep={keep} is refused: {rows} rows of {candidates} candidates are more than the {count} '
      f'samples of an epoch; budget={budget} wants at least as large a share kept'
    )
  if row >= 2**31:
    raise ValueError(f'train_every={proxy.every} is refused: the work of a row is counted in int32')
  return Facts(
    spec.epochs, rows, candidates, planned, row_cost,
    asks=('probabilities',), uniform_on_ties=False, own_network=True,
  )  # fmt: skip


def _network(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
  """Name and options of the network that scores, for who plans to price it."""
  if options['proxy'] == 'recorded':
    return None
  return options['proxy'], {} if options['width'] is None else {'width': options['width']}


proxy_filter.scored_by = _network
