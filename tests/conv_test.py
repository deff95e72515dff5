"""The CPU convolution rule against `lax.conv`, for every form that the networks use."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxbudget import parallel
from jaxbudget.models import cpu_conv as conv_lib

FORMS = [(3, 1, 1), (3, 2, 1), (1, 2, 0), (1, 1, 0)]  # kernel, stride, padding
# What 32, 84 and 8 pixels shrink to, odd sizes included, and an uneven pair.
SIZES = [(84, 84), (42, 42), (21, 21), (11, 11), (32, 32), (16, 16), (8, 8)]
SIZES += [(4, 4), (2, 2), (1, 1), (7, 10), (5, 2)]


def _inputs(images, size, kernel, channels_in=3, channels_out=5):
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (images, *size, channels_in))
  w = jax.random.normal(keys[1], (kernel, kernel, channels_in, channels_out))
  return x, w


def _ours_and_plain(stride, padding):
  options = dict(
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=conv_lib.DIMENSIONS,
  )
  ours = lambda x, w: conv_lib.conv(x, w, **options)
  plain = lambda x, w: lax.conv_general_dilated(x, w, **options)
  return ours, plain


def _value_and_gradients(function, x, w):
  y, pullback = jax.vjp(function, x, w)
  return y, *pullback(jnp.sin(3 * y))  # a cotangent without symmetry


@pytest.mark.parametrize('kernel,stride,padding', FORMS)
def test_gradients_equal_those_of_lax(kernel, stride, padding):
  inputs = [_inputs(2, size, kernel) for size in SIZES]
  # One program for all sizes: compiling is what costs here.
  ours, plain = (
    jax.jit(lambda inputs, f=f: [_value_and_gradients(f, x, w) for x, w in inputs])(inputs)
    for f in _ours_and_plain(stride, padding)
  )
  for size, found, expected in zip(SIZES, ours, plain, strict=True):
    for name, a, b in zip(('y', 'dx', 'dw'), found, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3, err_msg=f'{name} at {size}')


@pytest.mark.parametrize(
  'kernel,stride,padding', [((5, 2), (1, 2), ((2, 1), (0, 1))), ((2, 3), (3, 1), ((0, 0), (2, 0)))]
)
@pytest.mark.parametrize('channels,large', [(4, 2**18), (17, 1)])
def test_uneven_kernels_strides_and_padding(kernel, stride, padding, channels, large, monkeypatch):
  monkeypatch.setattr(conv_lib, 'LARGE', large)
  x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
  w = jax.random.normal(jax.random.key(1), (*kernel, 3, channels))
  options = dict(padding=padding, dimension_numbers=conv_lib.DIMENSIONS)
  ours = lambda x, w: conv_lib.conv(x, w, stride, **options)
  plain = lambda x, w: lax.conv_general_dilated(x, w, stride, **options)
  chex.assert_trees_all_close(
    jax.jit(lambda x, w: _value_and_gradients(ours, x, w))(x, w),
    jax.jit(lambda x, w: _value_and_gradients(plain, x, w))(x, w),
    atol=1e-4,
    rtol=1e-4,
  )


@pytest.mark.parametrize('images', [1, 4, 5])
def test_weight_gradient_in_chunks_of_two_and_a_remainder(images, monkeypatch):
  x, w = _inputs(images, (4, 4), 3)
  monkeypatch.setattr(conv_lib, 'CACHE_BYTES', 2 * 4 * 4 * 3 * 3 * 4)  # two images' columns
  ours, plain = _ours_and_plain(1, 1)
  text = jax.jit(jax.grad(lambda w: jnp.sum(ours(x, w)))).lower(w).as_text()
  assert text.count('stablehlo.while') == (images > 2)
  _, _, found = _value_and_gradients(ours, x, w)
  _, _, expected = _value_and_gradients(plain, x, w)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_weight_gradient_is_summed_in_float32(monkeypatch):
  monkeypatch.setattr(conv_lib, 'CACHE_BYTES', 1)  # an image at a time
  x = jnp.ones((5, 15, 15, 1), jnp.bfloat16)
  dy = jnp.ones((5, 15, 15, 2), jnp.bfloat16)
  dw = conv_lib.weight_gradient(x, dy, (1, 1, 1, 2), (1, 1), ((0, 0), (0, 0)))
  assert dw.dtype == jnp.float32
  np.testing.assert_array_equal(dw, np.full((1, 1, 1, 2), 1125.0))  # bfloat16 has 1120, 1128


def test_bfloat16_gradients_are_close_to_float32():
  x, w = _inputs(4, (8, 8), 3)
  ours, plain = _ours_and_plain(2, 1)
  y, pullback = jax.vjp(plain, x, w)
  dy = jax.random.normal(jax.random.key(2), y.shape)
  low_y, low_pullback = jax.vjp(ours, x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
  found = (low_y, *low_pullback(dy.astype(jnp.bfloat16)))
  for a, b in zip(found, (y, *pullback(dy)), strict=True):
    assert a.dtype == jnp.bfloat16
    b = np.asarray(b)
    assert np.linalg.norm(np.asarray(a, np.float32) - b) < 0.01 * np.linalg.norm(b)


@pytest.mark.parametrize('kernel,stride,padding', FORMS)
def test_gradients_hold_only_plain_convolutions(kernel, stride, padding):
  """Other dimension orders and dilated images are what is slow inside loops."""
  x, w = _inputs(2, (8, 8), kernel)
  ours, plain = _ours_and_plain(stride, padding)
  pattern = re.compile(r'stablehlo.convolution.*?dim_numbers = (.*?), window = \{(.*?)\}')

  def unusual(function):
    text = jax.jit(lambda x, w: _value_and_gradients(function, x, w)).lower(x, w).as_text()
    found = pattern.findall(text)
    assert found
    return [
      numbers
      for numbers, window in found
      if numbers != '[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]' or 'lhs_dilate = [2' in window
    ]

  assert unusual(plain)  # the pattern finds what it looks for
  assert not unusual(ours)


@pytest.mark.parametrize(
  'options,named',
  [
    ({'feature_group_count': 3}, 'feature_group_count=3'),
    ({'lhs_dilation': (2, 2)}, 'lhs_dilation'),
    ({'rhs_dilation': (2, 2)}, 'rhs_dilation'),
    ({'dimension_numbers': ('NCHW', 'OIHW', 'NCHW')}, 'dimension_numbers'),
    ({'out_sharding': 'data'}, 'out_sharding'),
  ],
)
def test_refuses_what_it_does_not_do(options, named):
  x, w = _inputs(1, (4, 4), 3)
  options = {'dimension_numbers': conv_lib.DIMENSIONS, **options}
  with pytest.raises(ValueError, match=named):
    conv_lib.conv(x, w, (1, 1), 'SAME', **options)


def test_named_padding():
  x, w = _inputs(1, (5, 5), 3)
  for padding in ('SAME', 'VALID'):
    np.testing.assert_array_equal(
      conv_lib.conv(x, w, (2, 2), padding, dimension_numbers=conv_lib.DIMENSIONS),
      lax.conv_general_dilated(x, w, (2, 2), padding, dimension_numbers=conv_lib.DIMENSIONS),
    )


@pytest.mark.parametrize('kernel,stride,padding', FORMS)
def test_large_batches_side_by_side_give_the_same(kernel, stride, padding, monkeypatch):
  monkeypatch.setattr(conv_lib, 'LARGE', 1)
  ours, plain = _ours_and_plain(stride, padding)
  inputs = [
    _inputs(3, size, kernel, *channels) for size in SIZES[3:] for channels in ((17, 3), (3, 20))
  ]
  # One program for all sizes: compiling is what costs here.
  found, expected = (
    jax.jit(lambda inputs, f=f: [_value_and_gradients(f, x, w) for x, w in inputs])(inputs)
    for f in (ours, plain)
  )
  text = jax.jit(ours).lower(*inputs[0]).as_text()
  assert re.search(r'stablehlo.convolution.*-> tensor<1x', text)  # one wide image
  for (x, _), one, other in zip(inputs, found, expected, strict=True):
    for name, a, b in zip(('y', 'dx', 'dw'), one, other, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3, err_msg=f'{name} at {x.shape}')


def test_large_batches_on_two_devices(monkeypatch):
  """A batch that is split over devices is still one wide image: they exchange its borders."""
  monkeypatch.setattr(conv_lib, 'LARGE', 1)
  mesh = parallel.make_mesh(2, 4)
  x, w = _inputs(4, (8, 8), 3, 3, 17)
  ours, plain = _ours_and_plain(2, 1)
  split = jax.jit(lambda x, w: _value_and_gradients(ours, parallel.split(x, mesh), w))
  chex.assert_trees_all_close(
    split(*parallel.replicate((x, w), mesh)),
    _value_and_gradients(plain, x, w),
    rtol=1e-4,
    atol=1e-3,
  )
