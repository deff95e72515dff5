"""From scores to subsets: every choice against its rule, by hand and by enumeration."""

import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxbudget.scoring import choices, quotas
from jaxbudget.scoring.choices import CHOICES, Ranked


def words(n, seed=0):
  return np.random.default_rng(seed).integers(0, 2**32, n, np.uint32)


def ranked(n=60, seed=0):
  rng = np.random.default_rng(seed)
  score, aum, confidence = (x.astype(np.float32) for x in (*rng.normal(size=(2, n)), rng.random(n)))
  return Ranked(score, words(n), aum, confidence, rng.normal(size=(n, 2)).astype(np.float32))


def of(score, aum=None, confidence=None):
  return Ranked(np.float32(score), words(len(score)), aum, confidence)


def chosen(choice, data, count, seed=0, **options):
  data = data._replace(word=words(len(data.score), seed))
  order = CHOICES[choice](data, count, **options)
  assert sorted(order) == list(range(len(data.score)))
  return order[:count]


@pytest.mark.parametrize('choice', CHOICES)
def test_a_choice_is_a_permutation_decided_by_the_words(choice):
  data = ranked()
  one, other = (CHOICES[choice](data._replace(word=words(60, seed)), 20) for seed in (0, 1))
  assert one.dtype == np.int32 and sorted(one) == list(range(60))
  if choice in ('top', 'bottom', 'middle', 'offset', 'graph'):
    np.testing.assert_array_equal(one, other)  # no ties, nothing left to chance
  else:
    assert set(one[:20]) != set(other[:20])
  # The same samples are chosen in whatever order they are given.
  order = np.random.default_rng(2).permutation(60)
  moved = CHOICES[choice](Ranked(*(x[order] for x in data)), 20)
  np.testing.assert_array_equal(order[moved[:20]], one[:20])


def test_runs_of_ranks():
  data = of(np.arange(10)[::-1])  # sample i has rank 9 - i
  assert set(chosen('top', data, 3)) == {0, 1, 2}
  assert set(chosen('bottom', data, 3)) == {9, 8, 7}
  assert {9 - i for i in chosen('middle', data, 2)} == {4, 5}
  assert {9 - i for i in chosen('offset', data, 4, offset=0.3)} == {3, 4, 5, 6}
  assert {9 - i for i in chosen('offset', data, 4, offset=0.7)} == {6, 7, 8, 9}


@pytest.mark.parametrize('percent', [28, 29, 57, 58])
def test_shares_are_of_the_decimal_that_is_written(percent):
  data = of(np.arange(100), aum=np.arange(100).astype(np.float32))
  share = percent / 100  # 100 * 0.29 is below 29 in binary
  assert chosen('offset', data, 42, offset=share).min() == percent
  for choice in ('strata', 'graph'):
    data = data._replace(features=np.ones((100, 1), np.float32))
    assert chosen(choice, data, 100 - percent, cutoff=share).min() == percent


@pytest.mark.parametrize('choice', ['top', 'bottom', 'middle', 'offset'])
def test_ties_fall_to_anybody(choice):
  data = of(np.zeros(8))
  picked = [tuple(sorted(chosen(choice, data, 2, seed))) for seed in range(60)]
  assert set(np.ravel(picked)) == set(range(8)) and len(set(picked)) > 15


def test_bins_fill_from_the_smallest():
  assert choices.fill(np.array([1, 3, 10]), 9).tolist() == [1, 3, 5]
  assert choices.fill(np.array([10, 1, 3]), 9).tolist() == [5, 1, 3]


@hypothesis.given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.floats(0, 1))
@hypothesis.settings(max_examples=60, deadline=None)
def test_bins_take_all_that_is_handed_out(sizes, share):
  sizes = np.array(sizes)
  count = int(share * sizes.sum())
  quota = choices.fill(sizes, count)
  assert quota.sum() == count and (quota <= sizes).all()
  # Nobody who could take more has more than one less than another.
  free = quota[quota < sizes]
  assert not free.size or quota.max() - free.min() <= 1


def test_strata_leave_out_the_hardest_and_take_all_levels():
  n = 200
  score = np.concatenate([np.linspace(0, 1, 20), np.full(180, 0.5)]).astype(np.float32)
  aum = np.arange(n, dtype=np.float32)
  data = of(score, aum)
  kept = chosen('strata', data, 40, cutoff=0.05, bins=5)
  assert kept.min() >= 10  # the 10 of lowest AUM are gone
  level = np.clip((score * 5).astype(int), 0, 4)
  sizes = np.bincount(level[10:], minlength=5)
  low = score[10:].min()
  shifted = np.clip(((score - low) / (1.0001 - low) * 5).astype(int), 0, 4)
  sizes = np.bincount(shifted[10:], minlength=5)
  expected = choices.fill(sizes, 40)
  np.testing.assert_array_equal(np.bincount(shifted[kept], minlength=5), expected)
  assert set(chosen('strata', data, 40, cutoff=0.9)) == set(range(160, 200))  # as far as it goes


def test_strata_of_one_bin_are_a_random_subset():
  data = ranked(8)
  drawn = [chosen('strata', data, 3, seed, bins=1) for seed in range(300)]
  counts = np.bincount(np.ravel(drawn), minlength=8)
  assert np.abs(counts - 300 * 3 / 8).max() < 4.5 * np.sqrt(300 * 3 / 8 * 5 / 8)


def test_strata_of_negative_and_of_equal_scores_keep_their_highest():
  for score in (np.linspace(-2, -1, 12), np.zeros(12), np.full(12, -3.0)):
    assert len(set(chosen('strata', of(score), 12, bins=4))) == 12
  # The hardest may lie as far away as they like.
  score, aum = np.append(np.zeros(11), 3e38), np.arange(12, 0, -1, dtype=np.float32)
  assert 11 not in chosen('strata', of(score, aum), 8, bins=4, cutoff=0.1)


