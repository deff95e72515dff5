"""The augmentations that have names: what each adds to the standard transform."""

from typing import Literal

from jaxbudget.augment import augmix as augmix_lib
from jaxbudget.augment import autoaugment as autoaugment_lib
from jaxbudget.augment import cutmix as cutmix_lib
from jaxbudget.augment import erase, geometric, mix, operations, pillow, resized_crop
from jaxbudget.augment import randaugment as randaugment_lib
from jaxbudget.augment import trivialaugment as trivialaugment_lib
from jaxbudget.augment.geometric import Stages, normalize, on_image, random_crop
from jaxbudget.data.dataset import Info
from jaxbudget.types import Augment

_CUTOUT = {'cifar100': 8, 'svhn': 20}  # of the paper; else half the side, 16 on CIFAR-10


def standard(info: Info) -> Stages:
  """Zero pad, random crop, random flip, normalise (fidelity.md 1.2)."""
  del info
  return Stages()


def none(info: Info) -> Augment:
  """Inputs as they are, images normalised: the one augmentation for features and tokens."""
  if info.kind != 'images':
    return Augment(lambda key, batch: batch, lambda image: image)
  to_float = normalize(info.mean, info.std)
  stage = on_image(to_float)
  return Augment(stage, to_float)


def randaugment(info: Info, *, n: int = 2, m: float = 4.0) -> Stages:
  """N random operations of magnitude m on the uint8 image, then standard (fidelity.md 3.4)."""
  stage = randaugment_lib.randaugment(n, m)
  operations.make_parameters(m, info.image_shape)  # refuses unfit images before any compile
  return Stages(before=stage)


def mixup(info: Info, *, alpha: float = 0.3, mix_image: bool = True, fold: bool = False) -> Stages:
  """Standard, then mixup of pairs (fidelity.md 3.2)."""
  del info
  return Stages(after=mix.mixup(alpha, mix_image=mix_image, fold=fold), parts=2)


def ricap(info: Info, *, alpha: float = 0.3) -> Stages:
  """Standard, then patches of four samples (fidelity.md 3.3)."""
  del info
  return Stages(after=mix.ricap(alpha), parts=mix.RICAP_PARTS, cuts=True)


def cutmix(info: Info, *, alpha: float = 1.0, probability: float = 0.5) -> Stages:
  """Standard, then a rectangle of another sample in each picture of every other batch."""
  del info
  return Stages(after=cutmix_lib.cutmix(alpha, probability=probability), parts=2, cuts=True)


def trivialaugment(
  info: Info, *, space: Literal['wide', 'official_wide', 'official_small'] = 'wide'
) -> Stages:
  """One random operation at a random strength on the uint8 image, then standard."""
  pillow.check_channels(info.image_shape)
  return Stages(before=trivialaugment_lib.trivialaugment(space))


def autoaugment(info: Info) -> Stages:
  """One of 25 pairs of operations found for CIFAR-10 on the uint8 image, then standard."""
  pillow.check_channels(info.image_shape)
  return Stages(before=autoaugment_lib.autoaugment())


def augmix(info: Info, *, severity: float = 3.0, alpha: float = 1.0) -> Stages:
  """Crop and flip, then a mixture of the image with three chains of operations, normalised."""
  pillow.check_channels(info.image_shape)
  return Stages(between=augmix_lib.augmix(severity, alpha))


def cutout(info: Info, *, size: int | None = None, inside: bool = False) -> Stages:
  """Standard, then a square of the mean colour; None is the paper's side for the data set."""
  side = min(info.image_shape[:2])
  size = _CUTOUT.get(info.name, max(1, side // 2)) if size is None else size
  if size > side:
    raise ValueError(f'size={size}: allowed is the side of the images, {side}, or less')
  return Stages(after=erase.cutout(size, inside=inside))


def random_erasing(
  info: Info,
  *,
  probability: float = 0.5,
  area: tuple[float, ...] = (0.02, 0.33),
  ratio: tuple[float, ...] = (0.3, 3.3),
) -> Stages:
  """Standard, then a rectangle of the mean colour in some images."""
  del info
  return Stages(after=erase.random_erasing(probability, area=area, ratio=ratio))


def translate(info: Info, *, pad: int = 2, mode: Literal['reflect', 'black'] = 'reflect') -> Stages:
  """Standard with a crop of its own: the image is mirrored at its border, not padded black."""
  if pad >= min(info.image_shape[:2]):
    raise ValueError(f'pad={pad}: allowed is less than the side of {info.image_shape}')
  return Stages(crop=random_crop(pad, mode))


def alternating_flip(info: Info) -> Stages:
  """Standard, each image mirrored in every other epoch; none where `flip` of the data set is 0."""
  return Stages(flip=geometric.alternating_flip()) if info.flip else Stages()


def random_resized_crop(
  info: Info,
  *,
  scale: tuple[float, ...] = (0.08, 1.0),
  ratio: tuple[float, ...] = (0.75, 4 / 3),
) -> Stages:
  """Standard with a crop of its own: a part of random area and ratio, brought to full size."""
  del info
  return Stages(crop=resized_crop.random_resized_crop(scale, ratio))
