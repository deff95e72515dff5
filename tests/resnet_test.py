"""The networks: sizes, initial values, BatchNorm, and the pure seam around them."""

import functools
import math

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import models
from jaxbudget.models import resnet

SHAPE = (8, 8, 1)


def _images(n, key=1):
  return jax.random.normal(jax.random.key(key), (n, *SHAPE)) + 0.5


@functools.cache
def _small(**options):
  """A narrow network, its initial state and its compiled training pass."""
  model = models.make_model('resnet8', 3, SHAPE, width=4, **options)
  params, state = model.init(jax.random.key(0))
  return model, params, state, jax.jit(lambda *args: model.apply(*args[:3], True, *args[3:]))


def _size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('num_classes,expected', [(10, 11_173_962), (100, 11_220_132)])
def test_resnet18_has_the_size_of_the_papers_network(num_classes, expected):
  model = models.make_model('resnet18', num_classes, (32, 32, 3))
  params, state = jax.eval_shape(model.init, jax.random.key(0))
  assert _size(params) == expected
  assert _size(state) == 2 * 4800  # mean and variance of every BatchNorm channel


@pytest.mark.parametrize('side,last', [(32, 4), (84, 11)])
def test_resnet18_shrinks_images_as_the_papers_network(side, last):
  model = resnet.resnet18(10, (32, 32, 3), width=8)
  args = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  text = jax.jit(model.features).lower(*args, image).as_text()
  assert f'tensor<2x{last}x{last}x64xf32>' in text and f'x{last // 2}x{last // 2}x64' not in text
  assert jax.eval_shape(model.features, *args, image).shape == (2, 64)


def test_initial_values_are_torchs():
  model = resnet.resnet18(10, (32, 32, 3), width=16)
  params, state = jax.jit(model.init)(jax.random.key(0))

  def assert_uniform(values, low, high):
    values = np.asarray(values).ravel()
    assert low <= values.min() and values.max() <= high
    tolerance = 5 * (high - low) / math.sqrt(12 * values.size)
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=tolerance)
    np.testing.assert_allclose(
      values.std(), (high - low) / math.sqrt(12), rtol=5 / values.size**0.5
    )

  for kernel, fan_in in [
    (params['conv']['kernel'], 3 * 9),
    (params['stage2_block1']['conv1']['kernel'], 16 * 9),
    (params['stage2_block1']['shortcut_conv']['kernel'], 16),
    (params['stage4_block2']['conv2']['kernel'], 128 * 9),
    (params['linear']['kernel'], 128),
  ]:
    assert_uniform(kernel, -(fan_in**-0.5), fan_in**-0.5)
  assert_uniform(params['linear']['bias'], -(128**-0.5), 128**-0.5)
  scales = [norm['scale'] for norm in _norms(params)]
  assert_uniform(np.concatenate(scales), 0, 1)
  assert len({float(scale[0]) for scale in scales}) == len(scales)  # not one draw for all
  for norm in _norms(params):
    np.testing.assert_array_equal(norm['bias'], 0)
  for norm in _norms(state):
    np.testing.assert_array_equal(norm['mean'], 0)
    np.testing.assert_array_equal(norm['var'], 1)

  ones, _ = jax.jit(resnet.resnet18(10, (32, 32, 3), width=16, bn_gamma_init='ones').init)(
    jax.random.key(0)
  )
  for norm in _norms(ones):
    np.testing.assert_array_equal(norm['scale'], 1)


def _norms(tree):
  """Every BatchNorm's entry in parameters or state."""
  found = []
  for name, child in tree.items():
    if 'norm' in name:
      found.append(child)
    elif isinstance(child, dict):
      found.extend(_norms(child))
  return found


def _normalise(y, mean, var, norm):
  return (y - mean) / np.sqrt(var + 1e-5) * norm['scale'] + norm['bias']


