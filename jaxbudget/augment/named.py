"""The augmentations that have names: what each adds to the standard transform."""

from jaxbudget.augment import mix, operations
from jaxbudget.augment import randaugment as randaugment_lib
from jaxbudget.augment.geometric import Stages
from jaxbudget.data.dataset import Info


def standard(info: Info) -> Stages:
  """Zero pad, random crop, random flip, normalise (fidelity.md 1.2)."""
  del info
  return Stages()


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
  return Stages(after=mix.ricap(alpha), parts=mix.RICAP_PARTS)
