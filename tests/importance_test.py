"""p-SGD and c-SGD against NumPy (fidelity.md 2.4, 2.5): state, weights, sampling law."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import ledger
from jaxbudget.selectors import importance, make_selector
from jaxbudget.selectors.importance import Importance
from jaxbudget.types import Batch, Outputs, Spec

SPEC = Spec(num_examples=12, batch_size=4, num_classes=3, epochs=5, image_shape=(1, 1, 1))


def make_batch(index, label, weight=None, parts=None):
  """A batch with the fields that feedback looks at."""
  index, label = jnp.array(index, jnp.int32), jnp.array(label, jnp.int32)
  n = index.shape[0]
  part_index, part_label, part_share = parts or (
    index[:, None],
    label[:, None],
    jnp.ones((n, 1), jnp.float32),
  )
  return Batch(
    index=index,
    image=jnp.zeros((n, 1, 1, 1)),
    label=label,
    target=jax.nn.one_hot(label, 3),
    weight=jnp.ones(n) if weight is None else jnp.array(weight, jnp.float32),
    part_index=part_index,
    part_label=part_label,
    part_share=part_share,
  )


class Reference:
  """The rules of fidelity.md 2.4 and 2.5, one sample at a time."""

  def __init__(self, n):
    self.a, self.s = np.full(n, -1.0), np.zeros(n)

  def update(self, index, d):
    for i, value in zip(index, d, strict=True):
      self.a[i] = (self.s[i] * max(self.a[i], 0) + value) / (self.s[i] + 1)
      self.s[i] += 1

  def filled(self):
    unseen = self.a < 0
    if unseen.all():
      return np.ones_like(self.a), unseen
    return np.where(unseen, self.a.max(), self.a), unseen

  def p(self, smoothing=True):
    w, _ = self.filled()
    return w + w.mean() * smoothing

  def c(self, smoothing=True, unseen='code'):
    a, new = self.filled()
    w = a * (1 - a)
    if unseen == 'max_c' and not new.all():
      w[new] = w[~new].max()
    return w + w.mean() * smoothing


@pytest.fixture(scope='module')
def trace():
  """Recorded draws of several epochs: ids (some never drawn), labels, logits."""
  rng = np.random.RandomState(1)
  labels = rng.randint(0, 3, 12)
  batches = [rng.choice(10, 4, replace=False) for _ in range(9)]
  return labels, [(b, labels[b], rng.randn(4, 3).astype(np.float32)) for b in batches]


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_golden_trace_of_state_and_weights(trace):
  _, batches = trace
  update = importance.importance_update(True, 'aligned')
  state = make_selector('p_sgd', SPEC, 0.5).init(jax.random.key(0))
  reference = Reference(12)
  for index, label, logits in batches:
    for smoothing in (True, False):
      chex.assert_trees_all_close(
        importance.p_weights(state, smoothing), reference.p(smoothing).astype(np.float32), rtol=1e-5
      )
      for unseen in ('code', 'max_c'):
        chex.assert_trees_all_close(
          importance.c_weights(state, smoothing, unseen),
          reference.c(smoothing, unseen).astype(np.float32),
          rtol=1e-5,
          atol=1e-7,
        )
    state = update(state, make_batch(index, label), Outputs(jnp.array(logits), jnp.zeros(4)))
    reference.update(index, 1 - softmax(logits)[np.arange(4), label])
  mean, seen = importance.running_mean(state)
  np.testing.assert_allclose(np.where(seen, mean, -1), reference.a, rtol=1e-5)
  np.testing.assert_array_equal(state.seen, reference.s)
  assert not bool(seen[10]) and not bool(seen[11])


def test_without_average_only_the_latest_batch_counts(trace):
  _, batches = trace
  update = importance.importance_update(False, 'aligned')
  state = make_selector('p_sgd', SPEC, 0.5, {'average': False}).init(jax.random.key(0))
  latest = np.full(12, -1.0)
  for index, label, logits in batches:
    state = update(state, make_batch(index, label), Outputs(jnp.array(logits), jnp.zeros(4)))
    latest[index] = 1 - softmax(logits)[np.arange(4), label]
  mean, seen = importance.running_mean(state)
  np.testing.assert_allclose(np.where(seen, mean, -1), latest, rtol=1e-5)


@pytest.mark.parametrize('average', [True, False])
def test_an_id_that_occurs_twice_counts_twice(average):
  update = importance.importance_update(average, 'aligned')
  state = Importance(jnp.zeros(12).at[5].set(1.0), jnp.zeros(12).at[5].set(2.0))
  logits = jnp.array(np.random.RandomState(0).randn(3, 3), jnp.float32)
  d = 1 - softmax(np.asarray(logits))[np.arange(3), [0, 1, 2]]
  state = update(state, make_batch([5, 5, 2], [0, 1, 2]), Outputs(logits, jnp.zeros(3)))
  mean, _ = importance.running_mean(state)
  expected = (1.0 + d[0] + d[1]) / 4 if average else (d[0] + d[1]) / 2
  np.testing.assert_allclose(mean[jnp.array([5, 2])], [expected, d[2]], rtol=1e-5)


@pytest.mark.parametrize('average', [True, False])
def test_padding_leaves_no_trace(average):
  update = importance.importance_update(average, 'aligned')
  before = Importance(jnp.arange(12, dtype=jnp.float32), jnp.full(12, 20.0))
  batch = make_batch([3, 0], [0, 0], weight=[1, 0])
  after = update(before, batch, Outputs(jnp.zeros((2, 3)), jnp.zeros(2)))
  others = jnp.array([i for i in range(12) if i != 3])
  chex.assert_trees_all_equal([x[others] for x in before], [x[others] for x in after])
  assert float(after.seen[3]) == (21 if average else 1)


def test_aligned_credit_sums_to_one_per_sample_and_first_ignores_the_picture():
  rng = np.random.RandomState(3)
  n, m = 4, 2
  permutation = np.array([2, 0, 3, 1])
  index, label = np.array([7, 1, 4, 9]), np.array([0, 2, 1, 0])
  lam = 0.3
  parts = (
    jnp.array(np.stack([index, index[permutation]], 1), jnp.int32),
    jnp.array(np.stack([label, label[permutation]], 1), jnp.int32),
    jnp.array(np.tile([lam, 1 - lam], (n, 1)), jnp.float32),
  )
  logits = rng.randn(n, 3).astype(np.float32)
  d = 1 - softmax(logits)
  outputs = Outputs(jnp.array(logits), jnp.zeros(n))
  batch = make_batch(index, label, parts=parts)
  blank = Importance(jnp.zeros(12), jnp.zeros(12))
  aligned = importance.importance_update(True, 'aligned')(blank, batch, outputs)
  first = importance.importance_update(True, 'first')(blank, batch, outputs)
  inverse = np.argsort(permutation)
  for j in range(n):
    # Sample j shows in picture j with lam and in picture inverse[j] with 1 - lam.
    expected = lam * d[j, label[j]] + (1 - lam) * d[inverse[j], label[j]]
    np.testing.assert_allclose(aligned.seen[index[j]], 1, rtol=1e-6)
    np.testing.assert_allclose(aligned.total[index[j]], expected, rtol=1e-5)
    np.testing.assert_allclose(first.total[index[j]], d[j, label[j]], rtol=1e-5)
  assert m == batch.part_index.shape[1]


def test_unseen_rank_hardest_in_p_sgd_and_by_option_in_c_sgd():
  state = Importance(jnp.array([0.9, 0.4, 0.0]), jnp.array([1.0, 1.0, 0.0]))
  p = np.asarray(importance.p_weights(state, smoothing=False))
  assert p[2] == p.max() == p[0]
  code = np.asarray(importance.c_weights(state, smoothing=False, unseen='code'))
  repaired = np.asarray(importance.c_weights(state, smoothing=False, unseen='max_c'))
  assert code[2] == pytest.approx(0.9 * 0.1) and code[2] == code.min()
  assert repaired[2] == pytest.approx(0.4 * 0.6) and repaired[2] == repaired.max()


def test_smoothing_bounds_probabilities_from_below():
  state = Importance(jnp.array([0.0, 0.0, 0.0, 1.0]), jnp.ones(4))
  p = np.asarray(importance.p_weights(state))
  assert (p / p.sum()).min() >= 1 / (2 * 4) - 1e-7


def test_warm_up_is_uniform_for_exactly_its_epochs():
  selector = make_selector('p_sgd', SPEC, 0.4, {'warmup': 2, 'smoothing': False})
  # With this state only samples 0..3 have weight, so that a plan tells who made it.
  state = Importance(jnp.zeros(12).at[:4].set(1.0), jnp.ones(12))
  plan_all = jax.jit(jax.vmap(lambda key, e: selector.plan(state, key, e)[1].index, (0, None)))
  for e in range(4):
    drawn = set(np.asarray(plan_all(jax.random.split(jax.random.key(e), 8), e))[:, 0].ravel())
    assert (len(drawn) > 4) == (e < 2)


def test_entropy_of_uniform_sampling_is_that_of_the_paper():
  spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
  selector = make_selector('unif_sgd', spec, 0.3)

  def epoch(e, counts):
    _, plan = selector.plan((), jax.random.fold_in(jax.random.key(0), e), e)
    return counts.at[plan.index.ravel()].add(plan.weight.ravel().astype(jnp.int32))

  counts = jax.jit(lambda: jax.lax.fori_loop(0, 200, epoch, jnp.zeros(50_000, jnp.int32)))()
  assert int(counts.sum()) == 200 * 117 * 128
  assert ledger.entropy_nats(np.asarray(counts)) == pytest.approx(10.814, abs=0.001)


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('p_sgd', {'warmup': -1}, 'warmup must be 0 or more'),
    ('p_sgd', {'credit': 'frist'}, "did you mean 'first'"),
    ('c_sgd', {'unseen': 'max'}, "did you mean 'max_c'"),
    ('p_sgd', {'averge': True}, "did you mean 'average'"),
    ('psgd', {}, "did you mean 'p_sgd'"),
  ],
)
def test_bad_options_are_refused_with_the_closest_match(name, options, message):
  with pytest.raises(ValueError, match=message):
    make_selector(name, SPEC, 0.5, options)


@pytest.mark.parametrize('budget', [0, -0.1, 1.01, float('nan')])
def test_budget_outside_its_range_is_refused(budget):
  with pytest.raises(ValueError, match=r'budget must be in \(0, 1\]'):
    make_selector('unif_sgd', SPEC, budget)


def test_budgets_too_small_for_a_batch_are_refused():
  with pytest.raises(ValueError, match='no batch fits: 3 samples'):
    make_selector('unif_sgd', SPEC, 0.3)
  with pytest.raises(ValueError, match='no epoch'):
    make_selector('scan_sgd', SPEC, 0.1)
  with pytest.raises(ValueError, match="'scan_sgd'"):
    make_selector('sgd', SPEC, 0.5)
