"""Seams that recipes need: a network prepared with the data, augmentations that know the epoch."""

import dataclasses
import math

import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from rich.console import Console

from jaxbudget import data, engine, parallel
from jaxbudget.augment import Stages, chain, make_augment, mix
from jaxbudget.augment.geometric import alternating_side
from jaxbudget.data.tables import INFO
from jaxbudget.keys import derive
from jaxbudget.lab.run import files
from jaxbudget.lab.sweep import local
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Augment, Batch, Data, Model, plain_batch, with_epoch


def centred(params, model_state, images):
  """Keeps the mean of the images where training does not change it."""
  assert images.dtype == jnp.float32  # as evaluation sees them
  return params, model_state | {'steps': model_state['steps'] - images.shape[0]}


PREPARED = toys.MODEL._replace(prepare=centred)


def begin(model=PREPARED, mesh=None, augment=toys.AUGMENT):
  selector = make_selector('unif_sgd', toys.SPEC, 0.5)
  return engine.start(toys.SPEC, model, augment, selector, make_optimizer(), 0.5, mesh=mesh)


def test_a_network_is_prepared_once_with_the_first_images(monkeypatch):
  plain = begin(toys.MODEL)
  assert engine.prepare(plain, toys.data()) is plain
  prepared = engine.prepare(begin(), toys.data())
  assert int(prepared.state.model_state['steps']) == -48
  mesh = parallel.make_mesh(2, 8)
  two = engine.prepare(begin(mesh=mesh), parallel.place_data(toys.data(), mesh))
  assert int(two.state.model_state['steps']) == -48
  assert two.state.model_state['steps'].is_fully_replicated
  monkeypatch.setattr(engine, 'PREPARED', 5)
  engine._prepared.clear_cache()
  assert int(engine.prepare(begin(), toys.data()).state.model_state['steps']) == -5


def whitened(num_classes, image_shape):
  """A linear network around a mean that is computed of the data and stays."""
  size = math.prod(image_shape)

  def init(key):
    return {'w': jax.random.normal(key, (size, num_classes))}, {'mean': jnp.full(size, jnp.nan)}

  def apply(params, model_state, image, train, mask=None):
    del train, mask
    x = image.reshape(image.shape[0], -1) - model_state['mean'][None]
    return x @ params['w'], model_state

  def prepare(params, model_state, images):
    del model_state
    return params, {'mean': 7 + images.reshape(images.shape[0], -1).mean(0)}

  return Model(init, apply, prepare=prepare)


def test_a_launched_run_is_prepared_before_its_first_row(tmp_path):
  dataset = faulty.write_images(tmp_path / 'tiny.npz')
  values = faulty.settings(dataset, model='seams_test:whitened', learning_rate=1e-9, epochs=1,
                           budget=1.0, final_learning_rate=0.0, selector='sgd',
                           averaging='ema', tta='mirror_translate')  # fmt: skip
  runs, datasets = faulty.planned(values)
  assert local.run_all(runs, datasets, tmp_path / 'runs', Console()) == 0
  parts = runs[0].parts
  weights = tmp_path / 'runs' / runs[0].run_id / files.LAST
  _, state = files.read_weights(weights, parts.model)
  images = parts.augment.test(jnp.asarray(data.load(dataset).train_image))
  mean = parts.model.prepare({}, {}, images)[1]['mean']
  np.testing.assert_allclose(state['mean'], mean, rtol=1e-5)  # averaged from there on
  result = files.read_json(weights.parent / files.RESULT)
  count = runs[0].info.num_test
  assert result['tta']['name'] == 'mirror_translate' and 0 <= result['tta']['score'] <= 100
  assert result['tta']['forward_evaluated'] == 3 * count  # npz: nothing is mirrored
  assert result['cost']['forward_evaluated'] == (1 + 3) * count


def test_a_stage_is_told_the_epoch_if_it_wants_three_arguments():
  one = lambda key, batch: batch._replace(weight=batch.weight + 1)
  two = lambda key, epoch, batch: batch._replace(weight=batch.weight * epoch)
  tuned = lambda key, batch, strength=3.0: batch._replace(weight=batch.weight + strength)
  batch = Batch(*[jnp.ones(2)] * len(Batch._fields))
  key = jax.random.key(0)
  got = with_epoch(chain(one, two, tuned), key, jnp.float32(5), batch)
  assert (got.weight == 13).all()
  assert (chain(one, tuned)(key, batch).weight == 5).all()  # no epoch is asked for


