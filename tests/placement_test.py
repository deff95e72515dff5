"""Wherever images lie, a run has the same bits, and what is read is bounded and known."""

import functools

import chex
import jax
import numpy as np
import pytest
import toys
from selectors_common_test import PATHS, make

from jaxbudget import engine, epoch, placement, scan
from jaxbudget.optimizers import make_optimizer
from jaxbudget.placement import HostImages
from jaxbudget.types import Data

IMAGE = int(np.prod(toys.SPEC.image_shape))  # bytes
ROW = toys.SPEC.batch_size * IMAGE


def on_host(split=None, source=HostImages):
  split = split or toys.data()
  return Data(source(np.asarray(split.image)), split.label)


def start(selector, budget, mesh=None):
  parts = toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget
  return engine.start(*parts, mesh=mesh)


def run(selector, budget, data, epochs=None, mesh=None, stops=(None,)):
  """Trains; gives the state and what each epoch measured."""
  began, history = engine.prepare(start(selector, budget, mesh), data), []
  for e in range(epochs or selector.facts.epochs):
    scanned = scan.before(
      selector, toys.MODEL, toys.AUGMENT.test, began.state, data, e, began.root, 16
    )
    began = engine.begin_epoch(began._replace(state=scanned), e)
    for stop in stops:
      began, progress = engine.train_rows(began, data, 0.1, stop)
    history.append(progress)
  return jax.device_get((began.state, history))


@functools.cache
def on_device(variant):
  selector, budget = make(variant)
  return run(selector, budget, toys.data())


@pytest.mark.parametrize('variant', [*PATHS, 'kakurenbo', 'proxy_filter', 'rho_loss'])
def test_every_family_has_the_bits_of_the_device(variant, monkeypatch):
  selector, budget = make(variant)
  size = selector.facts.candidates * IMAGE
  monkeypatch.setattr(placement, 'CHUNK_BYTES', 2 * size + 1)  # two rows: rarely all there are
  chex.assert_trees_all_equal(on_device(variant), run(selector, budget, on_host()))


@pytest.mark.parametrize('rows', [1, 4, 100])  # one stands for two
def test_chunks_of_any_size_have_the_same_bits(rows, monkeypatch):
  selector, budget = make('p_sgd', 0.75)  # 4 rows of 6
  expected = run(selector, budget, toys.data())
  monkeypatch.setattr(placement, 'CHUNK_BYTES', rows * ROW)
  before = epoch.train_rows._cache_size()
  for stops in ((None,), (1, 3, None)):  # calls that end within a chunk
    chex.assert_trees_all_equal(expected, run(selector, budget, on_host(), stops=stops))
  assert epoch.train_rows._cache_size() <= before + 1
