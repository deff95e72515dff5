"""Mixup and RICAP against NumPy, with recorded draws."""

import dataclasses
import functools
from collections import Counter

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from hypothesis import strategies as st
from scipy import stats
from selectors_common_test import VARIANTS

from jaxbudget import augment as augment_lib
from jaxbudget import engine
from jaxbudget.augment import Stages, augmix, chain, cutmix, make_augment, mix
from jaxbudget.data.dataset import Info
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, plain_batch

CLASSES = 5
SMALL_LAMBDA = 5  # a seed that draws lambda < 1/2, so that folding shows
INFO = Info('toy', 64, 1, CLASSES, (8, 8, 3), (0.5,) * 3, (0.5,) * 3, flip=0.5, pad=2)


apply_ricap = jax.jit(mix.apply_ricap)


@functools.cache
def make_batch(n=7, side=8, seed=0):
  """A normalised batch whose samples are not at the positions of their own index."""
  rng = np.random.default_rng(seed)
  data = Data(
    image=jnp.zeros((2 * n, side, side, 3), jnp.uint8),
    label=jnp.asarray(rng.integers(0, CLASSES, 2 * n), jnp.int32),
  )
  index = jnp.asarray(rng.permutation(2 * n)[:n], jnp.int32)
  batch = plain_batch(data, index, jnp.arange(n, dtype=jnp.float32), CLASSES)
  return batch._replace(image=jnp.asarray(rng.normal(size=batch.image.shape), jnp.float32))


def numpy_parts(batch, order, share):
  """Re-derives parts and targets: position j shows sample order[k][j] by share[k]."""
  index, label = np.asarray(batch.index), np.asarray(batch.label)
  target = np.zeros((len(index), CLASSES), np.float32)
  for k, weight in enumerate(share):
    for j in range(len(index)):
      target[j, label[order[k][j]]] += np.float32(weight)
  return (
    target,
    np.stack([index[o] for o in order], 1),
    np.stack([label[o] for o in order], 1),
    np.tile(np.float32(share), (len(index), 1)),
  )


def numpy_ricap(image, draw):
  """Paints the patches one after another; also counts how often each pixel is painted."""
  n, side, _, _ = image.shape
  (w, h), order, offset = (np.asarray(field) for field in draw)
  out, painted = np.full_like(image, np.nan), np.zeros((side, side), int)
  sizes = [(w, h), (side - w, h), (w, side - h), (side - w, side - h)]
  for k, (top, left) in enumerate([(0, 0), (w, 0), (0, h), (w, h)]):
    (rows, cols), (i, j) = sizes[k], offset[k]
    crop = image[order[k], i : i + rows, j : j + cols]
    assert crop.shape[1:3] == (rows, cols), 'a crop must lie inside its image'
    out[:, top : top + rows, left : left + cols] = crop
    painted[top : top + rows, left : left + cols] += 1
  return out, painted, [rows * cols / side**2 for rows, cols in sizes]


@pytest.mark.parametrize('fold', [False, True])
@pytest.mark.parametrize('mix_image', [True, False])
def test_mixup_against_numpy(mix_image, fold):
  batch = make_batch()
  key = jax.random.key(SMALL_LAMBDA)
  draw = mix.draw_mixup(key, 7, 0.3, fold=fold)
  lam, pi = np.asarray(draw.share), np.asarray(draw.partner)
  assert sorted(pi) == list(range(7))
  assert lam >= 0.5 if fold else 0 < lam < 0.5
  got = mix.mixup(0.3, mix_image=mix_image, fold=fold)(key, batch)
  image = np.asarray(batch.image)
  mixed = lam * image + (np.float32(1) - lam) * image[pi] if mix_image else image
  np.testing.assert_array_equal(got.image, mixed)
  expected = numpy_parts(batch, [np.arange(7), pi], [lam, np.float32(1) - lam])
  chex.assert_trees_all_equal((got.target, *got[5:]), expected)
  chex.assert_trees_all_equal((got.index, got.label), (batch.index, batch.label))


def test_folding_keeps_the_larger_share_at_home():
  plain = [mix.draw_mixup(jax.random.key(s), 4, 0.3) for s in range(8)]
  folded = [mix.draw_mixup(jax.random.key(s), 4, 0.3, fold=True) for s in range(8)]
  for p, f in zip(plain, folded, strict=True):
    assert f.share == max(p.share, 1 - p.share)
    chex.assert_trees_all_equal(p.partner, f.partner)


