"""Default types: where float32 and int32 are meant, JAX_ENABLE_X64 makes no others."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from selectors_common_test import PATHS, VARIANTS, make

from jaxbudget import engine, models, registry, sampling, scan
from jaxbudget.augment import make_augment
from jaxbudget.data import tables
from jaxbudget.optimizers import make_optimizer
from jaxbudget.rows import Row
from jaxbudget.selectors import coreset, rho_loss
from jaxbudget.task import CLASSIFICATION
from jaxbudget.testing import SPEC, toy
from jaxbudget.types import Data, plain_batch, with_epoch

ROOT = pathlib.Path(__file__).parents[1]


def wide(tree):
  """Types of more than 32 bits in a tree; keys are of two words of 32."""
  found = {jax.tree_util.keystr(path): x.dtype for path, x in jax.tree.leaves_with_path(tree)}
  return {path: str(t) for path, t in found.items() if t.itemsize > 4 and 'key' not in str(t)}


def traced(function, *arguments):
  """Traces a function under x64; gives what it returns, and where it computes in float64.

  Scalars are passed over: constants are handed on as such before they are rounded.
  """
  with jax.enable_x64(True):
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
  return shapes, re.findall(r'.*(?:f64\[\d|bit_width=64).*', str(jaxpr))


def epoch_of(variant, model, key):
  """An epoch of a run, from its initial state."""
  selector, budget = make(variant)
  run = engine.start(SPEC, model, toy.AUGMENT, selector, make_optimizer(), budget)
  run = run._replace(root=key)
  run, progress = engine.run_epoch(run, toy.data(), 1, 0.1)
  return run.state, progress


def _double(key):
  params, state = toy.MODEL.init(key)
  return jax.tree.map(lambda x: x.astype(jnp.float64), params), state


DOUBLE = toy.MODEL._replace(init=_double)  # what `jnp.zeros` makes under x64


def seen_by(model, key):
  """What a scan sees; not a scan itself, which waits for each batch."""
  block = scan._block.__wrapped__
  arguments = *model.init(key), toy.data(), jnp.int32(0)
  return block(model, toy.AUGMENT.test, 16, ('logits',), CLASSIFICATION, None, *arguments)


@pytest.mark.parametrize('variant', PATHS)
def test_an_epoch_names_its_types(variant):
  found, leaks = traced(functools.partial(epoch_of, variant, toy.MODEL), jax.random.key(0))
  assert not wide(found)
  assert not leaks or 'ordered' in variant  # compares a share with thresholds in float64


@pytest.mark.parametrize('variant', VARIANTS)
def test_the_hooks_of_every_method_name_their_types(variant):
  selector, _ = make(variant)

  def hooks(key):
    row, (_, _, batch) = toys.row(selector)
    state, plan = selector.plan(selector.init(key), key, jnp.int32(1))
    return plan, row(state, key, batch)

  found, leaks = traced(hooks, jax.random.key(0))
  assert not wide(found)
  assert not leaks or 'ordered' in variant  # compares a share with thresholds in float64


@pytest.mark.parametrize('variant', [*PATHS, 'gradient_bound_always'])
def test_a_network_of_default_types_is_heard_in_float32(variant):
  with jax.numpy_dtype_promotion('standard'):
    (state, progress), _ = traced(functools.partial(epoch_of, variant, DOUBLE), jax.random.key(0))
    seen, _ = traced(functools.partial(seen_by, DOUBLE), jax.random.key(0))
  assert not wide(seen)
  assert state.params['w'].dtype == np.float64  # its own affair
  assert not wide((state.selector, state.plan, state.allowance, progress))


AUGMENTS = registry.names('augment')


@pytest.mark.parametrize('name', [*AUGMENTS, 'mixup+randaugment'])
def test_every_augmentation_names_its_types(name):
  info = tables.INFO['cifar10']
  augment = make_augment(name, info)
  image = np.zeros((8, *info.image_shape), np.uint8)

  def both(key):
    index = jnp.arange(8, dtype=jnp.int32)
    split = Data(jnp.asarray(image), index)
    batch = plain_batch(split, index, jnp.ones(8, jnp.float32), 10)
    return with_epoch(augment.train, key, jnp.int32(0), batch), augment.test(split.image)

  found, leaks = traced(both, jax.random.key(0))
  assert not wide(found) and not leaks


IMAGES = [name for name in registry.names('model') if name != 'transformer']


@pytest.mark.parametrize('name', IMAGES)
def test_every_network_names_its_types(name):
  few = {'blocks': (1, 1)} if name == 'resnet50' else {}  # 16 of them take seconds to trace
  model = models.make_model(name, 10, (32, 32, 3), **few)

  def passes(key, image, mask):
    params, state = model.init(key)
    return params, [model.apply(params, state, image, train, mask) for train in (True, False)]

  arguments = np.zeros((4, 32, 32, 3), np.float32), np.arange(4) < 3
  found, leaks = traced(passes, jax.random.key(0), *arguments)
  assert not wide(found) and not leaks


@pytest.mark.parametrize('name', registry.names('optimizer'))
def test_every_optimizer_names_its_types(name):
  optimizer = make_optimizer(name)

  def update(key):
    params, _ = toy.MODEL.init(key)
    before = optimizer.init(params)
    row = Row(jnp.float32(0.1), None, jnp.int32(1), jnp.float32(0.5))
    told = optax.with_extra_args_support(optimizer).update
    return before, *told(params, before, params, **row.told)

  with jax.numpy_dtype_promotion('standard'):  # optax.adam needs it
    (before, updates, after), _ = traced(update, jax.random.key(0))
  assert not wide(updates)
  assert jax.tree.map(lambda x: x.dtype, before) == jax.tree.map(lambda x: x.dtype, after)


def test_arrays_of_float64_are_taken_as_float32():
  rng = np.random.default_rng(0)
  weight, scores = rng.random(48), rng.random(48)
  key = jax.random.key(0)
  with jax.enable_x64(True):
    for replacement in (False, True):
      found = sampling.draw(key, jnp.asarray(weight), 8, replacement)
      assert found.dtype == np.int32
      narrow = sampling.draw(key, jnp.asarray(weight, jnp.float32), 8, replacement)
      np.testing.assert_array_equal(found, narrow)
    chosen = (
      coreset.coreset(SPEC, make('coreset')[1], scores=scores).init(key),
      rho_loss.rho_loss(SPEC, make('rho_loss')[1], first=weight, second=scores).init(key),
    )
  assert not wide(chosen)


LAUNCH = """
import pathlib, runpy, sys
workdir, sys.argv[1:] = pathlib.Path(sys.argv[1]), ['p_sgd']
runpy.run_path('examples/own_loop.py', run_name='__main__')
from jaxbudget.lab import config, launcher
cell = dict(dataset='digits', model='mlp', epochs=2, seeds=1,
            batch_size=64, selector='selective_backprop', augment='mixup+randaugment', budget=0.5)
sys.exit(launcher.launch(config.defaults(**cell), workdir))
"""


def test_own_loops_and_launches_work_under_x64(tmp_path):
  environment = {**os.environ, 'JAX_ENABLE_X64': '1', 'PYTHONPATH': str(ROOT)}
  command = [sys.executable, '-c', LAUNCH, tmp_path]
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  accuracy = re.search(r'test accuracy ([\d.]+)%', done.stdout)
  assert float(accuracy.group(1)) > 80
  (file,) = tmp_path.glob('runs/*/result.json')
  result = json.loads(file.read_text())
  assert result['conditions']['x64'] is True
  assert list(tmp_path.glob('report/*.html'))
