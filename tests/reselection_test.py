"""Last-layer gradients in factors, and the greedy selections made on them."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget import gradients, ledger
from jaxbudget.losses import cross_entropy
from jaxbudget.parts import part_index
from jaxbudget.scoring.trained import el2n, error, grand_last_layer
from jaxbudget.selectors import craig, glister, gradmatch, make_selector
from jaxbudget.types import Seen

RNG = np.random.default_rng(0)
N, K, D = 12, 3, 4
WEIGHTS, BIAS = RNG.normal(size=(D, K)).astype('f4'), RNG.normal(size=K).astype('f4')
FEATURES = RNG.normal(size=(N, D)).astype('f4')
LABEL = RNG.integers(0, K, N)
LOGITS = FEATURES @ WEIGHTS + BIAS
ERROR = np.asarray(error(LOGITS, LABEL))


def vectors(rows):
  rows = np.asarray(rows, np.float32)
  return gradients.Factored(np.ones((len(rows), 1), np.float32), rows)


def test_factors_are_the_gradients_of_the_last_layer():
  def loss(weights, bias, features, label):
    target = jax.nn.one_hot(label, K)
    return cross_entropy((features @ weights + bias)[None], target[None])[0]

  by_weights, by_bias = jax.vmap(jax.grad(loss, (0, 1)), (None, None, 0, 0))(
    WEIGHTS, BIAS, FEATURES, LABEL
  )
  dense = np.concatenate([by_bias[:, None], by_weights], axis=1).reshape(N, -1)
  factored = gradients.last_layer(ERROR, FEATURES)
  np.testing.assert_allclose(gradients.inner(factored, factored), dense @ dense.T, atol=1e-5)
  np.testing.assert_allclose(gradients.square_norm(factored), (dense**2).sum(1), rtol=1e-4)
  np.testing.assert_allclose(
    gradients.distances(factored),
    np.linalg.norm(dense[:, None] - dense[None], axis=-1),
    atol=2e-3,
  )
  weight = RNG.random(N).astype('f4')
  summed = gradients.total(factored, weight)  # [K, 1+D], bias first
  np.testing.assert_allclose(summed.T.ravel(), weight @ dense, atol=1e-5)
  np.testing.assert_allclose(
    gradients.along(factored, summed), dense @ (weight @ dense), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    grand_last_layer(LOGITS, LABEL, FEATURES), np.linalg.norm(dense, axis=1), rtol=1e-4
  )
  bias = gradients.last_layer(ERROR)
  np.testing.assert_allclose(gradients.inner(bias, bias), by_bias @ by_bias.T, atol=1e-5)
  np.testing.assert_allclose(el2n(LOGITS, LABEL), np.linalg.norm(by_bias, axis=1), rtol=1e-5)


def test_craig_by_hand():
  """Points 0, 1, 10: alone they cover 19, 20 and 11; 1 is chosen, then 10."""
  nearness = craig.similarity(vectors([[0], [1], [10]]))
  assert nearness.sum(0).tolist() == [19, 20, 11]
  chosen = craig.facility_location(nearness, 2)
  assert chosen.tolist() == [1, 2]
  assert craig.followers(nearness, chosen).tolist() == [2, 1]
  everybody = craig.facility_location(nearness, 3)
  assert sorted(everybody) == [0, 1, 2]
  assert craig.followers(nearness, everybody).tolist() == [1, 1, 1]
  squared = craig.similarity(vectors([[0], [1], [10]]), squared=True)
  np.testing.assert_allclose(squared, [[100, 99, 0], [99, 100, 19], [0, 19, 100]])


def plain_greedy(nearness, count):
  """Facility location with every sample looked at every time."""
  chosen, covered = [], np.zeros(len(nearness), np.float32)
  for _ in range(count):
    gain = [np.maximum(row - covered, 0).sum() for row in nearness]
    gain = [-1 if j in chosen else g for j, g in enumerate(gain)]
    chosen.append(int(np.argmax(gain)))
    covered = np.maximum(covered, nearness[chosen[-1]])
  return chosen


@hypothesis.given(st.integers(1, 12), st.integers(0, 10**6), st.booleans())
@hypothesis.settings(max_examples=60, deadline=None)
def test_lazy_search_finds_what_plain_search_finds(n, seed, ties):
  rng = np.random.default_rng(seed)
  places = rng.integers(0, 3, (n, 2)) if ties else rng.normal(size=(n, 2))
  nearness = craig.similarity(vectors(places))
  for count in (1, n // 2, n):
    assert craig.facility_location(nearness, count).tolist() == plain_greedy(nearness, count)


def test_greedy_cover_against_all_subsets():
  """The best single sample, and the bound of Nemhauser et al. for more: 1 - 1/e of the best."""
  for seed in range(10):
    nearness = craig.similarity(vectors(np.random.default_rng(seed).normal(size=(9, 2))))
    cover = lambda subset, s=nearness: s[list(subset)].max(0).sum()
    best = max(range(9), key=lambda j: cover([j]))
    chosen = craig.facility_location(nearness, 3)
    assert chosen[0] == best
    most = max(cover(subset) for subset in itertools.combinations(range(9), 3))
    assert cover(chosen) >= (1 - 1 / np.e) * most


def test_matching_pursuit_by_hand():
  atoms, wanted = vectors([[1, 0], [0, 1], [1, 1]]), np.float32([[2, 2]])
  match = gradmatch.matching_pursuit(atoms, wanted, 1)
  assert match.chosen.tolist() == [2] and match.weight.tolist() == [2] and match.residual == 0
  match = gradmatch.matching_pursuit(atoms, wanted, 3)
  assert match.chosen.tolist() == [2]  # nothing is missing
  square = vectors(np.diag([1.0, 2, 3, 4]))
  everything = gradients.total(square, np.ones(4, np.float32))
  match = gradmatch.matching_pursuit(square, everything, 4)
  assert match.chosen.tolist() == [3, 2, 1, 0]
  np.testing.assert_allclose(match.weight, 1, rtol=1e-6)


def reference_pursuit(atoms, wanted, count, ridge):
  """The same rule with every system solved from scratch; also how many atoms it threw out."""
  chosen, weight, thrown = [], np.zeros(0), 0
  missing = wanted
  for _ in range(count):
    gain = atoms @ missing
    gain[chosen] = -np.inf
    new = int(gain.argmax())
    if gain[new] <= 0 or np.linalg.norm(missing) < 1e-4 * np.linalg.norm(wanted):
      break
    chosen.append(new)
    while True:
      own = atoms[chosen]
      weight = np.linalg.solve(own @ own.T + ridge * np.eye(len(own)), own @ wanted)
      if weight.min() >= 0:
        break
      del chosen[int(weight.argmin())]
      thrown += 1
    if new not in chosen:
      break
    missing = wanted - atoms[chosen].T @ weight
  return chosen, weight, thrown


@pytest.mark.parametrize('ridge', [0.0, 0.5])
def test_matching_pursuit_against_solving_from_scratch(ridge):
  thrown_out = 0
  for seed in range(12):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(40, 10)) + 1).astype(np.float32)
    wanted = rng.normal(size=(1, 10)).astype(np.float32)
    match = gradmatch.matching_pursuit(vectors(rows), wanted, 9, ridge=ridge)
    chosen, weight, thrown = reference_pursuit(
      rows.astype(float), wanted[0].astype(float), 9, ridge
    )
    thrown_out += thrown
    assert match.chosen.tolist() == chosen and (match.weight >= 0).all()
    np.testing.assert_allclose(match.weight, weight, rtol=1e-3, atol=1e-6)
    missing = np.linalg.norm(wanted[0] - weight @ rows[chosen]) / np.linalg.norm(wanted)
    np.testing.assert_allclose(match.residual, missing, rtol=1e-3, atol=1e-5)
  assert thrown_out > 3


def test_copies_of_an_atom_and_nothing_to_match_end_the_search():
  same = vectors([[1, 0], [1, 0], [0, 1]])
  match = gradmatch.matching_pursuit(same, np.float32([[3, 0]]), 3, tolerance=0.0)
  assert match.chosen.tolist() == [0]
  nothing = gradmatch.matching_pursuit(same, np.zeros((1, 2), np.float32), 3)
  assert len(nothing.chosen) == 0 and nothing.residual == 0


def held_out(features):
  rng = np.random.default_rng(9)
  own = rng.normal(size=(7, D)).astype('f4')
  label = rng.integers(0, K, 7)
  right = np.concatenate([np.ones((7, 1), 'f4'), own], 1) if features else np.ones((7, 1), 'f4')
  return glister.HeldOut(own @ WEIGHTS + BIAS, np.eye(K, dtype='f4')[label], right)


@pytest.mark.parametrize('features', [False, True])
def test_glister_with_no_step_takes_the_largest_inner_products(features):
  train = gradients.last_layer(ERROR, FEATURES if features else None)
  out = held_out(features)
  gain = np.asarray(gradients.along(train, np.asarray(glister.direction(out))))
  best = np.argsort(-gain)[:5].tolist()
  assert np.asarray(glister.greedy(train, out, 0.0, jax.random.key(0), 5)).tolist() == best
  assert glister.greedy_in_rounds(train, out, 0.0, 5, rounds=3).tolist() == best


@pytest.mark.parametrize('features', [False, True])
def test_glister_steps_as_the_last_layer_would(features):
  """Greedy search by training the last layer with jax.grad, sample by sample."""
  train = gradients.last_layer(ERROR, FEATURES if features else None)
  out, rate, chosen = held_out(features), 0.3, []
  layer = np.zeros((K, out.right.shape[1]), np.float32)  # added to what it is

  def loss(layer):
    return jnp.mean(cross_entropy(out.logits + out.right @ layer.T, out.target))

  for _ in range(6):
    gradient = np.asarray(jax.grad(loss)(layer))
    gain = [-np.inf if i in chosen else np.vdot(gradient, np.outer(train.left[i], train.right[i]))
            for i in range(N)]  # fmt: skip
    chosen.append(int(np.argmax(gain)))
    layer = layer - rate * np.outer(train.left[chosen[-1]], train.right[chosen[-1]])
  found = glister.greedy(train, out, rate, jax.random.key(1), 6)
  assert np.asarray(found).tolist() == chosen
  assert glister.greedy_in_rounds(train, out, rate, 6, rounds=6).tolist() == chosen


def test_glister_among_few_candidates_chooses_distinct_samples():
  train = gradients.last_layer(ERROR)
  found = np.asarray(glister.greedy(train, held_out(False), 0.1, jax.random.key(2), N, among=2))
  assert sorted(found) == list(range(N))
  other = np.asarray(glister.greedy(train, held_out(False), 0.1, jax.random.key(3), N, among=2))
  assert found.tolist() != other.tolist()


SELECTORS = {
  'craig': craig.craig,
  'gradmatch': gradmatch.gradmatch,
  'glister': glister.glister,
}


def seen(n=48):
  """What a scan of the toy data could see."""
  rng = np.random.default_rng(n)
  logits, features = rng.normal(size=(n, 3)).astype('f4'), rng.normal(size=(n, 4)).astype('f4')
  label = np.asarray(toys.data(n).label)
  return Seen(rng.random(n).astype('f4'), logits, features, label)


def chosen(selector, samples=24, key=0):
  """The subset after a scan, and the weights in it."""
  state = selector.scan(selector.init(jax.random.key(9)), jax.random.key(key), seen())
  assert sorted(state.order) == list(range(48)) and state.weight.shape == (48,)
  index = state.order[:samples]
  return index, state.weight[index]


@pytest.mark.parametrize('features', ['bias', 'last_layer'])
def test_craig_stands_for_every_class(features):
  index, weight = chosen(craig.craig(toys.SPEC, 0.5, features=features))
  size, own = (np.bincount(x, minlength=3) for x in (seen().label, seen().label[index]))
  assert np.abs(own - size / 2).max() < 1 and weight.min() >= 0.5
  np.testing.assert_allclose(weight.mean(), 1)
  gammas = np.bincount(seen().label[index], weights=weight) * 2
  np.testing.assert_allclose(gammas, size)  # everybody in a class is stood for


def test_craig_has_mean_weight_one_also_with_fewer_samples_than_classes():
  spec = dataclasses.replace(toys.SPEC, batch_size=2)
  state = craig.craig(spec, 0.05).scan(None, jax.random.key(0), seen())
  np.testing.assert_allclose(state.weight[state.order[:2]].mean(), 1, rtol=1e-6)


@pytest.mark.parametrize('name', SELECTORS)
def test_what_has_diverged_is_refused_and_not_searched(name):
  look = seen()
  look.logits[3] = np.nan
  with pytest.raises(ValueError, match='logits of 1 of 48 samples are not finite'):
    SELECTORS[name](toys.SPEC, 0.5).scan(None, jax.random.key(0), look)


def test_gradmatch_by_class_is_pursuit_in_each_class():
  index, weight = chosen(gradmatch.gradmatch(toys.SPEC, 0.5))
  look = seen()
  own = np.flatnonzero(look.label == 1)
  atoms = gradients.last_layer(np.asarray(error(look.logits, look.label))[own][:, [1]],
                               look.features[own])  # fmt: skip
  wanted = gradients.total(atoms, np.ones(len(own), 'f4'))
  quota = int((look.label[index] == 1).sum())
  match = gradmatch.matching_pursuit(atoms, wanted, quota, ridge=0.5)
  found = dict(zip(own[match.chosen], match.weight, strict=True))
  kept = {i: w for i, w in zip(index, weight, strict=True) if look.label[i] == 1}
  assert set(found) <= set(kept) and len(kept) == quota
  for i, w in kept.items():
    np.testing.assert_allclose(w, found.get(i, 1.0), rtol=1e-4)  # the others make up, weight 1


@pytest.mark.parametrize('budget', [0.5, 0.6])  # 28 samples are three batches and a half
def test_gradmatch_by_batch_takes_whole_batches(budget):
  selector = gradmatch.gradmatch(toys.SPEC, budget, mode='batch')
  index, weight = chosen(selector)
  values, counts = np.unique(weight, return_counts=True)
  assert (counts % 8 == 0).all() and len(index) == 24 and values.min() >= 0
  state = selector.scan(selector.init(jax.random.key(9)), jax.random.key(0), seen())
  plan = selector.plan(state, jax.random.key(1), jnp.int32(0))[1]
  assert sorted(plan.index[: plan.rows].ravel().tolist()) == sorted(index)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('craig', {'features': 'last_layer'}),
    ('gradmatch', {}),
    ('gradmatch', {'mode': 'batch'}),
    ('glister', {'features': 'last_layer'}),
  ],
)
def test_without_a_bias_features_alone_count(name, options, monkeypatch):
  """All gradients that are searched have a column for each feature, and one of a bias if any."""
  widths, plain = [], gradients.last_layer

  def watched(*args):
    widths.append(plain(*args).right.shape[1])
    return plain(*args)

  monkeypatch.setattr(gradients, 'last_layer', watched)
  selector = SELECTORS[name](toys.SPEC, 0.5, **options)
  for bias in (True, False):
    widths.clear()
    state = selector.scan(None, jax.random.key(0), seen()._replace(head_bias=bias))
    assert set(widths) == {4 + bias} and sorted(state.order) == list(range(48))


def test_weights_of_a_batch_are_normalised():
  weigh = gradmatch.gradmatch(toys.SPEC, 0.5).weigh
  np.testing.assert_allclose(weigh(None, None, jnp.array([1.0, 3, 0, 0])), [0.5, 1.5, 0, 0])
  np.testing.assert_allclose(weigh(None, None, jnp.array([2.0, 6, 1, 3])), [2 / 3, 2, 1 / 3, 1])
  assert not np.asarray(weigh(None, None, jnp.zeros(4))).any()


@pytest.mark.parametrize('search', glister.SEARCHES)
def test_glister_never_trains_on_what_it_holds_out(search):
  out = set(part_index(48, (0, 10)))
  selector = glister.glister(toys.SPEC, 0.75, search=search, warmup=1)
  index, weight = chosen(selector, 36)
  assert not out & set(index) and (weight == 1).all()
  state = selector.init(jax.random.key(1))
  for epoch in (0, 1):  # fresh subsets, and a random one before the first choice
    plan = selector.plan(state, jax.random.key(epoch), epoch)[1]
    assert not out & set(np.asarray(plan.index)[:4].ravel())


@pytest.mark.parametrize(
  ('name', 'options'), [*((name, {}) for name in SELECTORS), ('glister', {'search': 'rounds'})]
)
def test_choices_are_decided_by_the_key_and_ties_fall_to_anybody(name, options):
  selector = SELECTORS[name](toys.SPEC, 0.5, **options)
  for a, b in zip(chosen(selector), chosen(selector), strict=True):
    np.testing.assert_array_equal(a, b)
  zeros = np.zeros((48, 4), 'f4')
  alike = seen()._replace(logits=zeros[:, :3], features=zeros, label=zeros[:, 0].astype(int))
  found = [selector.scan(None, jax.random.key(s), alike).order[:24] for s in range(12)]
  assert len(set(np.ravel(found))) == 48 - 5 * (name == 'glister')


@pytest.mark.parametrize('name', SELECTORS)
def test_looks_at_all_samples_are_charged_as_planned(name):
  for period, warmup, looks in ((1, 0, 4), (3, 0, 2), (2, 1, 2), (9, 0, 1)):
    facts = SELECTORS[name](toys.SPEC, 0.5, period=period, warmup=warmup).facts
    assert facts.planned.scored == looks * 48
    assert facts.planned.trained == 4 * 24
    assert sum(facts.scan.due(e) for e in range(4)) == looks
  # Under compute they are paid for by smaller subsets: 4 looks are 4 / (3 * 4) of the budget.
  compute = ledger.as_budget(0.75, 'compute')
  facts = SELECTORS[name](toys.SPEC, compute, period=1).facts
  assert facts.planned.trained == 4 * 16  # 5/12 of 48 samples: 20, two rows of 8
  assert facts.planned.forward_equivalents <= 0.75 * 3 * 4 * 48
  with pytest.raises(ValueError, match='looking at all samples 4 times alone costs 0.3333'):
    SELECTORS[name](toys.SPEC, ledger.as_budget(0.3, 'compute'), period=1)


def test_craig_of_everything_is_sgd():
  """Everybody stands for themselves: after a choice the plans are those of `sgd`, bit for bit."""
  everything, key = craig.craig(toys.SPEC, 1.0), jax.random.key(3)
  state = everything.scan(everything.init(key), key, seen())
  plain = make_selector('sgd', toys.SPEC, 1.0).plan((), key, 0)[1]
  jax.tree.map(np.testing.assert_array_equal, everything.plan(state, key, 0)[1], plain)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda s: craig.craig(s, 0.5, features='logits'), 'unknown features'),
    (lambda s: craig.craig(s, 0.5, period=0), 'period must be at least 1'),
    (lambda s: craig.craig(s, 0.5, memory_gib=1e-6), 'craig: similarities of 16 samples'),
    (lambda s: gradmatch.gradmatch(s, 0.5, mode='sample'), 'unknown mode'),
    (lambda s: gradmatch.gradmatch(s, 0.5, ridge=-1), 'ridge must not be negative'),
    (lambda s: glister.glister(s, 0.95), '45 samples cannot be kept: 5 of 48 are held out'),
    (lambda s: glister.glister(s, 0.5, search='lazy'), 'unknown search'),
    (lambda s: glister.glister(s, 0.5, held_out=1), 'held_out must be at least 2'),
  ],
)
def test_what_cannot_be_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make(toys.SPEC)


def test_gradients_of_batches_too_large_are_refused_by_name():
  selector = gradmatch.gradmatch(toys.SPEC, 0.5, mode='batch', memory_gib=1e-9)
  with pytest.raises(ValueError, match='gradmatch: gradients of 6 batches would take'):
    chosen(selector)
  selector = gradmatch.gradmatch(toys.SPEC, 0.5, memory_gib=1e-9)
  with pytest.raises(ValueError, match='gradmatch: an inverse of 10 samples would take'):
    chosen(selector)
