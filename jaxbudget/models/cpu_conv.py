"""Convolution whose gradients stay fast on the CPU backend, inside loops too.

JAX writes the gradients of a convolution as convolutions with unusual dimension orders.
XLA:CPU has a fast kernel for them only outside control flow; inside `scan`, `while` and
`cond`, where a compiled epoch lives, it falls back to a naive loop that is 20 to 35 times
slower (https://github.com/jax-ml/jax/issues/12868). `conv` computes the same function and
spells its gradients in forms that are fast anywhere:

  input gradient: one plain stride-1 convolution for each phase of the stride;
  weight gradient: matrix products over chunks of a few images, whose shifted slices fit
    the cache;
  each of them in the form that XLA:CPU gives to all cores.

Pass it to `nnx.Conv(conv_general_dilated=conv)`. Accelerators want `lax.conv_general_dilated`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
CACHE_BYTES = 2**21  # of one core, for the columns of a weight gradient
LARGE = 2**18  # values of an output that is worth all cores
NARROW = 64  # columns of a weight gradient's product that would have one thread


def conv(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers=None,
  feature_group_count: int = 1,
  precision: lax.PrecisionLike = None,
  out_sharding=None,
) -> jax.Array:
  """Plain two-dimensional convolution, with the signature of `lax.conv_general_dilated`.

  Args:
    lhs: images [n, h, w, c_in].
    rhs: kernel [k_h, k_w, c_in, c_out], of the images' dtype.
    window_strides: (vertical, horizontal).
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).
    lhs_dilation: must be 1.
    rhs_dilation: must be 1.
    dimension_numbers: must mean NHWC, HWIO, NHWC.
    feature_group_count: must be 1.
    precision: as for `lax.conv_general_dilated`.
    out_sharding: must be None.

  Returns:
    Images [n, h_out, w_out, c_out].

  Raises:
    ValueError: if asked for a form of convolution whose gradient is not written here.
  """
  if out_sharding is not None:
    raise ValueError(f'out_sharding={out_sharding!r}: the CPU convolution takes only None')
  if feature_group_count != 1:
    raise ValueError(f'feature_group_count={feature_group_count}: the CPU convolution takes only 1')
  for name, dilation in (('lhs_dilation', lhs_dilation), ('rhs_dilation', rhs_dilation)):
    if dilation is not None and tuple(dilation) != (1, 1):
      raise ValueError(f'{name}={tuple(dilation)}: the CPU convolution takes only (1, 1)')
  dimensions = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
  if dimensions != lax.conv_dimension_numbers(lhs.shape, rhs.shape, DIMENSIONS):
    raise ValueError(
      f'dimension_numbers={dimension_numbers!r}: the CPU convolution takes only {DIMENSIONS}'
    )
  strides = tuple(window_strides)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
  padding = tuple((int(low), int(high)) for low, high in padding)
  if lhs.dtype == jnp.bfloat16:  # XLA:CPU has no fast kernel for it; float32 loses nothing
    y = _conv(lhs.astype(jnp.float32), rhs.astype(jnp.float32), strides, padding, precision)
    return y.astype(lhs.dtype)
  return _conv(lhs, rhs, strides, padding, precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, w, strides, padding, precision):
  return _plain(x, w, strides, padding, precision)


def _plain(x, w, strides, padding, precision):
  """The convolution itself, in the form of it that XLA:CPU is fast at."""
  if x.shape[1] < w.shape[0] or x.shape[2] < w.shape[1]:
    return _product(x, w, strides, padding, precision)
  # XLA:CPU gives up to 16 channels to a kernel that needs no help.
  size = x.size // x.shape[3] // (strides[0] * strides[1]) * w.shape[3]
  if max(w.shape[2:]) > 16 and size >= LARGE:
    return _side_by_side(x, w, strides, padding, precision)
  return lax.conv_general_dilated(
    x, w, strides, padding, dimension_numbers=DIMENSIONS, precision=precision
  )


def _side_by_side(x, w, strides, padding, precision):
  """The convolution of one wide image: XLA:CPU splits a row over cores, but not a batch."""
  n, height, width, channels = x.shape
  (left, right), stride, taps = padding[1], strides[1], w.shape[1]
  out_width = (width + left + right - taps) // stride + 1
  # Zeros after an image: its padding to the right, and that of the next to the left.
  gap = max(left, right, out_width * stride - width)
  gap += -(width + gap) % stride
  out_step = (width + gap) // stride  # from an image's first output pixel to that of the next
  x = jnp.pad(x.swapaxes(0, 1), ((0, 0), (0, 0), (0, gap), (0, 0)))
  y = lax.conv_general_dilated(
    x.reshape(1, height, n * (width + gap), channels),
    w,
    strides,
    (padding[0], (left, max(0, taps - left - stride))),
    dimension_numbers=DIMENSIONS,
    precision=precision,
  )
  y = y[0, :, : n * out_step].reshape(-1, n, out_step, w.shape[3])
  return y[:, :, :out_width].swapaxes(0, 1)


def _product(x, w, strides, padding, precision):
  """The convolution as one matrix product: XLA:CPU's kernels crawl on images below the window."""
  x = lax.pad(x, jnp.zeros((), x.dtype), [(*p, 0) for p in ((0, 0), *padding, (0, 0))])
  # Of each tap, the pixels that it meets.
  rows, columns = (
    [slice(tap, length - taps + tap + 1, stride) for tap in range(taps)]
    for length, taps, stride in zip(x.shape[1:3], w.shape[:2], strides, strict=True)
  )
  met = jnp.concatenate([x[:, row, column] for row in rows for column in columns], axis=3)
  return jnp.matmul(met, w.reshape(-1, w.shape[3]), precision=precision)