def test_the_engine_tells_the_epoch():
  def stamp(key, epoch, batch):
    batch = toys.AUGMENT.train(key, batch)
    return batch._replace(image=batch.image * 0 + epoch.astype(jnp.float32))

  seen = lambda state, batch, outputs: batch.image.mean()
  selector = make_selector('unif_sgd', toys.SPEC, 0.5)
  plan = selector.plan
  selector = selector._replace(
    init=lambda key: jnp.float32(-1), update=seen,
    plan=lambda state, key, epoch: (state, plan((), key, epoch)[1]),
  )  # fmt: skip
  augment = Augment(stamp, toys.AUGMENT.test)
  run = engine.start(toys.SPEC, toys.MODEL, augment, selector, make_optimizer(), 0.5)
  for e in range(3):
    run, _ = engine.run_epoch(run, toys.data(), e, 0.1)
    assert float(run.state.selector) == e


def test_the_engine_hands_each_row_what_was_drawn_for_it():
  def stage(key, batch, drawn=None):
    assert drawn is not None
    batch = toys.AUGMENT.train(key, batch)
    return batch._replace(image=batch.image * 0 + drawn['beta'])

  stage.draw = lambda key, size: {'beta': mix.mixup_beta(key, 0.3) + size}
  selector = make_selector('unif_sgd', toys.SPEC, 0.5)
  plan = selector.plan
  selector = selector._replace(
    init=lambda key: jnp.zeros(3),
    plan=lambda state, key, epoch: (state, plan((), key, epoch)[1]),
    update=lambda state, batch, outputs: jnp.roll(state, -1).at[2].set(batch.image.mean()),
  )
  augment = Augment(chain(stage), toys.AUGMENT.test)
  run = engine.start(toys.SPEC, toys.MODEL, augment, selector, make_optimizer(), 0.5)
  run, _ = engine.run_epoch(run, toys.data(), 1, 0.1)
  keys = [jax.random.fold_in(derive(run.root, 'augment', 1, row), 0) for row in range(3)]
  expected = [8 + mix.mixup_beta(key, 0.3) for key in keys]
  np.testing.assert_allclose(run.state.selector, expected, rtol=1e-6)


@pytest.mark.parametrize('epoch', [0, 1])
def test_alternating_flip_replaces_the_random_flip(epoch):
  info = dataclasses.replace(INFO['cifar10'], pad=0, image_shape=(4, 4, 3))
  augment = make_augment('alternating_flip', info)
  images = np.random.RandomState(0).randint(0, 256, (6, 4, 4, 3)).astype(np.uint8)
  split = Data(jnp.asarray(images), jnp.zeros(6, jnp.int32))
  batch = plain_batch(split, jnp.arange(6, dtype=jnp.int32), jnp.ones(6), 10)
  got = with_epoch(augment.train, jax.random.key(3), jnp.int32(epoch), batch).image
  turned = np.asarray(alternating_side(jnp.arange(6, dtype=jnp.int32), jnp.int32(epoch)))
  expected = np.where(turned[:, None, None, None], images[:, :, ::-1], images)
  np.testing.assert_allclose(got, augment.test(jnp.asarray(expected)), atol=1e-6)
  with pytest.raises(ValueError, match='replace the crop: allowed is one'):
    make_augment('translate+alternating_flip+seams_test:shifted', info)


def shifted(info):
  """A second crop."""
  del info
  return Stages(crop=lambda key, batch: batch)


def test_a_mesh_of_another_kind_is_refused():
  for mesh in (jax.make_mesh((2,), ('batch',)), jax.make_mesh((2,), ('data',)), 2, jax.devices()):
    with pytest.raises(
      ValueError, match='mesh=.* is refused: it must be one of parallel.make_mesh'
    ):
      begin(mesh=mesh)


def doubled(key, batch):
  del key
  return batch._replace(image=2 * batch.image)


def _stage(info, *, place: str):
  return Stages(**{place: doubled})


@pytest.mark.parametrize('place', ['before', 'crop', 'flip', 'between', 'after'])
def test_every_stage_is_applied_to_features(place):
  info = dataclasses.replace(INFO['digits'], image_shape=(4,), mean=(), std=(), pad=0)
  augment = make_augment('seams_test:_stage', info, place=place)
  split = Data(jnp.ones((2, 4), jnp.float32), jnp.zeros(2, jnp.int32))
  batch = plain_batch(split, jnp.arange(2), jnp.ones(2), 3)
  image = with_epoch(augment.train, jax.random.key(0), jnp.int32(0), batch).image
  np.testing.assert_array_equal(image, 2 * split.image)
