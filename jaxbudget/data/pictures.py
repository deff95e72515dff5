"""One image file as 8-bit pixels, whatever its mode, orientation and size.

Pillow is imported where a file is decoded: whoever only trains need not have it.
"""

import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
  import PIL.Image

# From (height, width) to (corner, size), rows and columns, of the part of an image that is shown.
Box = Callable[[tuple[int, int]], tuple[tuple[int, int], tuple[int, int]]]
Fit = Literal['squash', 'crop', 'center']


class Look(NamedTuple):
  """How images are read.

  Attributes:
    size: side of the square that they are brought to; 0 leaves them as they are.
    fit: `squash` changes the ratio of the sides, `crop` takes the square in the middle first,
      `center` brings the shorter side to 256/224 of the size, then takes the middle, as ImageNet is
      evaluated.
    background: grey level, 0..255, behind what is transparent.
  """

  size: int = 0
  fit: Fit = 'squash'
  background: int = 255


class Picture(NamedTuple):
  """A decoded file.

  Attributes:
    pixels: u8[H,W], or u8[H,W,3] if it has colours.
    side: (width, height) before it was brought to a size.
    changes: what was done to it, of `CHANGES`.
  """

  pixels: np.ndarray
  side: tuple[int, int]
  changes: tuple[str, ...]


CHANGES = {
  'turned': 'turned as their EXIF orientation says',
  'deep': 'taken at 8 of their 16 bits',
  'dim': 'black, for they use the lower 8 of their 16 bits only',
  'cmyk': 'taken as RGB from CMYK, without a colour profile',
  'alpha': 'laid on background={background}, for they are transparent',
}


def read(
  file: pathlib.Path, look: Look, content: BinaryIO | None = None, box: Box | None = None
) -> Picture | str:
  """Decodes a file.

  Args:
    file: of any format that Pillow reads; of several frames the first.
    look: how.
    content: of the file, if it has been read.
    box: the part of the image that is brought to size, instead of what `look` would show.

  Returns:
    The picture, or what is wrong with the file.
  """
  import PIL.Image

  try:
    with PIL.Image.open(content or file) as opened:
      return _read(opened, look, box)
  except Exception as error:  # of damaged files Pillow and its plugins raise anything
    return f'{file} cannot be decoded: {error}'


def _read(image: 'PIL.Image.Image', look: Look, box: Box | None) -> Picture:
  import PIL.Image
  import PIL.ImageOps

  changes = []
  image.load()
  turned = PIL.ImageOps.exif_transpose(image)
  if image.getexif().get(_ORIENTATION) in range(2, 9):
    changes.append('turned')
  image = turned
  if image.mode.startswith('I'):
    image, dim = _eight_bits(image)
    changes += ['deep'] + ['dim'] * dim
  elif image.mode == 'F':
    raise ValueError('its pixels are floats, of no known range; save it with 8 bits a channel')
  if image.mode == 'CMYK':
    changes.append('cmyk')
  grey = image.mode in ('1', 'L', 'LA', 'La')
  if image.has_transparency_data:
    image = image.convert('RGBA')
    if image.getextrema()[3][0] < 255:
      changes.append('alpha')
    behind = PIL.Image.new('RGBA', image.size, (look.background,) * 3 + (255,))
    image = PIL.Image.alpha_composite(behind, image)
  image = image.convert('L' if grey else 'RGB')
  side = image.size
  if box:
    (top, left), (tall, wide) = box((image.height, image.width))
    image = image.crop((left, top, left + wide, top + tall))
    image = image.resize((look.size, look.size), PIL.Image.Resampling.BILINEAR)
  elif look.size:
    image = _to_size(image, look)
  return Picture(np.asarray(image), side, tuple(changes))


_ORIENTATION = 0x0112  # in EXIF


def _eight_bits(image: 'PIL.Image.Image') -> tuple['PIL.Image.Image', bool]:
  """The high byte of 16 bits of grey, and whether nothing is left in it of what there was."""
  import PIL.Image

  values = np.asarray(image)
  if values.min() < 0 or values.max() > 0xFFFF:
    raise ValueError(
      f'its pixels are {values.min()} to {values.max()}, more than 16 bits; save it with 8 bits a '
      'channel'
    )
  found = PIL.Image.fromarray((values >> 8).astype(np.uint8))
  clear = image.info.get('transparency')  # a value of 16 bits, which others share the high byte of
  if clear is not None:
    found.putalpha(PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
  return found, bool(0 < values.max() <= 0xFF)


def _to_size(image: 'PIL.Image.Image', look: Look) -> 'PIL.Image.Image':
  """A square. Shrunk, a pixel is the mean of those that it covers; enlarged, it is interpolated."""
  if look.fit == 'center':
    return _center(image, look.size)
  if look.fit == 'crop':
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
  size, (width, height) = look.size, image.size
  if width % size == 0 and height % size == 0:
    return image.reduce((width // size, height // size))  # rounded once, hence exact
  image = image.resize((size, height), _filter(width, size))
  return image.resize((size, size), _filter(height, size))


def _center(image: 'PIL.Image.Image', size: int) -> 'PIL.Image.Image':
  """Torchvision's Resize(256), CenterCrop(224), in proportion."""
  import PIL.Image

  short, (width, height) = round(size * 256 / 224), image.size
  wide, tall = (
    (short, int(short * height / width))
    if width <= height
    else (int(short * width / height), short)
  )
  image = image.resize((wide, tall), PIL.Image.Resampling.BILINEAR)
  left, top = round((wide - size) / 2), round((tall - size) / 2)
  return image.crop((left, top, left + size, top + size))


def _filter(side: int, wanted: int) -> 'PIL.Image.Resampling':
  import PIL.Image

  return PIL.Image.Resampling.BOX if side > wanted else PIL.Image.Resampling.BILINEAR
