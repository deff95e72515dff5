"""Checkpoints: one file with everything, checksummed, the last two kept.

Layout: a line of text (format, sha256 of the rest), then msgpack by `flax.serialization`.
Nothing is ever unpickled.
"""

import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np

from jaxbudget import results

_MAGIC = b'jaxbudget checkpoint 2 '
_KEEP = 2


class Checkpoint(NamedTuple):
  """What a checkpoint holds."""

  path: pathlib.Path
  state: dict[str, Any]  # arrays, as `fit` takes them
  record: dict[str, Any]  # what the host has written down: plain values and arrays by name
  belongs_to: dict[str, Any]  # what a resuming run must agree with


def save(
  directory: pathlib.Path, tree: Any, record: Mapping[str, Any], belongs_to: Mapping[str, Any]
) -> pathlib.Path:
  """Writes a checkpoint and removes all but the last two.

  Args:
    directory: of the run.
    tree: pytree of arrays.
    record: plain values, strings and NumPy arrays, nested in dicts.
    belongs_to: plain values, e.g. run id and versions.

  Returns:
    The file.

  Raises:
    OSError: disk full or not writable; earlier checkpoints are untouched.
  """
  on_host = jax.tree.map(np.asarray, jax.device_get(tree))
  content = {
    'state': flax.serialization.to_state_dict(on_host),
    'record': dict(record),
    'belongs_to': dict(belongs_to),
  }
  body = flax.serialization.msgpack_serialize(content)
  head = _MAGIC + hashlib.sha256(body).hexdigest().encode() + b'\n'
  existing = _files(directory)
  number = _number(existing[-1]) + 1 if existing else 0
  path = directory / f'checkpoint_{number:06d}.ckpt'
  results.write_bytes(path, head + body)
  for old in existing[: len(existing) + 1 - _KEEP]:
    old.unlink(missing_ok=True)
  return path


def load(directory: pathlib.Path, note: Callable[[str], None] = print) -> Checkpoint | None:
  """Reads the newest checkpoint that is whole; damaged ones are removed.

  Args:
    directory: of the run.
    note: told of damaged files.

  Returns:
    The checkpoint; None if there is no whole one.

  Raises:
    OSError: a file cannot be read.
  """
  for path in reversed(_files(directory)):
    head, _, body = path.read_bytes().partition(b'\n')
    if head == _MAGIC + hashlib.sha256(body).hexdigest().encode():
      return Checkpoint(path, **flax.serialization.msgpack_restore(body))
    note(f'{path} is damaged and was removed; going back to the one before, or to the start')
    path.unlink(missing_ok=True)
  return None


def fit(saved: Checkpoint, target: Any) -> Any:
  """Gives the arrays of a checkpoint the structure they had.

  Args:
    saved: what `load` gave.
    target: a pytree of the structure, shapes and dtypes expected.

  Returns:
    A pytree like the target, of host arrays.

  Raises:
    ValueError: the checkpoint is of another structure.
  """
  structure = jax.tree.structure(flax.serialization.to_state_dict(target))
  if jax.tree.structure(saved.state) != structure:
    raise ValueError(f'{saved.path} holds a state of another structure')
  tree = flax.serialization.from_state_dict(target, saved.state)
  for wanted, got in zip(jax.tree.leaves(target), jax.tree.leaves(tree), strict=True):
    if np.shape(wanted) != np.shape(got) or wanted.dtype != got.dtype:
      raise ValueError(
        f'{saved.path} holds an array {got.dtype}{list(np.shape(got))} '
        f'where {wanted.dtype}{list(np.shape(wanted))} belongs'
      )
  return tree


def remove(directory: pathlib.Path) -> None:
  """Removes all checkpoints of a run that is done."""
  for path in _files(directory):
    path.unlink(missing_ok=True)


def _files(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(directory.glob('checkpoint_*.ckpt'), key=_number)


def _number(path: pathlib.Path) -> int:
  digits = path.stem.rpartition('_')[2]
  return int(digits) if digits.isdecimal() else -1
