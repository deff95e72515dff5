"""Scores by a trained model: its predictions, its gradients, and where its features lie."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget.losses import cross_entropy
from jaxbudget.scoring import distances, trained
from jaxbudget.scoring.table import SCORES, Setting, score_of

LOGITS = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32) * 3
LABEL = np.random.default_rng(1).integers(0, 4, 11)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def test_predictions():
  high = np.sort(P, axis=1)[:, ::-1]
  np.testing.assert_allclose(trained.least_confidence(LOGITS), 1 - high[:, 0], rtol=1e-5)
  np.testing.assert_allclose(trained.margin(LOGITS), high[:, 1] - high[:, 0], atol=1e-6)
  np.testing.assert_allclose(trained.entropy(LOGITS), -(P * np.log(P)).sum(1), rtol=1e-5)
  expected = np.linalg.norm(P - np.eye(4)[LABEL], axis=1)
  np.testing.assert_allclose(trained.el2n(LOGITS, LABEL), expected, rtol=1e-5)


def test_predictions_by_hand():
  """A certain prediction has no entropy, though its other classes have p = 0."""
  logits = np.tile(np.log(np.float32([0.7, 0.2, 0.1, 1e-30])), (11, 1))
  logits[0] = [500, 0, -500, 0]
  assert trained.entropy(logits)[0] == 0
  np.testing.assert_allclose(trained.el2n(logits, np.zeros(11, int))[1], 0.37417, atol=1e-5)
  logits[:, 2:] = -500  # of two classes it is sqrt(2) (1 - p)
  p = np.asarray(jax.nn.softmax(logits))
  found = trained.el2n(logits, np.ones(11, int))
  np.testing.assert_allclose(found, np.sqrt(2) * (1 - p[:, 1]), rtol=1e-5)


def test_grand_is_the_norm_of_all_of_a_sample_s_gradient():
  """On a network of one layer, which is the last one, both forms of GraNd agree."""
  params, model_state = toys.MODEL.init(jax.random.key(1))
  split = toys.data(10)
  target = jax.nn.one_hot(split.label, 3)
  shown = toys.AUGMENT.test(split.image)
  logits, _ = toys.MODEL.apply(params, model_state, shown, train=False)
  last = trained.grand_last_layer(logits, split.label, shown.reshape(10, -1))
  weights = params, model_state
  found = trained.gradient_norms(toys.MODEL, toys.AUGMENT.test, *weights, split, 6, chunk=3)
  np.testing.assert_allclose(found, last, rtol=1e-4)

  def loss(params):
    logits, _ = toys.MODEL.apply(params, model_state, shown[:1], train=False)
    return cross_entropy(logits, target[:1])[0]

  gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(params))])
  np.testing.assert_allclose(found[0], np.linalg.norm(gradient), rtol=1e-4)


def brute_force_kcenter(features, initial, samples):
  """Farthest-first traversal with all pairwise distances."""
  centres = list(initial)
  pairwise = np.linalg.norm(features[:, None] - features[None], axis=-1)
  while len(centres) < samples:
    nearest = pairwise[:, centres].min(axis=1)
    nearest[centres] = -1
    centres.append(int(nearest.argmax()))
  return centres


def test_kcenter_against_brute_force_on_50_points():
  features = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
  for initial, samples in itertools.product((1, 5), (12, 50)):
    order = np.asarray(distances.kcenter_order(features, jax.random.key(0), samples, initial))
    assert order.tolist() == brute_force_kcenter(features, order[:initial], samples)


def test_kcenter_stops_between_calls_that_change_nothing(monkeypatch):
  features = jax.random.normal(jax.random.key(3), (40, 3))
  whole = np.asarray(distances.kcenter_order(features, jax.random.key(0), 30, 2))
  monkeypatch.setattr(distances, '_READ', 7 * features.nbytes)
  asked = []
  order = distances.kcenter_order(
    features, jax.random.key(0), 30, 2, between=lambda: asked.append(0)
  )
  np.testing.assert_array_equal(order, whole)
  assert len(asked) == 5


def test_kcenter_is_nested_and_survives_duplicates():
  features = jnp.repeat(jnp.arange(5.0), 4)[:, None] * jnp.ones((1, 2))
  key = jax.random.key(2)
  short, whole = (np.asarray(distances.kcenter_order(features, key, n, 1)) for n in (5, 20))
  assert short.tolist() == whole[:5].tolist()
  assert len(set(whole)) == 20
  assert sorted(np.asarray(features)[short, 0]) == [0, 1, 2, 3, 4]  # one of each place first


def test_kcenter_draws_a_fiftieth_at_random_and_finds_the_rest():
  features = jnp.zeros((100, 1)).at[40:].set(jnp.arange(60.0)[:, None] + 1)
  for seed in range(3):
    order = np.asarray(distances.kcenter_order(features, jax.random.key(seed), 5))
    assert order.tolist() == brute_force_kcenter(features, order[:2], 5)


def test_kcenter_starts_at_random():
  features = jnp.zeros((50, 2))
  starts = [
    np.asarray(distances.kcenter_order(features, jax.random.key(s), 8, 8)) for s in range(2)
  ]
  assert len(set(starts[0])) == 8 and set(starts[0]) != set(starts[1])


def test_moderate_measures_from_the_median_of_the_class():
  features = np.float32([[0, 0], [1, 5], [2, 1], [9, 9], [7, 9]])
  expected = [np.hypot(1, 1), 4, 1, 1, 1]  # medians (1, 1) and (8, 9)
  found = distances.moderate(features, np.array([0, 0, 0, 1, 1]))
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def brute_force_herding(features, samples):
  chosen = []
  for i in range(samples):
    wanted = (i + 1) * features.mean(0) - features[chosen].sum(0)
    away = np.linalg.norm(wanted - features, axis=1)
    away[chosen] = np.inf
    chosen.append(int(away.argmin()))
  return chosen


def test_herding():
  line = jnp.array([[0.0], [1], [5]])
  assert np.asarray(distances.herding_order(line, 2)).tolist() == [1, 2]  # 1, then 5
  features = np.random.default_rng(3).normal(size=(20, 3)).astype(np.float32)
  order = np.asarray(distances.herding_order(features, 20))
  assert order.tolist() == brute_force_herding(features, 20)


def test_herding_takes_classes_in_proportion():
  rng = np.random.default_rng(4)
  features, label = rng.normal(size=(30, 2)).astype(np.float32), np.repeat([0, 1, 2], [15, 10, 5])
  score = distances.herding(features, label, 12)
  top = np.argsort(-score)[:12]
  assert np.bincount(label[top]).tolist() == [6, 4, 2]
  for c, quota in enumerate((6, 4, 2)):
    own = np.flatnonzero(label == c)
    assert set(top[label[top] == c]) == set(own[brute_force_herding(features[own], quota)])


@pytest.mark.parametrize('name', SCORES)
def test_scores_follow_the_samples_wherever_they_stand(name, monkeypatch):
  n, rng = 36, np.random.default_rng(5)
  p = rng.dirichlet(np.ones(3), (12, n)).astype(np.float32)
  right = p[..., 0] > np.maximum(p[..., 1], p[..., 2])
  margin = np.where(right, 1, -1) * np.abs(rng.normal(size=(12, n)))
  rows = (p[..., 0], p[..., 1:].max(-1), margin, np.linalg.norm(p - np.eye(3)[0], axis=-1))
  found = {
    'scores': np.stack(rows).astype(np.float16),
    'logits': rng.normal(size=(n, 3)).astype(np.float32),
    'features': rng.normal(size=(n, 4)).astype(np.float32),
    'label': rng.integers(0, 3, n).astype(np.int32),
    'gradient_norm': rng.random(n, np.float32),
  }
  order = rng.permutation(n)
  moved = {key: x[:, :, order] if key == 'scores' else x[order] for key, x in found.items()}
  setting = Setting(jax.random.key(0), 20, 10, 4)
  # k-centre begins with samples that chance names by their places: the same ones in both.
  first, plain = rng.permutation(n), distances.kcenter_order
  places = iter((first, np.argsort(order)[first]))
  monkeypatch.setattr(distances, 'shuffle', lambda key, index: jnp.asarray(next(places), jnp.int32))
  monkeypatch.setattr(distances, 'kcenter_order', lambda *args: plain(*args, initial=3))
  here, there = score_of(name, found, setting), score_of(name, moved, setting)
  np.testing.assert_allclose(there, here[order], rtol=1e-5, atol=1e-7)
  assert here.dtype == np.float32 and np.isfinite(here).all()
  assert name == 'none' or len(np.unique(here)) > 2