def _conv_forward(x, w, strides, padding, precision):
  return _conv(x, w, strides, padding, precision), (x, w)


def _conv_backward(strides, padding, precision, residuals, dy):
  x, w = residuals
  dx = input_gradient(dy, w, x.shape, strides, padding, precision)
  dw = weight_gradient(x, dy, w.shape, strides, padding, precision)
  return dx, dw.astype(w.dtype)


_conv.defvjp(_conv_forward, _conv_backward)


def input_gradient(dy, w, x_shape, strides, padding, precision=None):
  """Gradient of a convolution with respect to its images.

  An input pixel at position s*q + r meets only every s-th tap of the kernel, so each phase
  r of the stride is a stride-1 convolution of `dy` with a part of the flipped kernel.

  Args:
    dy: [n, h_out, w_out, c_out].
    w: [k_h, k_w, c_in, c_out].
    x_shape: (n, h, w, c_in).
    strides: (vertical, horizontal).
    padding: ((top, bottom), (left, right)) of the forward convolution.
    precision: as for `lax.conv_general_dilated`.

  Returns:
    [n, h, w, c_in].
  """
  _, height, width, channels = x_shape
  rows = _phases(height, dy.shape[1], w.shape[0], strides[0], padding[0][0])
  columns = _phases(width, dy.shape[2], w.shape[1], strides[1], padding[1][0])
  if strides == (1, 1):
    return _phase_gradient(dy, w, rows[0], columns[0], precision)
  phases = [[_phase_gradient(dy, w, row, column, precision) for column in columns] for row in rows]
  # [n, h/s, s, w/s, s, c_in]: pixel s*q + r of the images is entry (q, r).
  dx = jnp.stack([jnp.stack(line, axis=3) for line in phases], axis=2)
  shape = (-1, rows[0].size * strides[0], columns[0].size * strides[1], channels)
  return dx.reshape(shape)[:, :height, :width]


class _Phase(NamedTuple):
  """Along one axis: the pixels s*q + r of the images, q < size."""

  size: int
  taps: slice  # of the kernel, those that these pixels meet
  padding: tuple[int, int]  # of `dy`


