"""Runs of the conformance kit's toy, which is small enough to compute by hand."""

import atexit
import functools
import pathlib
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, epoch, factories, ledger, selectors
from jaxbudget import recording as recording_lib
from jaxbudget.optimizers import make_optimizer
from jaxbudget.placement import HostImages
from jaxbudget.step import row_hooks
from jaxbudget.testing.toy import AUGMENT, MODEL, SPEC, data
from jaxbudget.types import Outputs, blank_batch


def start(selector, budget, spec=SPEC, seed=0, unit='backward', model=MODEL):
  """Program and initial state of a run."""
  budget = ledger.as_budget(budget, unit)
  run = engine.start(spec, model, AUGMENT, selector, make_optimizer(), budget, seed=seed)
  return run.program, run.state


def rates(state, value=0.1):
  """A constant learning rate for every row slot."""
  return jnp.full(state.plan.index.shape[0], value, jnp.float32)


def run_epoch(program, selector, state, e, seed=0, train_rows=epoch.train_rows, stop=10**6):
  """Plans and trains one epoch."""
  root = jax.random.key(seed)
  state = epoch.begin_epoch(selector, state, e, root)
  return train_rows(program, state, data(), rates(state), root, jnp.int32(stop))


def row(selector):
  """What a method's hooks do in a row, without the engine around it: (function, arguments)."""
  state = jax.eval_shape(selector.init, jax.random.key(0))
  return _row(row_hooks(selector)), (
    state, jax.random.key(0), blank_batch(SPEC, selector.facts.candidates)
  )  # fmt: skip


@functools.cache
def _row(hooks):
  def forward(batch):
    logits = batch.image.reshape(batch.index.shape[0], -1)[:, : SPEC.num_classes]
    return Outputs(logits, jnp.sum(logits * batch.target, axis=-1))

  @jax.jit
  def row(state, key, batch):
    state, batch, info = hooks.select(state, key, batch, forward)
    outputs = forward(batch)
    weight = hooks.weigh(state, outputs.loss, batch.weight)
    state = hooks.update(state, batch, outputs)
    return state, batch, info, weight, hooks.report(state)

  return row


_RECORDINGS = pathlib.Path(tempfile.mkdtemp())  # until this process ends
atexit.register(shutil.rmtree, _RECORDINGS)


@functools.cache
def recording(n: int = SPEC.num_examples, epochs: int = 4) -> str:
  """A recording of some epochs in which half of the samples were trained on once each."""
  rng = np.random.default_rng(0)
  planes = [recording_lib.pack(rng.permutation(np.arange(n) % 2)) for _ in range(epochs)]
  path = _RECORDINGS / f'{n}-{epochs}.npz'
  path.write_bytes(recording_lib.to_bytes(planes, n))
  return str(path)


def needed(name, options=None, n=SPEC.num_examples, classes=SPEC.num_classes):
  """What a method takes from other runs and of the data: arrays by parameter."""
  rising = np.arange(n)
  arrays = {
    'scores': rising.astype(np.float32),
    'loss': rising.astype(np.float32),
    'label': (rising % classes).astype(np.int32),
    'logits': np.random.default_rng(0).random((n, classes), np.float32),
    'features': np.random.default_rng(0).random((n, 4), np.float32),
  }
  arrays['features', 'head_bias'] = {'features': arrays['features'], 'head_bias': True}
  filled = factories.find('selector', name).fill(options or {})
  return {
    need.parameter: arrays.get(need.takes, arrays['scores'])  # a core-set takes scores of one's own
    for need in selectors.needs(name, filled)
  }


def run(selector, budget, spec=SPEC, seed=0, unit='backward'):
  """Trains all epochs; returns the state and the host-side metrics of every epoch."""
  program, state = start(selector, budget, spec, seed, unit)
  history = []
  for e in range(selector.facts.epochs):
    state, progress = run_epoch(program, selector, state, e, seed)
    history.append(jax.device_get(progress))
  return state, history


class Gappy(HostImages):
  """Images some of which are missing, and may be left out."""

  present, gone = np.ones((1, 1), bool), ()

  def walk(self, walk):
    for first, chunk in zip(walk.firsts, super().walk(walk), strict=True):
      index = walk.index[first : first + walk.rows]
      self.present = np.ones(chunk.shape[:2], bool)
      self.present[: len(index)] = ~np.isin(index, self.gone)
      yield chunk
