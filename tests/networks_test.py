"""The networks beside resnet18: sizes, the functions they compute, one step, lowering."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxbudget import gradients, models, precision, registry
from jaxbudget.lab.run.flops import forward_macs
from jaxbudget.losses import cross_entropy
from jaxbudget.models import airbench, network
from jaxbudget.models.airbench import airbench94, airbench95, airbench96, airbench_proxy
from jaxbudget.models.convmixer import convmixer, depthwise_cpu
from jaxbudget.models.resnet9 import resnet9
from jaxbudget.models.resnet50 import max_pool_3x3, resnet50
from jaxbudget.models.vit import vit_tiny
from jaxbudget.models.wrn import preact_resnet, wrn
from jaxbudget.scoring import trained

SHAPE = (32, 32, 3)
TINY = {
  'airbench94': (airbench94, {'width': 4}),
  'airbench96': (airbench96, {'width': 2}),
  'resnet9': (resnet9, {'width': 2}),
  'resnet50': (resnet50, {'width': 2, 'blocks': (2, 1)}),
  'wrn': (wrn, {'depth': 10, 'width': 1}),
  'preact_resnet': (preact_resnet, {'depth': 8, 'width': 2}),
  'convmixer': (convmixer, {'width': 6, 'depth': 2, 'kernel': 3}),
  'vit_tiny': (vit_tiny, {'width': 6, 'depth': 2, 'heads': 2}),
}
TINY_SHAPE = (8, 8, 3)
LAX = jax.lax.conv_general_dilated
PLAIN = {'feature_group_count': 3, 'dimension_numbers': ('NHWC', 'HWIO', 'NHWC')}


def size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


# Parameters and millions of multiply-adds of an image, as published or counted by hand.
# airbench's own counts include the scales of BatchNorm, which stay at 1 and are not here.
@pytest.mark.parametrize(
  'factory, options, num_classes, parameters, frozen, mmacs',
  [
    (airbench94, {}, 10, 1_972_792, 64 * 2 + 256 * 4, 118.1),
    (airbench95, {}, 10, 4_606_520, 128 * 2 + 384 * 4, 301.6),
    (airbench96, {}, 10, 9_918_776, 3 * (128 + 384 + 512), 452.0),
    (airbench_proxy, {}, 10, 146_744, 32 * 2 + 64 * 4, 17.1),
    (resnet9, {}, 10, 6_573_120, 0, 379.3),
    (resnet9, {}, 100, 6_619_200, 0, None),
    (resnet50, {}, 1000, 25_557_032, 0, None),
    (wrn, {}, 10, 36_479_194, 0, 5243.3),
    (wrn, {'depth': 16, 'width': 8}, 100, 11_007_540, 0, None),
    (preact_resnet, {}, 10, 272_282, 0, 40.8),
    (convmixer, {}, 10, 594_186, 0, 148.1),
    (vit_tiny, {}, 100, 5_380_132, 0, 365.1),
  ],
)
def test_sizes_are_the_published_ones(factory, options, num_classes, parameters, frozen, mmacs):
  model = factory(num_classes, SHAPE, conv='lax', **options)
  params, state = jax.eval_shape(model.init, jax.random.key(0))
  filters = size(state['whiten']) if 'whiten' in state else 0
  assert size(params) == parameters - frozen - filters
  if mmacs:
    macs = forward_macs(model, SHAPE)
    np.testing.assert_allclose(macs / 1e6, mmacs + (num_classes - 10) * 192e-6, atol=0.05)


def test_resnet50_takes_the_multiply_adds_that_the_field_counts():
  macs = forward_macs(resnet50(1000, (224, 224, 3), conv='lax'), (224, 224, 3))
  np.testing.assert_allclose(macs / 1e9, 4.09, atol=0.005)


def test_flops_are_those_that_airbench_publishes():
  """Training steps of 1024, then six views of each of 10,000 test images."""
  for factory, steps, published in (
    (airbench94, 476, 0.36e15),
    (airbench95, 720, 1.39e15),
    (airbench96, 1776, 4.9e15),
  ):
    forward = 2 * forward_macs(factory(10, SHAPE, conv='lax'), SHAPE)
    total = forward * (3 * 1024 * steps + 6 * 10_000)
    np.testing.assert_allclose(total, published, rtol=0.03)


# The functions, in NumPy


def numpy_conv(x, kernel, stride=1, padding=None, groups=False):
  """A convolution by its definition; with `groups` each channel has a kernel of its own."""
  k = kernel.shape[0]
  padding = k // 2 if padding is None else padding
  x = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]
  if groups:
    return np.einsum('nhwcij,ijc->nhwc', windows, kernel[:, :, 0])
  return np.einsum('nhwcij,ijco->nhwo', windows, kernel)


def batch_norm(x, params, state, epsilon=1e-5):
  scale = params.get('scale', 1.0) / np.sqrt(state['var'] + epsilon)
  return (x - state['mean']) * scale + params['bias']


def relu(x):
  return np.maximum(x, 0)


def gelu(x):
  return x * 0.5 * (1 + special.erf(x / math.sqrt(2)))


def pool(x):
  rows, columns = max(1, x.shape[1] // 2), max(1, x.shape[2] // 2)
  taps = [x[:, i::2, j::2][:, :rows, :columns] for i in (0, 1) for j in (0, 1)]
  return x if x.shape[1] == 1 else np.max(taps, axis=0)


def numpy_airbench(p, s, x):
  x = gelu(numpy_conv(x, s['whiten']['kernel'], padding=0) + p['whiten']['bias'])
  for group in ('group1', 'group2', 'group3'):
    g, state = p[group], s[group]
    x = pool(numpy_conv(x, g['conv1']['kernel']))
    x = first = gelu(batch_norm(x, g['norm1'], state['norm1'], 1e-12))
    x = batch_norm(numpy_conv(x, g['conv2']['kernel']), g['norm2'], state['norm2'], 1e-12)
    if 'conv3' in g:
      x = numpy_conv(gelu(x), g['conv3']['kernel'])
      x = batch_norm(x, g['norm3'], state['norm3'], 1e-12) + first
    x = gelu(x)
  return x.max((1, 2)) @ p['linear']['kernel'] / 9


def numpy_resnet9(p, s, x):
  def layer(name, x):
    return relu(
      batch_norm(numpy_conv(x, p[name]['conv']['kernel']), p[name]['norm'], s[name]['norm'])
    )

  x = pool(layer('layer1', layer('prep', x)))
  x = x + layer('layer1_res2', layer('layer1_res1', x))
  x = pool(layer('layer3', pool(layer('layer2', x))))
  x = x + layer('layer3_res2', layer('layer3_res1', x))
  return x.max((1, 2)) @ p['linear']['kernel'] / 8


def numpy_resnet50(p, s, x):
  def layer(b, state, name, x, stride=1):
    x = numpy_conv(x, b[f'conv{name}']['kernel'], stride)
    return batch_norm(x, b[f'norm{name}'], state[f'norm{name}'])

  x = relu(layer(p, s, '', x, 2))
  x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
  x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-2, -1))
  for name in ('stage1_block1', 'stage1_block2', 'stage2_block1'):
    b, state, stride = p[name], s[name], 2 if name == 'stage2_block1' else 1
    y = relu(layer(b, state, 1, x))
    y = layer(b, state, 3, relu(layer(b, state, 2, y, stride)))  # v1.5: the stride is in the 3x3
    if 'shortcut_conv' in b:
      x = numpy_conv(x, b['shortcut_conv']['kernel'], stride)
      x = batch_norm(x, b['shortcut_norm'], state['shortcut_norm'])
    x = relu(x + y)
  return x.mean((1, 2)) @ p['linear']['kernel'] + p['linear']['bias']


def numpy_preact(p, s, x):
  x = numpy_conv(x, p['conv']['kernel'])
  for stage in (1, 2, 3):
    b, state = p[f'stage{stage}_block1'], s[f'stage{stage}_block1']
    stride = 2 if stage > 1 else 1
    y = relu(batch_norm(x, b['norm1'], state['norm1']))
    if 'shortcut' in b:
      x = numpy_conv(y, b['shortcut']['kernel'], stride)
    y = numpy_conv(y, b['conv1']['kernel'], stride)
    x = x + numpy_conv(relu(batch_norm(y, b['norm2'], state['norm2'])), b['conv2']['kernel'])
  x = relu(batch_norm(x, p['norm'], s['norm'])).mean((1, 2))
  return x @ p['linear']['kernel'] + p['linear']['bias']


def numpy_convmixer(p, s, x):
  x = numpy_conv(x, p['patches']['kernel'], 2, 0) + p['patches']['bias']
  x = batch_norm(gelu(x), p['norm'], s['norm'])
  for name in ('mixer1', 'mixer2'):
    m, state = p[name], s[name]
    y = numpy_conv(x, m['depthwise']['kernel'], groups=True) + m['depthwise']['bias']
    x = x + batch_norm(gelu(y), m['norm1'], state['norm1'])
    y = numpy_conv(x, m['pointwise']['kernel']) + m['pointwise']['bias']
    x = batch_norm(gelu(y), m['norm2'], state['norm2'])
  return x.mean((1, 2)) @ p['linear']['kernel'] + p['linear']['bias']


def numpy_vit(p, _, x):
  def linear(x, layer):
    return x @ layer['kernel'] + layer['bias']

  def layer_norm(x, layer):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * layer['scale'] + layer['bias']

  n, side = len(x), x.shape[1] // 4
  tokens = [x[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4] for i in range(side) for j in range(side)]
  x = linear(np.stack(tokens, 1).reshape(n, side**2, -1), p['patches'])
  x = np.concatenate([np.tile(p['class_token'], (n, 1, 1)), x], 1) + p['position']
  for name in ('block1', 'block2'):
    b = p[name]
    heads = linear(layer_norm(x, b['norm1']), b['attention']['qkv'])
    out = []
    for h in range(2):  # heads of three numbers: query, key and value lie side by side
      q, k, v = (heads[..., 6 * i + 3 * h : 6 * i + 3 * h + 3] for i in range(3))
      weight = special.softmax(np.einsum('nqd,nkd->nqk', q, k) / math.sqrt(3), axis=-1)
      out.append(weight @ v)
    x = x + linear(np.concatenate(out, -1), b['attention']['out'])
    x = x + linear(gelu(linear(layer_norm(x, b['norm2']), b['hidden'])), b['out'])
  return linear(layer_norm(x, p['norm'])[:, 0], p['linear'])


NUMPY = {
  'airbench96': numpy_airbench,
  'resnet9': numpy_resnet9,
  'resnet50': numpy_resnet50,
  'wrn': numpy_preact,
  'convmixer': numpy_convmixer,
  'vit_tiny': numpy_vit,
}


def images(n=8, shape=TINY_SHAPE):
  return jax.random.normal(jax.random.key(1), (n, *shape))


def start(name, **options):
  """A tiny network, ready to be trained."""
  factory, tiny = TINY[name]
  model = factory(3, TINY_SHAPE, **tiny, **options)
  params, state = jax.jit(model.init)(jax.random.key(0))
  if name.startswith('airbench'):
    params, state = airbench.prepare(params, state, images(64))
  return model, params, state


SMALL = {name: options for name, (_, options) in TINY.items()} | {
  'airbench95': {'width': 4},
  'airbench_proxy': {'width': 4},
  'resnet18': {'width': 2},
  'resnet8': {'width': 2},
  'mlp': {'hidden': 5},
  'transformer': {'width': 4, 'depth': 1, 'heads': 2, 'vocabulary': 7},
}


@pytest.mark.parametrize('name', registry.names('model'))
def test_gradients_of_the_last_layer_are_those_of_jax(name):
  """With a bias or without one, as the network says."""
  tokens = name == 'transformer'
  shape = (6,) if tokens else TINY_SHAPE
  x = jax.random.randint(jax.random.key(1), (4, 6), 0, 7) if tokens else images(4)
  model = precision.of_model(models.make_model(name, 3, shape, **SMALL[name]), 'highest')
  params, state = model.prepare(*jax.jit(model.init)(jax.random.key(0)), x)
  label = jnp.array([0, 1, 2, 1])

  def loss(last, image, label):
    logits, _ = model.apply(params | {'linear': last}, state, image[None], train=False)
    return cross_entropy(logits, jax.nn.one_hot(label, 3)[None])[0]

  slope = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(params['linear'], x, label)
  dense = np.concatenate([leaf.reshape(4, -1) for leaf in jax.tree.leaves(slope)], axis=1)
  logits, _ = model.apply(params, state, x, train=False)
  features = model.features(params, state, x)
  norms = trained.grand_last_layer(logits, label, features, model.head_bias)
  np.testing.assert_allclose(norms, np.linalg.norm(dense, axis=1), rtol=1e-3)
  factored = gradients.last_layer(trained.error(logits, label), features, model.head_bias)
  np.testing.assert_allclose(
    gradients.inner(factored, factored), dense @ dense.T, rtol=1e-3, atol=1e-5 * (dense**2).sum()
  )


def loss_of(model, params, state, x, mask=None):
  logits, state = model.apply(params, state, x, True, mask)
  loss = -jax.nn.log_softmax(logits)[:, 0]
  return jnp.sum(loss if mask is None else jnp.where(mask, loss, 0.0)), (logits, state)


@pytest.mark.parametrize('name', NUMPY)
def test_the_function_and_a_step(name):
  model, params, state = start(name, conv='cpu' if name == 'convmixer' else 'lax')
  gradient = jax.grad(functools.partial(loss_of, model), has_aux=True)

  @jax.jit
  def run(params, state, x, mask):
    slope, (logits, new_state) = gradient(params, state, x, mask)
    plain, same_state = model.apply(params, new_state, x, train=False)
    assert same_state is new_state
    return slope, new_state, logits, plain, model.features(params, new_state, x)

  x, mask = images(), jnp.arange(8) < 6
  slope, new_state, _, plain, features = run(params, state, x, mask)
  # Statistics of one step, still far from those of the batch: eval mode is another function.
  expected = NUMPY[name](*jax.tree.map(np.float64, (params, new_state)), np.float64(x))
  np.testing.assert_allclose(plain, expected, rtol=1e-3, atol=1e-4)
  head = features @ params['linear']['kernel'] + params['linear'].get('bias', jnp.zeros(3))[None]
  np.testing.assert_allclose(plain, head, rtol=1e-4)
  chex.assert_trees_all_equal_shapes_and_dtypes((params, state), (slope, new_state))
  slope = jax.device_get(slope)
  assert all(np.any(g) for g in jax.tree.leaves(slope)), 'a parameter that learns nothing'
  # What masked examples show moves neither the gradient, the statistics nor the other logits.
  hidden = run(params, state, x.at[6:].mul(-3.0), mask)
  chex.assert_trees_all_close((slope, new_state), hidden[:2], rtol=1e-4, atol=1e-6)
  # A small step against the gradient gains what the gradient promises.
  squares = sum(np.sum(np.square(g)) for g in jax.tree.leaves(slope))
  rate = np.float32(1e-3 / squares)
  after = jax.tree.map(lambda w, g: w - rate * g, jax.device_get(params), slope)
  losses = [run(p, state, x, mask)[2] for p in (params, after)]
  before, stepped = (-jax.nn.log_softmax(logits)[:6, 0].sum() for logits in losses)
  np.testing.assert_allclose(before - stepped, 1e-3, rtol=0.2)


def test_depthwise_convolution_for_the_cpu():
  x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
  kernel = jax.random.normal(jax.random.key(1), (3, 2, 1, 3))

  @functools.partial(jax.jit, static_argnums=0)
  def value_and_gradient(conv, x, kernel):
    y, pull_back = jax.vjp(lambda x, w: conv(x, w, (1, 1), 'SAME', **PLAIN), x, kernel)
    return y, pull_back(jnp.cos(y))

  ours, plain = (value_and_gradient(conv, x, kernel) for conv in (depthwise_cpu, LAX))
  chex.assert_trees_all_close(ours, plain, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = {
  'resnet50': 12,
  'airbench94': 7,
  'airbench96': 10,
  'resnet9': 8,
  'wrn': 9,
  'preact_resnet': 9,
  'convmixer': 5,
  'vit_tiny': 0,
}


@pytest.mark.parametrize('name', TINY)
def test_every_network_lowers_for_accelerators_in_bfloat16(name):
  """Plain convolutions in all three directions, bfloat16 alone, results in float32."""
  factory, tiny = TINY[name]
  model = factory(3, TINY_SHAPE, conv='lax', compute_dtype='bfloat16', **tiny)
  params, state = jax.eval_shape(model.init, jax.random.key(0))
  gradient = jax.jit(jax.value_and_grad(functools.partial(loss_of, model), has_aux=True))
  x = jax.ShapeDtypeStruct((8, *TINY_SHAPE), jnp.float32)
  traced = gradient.trace(params, state, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(traced.out_info)} == {np.dtype('float32')}
  layers = CONVOLUTIONS[name]
  frozen = name.startswith('airbench')  # the first layer has no gradient of its kernel
  for platform in ('cuda', 'tpu'):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    found = re.findall(
      r'stablehlo\.convolution.*dim_numbers = \[(\w).*: \(tensor<([^>]*)>, tensor<([^>]*)>\)', text
    )
    assert all(side.endswith('bf16') for _, *sides in found for side in sides)
    assert len(found) == max(0, 3 * layers - 1 - frozen)
    products = re.findall(r'dot_general.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)', text)
    assert sum(side.endswith('f32') for sides in products for side in sides) == 2 * 3  # the head


# What sets airbench apart


def test_whitened_patches_are_uncorrelated():
  rng = np.random.default_rng(0)
  x = np.cumsum(rng.normal(size=(50, 9, 8, 3)), axis=2).astype(np.float32)  # neighbours alike
  filters = np.asarray(airbench.whiten(jnp.asarray(x))).reshape(12, 24).astype(float)
  windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
  patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12).astype(float)
  values = np.linalg.eigvalsh(patches.T @ patches / len(patches))[::-1]
  whitened = patches @ filters
  covariance = whitened.T @ whitened / len(patches)
  np.testing.assert_allclose(covariance[:12, :12], np.diag(values / (values + 5e-4)), atol=2e-3)
  np.testing.assert_array_equal(filters[:, 12:], -filters[:, :12])
  largest = np.abs(filters[:, :12]).argmax(0)
  assert (filters[largest, np.arange(12)] > 0).all()


def test_filters_are_nan_until_they_are_computed_and_never_trained():
  model = airbench94(3, TINY_SHAPE, width=4)
  params, state = model.init(jax.random.key(0))
  assert np.isnan(state['whiten']['kernel']).all()
  assert set(params['whiten']) == {'bias'} and not np.any(params['whiten']['bias'])
  prepared, ready = airbench.prepare(params, state, images(32))
  chex.assert_trees_all_equal(prepared, params)
  chex.assert_trees_all_equal_shapes_and_dtypes(ready, state)
  np.testing.assert_array_equal(ready['whiten']['kernel'], airbench.whiten(images(32)))


def test_the_first_filters_begin_as_identities():
  for name in ('airbench94', 'airbench96'):
    _, params, _ = start(name)
    for group in ('group1', 'group2', 'group3'):
      for layer, values in params[group].items():
        if layer.startswith('conv'):
          kernel = np.array(values['kernel'])
          features_in, features = kernel.shape[2:]
          same = min(features_in, features)
          passed = np.zeros((3, 3, features_in, same))
          passed[1, 1, np.arange(same), np.arange(same)] = 1
          np.testing.assert_array_equal(kernel[..., :same], passed)
          drawn, bound = kernel[..., features_in:], (9 * features_in) ** -0.5
          assert (np.abs(drawn) <= bound).all() and len(np.unique(drawn)) == drawn.size


def test_initial_values_have_their_laws():
  params, _ = wrn(10, SHAPE, depth=10, width=1).init(jax.random.key(0))
  kernel = np.asarray(params['stage3_block1']['conv2']['kernel'])
  deviation = math.sqrt(2 / (9 * 64))
  np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)
  np.testing.assert_allclose((np.abs(kernel) < deviation).mean(), 0.6827, atol=0.01)
  assert not np.any(params['linear']['bias'])
  assert np.any(
    preact_resnet(10, SHAPE, depth=8, width=2).init(jax.random.key(0))[0]['linear']['bias']
  )
  params, _ = vit_tiny(10, SHAPE, depth=1).init(jax.random.key(0))
  np.testing.assert_allclose(params['position'].std(), 0.02, rtol=0.05)
  np.testing.assert_allclose(params['block1']['hidden']['kernel'].std(), 0.02, rtol=0.01)
  assert np.abs(params['class_token']).max() < 1e-5 and not np.any(params['block1']['out']['bias'])
  edges = network.normal(1.0)(jnp.asarray([0, 1 - 2.0**-23]))
  assert np.isfinite(edges).all() and edges[0] < -5 < 5 < edges[1]


def test_resnet50_begins_as_torchvision_does():
  small = functools.partial(resnet50, 10, SHAPE, width=32, blocks=(1, 1))
  block = small(bn_gamma_init='zero_last').init(jax.random.key(0))[0]['stage2_block1']
  deviation = math.sqrt(2 / (9 * 64))  # by outputs, whatever comes in
  np.testing.assert_allclose(np.std(block['conv2']['kernel']), deviation, rtol=0.02)
  assert not np.any(block['norm3']['scale']) and np.all(block['norm2']['scale'] == 1)
  plain = small().init(jax.random.key(0))[0]['stage2_block1']
  np.testing.assert_allclose(np.std(plain['conv1']['kernel']), math.sqrt(2 / 64), rtol=0.03)
  assert np.all(plain['norm3']['scale'] == 1)
  odd = max_pool_3x3(jnp.arange(25.0).reshape(1, 5, 5, 1))[0, :, :, 0]
  np.testing.assert_array_equal(odd, [[6, 8, 9], [16, 18, 19], [21, 23, 24]])


def test_equal_arguments_give_the_identical_model():
  for name, (factory, tiny) in TINY.items():
    assert factory(3, TINY_SHAPE, **tiny) is factory(3, TINY_SHAPE, conv='auto', **tiny), name
    assert factory(3, TINY_SHAPE, **tiny) is not factory(4, TINY_SHAPE, **tiny), name


@pytest.mark.parametrize(
  'call, words',
  [
    (lambda: airbench94(10, SHAPE, depth=4), 'depth=4: allowed is 2 or 3'),
    (lambda: airbench94(10, SHAPE, width=0), 'width=0'),
    (lambda: airbench94(10, (1, 8, 3)), 'sides of 2 or more'),
    (lambda: airbench95(10, SHAPE, conv='gpu'), "did you mean 'cpu'"),
    (lambda: airbench96(0, SHAPE), 'num_classes=0'),
    (lambda: wrn(10, SHAPE, depth=20), r'depth=20: allowed is 6n \+ 4'),
    (lambda: preact_resnet(10, SHAPE, depth=2), r'depth=2: allowed is 6n \+ 2'),
    (lambda: resnet9(10, SHAPE, width=1.5), 'width=1.5'),
    (lambda: resnet50(10, SHAPE, blocks=()), r'blocks=\(\) is refused'),
    (lambda: resnet50(10, SHAPE, bn_gamma_init='zeros'), "did you mean 'zero_last'"),
    (lambda: convmixer(10, SHAPE, patch=33), 'patch=33'),
    (lambda: convmixer(10, SHAPE, compute_dtype='float16'), "did you mean 'bfloat16'"),
    (lambda: vit_tiny(10, (30, 32, 3)), 'patch=4: allowed is a divisor of both sides'),
    (lambda: vit_tiny(10, SHAPE, heads=5), 'heads=5: allowed is a divisor of width=192'),
  ],
)
def test_bad_arguments_are_named(call, words):
  with pytest.raises(ValueError, match=words):
    call()