def _phases(size, out_size, kernel_size, stride, padding_low):
  """Phases r = 0, ..., stride-1 of one image axis.

  Input i meets output o through tap a when o*s + a - low = i. With i = s*q + r the taps are
  a = first + s*t, and o = q + shift - t.
  """
  count = -(-size // stride)
  phases = []
  for r in range(stride):
    first = (r + padding_low) % stride
    shift = (r + padding_low) // stride
    taps = len(range(first, kernel_size, stride))
    low = taps - 1 - shift
    high = count + taps - 1 - low - out_size
    phases.append(_Phase(count, slice(first, None, stride), (low, high)))
  return phases


def _phase_gradient(dy, w, row, column, precision):
  taps = w[row.taps, column.taps]
  if 0 in taps.shape:
    return jnp.zeros((dy.shape[0], row.size, column.size, w.shape[2]), dy.dtype)
  flipped = taps[::-1, ::-1].swapaxes(2, 3)
  return _plain(dy, flipped, (1, 1), (row.padding, column.padding), precision)


def weight_gradient(x, dy, w_shape, strides, padding, precision=None):
  """Gradient of a convolution with respect to its kernel.

  Args:
    x: [n, h, w, c_in].
    dy: [n, h_out, w_out, c_out].
    w_shape: (k_h, k_w, c_in, c_out).
    strides: (vertical, horizontal).
    padding: ((top, bottom), (left, right)) of the forward convolution.
    precision: as for `lax.dot_general`.

  Returns:
    f32[k_h, k_w, c_in, c_out].
  """
  kernel_height, kernel_width, channels_in, channels_out = w_shape
  n, out_height, out_width, _ = dy.shape
  products = functools.partial(
    _row_products,
    kernel_size=(kernel_height, kernel_width),
    strides=strides,
    padding=padding,
    precision=precision,
  )
  image_bytes = out_height * out_width * kernel_width * channels_in * x.dtype.itemsize
  chunk = min(n, _chunk_size(image_bytes))
  whole = n // chunk * chunk

  # Slices of the arrays themselves: to `scan` over reshaped ones, XLA computes them twice.
  def add_chunk(i, dw):
    return dw + products(*(lax.dynamic_slice_in_dim(a, i * chunk, chunk) for a in (x, dy)))

  dw = jnp.zeros((kernel_height, channels_out, kernel_width * channels_in), jnp.float32)
  dw = lax.fori_loop(0, n // chunk, add_chunk, dw) if chunk < n else products(x, dy)
  if whole < n:
    dw = dw + products(x[whole:], dy[whole:])
  dw = dw.reshape(kernel_height, channels_out, kernel_width, channels_in)
  return dw.transpose(0, 2, 3, 1)


def _chunk_size(image_bytes):
  """Images whose columns fit the cache: a power of two, which divides most batches."""
  return 1 << (max(1, CACHE_BYTES // image_bytes).bit_length() - 1)


def _row_products(x, dy, kernel_size, strides, padding, precision):
  """Sums `dy` times shifted slices of `x` over images and positions, a product a kernel row.

  `dy` stands on the left because XLA transposes the left operand of such a product, and
  `dy` needs that only once, the columns once for each row. It transposes nothing in a product
  of two matrices, which is faster where few columns would leave all but one thread idle.

  Returns:
    f32[k_h, c_out, k_w * c_in].
  """
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  stops = [stride * (size - 1) + 1 for stride, size in zip(strides, dy.shape[1:3], strict=True)]
  narrow = kernel_size[1] * x.shape[3] <= NARROW
  summed = (0,) if narrow else (0, 1, 2)
  left = dy.reshape(-1, dy.shape[3]) if narrow else dy

  def row_product(i):
    taps = [
      x[:, i : i + stops[0] : strides[0], j : j + stops[1] : strides[1]]
      for j in range(kernel_size[1])
    ]
    columns = jnp.concatenate(taps, axis=3)
    return lax.dot_general(
      left,
      columns.reshape(*left.shape[:-1], -1),
      ((summed, summed), ((), ())),
      precision=precision,
      preferred_element_type=jnp.float32,
    )

  return jnp.stack([row_product(i) for i in range(kernel_size[0])])
