"""Several devices: data parallel over a mesh with one axis; XLA writes the communication.

The images of a batch are split over the devices; weights, the selector's state and the plan
are on every device. Gradients, BatchNorm statistics and losses are those of the whole batch
(fidelity.md 1.6), whatever the number of devices. Without a mesh (None) there is one device,
which is the case that every other file is read with.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxbudget.types import Batch, Data

AXIS = 'batch'
SPLIT_BYTES = 2**32  # images beyond this are split over the devices, not copied to each


def all_devices() -> list[jax.Device]:
  """The devices of all processes, as `jax.devices()`; a platform without any is named.

  Raises:
    RuntimeError: JAX cannot start.
  """
  try:
    return jax.devices()
  except (AssertionError, AttributeError) as e:
    # JAX, if CUDA alone is asked for and there is no card; the second one under `python -O`.
    if str(e) not in ('', "'NoneType' object has no attribute 'devices'"):
      raise
    raise RuntimeError(f'no backend of JAX_PLATFORMS={jax.config.jax_platforms} has devices') from e


def make_mesh(devices: int, batch_size: int) -> Mesh | None:
  """The devices to train on, in one row.

  Args:
    devices: how many; 0 is all there are, those of other processes included.
    batch_size: s, which they are to share.

  Returns:
    A mesh, or None for one device in one process.

  Raises:
    ValueError: more devices than there are, or they cannot share a batch evenly.
    RuntimeError: JAX cannot start.
  """
  found = all_devices()
  if not 0 <= devices <= len(found):
    raise ValueError(f'devices={devices!r} is refused: 0 (all) to {len(found)}, which is all here')
  chosen = found[: devices or len(found)]
  if len(chosen) < len(found) and jax.process_count() > 1:
    raise ValueError(
      f'devices={devices!r} is refused: with {jax.process_count()} processes it can only be 0 (all)'
    )
  if batch_size % len(chosen):
    raise ValueError(
      f'devices={devices!r} is refused: batch_size={batch_size} cannot be shared evenly by '
      f'{len(chosen)} devices'
    )
  if len(chosen) == 1 and jax.process_count() == 1:
    return None
  return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def check_mesh(mesh: Any) -> None:
  """Refuses a mesh that is not of the kind that `make_mesh` makes.

  Args:
    mesh: None is one device.

  Raises:
    ValueError: it is another one, or none.
  """
  if mesh is None:
    return
  kind = (mesh.axis_names, mesh.axis_types) if isinstance(mesh, Mesh) else None
  if kind != ((AXIS,), (AxisType.Auto,)):
    raise ValueError(
      f'mesh={mesh!r} is refused: it must be one of parallel.make_mesh(devices, batch_size), which '
      f'has one axis {AXIS!r} of type Auto'
    )


def replicate(tree: Any, mesh: Mesh | None) -> Any:
  """Copies arrays to every device of a mesh.

  Per-sample state takes about 30 bytes a sample with the plan and the counts, 300 MB at 10M
  samples: splitting it would cost an exchange in every row and save little.

  Args:
    tree: arrays, on the host or on one device of each process; the same in every process.
    mesh: None is the default device.

  Returns:
    The tree, on the devices of the mesh.
  """
  if mesh is None:
    return jax.device_put(tree)
  copies = NamedSharding(mesh, PartitionSpec())
  if not mesh.is_multi_process:
    return jax.device_put(tree, copies)
  # Each process serves its own devices; device_put would send all to all to compare it.
  return jax.tree.map(lambda x: _from_own(x.shape, copies, lambda place: x), tree)


def _from_own(shape, sharding, part) -> jax.Array:
  """An array over several processes; `part` gives what belongs at a place of it."""
  places = sharding.addressable_devices_indices_map(shape)
  shards = [jax.device_put(part(place), device) for device, place in places.items()]
  return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def place_data(data: Data, mesh: Mesh | None, split_bytes: int = SPLIT_BYTES) -> Data:
  """Puts a training split on a mesh: a copy for each device, or, if it is large, a share.

  A gather from split images costs one exchange of a batch of pixels a row.

  Args:
    data: N samples, on the host or on one device; images that are to be fed stay where they are.
    mesh: None is the default device.
    split_bytes: images of more bytes than this are split. Black images are added at the end
      until the devices have equally many; no plan names them.

  Returns:
    The split; labels are always on every device.
  """
  if data.is_fed:
    return data._replace(label=replicate(data.label, mesh))
  if mesh is None or data.image.nbytes <= split_bytes:
    return replicate(data, mesh)
  rows = NamedSharding(mesh, PartitionSpec(AXIS))

  def divide(image):
    missing = -image.shape[0] % mesh.size
    image = np.pad(np.asarray(image), ((0, missing), *((0, 0),) * (image.ndim - 1)))
    return _from_own(image.shape, rows, lambda place: image[place])

  return Data(jax.tree.map(divide, data.image), replicate(data.label, mesh))


def own_columns(count: int, mesh: Mesh | None) -> np.ndarray:
  """Which columns of a row the devices of this process hold of a chunk, see `place_columns`.

  Args:
    count: K.
    mesh: None is one device.

  Returns:
    i32[k], rising; all where the devices do not divide them.
  """
  if mesh is None:
    return np.arange(count, dtype=np.int32)
  places = _columns(count, mesh).addressable_devices_indices_map((1, count))
  return np.unique([np.arange(count, dtype=np.int32)[place[1]] for place in places.values()])


def place_columns(chunk: np.ndarray, count: int, mesh: Mesh | None) -> jax.Array:
  """Puts a chunk of rows on a mesh, each device with its share of each row.

  Args:
    chunk: [rows,k,D], the columns that are this process's own.
    count: K.
    mesh: None is the default device.

  Returns:
    [rows,K,D].
  """
  if mesh is None:
    return jax.device_put(chunk)
  own, shape = own_columns(count, mesh), (len(chunk), count, chunk.shape[-1])

  def part(place):
    columns = np.arange(count)[place[1]]
    first = np.searchsorted(own, columns[0])
    return chunk[:, first : first + len(columns)]

  return _from_own(shape, _columns(count, mesh), part)


def _columns(count: int, mesh: Mesh) -> NamedSharding:
  shared = count % mesh.size == 0
  return NamedSharding(mesh, PartitionSpec(None, AXIS) if shared else PartitionSpec())


def split(batch: Any, mesh: Mesh | None) -> Any:
  """Inside a compiled program: gives each device its share of a batch.

  Args:
    batch: arrays [n, ...]; left to the compiler if the devices do not divide n.
    mesh: None leaves them as they are.

  Returns:
    The batch.
  """
  if mesh is None or jax.tree.leaves(batch)[0].shape[0] % mesh.size:
    return batch
  return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(AXIS)))


def share(batch: Batch, mesh: Mesh | None) -> Batch:
  """Inside a compiled program: gives each device its share of a batch's images and targets.

  Who the examples are and what they weigh is known on every device, and so nothing that has an
  entry for each of N samples is exchanged where a batch is entered into it.

  Args:
    batch: n examples.
    mesh: None leaves them as they are.

  Returns:
    The batch.
  """
  own = split((batch.image, batch.target), mesh)
  return everywhere(batch, mesh)._replace(image=own[0], target=own[1])


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
  """Inside a compiled program: keeps a tree on every device.

  Args:
    tree: arrays.
    mesh: None leaves them as they are.

  Returns:
    The tree.
  """
  if mesh is None:
    return tree
  return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))
