"""Training dynamics: the record, and the scores that are computed from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget.scoring import dynamics
from jaxbudget.types import Outputs, Spec, blank_batch

SPEC = Spec(num_examples=6, batch_size=3, num_classes=3, epochs=5, image_shape=(2, 2, 1))


def present(state, samples, logits, label, weight=None):
  batch = blank_batch(SPEC, len(samples))._replace(
    index=jnp.array(samples, jnp.int32),
    label=jnp.array(label, jnp.int32),
    weight=jnp.ones(len(samples)) if weight is None else jnp.array(weight, jnp.float32),
  )
  outputs = Outputs(jnp.array(logits, jnp.float32), jnp.zeros(len(samples)))
  return jax.jit(dynamics.observe)(state, batch, outputs)


def recorded(p_true, correct=None):
  """A record f16[4,T,N] of given p(y), each right where p(y) > 1/2."""
  p = np.asarray(p_true, np.float16)
  margin = np.where(p > 0.5 if correct is None else correct, 1, -1)
  margin = np.where(np.isnan(p), np.nan, margin)
  return np.stack([p, 1 - p, margin, 1 - p]).astype(np.float16)


def test_what_is_recorded_of_a_presentation():
  logits = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32) * 2
  label = np.array([0, 2, 1])
  state = present(dynamics.blank(2, 6), [4, 0, 3], logits, label, weight=[1, 1, 0])
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  record = np.asarray(state.record)
  assert np.asarray(state.seen).tolist() == [1, 0, 0, 0, 1, 0]
  for row, sample in ((0, 4), (1, 0)):
    y = label[row]
    others = np.delete(np.arange(3), y)
    expected = [
      p[row, y],
      p[row, others].max(),
      logits[row, y] - logits[row, others].max(),
      np.linalg.norm(p[row] - np.eye(3)[y]),
    ]
    np.testing.assert_allclose(record[:, 0, sample], expected, rtol=1e-3)
  assert np.isnan(record[:, 1]).all() and np.isnan(record[:, 0, [1, 2, 3, 5]]).all()


def test_presentations_are_counted_by_sample_and_none_is_recorded_beyond_the_last():
  state = dynamics.blank(2, 6)
  for z in (1.0, 2.0, 3.0):
    state = present(state, [5, 1, 2], [[z, 0, 0]] * 3, [0, 0, 0], weight=[1, z != 2, 1])
  margin = np.asarray(state.record)[dynamics.MARGIN]
  np.testing.assert_array_equal(margin[:, 5], [1, 2])
  np.testing.assert_array_equal(margin[:, 1], [1, 3])


@pytest.mark.parametrize('tiny', [0.0, 1e-12, 1e-30])
def test_the_sign_bit_is_the_prediction_even_where_float16_ends(tiny):
  logits = [[tiny, 0, -1], [0, tiny, -1], [1e6, -1e6, 0]]
  state = present(dynamics.blank(1, 6), [0, 1, 2], logits, [0, 0, 0])
  right = dynamics.correct(np.asarray(state.record))[0]
  # argmax takes the first of two equal classes: with tiny = 0 sample 1 is right.
  assert right.tolist() == [True, tiny == 0, True, False, False, False]
  assert np.isfinite(np.asarray(state.record)[:, 0, :3]).all()


def test_forgetting_events_hand_traced():
  """Presentations of six samples: o correct, x wrong, - not presented.

  0: x o x o x   forgotten twice
  1: o o o o o   never
  2: x x x x x   never learned: 5, more than anybody can forget
  3: x x o o o   learned late, never forgotten
  4: o x x x -   forgotten once
  5: - - - - -   never presented, so never learned
  """
  rows = ['xoxox', 'ooooo', 'xxxxx', 'xxooo', 'oxxx-', '-----']
  shown = np.array([list(row) for row in rows]).T
  record = recorded(np.where(shown == '-', np.nan, shown == 'o'))
  assert dynamics.forgetting(record).tolist() == [2, 0, 5, 0, 1, 5]


def test_three_areas_under_the_margin():
  """Logits (2, 1, 0): margin +1 for class 0 and -1 for class 1, in probabilities +-0.420."""
  state = dynamics.blank(3, 6)
  for _ in range(3):
    state = present(state, [0, 1], [[2, 1, 0]] * 2, [0, 1])
  record = np.asarray(state.record)
  np.testing.assert_allclose(dynamics.aum(record)[:2], [1, -1], rtol=1e-3)
  np.testing.assert_allclose(dynamics.aum(record, 'last')[:2], [0.420, -0.420], atol=1e-3)
  np.testing.assert_allclose(dynamics.aum(record, 'probability')[:2], [1.26, -1.26], atol=3e-3)
  assert (dynamics.aum(record, 'last')[2:] == 0).all()


def test_the_last_presentation_is_the_sample_s_own():
  record = recorded([[0.9, 0.2], [0.25, np.nan]])
  np.testing.assert_allclose(dynamics.aum(record, 'last'), [-0.5, -0.6], atol=1e-3)


def test_data_map():
  p = np.array([[0.25, 1], [0.75, 1], [0.5, np.nan], [1.0, np.nan]])
  found = dynamics.data_map(recorded(p))
  np.testing.assert_allclose(found.confidence, [0.625, 1])
  np.testing.assert_allclose(found.variability, [p[:, 0].std(), 0])
  np.testing.assert_allclose(found.correctness, [0.5, 1])
  np.testing.assert_allclose(dynamics.data_map(recorded(p), first=2).confidence, [0.5, 1])


def test_windows_of_dyn_unc_and_dual():
  """Sample 0 alternates 0, 1: 10 std = 5.2705, and DUAL halves it; sample 1 never changes."""
  p = np.stack([np.arange(30) % 2, np.full(30, 0.75)], axis=1)
  np.testing.assert_allclose(dynamics.dyn_unc(recorded(p)), [5.2705, 0], atol=1e-4)
  np.testing.assert_allclose(dynamics.dual(recorded(p)), [2.6352, 0], atol=1e-4)
  rng = np.random.default_rng(0)
  p = rng.random((40, 7)).astype(np.float16).astype(np.float64)
  windows = np.stack([p[s : s + 10] for s in range(31)])
  std = 10 * windows.std(axis=1, ddof=1)
  np.testing.assert_allclose(dynamics.dyn_unc(recorded(p)), std.mean(0), rtol=1e-5)
  early = (std * (1 - windows.mean(axis=1)))[:21].mean(0)
  np.testing.assert_allclose(dynamics.dual(recorded(p)), early, rtol=1e-5)


def test_samples_presented_less_often_have_fewer_windows():
  p = np.random.default_rng(1).random((12, 2))
  p[11, 0] = np.nan
  short = dynamics.dyn_unc(recorded(p[:11, :1]))
  np.testing.assert_allclose(dynamics.dyn_unc(recorded(p))[0], short[0], rtol=1e-6)
  with pytest.raises(ValueError, match='window must be 2 to 12'):
    dynamics.dyn_unc(recorded(p), window=13)


def test_el2n_of_training_sums_the_first_presentations():
  p = np.random.default_rng(2).random((12, 3)).astype(np.float16)
  expected = (1 - p.astype(np.float32))[:10].sum(0)
  np.testing.assert_allclose(dynamics.el2n_training(recorded(p)), expected, rtol=2e-3)