def beta_weights(data, count, c=4):
  """The rule, written out."""
  ten = np.argsort(-data.score)[:10]
  r = 1 - count / len(data.score)
  b = 15 * (1 - data.confidence[ten].mean()) * (1 - r**c)
  p = data.confidence.astype(np.float64)
  weight = p ** (15 - b) * (1 - p) ** (b - 1) * data.score
  return weight / weight.sum()


def test_beta_draws_by_score_and_density():
  rng = np.random.default_rng(4)
  data = of(rng.random(12), None, rng.uniform(0.3, 0.9, 12).astype('f4'))
  first = [chosen('beta', data, 9, seed)[0] for seed in range(400)]
  expected = beta_weights(data, 9)
  found = np.bincount(first, minlength=12) / 400
  assert np.abs(found - expected).max() < 4.5 * np.sqrt(0.25 / 400)
  assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_beta_prefers_easy_samples_the_more_are_left_out():
  data = ranked(400, seed=5)._replace(score=np.ones(400, np.float32))
  few, many = (data.confidence[chosen('beta', data, count)].mean() for count in (40, 300))
  assert few > many + 0.2


def test_beta_takes_scores_below_zero_and_certain_samples():
  data = of([-3, -2, -1, 0], None, np.float32([0, 1, 1, 0]))
  assert chosen('beta', data, 4)[-1] == 0  # the lowest score has no chance before the others


def test_graph_by_hand():
  """Equal scores at 0, 1 and 10: 0 and 1 gain e^-1, then the other of them loses e^-0.1 of 1.37."""
  data = of([1, 1, 1])._replace(features=np.float32([[0], [1], [10]]))
  near, distance = choices.nearest(data.features, 1)
  assert near.ravel().tolist() == [1, 0, 1] and distance.ravel().tolist() == [1, 1, 9]
  first, second = (set(chosen('graph', data, k, neighbours=1)) for k in (1, 2))
  assert first < {0, 1} and second == first | {2}
  # A high score falls behind a low one in a place of its own.
  lead = of([9, 8, 1])._replace(features=np.float32([[0], [1], [10]]))
  weak = 8 + 9 * np.exp(-1) - np.exp(-0.1) * (9 + 8 * np.exp(-1))
  assert weak > 0.4 and set(chosen('graph', lead, 2, neighbours=1)) == {0, 2}


def test_nearest_against_all_distances():
  features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
  near, distance = choices.nearest(features, 4, block=16)
  full = np.linalg.norm(features[:, None] - features[None], axis=-1)
  np.fill_diagonal(full, np.inf)
  assert [set(row) for row in near] == [set(row) for row in np.argsort(full, axis=1)[:, :4]]
  np.testing.assert_allclose(np.sort(distance), np.sort(full)[:, :4], rtol=1e-3)


@pytest.mark.parametrize(
  ('sizes', 'count', 'recall', 'expected'),
  [
    ((100, 300), 200, (0.9, 0.7), (20, 180)),
    ((100, 100), 160, (0.9, 0.7), (60, 100)),
    ((100, 300), 100, (0.8, 0.8), (25, 75)),
    ((100, 300), 100, (1.0, 1.0), (25, 75)),
    ((100, 300), 400, (0.9, 0.7), (100, 300)),
    ((100, 0, 100), 100, (1.0, 0.5, 0.0), (0, 0, 100)),
    ((100, 0, 100), 150, (1.0, 0.5, 0.0), (50, 0, 100)),
  ],
)
def test_drop_by_hand(sizes, count, recall, expected):
  assert tuple(quotas.drop(np.array(sizes), count, np.array(recall))) == expected


@hypothesis.given(
  st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1)
)
@hypothesis.settings(max_examples=80, deadline=None)
def test_quotas_are_whole_and_within_one_of_what_they_should_be(classes, share):
  sizes, recall = (np.array(x) for x in zip(*classes, strict=True))
  count = int(share * sizes.sum())
  if not sizes.sum():
    return
  even = quotas.proportional(sizes, count)
  assert even.sum() == count and (even <= sizes).all()
  assert np.abs(even - sizes * count / sizes.sum()).max() < 1
  dropped = quotas.drop(sizes, count, recall)
  assert dropped.sum() == count and (dropped <= sizes).all() and (dropped >= 0).all()


@pytest.mark.parametrize('choice', CHOICES)
def test_any_choice_can_be_made_in_each_class(choice):
  data, label = ranked(), np.random.default_rng(6).integers(0, 4, 60)
  quota = quotas.proportional(np.bincount(label, minlength=4), 21)
  order = quotas.in_classes(CHOICES[choice], data, label, quota)
  assert sorted(order) == list(range(60)) and order.dtype == np.int32
  np.testing.assert_array_equal(np.bincount(label[order[:21]], minlength=4), quota)
  if choice == 'top':
    for c in range(4):
      own = np.flatnonzero(label == c)
      best = own[np.argsort(-data.score[own])][: quota[c]]
      assert set(order[:21][label[order[:21]] == c]) == set(best)


def test_classes_that_are_left_out_and_options_reach_the_choice():
  data, label = ranked(10), np.repeat([0, 2], 5)
  choice = functools.partial(choices.offset, offset=0.4)
  order = quotas.in_classes(choice, data, label, np.array([0, 0, 3]))
  ranks = np.argsort(np.argsort(data.score[5:]))
  assert {ranks[i - 5] for i in order[:3]} == {2, 3, 4}
