"""Moves a data set to the device: uint8, one copy, or not at all."""

import jax

from jaxbudget.data.dataset import DataError, Dataset
from jaxbudget.data.flat import FlatImages
from jaxbudget.data.memory import host_free_bytes
from jaxbudget.types import Data


def place(dataset: Dataset, device: jax.Device | None = None) -> tuple[Data, Data]:
  """Puts both splits on a device.

  Args:
    dataset: in host memory.
    device: None is the default device.

  Returns:
    (training split, test split); on a TPU their images are `FlatImages`.

  Raises:
    DataError: if they do not fit, with the bytes needed and free.
  """
  needed = sum(array.nbytes for array in dataset[1:5])
  home = device or jax.local_devices()[0]
  free = free_bytes(home)
  if free is not None and needed > free:
    raise DataError(
      f'{dataset.info.name} does not fit on {home}: it needs {needed:,} bytes, {free:,} are '
      'free (the images stay on the device as uint8; the model needs room besides)'
    )
  # Without a device the arrays stay uncommitted, as the state is: arguments that change from
  # one to the other between calls would compile a program once more.
  splits = Data(*dataset[1:3]), Data(*dataset[3:5])
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