def _conv(x, kernel, stride):
  """Convolution by its definition, padded by half the kernel, in float64."""
  size = kernel.shape[0]
  x = np.pad(np.asarray(x, np.float64), ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
  return np.einsum('nhwcij,ijco->nhwo', windows[:, ::stride, ::stride], np.asarray(kernel))


def _reference(params, state, x, train):
  """The whole network and its new statistics in NumPy."""
  new = jax.tree.map(np.asarray, state)

  def norm(y, path):
    learned, running, out = params, state, new
    for name in path:
      learned, running, out = learned[name], running[name], out[name]
    learned = jax.tree.map(np.asarray, learned)
    if not train:
      return _normalise(y, np.asarray(running['mean']), np.asarray(running['var']), learned)
    mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
    out['mean'] = 0.9 * np.asarray(running['mean']) + 0.1 * mean
    out['var'] = 0.9 * np.asarray(running['var']) + 0.1 * var
    return _normalise(y, mean, var, learned)

  x = np.maximum(norm(_conv(x, params['conv']['kernel'], 1), ['norm']), 0)
  for stage in (1, 2, 3):
    name = f'stage{stage}_block1'
    block, stride = params[name], 2 if stage > 1 else 1
    y = np.maximum(norm(_conv(x, block['conv1']['kernel'], stride), [name, 'norm1']), 0)
    y = norm(_conv(y, block['conv2']['kernel'], 1), [name, 'norm2'])
    if stage > 1:
      x = norm(_conv(x, block['shortcut_conv']['kernel'], stride), [name, 'shortcut_norm'])
    x = np.maximum(x + y, 0)
  features = x.mean((1, 2))
  linear = jax.tree.map(np.asarray, params['linear'])
  return features @ linear['kernel'] + linear['bias'], features, new


def test_forward_and_statistics_against_numpy():
  model, params, state, train = _small()
  x = _images(6)
  logits, new_state = train(params, state, x)
  expected, _, expected_state = _reference(params, state, x, train=True)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(new_state, expected_state, rtol=1e-4, atol=1e-5)

  @jax.jit
  def evaluate(params, state, x):
    logits, same_state = model.apply(params, state, x, False)
    assert same_state is state
    return logits, model.features(params, state, x)

  logits, found_features = evaluate(params, new_state, x)
  expected, features, _ = _reference(params, new_state, x, train=False)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found_features, features, rtol=1e-4, atol=1e-5)