def test_ricap_against_numpy():
  batch = make_batch()
  for seed in range(6):
    key = jax.random.key(seed)
    draw = mix.draw_ricap(key, 7, (8, 8), 1.0)
    assert all(sorted(order) == list(range(7)) for order in np.asarray(draw.order))
    image, painted, share = numpy_ricap(np.asarray(batch.image), draw)
    got = mix.ricap(1.0)(key, batch)
    np.testing.assert_array_equal(got.image, image)
    assert (painted == 1).all()
    target, *parts = numpy_parts(batch, draw.order, share)
    chex.assert_trees_all_equal((got.target, *got[5:]), (target, *parts))
    chex.assert_trees_all_equal((got.index, got.label), (batch.index, batch.label))


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(data=st.data(), side=st.sampled_from([1, 5, 32]))
def test_ricap_covers_every_pixel_exactly_once(data, side):
  corner = data.draw(st.tuples(st.integers(0, side), st.integers(0, side)), 'corner')
  w, h = corner
  sizes = [(w, h), (side - w, h), (w, side - h), (side - w, side - h)]
  offset = [[data.draw(st.integers(0, side - s)) for s in size] for size in sizes]
  order = np.stack([np.random.default_rng(k).permutation(3) for k in range(4)])
  draw = mix.RicapDraw(jnp.asarray(corner), jnp.asarray(order), jnp.asarray(offset))
  batch = make_batch(3, side)
  image, painted, share = numpy_ricap(np.asarray(batch.image), draw)
  got = apply_ricap(batch, draw)
  assert (painted == 1).all() and sum(rows * cols for rows, cols in sizes) == side**2
  np.testing.assert_array_equal(got.image, image)
  np.testing.assert_allclose(got.part_share, np.tile(np.float32(share), (3, 1)), rtol=2e-7)
  np.testing.assert_allclose(got.target.sum(1), 1, rtol=1e-6)


