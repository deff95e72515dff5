"""Places a data set: on the device as uint8, one copy, or on the host, see `placement.py`."""

from typing import NamedTuple

import jax

from jaxbudget import registry
from jaxbudget.data.dataset import DataError, Dataset
from jaxbudget.data.flat import FlatImages
from jaxbudget.data.memory import host_free_bytes
from jaxbudget.placement import PLACEMENTS, HostImages
from jaxbudget.types import Data


class Choice(NamedTuple):
  """Where the images of a data set are to lie.

  Attributes:
    placement: `device`, `host` or `files`.
    why: a sentence.
  """

  placement: str
  why: str


def choose(dataset: Dataset, placement: str = 'auto', device: jax.Device | None = None) -> Choice:
  """Decides where images are to lie; the numbers of a run do not depend on it.

  Args:
    dataset: in host memory, or mapped into it.
    placement: `device`; `host`; `files`, which images are in that were loaded so; `auto` takes the
      first of the former that fits.
    device: None is the default device.

  Returns:
    The placement, and why.

  Raises:
    DataError: they are to lie on the device, and do not fit; with the bytes needed and free.
    ValueError: there is no such placement.
  """
  registry.check('placement', placement, PLACEMENTS)
  if dataset.is_encoded:
    files = len(dataset.train_image.paths) + len(dataset.test_image.paths)
    read = dataset.train_image.nbytes + dataset.test_image.nbytes
    return Choice('files', f'{dataset.info.name} has {files:,} files of {read:,} bytes')
  if placement == 'files':
    raise DataError(
      f'placement=files is refused: it is for folders of images, which {dataset.info.name} is not'
    )
  if placement == 'host':
    return Choice('host', 'as asked for')
  needed = sum(array.nbytes for array in dataset[1:5])
  home = device or jax.local_devices()[0]
  free = free_bytes(home)
  told = f'{dataset.info.name} needs {needed:,} bytes'
  told += '' if free is None else f', {free:,} are free on {home}'
  if free is None or needed <= free:
    return Choice('device', told)
  if placement == 'auto':
    return Choice('host', told)
  raise DataError(
    f'{dataset.info.name} does not fit on {home}: it needs {needed:,} bytes, {free:,} are '
    'free (the images stay on the device as uint8; the model needs room besides); '
    'placement=host leaves them on the host'
  )


def place(
  dataset: Dataset, device: jax.Device | None = None, placement: str = 'device'
) -> tuple[Data, Data]:
  """Places both splits.

  Args:
    dataset: in host memory, or mapped into it.
    device: None is the default device.
    placement: `device`, `host`, `files` or `auto`, see `choose`. Images that are not on the device
      are for `engine`, `scan` and what else feeds them, see `placement.py`: a loop of one's own
      wants them on the device.

  Returns:
    (training split, test split); on a TPU their images are `FlatImages`, on the host `HostImages`,
    and in files `encoded.ImageFiles`.

  Raises:
    DataError: if they do not fit, with the bytes needed and free.
    ValueError: there is no such placement, or the device is none.
  """
  if isinstance(device, str):  # a placement in the place of a device
    raise ValueError(
      f'device={device!r} is refused: it must be one of jax.devices(), or None; where images lie '
      "is said by name, placement='host'"
    )
  # Without a device the arrays stay uncommitted, as the state is: arguments that change from
  # one to the other between calls would compile a program once more.
  splits = Data(*dataset[1:3]), Data(*dataset[3:5])
  chosen = choose(dataset, placement, device).placement
  if chosen in ('host', 'files'):
    source = HostImages if chosen == 'host' else lambda files: files
    return tuple(Data(source(split.image), jax.device_put(split.label, device)) for split in splits)
  home = device or jax.local_devices()[0]
  if home.platform == 'tpu' and dataset.info.kind == 'images':
    splits = tuple(split._replace(image=FlatImages.of(split.image)) for split in splits)
  return jax.device_put(splits, device)


def free_bytes(device: jax.Device) -> int | None:
  """Memory that is left on a device.

  Args:
    device: an accelerator, or a CPU device, whose memory is the host's.

  Returns:
    Bytes; None if nobody knows.
  """
  stats = device.memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
  return host_free_bytes() if device.platform == 'cpu' else None
