"""Trains toys on several devices or in several processes; `parallel_test.py` starts it.

  python parallel_worker.py devices OUT.json VARIANT...
  python parallel_worker.py process OUT.json COUNT NUMBER PORT

A program of its own, because the number of devices is fixed when JAX starts.
"""

import dataclasses
import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import toys
from selectors_common_test import VARIANTS, options_of, whole

from jaxbudget import engine, epoch, feeding, parallel
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.placement import HostImages
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, Spec

SPEC = Spec(num_examples=96, batch_size=4, num_classes=3, epochs=4, image_shape=(2, 2, 1))
CHUNK = 8


def make(variant):
  """A selector with at least a chunk of rows, and its budget."""
  name, options = VARIANTS[variant][0], options_of(variant, 96)
  budget = 1.0 if whole(variant) else 0.75
  if name == 'selective_backprop':
    options = {'b': 0.5, **options}
  return make_selector(name, SPEC, budget, options, toys.needed(name, options, 96)), budget


def on_mesh(program, state, split_bytes=parallel.SPLIT_BYTES):
  """State and data, where the program's mesh wants them."""
  state = parallel.replicate(jax.tree.map(jnp.array, state), program.mesh)
  return state, parallel.place_data(toys.data(SPEC.num_examples), program.mesh, split_bytes)


def train_rows(program, state, data, rows, learning_rate=0.1):
  """Trains some rows, in two calls; returns state, progress and the compilations it took."""
  rates, root = toys.rates(state, learning_rate), jax.random.key(0)
  start, before = int(state.row), epoch.train_rows._cache_size()
  for stop in (start + rows - 2, start + rows):
    state, progress = epoch.train_rows(program, state, data, rates, root, jnp.int32(stop))
  return *jax.device_get((state, progress)), epoch.train_rows._cache_size() - before


def summary(state, progress, compiled):
  """What must not depend on the number of devices, and what may by rounding."""
  m = progress.metrics
  exact = [state.times_trained, state.plan.index, m.examples, m.scored, m.trained]
  exact += [x for x in jax.tree.leaves(state.selector) if x.dtype.kind in 'ib']
  close = jax.tree.leaves((state.params, state.model_state, state.selector))
  close = [np.nan_to_num(x, posinf=-1.0) for x in close if x.dtype.kind == 'f']
  flat = functools.partial(np.concatenate, axis=None)
  return {
    'row': int(progress.row),
    'planned': int(state.plan.rows),
    'compiled': compiled,
    'loss': progress.metrics.loss.tolist(),
    'exact': flat(exact).tolist(),
    'close': flat(close).tolist(),
  }


def compare_devices(variants):
  """For each variant: an epoch and two rows on one device, then eight on 1, 2 and 4."""
  found, root = {}, jax.random.key(0)
  for variant in variants:
    selector, budget = make(variant)
    program, state = toys.start(selector, budget, SPEC)
    for e, rows in ((0, SPEC.num_examples), (1, 2)):
      state = epoch.begin_epoch(selector, state, e, root)
      state, _, _ = train_rows(program, *on_mesh(program, state), rows)
    found[variant] = {}
    for count in (1, 2, 4):
      placed = program._replace(mesh=parallel.make_mesh(count, SPEC.batch_size))
      split_bytes = 0 if count == 4 else parallel.SPLIT_BYTES
      trained = train_rows(placed, *on_mesh(placed, state, split_bytes), CHUNK)
      found[variant][count] = summary(*trained)
  return found


def train_one_epoch():
  """An epoch of p-SGD with a network that has BatchNorm, on all devices of all processes.

  Each process has its share of the images.
  """
  spec = dataclasses.replace(SPEC, batch_size=16)  # BatchNorm over few pixels magnifies rounding
  selector = make_selector('p_sgd', spec, 0.75)
  small = {'width': 2, 'depth': 1, 'kernel': 2, 'patch': 1, 'conv': 'lax'}
  model = make_model('convmixer', spec.num_classes, spec.image_shape, **small)
  program, state = toys.start(selector, 0.75, spec, model=model)
  program = program._replace(mesh=parallel.make_mesh(0, SPEC.batch_size))
  state, data = on_mesh(program, state, split_bytes=0)
  state = epoch.begin_epoch(selector, state, 0, jax.random.key(0), program.mesh)
  return summary(*train_rows(program, state, data, selector.facts.rows, learning_rate=0.01))


def train_fed():
  """An epoch on images that are fed: each process reads its columns of each row, and no others."""
  feeding.CHUNK_BYTES = 1  # two rows
  selector = make_selector('p_sgd', SPEC, 0.75)
  mesh = parallel.make_mesh(0, SPEC.batch_size)
  parts = SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), 0.75
  whole = toys.data(SPEC.num_examples)
  source = HostImages(np.asarray(whole.image))
  data = parallel.place_data(Data(source, whole.label), mesh)
  run, progress = engine.run_epoch(engine.start(*parts, mesh=mesh), data, 0, 0.1)
  found = summary(*jax.device_get((run.state, progress)), 1)
  assert source.bytes_read * jax.process_count() == found['row'] * SPEC.batch_size * 4
  return found


def main(task, out, *arguments):
  """Writes what was found as JSON."""
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_numpy_dtype_promotion', 'strict')
  if task == 'devices':
    jax.config.update('jax_num_cpu_devices', 4)
    found = compare_devices(arguments)
  else:
    count, number, port = map(int, arguments)
    jax.config.update('jax_num_cpu_devices', 1)
    if count > 1:
      jax.distributed.initialize(f'127.0.0.1:{port}', count, number)
    found = {'split': train_one_epoch(), 'fed': train_fed()}
  pathlib.Path(out).write_text(json.dumps(found))


if __name__ == '__main__':
  main(*sys.argv[1:])
