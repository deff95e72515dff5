"""RandAugment's operations by Pillow: what the tests compare with and benchmarks race."""

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps


def by_pillow(name, image, value, negate, centre):
  """The operations of ildoonet/pytorch-randaugment on one Pillow image."""
  width, height = image.size
  signed = -value if negate else value
  if name in ('auto_contrast', 'equalize', 'invert'):
    return getattr(ImageOps, name.replace('_', ''))(image)
  if name == 'rotate':
    return image.rotate(signed)
  if name == 'posterize':
    return ImageOps.posterize(image, max(1, int(value)))
  if name == 'solarize':
    return ImageOps.solarize(image, value)
  if name == 'solarize_add':
    added = np.clip(np.asarray(image).astype(int) + value, 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(added), 128)
  if name in ('color', 'contrast', 'brightness', 'sharpness'):
    return getattr(ImageEnhance, name.capitalize())(image).enhance(value)
  if name == 'cutout':
    left, top = (int(max(0, c - value / 2)) for c in centre)
    box = left, top, min(width, left + value), min(height, top + value)
    image = image.copy()
    color = Image.new('RGB', (1, 1), (125, 123, 114)).convert(image.mode).getpixel((0, 0))
    ImageDraw.Draw(image).rectangle(box, color)
    return image
  matrix = {
    'shear_x': (1, signed, 0, 0, 1, 0),
    'shear_y': (1, 0, 0, signed, 1, 0),
    'translate_x': (1, 0, signed, 0, 1, 0),
    'translate_y': (1, 0, 0, 0, 1, signed),
  }[name]
  return image.transform(image.size, Image.AFFINE, matrix)