def test_ricap_handles_oblong_images():
  batch = make_batch()
  batch = batch._replace(image=batch.image[:, :, :5])
  draw = mix.draw_ricap(jax.random.key(1), 7, (8, 5), 1.0)
  rows, cols = np.asarray(mix.patch_sizes(draw.corner, (8, 5))).T
  got = mix.apply_ricap(batch, draw)
  np.testing.assert_allclose(got.part_share[0], rows * cols / 40, rtol=1e-6)
  k = int(np.argmax(rows * cols))
  i, j = np.asarray(draw.offset)[k]
  top, left = (0, rows[0])[k % 2], (0, cols[0])[k // 2]
  crop = np.asarray(batch.image)[draw.order[k], i : i + rows[k], j : j + cols[k]]
  np.testing.assert_array_equal(got.image[:, top : top + rows[k], left : left + cols[k]], crop)


def test_ricap_draws_have_their_laws():
  """Corner: round(S * Beta), half to even; offsets: uniform over the valid positions."""
  side, alpha, trials = 4, 0.3, 4000
  keys = jax.random.split(jax.random.key(0), trials)
  draw = jax.jit(jax.vmap(lambda k: mix.draw_ricap(k, 2, (side, side), alpha)))(keys)
  edges = [0, *(np.arange(side) + 0.5) / side, 1]
  law = np.diff(stats.beta(alpha, alpha).cdf(edges))
  corner = np.asarray(draw.corner)
  for axis in (0, 1):
    seen = np.bincount(corner[:, axis], minlength=side + 1)
    assert stats.chisquare(seen, trials * law).pvalue > 1e-3
  rows = np.asarray(jax.vmap(lambda c: mix.patch_sizes(c, (side, side)))(draw.corner))
  for size in range(side + 1):
    offset = np.asarray(draw.offset)[rows == size]
    assert set(offset) == set(range(side - size + 1))
    assert size == side or stats.chisquare(np.bincount(offset)).pvalue > 1e-3
  assert abs(np.corrcoef(corner.T)[0, 1]) < 0.05


def test_mixup_lambda_is_beta():
  keys = jax.random.split(jax.random.key(0), 4000)
  share = jax.jit(jax.vmap(lambda k: mix.draw_mixup(k, 2, 0.3).share))(keys)
  edges = np.linspace(0, 1, 21)
  seen = np.histogram(np.asarray(share), edges)[0]
  law = np.diff(stats.beta(0.3, 0.3).cdf(edges))
  assert stats.chisquare(seen, 4000 * law).pvalue > 1e-3


@pytest.mark.parametrize('name', ['mixup', 'ricap'])
def test_soft_target_loss_is_the_weighted_sum_of_criteria(name):
  stage = {'mixup': mix.mixup, 'ricap': mix.ricap}[name]()
  got = stage(jax.random.key(2), make_batch())
  logits = jax.random.normal(jax.random.key(1), (7, CLASSES))
  criteria = [
    optax.softmax_cross_entropy_with_integer_labels(logits, got.part_label[:, k])
    * got.part_share[:, k]
    for k in range(got.part_label.shape[1])
  ]
  loss = optax.softmax_cross_entropy(logits, got.target)
  np.testing.assert_allclose(loss, sum(criteria), rtol=1e-5)


STAGES = (mix.mixup(1.0), mix.ricap(1.0), cutmix.cutmix(1.0, probability=1.0))


@pytest.mark.parametrize('stage', STAGES, ids=['mixup', 'ricap', 'cutmix'])
def test_a_picture_weighs_what_its_samples_do(stage):
  """methods_online.md E7; equal weights stay what they are, and padding stays padding."""
  batch = make_batch()
  for seed in range(5):
    got = stage(jax.random.key(seed), batch)
    table = np.zeros(14)
    table[np.asarray(batch.index)] = np.asarray(batch.weight)
    expected = (np.asarray(got.part_share) * table[np.asarray(got.part_index)]).sum(1)
    expected[np.asarray(batch.weight) == 0] = 0
    np.testing.assert_allclose(got.weight, expected, rtol=1e-5, atol=1e-6)
    alike = batch._replace(weight=jnp.full(7, 1.7, jnp.float32))
    np.testing.assert_array_equal(stage(jax.random.key(seed), alike).weight, alike.weight)


def test_parts_name_each_sample_once_in_all():
  """Every permutation holds every sample once: shares per sample sum to 1 over a batch."""
  for stage in (mix.mixup(), mix.ricap()):
    got = stage(jax.random.key(4), make_batch())
    total = np.zeros(14)
    np.add.at(total, np.asarray(got.part_index), np.asarray(got.part_share))
    np.testing.assert_allclose(total[np.asarray(got.index)], 1, rtol=1e-6)
    np.testing.assert_allclose(got.part_share.sum(1), 1, rtol=1e-6)


def test_mixing_twice_multiplies_parts_and_shares():
  got = chain(mix.mixup(1.0), mix.ricap(1.0))(jax.random.key(0), make_batch())
  chex.assert_shape((got.part_index, got.part_label, got.part_share), (7, 8))
  np.testing.assert_allclose(got.part_share.sum(1), 1, rtol=1e-6)
  one_hot = np.eye(CLASSES)[np.asarray(got.part_label)]
  expected = (one_hot * np.asarray(got.part_share)[..., None]).sum(1)
  np.testing.assert_allclose(got.target, expected, rtol=1e-5, atol=1e-7)


def test_a_batch_is_the_same_whoever_draws():
  stages = chain(mix.mixup(0.3, fold=True), mix.ricap(0.5), cutmix.cutmix(0.5, probability=1.0))
  batch, key = make_batch(), jax.random.key(3)
  drawn = stages.draw(key, 7)
  assert [x.shape for x in drawn] == [(), (2,), ()]
  chex.assert_trees_all_equal(stages(key, batch), stages(key, batch, drawn=drawn))
  stage = augmix.augmix(3.0, 0.5)
  drawn = stage.draw(key, 7)
  assert [x.shape for x in drawn] == [(7,), (7, 3)]
  chex.assert_trees_all_equal(augmix.draw(key, 7, 3.0, 0.5), augmix.draw(key, 7, 3.0, 0.5, drawn))
  assert not hasattr(chain(cutmix.cutmix(1.0), augmix.augmix(3.0, 1.0)), 'draw')


@pytest.mark.parametrize('name', ['mixup', 'ricap'])
def test_whole_augmentation(name):
  """From uint8: standard first; same key same batch; jit equals no jit."""
  rng = np.random.default_rng(0)
  data = Data(
    jnp.asarray(rng.integers(0, 256, (9, 8, 8, 3)), jnp.uint8),
    jnp.asarray(rng.integers(0, CLASSES, 9), jnp.int32),
  )
  batch = plain_batch(data, jnp.arange(9, dtype=jnp.int32), jnp.ones(9), CLASSES)
  augment = make_augment(name, INFO)
  got, again, other = (augment.train(jax.random.key(s), batch) for s in (2, 2, 3))
  chex.assert_trees_all_equal(got, again)
  assert not np.array_equal(got.image, other.image)
  chex.assert_trees_all_close(got, jax.jit(augment.train)(jax.random.key(2), batch), atol=1e-6)
  chex.assert_shape(got.image, (9, 8, 8, 3))
  chex.assert_type([got.image, got.target, got.part_share, got.part_index], [float] * 3 + [int])
  chex.assert_shape((got.part_index, got.part_label, got.part_share), (9, augment.parts))
  assert got.image.min() >= -1 and got.image.max() <= 1  # of pixels normalised to [-1, 1]
  np.testing.assert_allclose(got.target.sum(1), 1, rtol=1e-6)
  np.testing.assert_array_equal(augment.test(data.image).shape, data.image.shape)


def test_a_chain_has_one_crop_flip_and_normalisation(monkeypatch):
  made = Counter()
  for name in ('random_crop', 'random_flip', 'normalize'):
    original = getattr(augment_lib, name)
    count = lambda *given, name=name, original=original: made.update([name]) or original(*given)
    monkeypatch.setattr(augment_lib, name, count)
  options = {'mixup': {'alpha': 0.7}, 'ricap': {'alpha': 0.7}}  # nothing of this is cached
  found = make_augment('mixup+randaugment+ricap', INFO, **options)
  assert made == {'random_crop': 1, 'random_flip': 1, 'normalize': 1} and found.parts == 8
  orders = []
  monkeypatch.setattr(augment_lib, 'chain', lambda *stages: orders.append(stages))
  stages = {name: Stages(before=f'{name} on pixels', after=name) for name in 'ab'}
  augment_lib.assemble(INFO, stages['a'], Stages(), stages['b'])
  (order,) = orders
  assert order[:2] == ('a on pixels', 'b on pixels') and order[-2:] == ('a', 'b')
  assert len(order) == 7


def test_options_reach_the_stage_and_are_checked():
  assert make_augment('mixup', INFO) is make_augment('mixup', INFO, alpha=0.3, fold=False)
  assert make_augment('mixup', INFO, fold=True) is not make_augment('mixup', INFO)
  for name in ('mixup', 'ricap'):
    for alpha in (0, -1.0, float('nan'), float('inf'), 'a', True):
      with pytest.raises(ValueError, match='alpha='):
        make_augment(name, INFO, alpha=alpha)
  with pytest.raises(ValueError, match="did you mean 'mix_image'"):
    make_augment('mixup', INFO, miximage=True)


@pytest.mark.parametrize('variant', ['infobatch_original', 'seta_original'])
def test_nobody_is_mixed_with_padding(variant):
  """Rows are padded with samples that the epoch leaves out: nothing may be learned of them."""
  spec = dataclasses.replace(toys.SPEC, parts=2)
  selector = make_selector(VARIANTS[variant][0], spec, 1.0, VARIANTS[variant][1])
  stage = mix.mixup(1.0)
  augment = toys.AUGMENT._replace(
    train=lambda key, batch: stage(key, toys.AUGMENT.train(key, batch)), parts=2
  )
  run = engine.start(spec, toys.MODEL, augment, selector, make_optimizer(), 1.0)
  left_out = 0
  for e in range(spec.epochs):
    run = engine.begin_epoch(run, e)
    plan, before = jax.device_get((run.state.plan, run.state.selector))
    chosen = plan.index[plan.weight > 0]
    absent = np.setdiff1d(np.arange(spec.num_examples), chosen)
    run, _ = engine.train_rows(run, toys.data(), 0.1)
    np.testing.assert_array_equal(np.asarray(run.state.selector)[absent], before[absent])
    left_out += len(absent)
  assert left_out
