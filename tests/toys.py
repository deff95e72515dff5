"""A data set, a network and a run that are small enough to compute by hand."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, epoch, ledger
from jaxbudget import recording as recording_lib
from jaxbudget.optimizers import make_optimizer
from jaxbudget.types import Augment, Batch, Data, Model, Spec

SPEC = Spec(num_examples=48, batch_size=8, num_classes=3, epochs=4, image_shape=(2, 2, 1))


@functools.cache
def data(n: int = SPEC.num_examples) -> Data:
  """Random images whose brightness tells their class."""
  rng = np.random.RandomState(0)
  label = rng.randint(0, 3, n).astype(np.int32)
  image = rng.randint(0, 120, (n, 2, 2, 1)) + 60 * label[:, None, None, None]
  return Data(jnp.asarray(image.astype(np.uint8)), jnp.asarray(label))


def _init(key):
  return {'w': 0.1 * jax.random.normal(key, (4, 3)), 'b': jnp.zeros(3)}, {'steps': jnp.int32(0)}


def _apply(params, model_state, image, train, mask=None):
  del mask
  logits = image.reshape(image.shape[0], -1) @ params['w'] + params['b'][None]
  return logits, {'steps': model_state['steps'] + 1} if train else model_state


MODEL = Model(_init, _apply)


def _normalize(image):
  return image.astype(jnp.float32) / 255 - 0.5


def _train(key: jax.Array, batch: Batch) -> Batch:
  noise = 0.05 * jax.random.normal(key, batch.image.shape)
  return batch._replace(image=_normalize(batch.image) + noise)


AUGMENT = Augment(_train, _normalize)


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


@functools.cache
def recording(n: int = SPEC.num_examples, epochs: int = 4) -> str:
  """A recording of some epochs in which half of the samples were trained on once each."""
  rng = np.random.default_rng(0)
  planes = [recording_lib.pack(rng.permutation(np.arange(n) % 2)) for _ in range(epochs)]
  path = pathlib.Path(tempfile.mkdtemp()) / recording_lib.FILE
  path.write_bytes(recording_lib.to_bytes(planes, n))
  return str(path)


def run(selector, budget, spec=SPEC, seed=0, unit='backward'):
  """Trains all epochs; returns the state and the host-side metrics of every epoch."""
  program, state = start(selector, budget, spec, seed, unit)
  history = []
  for e in range(selector.facts.epochs):
    state, progress = run_epoch(program, selector, state, e, seed)
    history.append(jax.device_get(progress))
  return state, history