def test_masked_examples_leave_statistics_and_others_alone():
  _, params, state, train = _small()
  x = _images(8).at[5:].mul(100.0)
  mask = jnp.arange(8) < 5
  logits, masked_state = train(params, state, x, mask)
  expected, expected_state = train(params, state, x[:5])
  np.testing.assert_allclose(logits[:5], expected, rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(masked_state, expected_state, rtol=1e-5, atol=1e-6)
  chex.assert_trees_all_close(
    train(params, state, x, jnp.ones(8, bool)), train(params, state, x), rtol=1e-5, atol=1e-5
  )


def _loss(model, params, state, x, mask=None):
  logits, state = model.apply(params, state, x, True, mask)
  loss = jnp.sum(jnp.sin(logits), axis=1)
  return jnp.sum(loss if mask is None else jnp.where(mask, loss, 0.0)), state


def test_unbiased_running_variance_counts_the_examples_that_count():
  _, params, state, biased = _small()
  train = _small(bn_running_var='unbiased')[-1]
  x, mask = _images(8), jnp.arange(8) < 3
  for arguments, examples in (((x,), 8), ((x, mask), 3), ((x[:3], None), 3)):
    logits, kept = train(params, state, *arguments)
    expected, plain = biased(params, state, *arguments)
    # It normalises by the biased one.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    new = {**kept['norm'], 'biased': plain['norm']['var']}
    n = examples * x.shape[1] * x.shape[2]
    old = 0.9 * state['norm']['var']
    np.testing.assert_allclose(new['var'] - old, (new['biased'] - old) * n / (n - 1), rtol=1e-4)
    np.testing.assert_array_equal(new['mean'], plain['norm']['mean'])
  alone = _small(bn_running_var='unbiased')[-1](params, state, x, jnp.arange(8) < 1)[1]
  chex.assert_tree_all_finite(alone)


def test_ghost_batches_are_normalised_as_batches_of_their_own():
  _, params, state, train = _small(bn_ghost_size=4)
  x = _images(12)
  whole = [_reference(params, state, x[i : i + 4], train=True) for i in (0, 4, 8)]
  mean = lambda states: jax.tree.map(lambda *found: np.mean(found, axis=0), *states)

  logits, kept = train(params, state, x)
  expected = np.concatenate([logits for logits, _, _ in whole])
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(kept, mean([state for *_, state in whole]), rtol=1e-4, atol=1e-5)

  # Of three ghost batches the second has one example that counts, the third none.
  alone = _reference(params, state, x[4:5], train=True)
  logits, kept = train(params, state, x.at[5:].mul(100.0), jnp.arange(12) < 5)
  expected = np.concatenate([whole[0][0], alone[0]])
  np.testing.assert_allclose(logits[:5], expected, rtol=1e-4, atol=1e-5)
  chex.assert_trees_all_close(kept, mean([whole[0][2], alone[2]]), rtol=1e-4, atol=1e-5)
  chex.assert_tree_all_finite(logits)

  chex.assert_trees_all_equal(train(params, state, x[:4]), _small()[-1](params, state, x[:4]))
  with pytest.raises(ValueError, match='bn_ghost_size=4 is refused: it does not divide 6 examples'):
    train(params, state, x[:6])


def test_masked_examples_leave_gradients_alone():
  model, params, state, _ = _small()
  gradient = jax.jit(jax.grad(functools.partial(_loss, model), has_aux=True))
  x = _images(8)
  masked, _ = gradient(params, state, x, jnp.arange(8) < 5)
  expected, _ = gradient(params, state, x[:5])
  chex.assert_trees_all_close(masked, expected, rtol=1e-3, atol=1e-4)


def test_jit_equals_no_jit():
  model, params, state, train = _small()
  x = _images(4)
  chex.assert_trees_all_close(
    train(params, state, x), model.apply(params, state, x, True), rtol=1e-5, atol=1e-5
  )


def test_convolutions_agree_and_share_parameters():
  (cpu, params, state, _), (plain, plain_params, plain_state, _) = (
    _small(conv=conv) for conv in ('cpu', 'lax')
  )
  chex.assert_trees_all_equal((params, state), (plain_params, plain_state))
  x = _images(5)

  def gradient(model):
    return jax.jit(jax.value_and_grad(functools.partial(_loss, model), has_aux=True))

  chex.assert_trees_all_close(
    gradient(cpu)(params, state, x), gradient(plain)(params, state, x), rtol=1e-3, atol=1e-4
  )


def test_bfloat16_computes_low_and_keeps_float32():
  model, params, state, train = _small(compute_dtype='bfloat16', conv='lax')
  full, full_params, full_state, full_train = _small()
  chex.assert_trees_all_equal((params, state), (full_params, full_state))
  x = _images(8)
  logits, new_state = train(params, state, x)
  for leaf in jax.tree.leaves((logits, new_state)):
    assert leaf.dtype == jnp.float32
  gradient = jax.grad(functools.partial(_loss, model), has_aux=True)
  for function in (gradient, model.features):
    for leaf in jax.tree.leaves(jax.eval_shape(function, params, state, x)):
      assert leaf.dtype == jnp.float32
  text = jax.jit(lambda *args: model.apply(*args, True)).lower(params, state, x).as_text()
  products = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
  assert len(products) == 9 and all('bf16' in line and 'f32>' not in line for line in products)
  expected, expected_state = full_train(params, state, x)
  np.testing.assert_allclose(logits, expected, atol=0.1)
  chex.assert_trees_all_close(new_state, expected_state, rtol=0.05, atol=0.02)


def test_state_is_plain_and_survives_serialisation():
  _, params, state, _ = _small()
  for tree in (params, state):
    restored = flax.serialization.msgpack_restore(
      flax.serialization.msgpack_serialize(flax.serialization.to_state_dict(tree))
    )
    chex.assert_trees_all_equal(restored, jax.tree.map(np.asarray, tree))
    for path, leaf in jax.tree.leaves_with_path(tree):
      assert all(isinstance(key.key, str) for key in path) and isinstance(leaf, jax.Array)


def test_equal_arguments_give_the_identical_model():
  model = models.make_model('resnet18', 10, (32, 32, 3))
  assert model is resnet.resnet18(10, (32, 32, 3))
  assert model is resnet.resnet18(10, (84, 84, 3), width=64, conv='auto')
  for conv in ('lax', 'cpu'):
    assert model is not resnet.resnet18(10, (32, 32, 3), conv=conv)
  assert model is not models.make_model('resnet18', 10, (32, 32, 1))


@pytest.mark.parametrize(
  'call,message',
  [
    (lambda: models.make_model('resnet1', 10, (32, 32, 3)), "'resnet1'; did you mean 'resnet18'"),
    (lambda: models.make_model('resnet8', 10, SHAPE, convs='cpu'), "'convs'; did you mean 'conv'"),
    (lambda: resnet.resnet8(10, SHAPE, conv='gpu'), "conv 'gpu'; did you mean 'cpu'"),
    (lambda: resnet.resnet8(10, SHAPE, compute_dtype='float16'), "did you mean 'bfloat16'"),
    (lambda: resnet.resnet8(10, SHAPE, bn_gamma_init='one'), "did you mean 'ones'"),
    (lambda: resnet.resnet8(10, SHAPE, bn_ghost_size=-1), 'bn_ghost_size=-1 is refused'),
    (lambda: resnet.resnet8(10, SHAPE, bn_running_var='biassed'), "did you mean 'biased'"),
    (lambda: resnet.resnet8(10, SHAPE, width=0), 'width=0'),
    (lambda: resnet.resnet8(0, SHAPE), 'num_classes=0'),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
