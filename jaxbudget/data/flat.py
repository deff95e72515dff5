"""Images as a TPU wants to pick them: each one row of a matrix.

A TPU keeps the two last axes of an array in tiles of 8 x 128. A row program that picks images out
of u8[N,32,32,3] begins with a copy of all of them, padded to four times their size.
"""

import dataclasses
import functools

import jax


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=['pixels'], meta_fields=['image_shape']
)
@dataclasses.dataclass(frozen=True)
class FlatImages:
  """Stands for the array of images in a `Data`: it is indexed along N, and has shape and bytes.

  Attributes:
    pixels: u8[N, height * width * channels].
    image_shape: (height, width, channels).
  """

  pixels: jax.Array
  image_shape: tuple[int, int, int]

  @classmethod
  def of(cls, images: jax.Array) -> 'FlatImages':
    """Wraps u8[N,H,W,c], on the host or on a device."""
    return cls(images.reshape(images.shape[0], -1), images.shape[1:])

  def __getitem__(self, index) -> jax.Array:
    """Images at i32[n], or of a slice: u8[n,H,W,c]."""
    return self.pixels[index].reshape(-1, *self.image_shape)

  @property
  def shape(self) -> tuple[int, ...]:
    """(N, height, width, channels)."""
    return (self.pixels.shape[0], *self.image_shape)

  @property
  def dtype(self) -> jax.numpy.dtype:
    """Of the pixels."""
    return self.pixels.dtype

  @property
  def nbytes(self) -> int:
    """Of all images."""
    return self.pixels.nbytes
