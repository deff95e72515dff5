"""Tasks: what they tell, what they train on, and which methods may ask what of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_methods import loss_scan

from jaxbudget import engine, scan, scores
from jaxbudget.checks import check_labels
from jaxbudget.data.tables import INFO
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run import identity
from jaxbudget.lab.sweep import grid
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.state import init_state
from jaxbudget.step import make_step
from jaxbudget.task import CLASSIFICATION, make_task
from jaxbudget.types import Model, as_target, plain_batch

CLASSES = INFO['digits']
NUMBERS = dataclasses.replace(
  CLASSES, name='prices', num_classes=2, label_mean=(1.0, -2.0), label_std=(2.0, 0.5)
)
RANDOM = np.random.RandomState(0)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_the_default_task_is_one_object():
  assert make_task('classification', CLASSES) == CLASSIFICATION
  assert make_task('classification', CLASSES, label_smoothing=0.0) == CLASSIFICATION
  smooth = [make_task('classification', CLASSES, label_smoothing=0.1) for _ in range(2)]
  assert smooth[0] == smooth[1] != CLASSIFICATION


def test_regression_is_squared_error_of_standardised_labels_scored_by_r2():
  task = make_task('regression', NUMBERS)
  label = RANDOM.randn(6, 2).astype(np.float32) * [2.0, 0.5] + [1.0, -2.0]
  output = RANDOM.randn(6, 2).astype(np.float32)
  target = as_target(jnp.asarray(label, jnp.float32), 2)
  loss = task.loss(jnp.asarray(output), target)
  error = output - (label - [1.0, -2.0]) / [2.0, 0.5]
  np.testing.assert_allclose(loss, (error**2).mean(1), rtol=1e-5)
  told = task.told(jnp.asarray(output), target, loss)
  gradient = jax.vmap(jax.grad(lambda o, t: task.loss(o[None], t[None])[0]))
  norm = np.linalg.norm(gradient(jnp.asarray(output), target), axis=1)
  np.testing.assert_allclose(scores.gradient_bound(told, target), norm, rtol=1e-5)
  np.testing.assert_array_equal(scores.own_loss(told, jnp.zeros((6, 1), jnp.int32)), loss[:, None])
  assert told.logits is None and not task.correct(jnp.asarray(output), target).any()
  # R2 of each output by the training labels' mean and variance, and the mean of these.
  predicted = output * [2.0, 0.5] + [1.0, -2.0]
  r2 = 1 - ((label - predicted) ** 2).mean(0) / np.square([2.0, 0.5])
  assert task.score(0, float(loss.sum()), 6) == pytest.approx(100 * r2.mean(), rel=1e-5)
  assert task.rank(jnp.int32(0), jnp.float32(1)) > task.rank(jnp.int32(0), jnp.float32(2))


def test_numbers_are_targets_of_one_class():
  data = toys.data()._replace(label=jnp.ones((48, 2), jnp.float32) * 3)
  batch = plain_batch(data, jnp.arange(4, dtype=jnp.int32), jnp.ones(4), 2)
  assert batch.target.shape == (4, 2) and (batch.target == 3).all()
  assert batch.label.dtype == jnp.int32 and not batch.label.any() and not batch.part_label.any()


def test_smoothed_targets_are_trained_on_and_plain_losses_are_selected_by():
  task = make_task('classification', CLASSES, label_smoothing=0.3)
  seen = {}

  def weigh(state, loss, weight):
    seen['weighed'] = loss
    return weight

  def update(state, batch, outputs):
    seen['told'] = outputs
    return state

  selector = make_selector('sgd', toys.SPEC, 1.0)._replace(weigh=weigh, update=update)
  optimizer = make_optimizer(momentum=0.0, weight_decay=0.0)
  state = init_state(0, toys.SPEC, toys.MODEL, selector, optimizer, 1.0)
  batch = plain_batch(toys.data(), jnp.arange(8, dtype=jnp.int32), jnp.ones(8), 3)
  batch = batch._replace(image=batch.image.astype(jnp.float32) / 255)
  step = make_step(selector, toys.MODEL, optimizer, task=task)
  params = jax.device_get(state.params)
  with jax.disable_jit():
    after, metrics = step(state, batch, jnp.float32(1), jax.random.key(0))
  x, y = np.asarray(batch.image).reshape(8, -1), np.asarray(batch.target)
  p = softmax(x @ params['w'] + params['b'])
  smooth = 0.7 * y + 0.1
  np.testing.assert_allclose(seen['weighed'], -(y * np.log(p)).sum(1), rtol=1e-5)
  np.testing.assert_allclose(seen['told'].loss, seen['weighed'])
  np.testing.assert_allclose(metrics.loss, -(smooth * np.log(p)).sum(1).mean(), rtol=1e-5)
  expected = params['w'] - x.T @ (p - smooth) / 8
  np.testing.assert_allclose(after.params['w'], expected, rtol=1e-4, atol=1e-6)


def test_a_scan_before_an_epoch_asks_the_task_and_a_task_that_cannot_tell_is_refused():
  task, optimizer = make_task('regression', NUMBERS), make_optimizer()
  selector = loss_scan(toys.SPEC, 0.5)
  state = init_state(0, toys.SPEC, toys.MODEL, selector, optimizer, 0.5)
  label = jnp.asarray(RANDOM.randn(48, 2), jnp.float32)
  two = lambda *given, **named: (toys.MODEL.apply(*given, **named)[0][:, :2], ())
  model = toys.MODEL._replace(apply=two)
  look = model, toys.AUGMENT.test
  split = toys.data()._replace(label=label)
  state = scan.before(selector, *look, state, split, 0, jax.random.key(0), 48, task)
  output, _ = model.apply(state.params, (), toys.AUGMENT.test(split.image), train=False)
  np.testing.assert_allclose(state.selector, task.loss(output, label), rtol=1e-5)
  asking = make_selector('p_sgd', toys.SPEC, 0.5)
  said = "the selector asks for probabilities, which task 'regression' does not have .it has grad"
  with pytest.raises(ValueError, match=said):
    make_step(asking, toys.MODEL, optimizer, task=task)
  with pytest.raises(ValueError, match=said):
    engine.start(toys.SPEC, toys.MODEL, toys.AUGMENT, asking, optimizer, 0.5, task=task)
  with pytest.raises(ValueError, match="is 'p_sgd', a str: give the Selector that make_selector"):
    make_step('p_sgd', toys.MODEL, optimizer)


def values(**changes):
  return config_lib.defaults(**{
    'dataset': 'digits', 'model': 'resnet8', 'selector': 'unif_sgd', 'budget': 0.5, 'seeds': 1,
    **changes,
  })  # fmt: skip


def test_the_default_task_is_not_in_ids_and_any_other_is():
  (plain,) = grid.make_runs(values())
  later = {'task', 'averaging'}
  assert set(identity.KINDS) & set(plain.identity) == set(identity.KINDS) - later
  (smooth,) = grid.make_runs(values(**{'task_options.label_smoothing': 0.1}))
  assert smooth.identity['task']['options'] == {'classification': {'label_smoothing': 0.1}}
  assert smooth.run_id != plain.run_id
  told = {k: v for k, v in smooth.identity.items() if k != 'task'}
  assert told == plain.identity


def poor(info):
  """A task that tells nothing but losses."""
  return CLASSIFICATION._replace(name='poor', capabilities=())


@pytest.mark.parametrize(('changes', 'said'), [
  ({'task': 'regression'}, 'task regression: the labels of digits are classes, not numbers'),
  ({'task': 'regresion'}, "unknown task 'regresion'; did you mean 'regression'?"),
  ({'task_options.label_smoothing': 1.0}, 'label_smoothing=1.0 is refused: it must be in [0, 1)'),
  ({'task_options.smoothing': 0.1}, "unknown option of classification 'smoothing'"),
  (
    {'task': 'tasks_test:poor', 'selector': 'p_sgd'},
    "selector 'p_sgd' asks for probabilities, which task 'tasks_test:poor' does not have "
    '(it has losses only)',
  ),
])  # fmt: skip
def test_refusals(changes, said):
  with pytest.raises(ValueError) as refused:
    grid.make_runs(values(**changes))
  assert said in str(refused.value)


def test_classes_are_refused_where_numbers_are_wanted_and_the_reverse():
  with pytest.raises(ValueError, match='the labels of prices are numbers, not classes'):
    make_task('classification', NUMBERS)
  assert make_task('regression', NUMBERS) == make_task('regression', NUMBERS)


ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(48) % 3]
MISREAD = {
  'one-hot floats': (ONE_HOT, 'classification', r'float32.48, 3., .* give label.argmax'),
  'one-hot numbers': (ONE_HOT.astype(np.int32), 'classification', r'int32.48, 3.: classes must be'),
  'a column': (np.zeros((48, 1), np.int64), 'classification', r'48, 1.: classes must be whole'),
  'floats': (np.zeros(48, np.float32), 'classification', 'wants classes, whole numbers'),
  'texts': (np.full(48, 'a'), 'classification', 'they must be whole numbers'),
  'a list': ([0] * 48, 'classification', 'labels are a list: give a NumPy or JAX array'),
  'classes to regress': (np.zeros(48, np.int32), 'regression', 'wants numbers to predict'),
  'flat numbers': (np.zeros(48, np.float32), 'regression', 'numbers to predict must be .N,C.'),
}  # fmt: skip


@pytest.mark.parametrize('what', MISREAD)
def test_labels_that_a_task_would_misread_are_refused_before_a_row_is_trained(what):
  label, name, said = MISREAD[what]
  task = make_task(name, NUMBERS if name == 'regression' else CLASSES)
  selector = make_selector('unif_sgd', toys.SPEC, 0.5)
  parts = toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer()
  run = engine.start(*parts, 0.5, task=task)
  split = toys.data()._replace(label=label)
  look = selector, toys.MODEL, toys.AUGMENT.test, run.state, split, 0, run.root
  for refuse in (
    lambda: check_labels(label, 3, task),
    lambda: engine.prepare(run, split),
    lambda: engine.run_epoch(run, split, 0, 0.1),
    lambda: engine.train_rows(run, split, 0.1),
    lambda: scan.before(*look, task=task),  # no scan is due
  ):
    with pytest.raises(ValueError, match=said):
      refuse()


def test_labels_of_any_array_are_looked_at():
  check_labels(np.arange(3, dtype=np.uint8), 3)
  check_labels(jnp.array([True, False]), 2)
  check_labels(ONE_HOT, 3, make_task('regression', NUMBERS))
  with pytest.raises(ValueError, match=r'labels run from 1 to 3, .* they must be in \[0, 3\)'):
    check_labels(np.arange(1, 4), 3)


def test_a_task_that_is_forgotten_is_no_training_on_nothing():
  split = toys.data()._replace(label=jnp.ones((48, 1), jnp.float32))
  batch = plain_batch(split, jnp.arange(8, dtype=jnp.int32), jnp.ones(8), 1)
  selector, optimizer = make_selector('unif_sgd', toys.SPEC, 0.5), make_optimizer()
  apply = lambda w, state, image, train, mask=None: (image.reshape(len(image), -1) @ w, state)
  model = Model(lambda key: (jnp.zeros((4, 1), jnp.float32), ()), apply)
  step = make_step(selector, model, optimizer, toys.AUGMENT)
  state = init_state(0, toys.SPEC, model, selector, optimizer, 0.5)
  with pytest.raises(ValueError, match='cross-entropy of C=1 output is always 0'):
    jax.eval_shape(step, state, batch, jnp.float32(0.1), jax.random.key(0))
  batch = plain_batch(toys.data(), batch.index, batch.weight, 3)
  with pytest.raises(ValueError, match=r'gives .8, 1., but the targets are .8, 3.*num_classes'):
    jax.eval_shape(step, state, batch, jnp.float32(0.1), jax.random.key(0))
  with pytest.raises(ValueError, match='digits has one class only'):
    make_task('classification', dataclasses.replace(CLASSES, num_classes=1))
