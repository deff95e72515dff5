"""Checkpoints: one file with everything, checksummed, the last two kept.

Layout: one line of JSON (format, sha256 of the rest, what it belongs to), then msgpack by
`flax.serialization`. Nothing is ever unpickled.
"""

import hashlib
import json
import pathlib
import warnings
from typing import Any

import flax.serialization
import jax
import numpy as np

from jaxbudget import results

FORMAT = 1
_KEEP = 2


def save(directory: pathlib.Path, tree: Any, belongs_to: dict[str, Any]) -> pathlib.Path:
  """Writes a checkpoint and removes all but the last two.

  Args:
    directory: of the run.
    tree: pytree of arrays and plain values.
    belongs_to: what a resuming run must agree with, e.g. run id and versions.

  Returns:
    The file.

  Raises:
    OSError: disk full or not writable; earlier checkpoints are untouched.
  """
  on_host = jax.tree.map(lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, tree)
  body = flax.serialization.msgpack_serialize(flax.serialization.to_state_dict(on_host))
  head = {'format': FORMAT, 'sha256': hashlib.sha256(body).hexdigest(), **belongs_to}
  existing = _files(directory)
  number = _number(existing[-1]) + 1 if existing else 0
  path = directory / f'checkpoint_{number:06d}.ckpt'
  results.write_bytes(path, json.dumps(head).encode() + b'\n' + body)
  for old in existing[: len(existing) + 1 - _KEEP]:
    old.unlink(missing_ok=True)
  return path


def load(directory: pathlib.Path, target: Any) -> tuple[Any, dict[str, Any]] | None:
  """Reads the newest checkpoint that is whole.

  Args:
    directory: of the run.
    target: a pytree of the structure, shapes and dtypes expected.

  Returns:
    (tree, what it belongs to), or None if there is no whole checkpoint. A damaged file is
    passed over with a warning.
  """
  for path in reversed(_files(directory)):
    try:
      head, body = path.read_bytes().split(b'\n', 1)
      head = json.loads(head)
      if head.pop('format') != FORMAT or head.pop('sha256') != hashlib.sha256(body).hexdigest():
        raise ValueError('checksum or format does not match')
      tree = flax.serialization.from_state_dict(target, flax.serialization.msgpack_restore(body))
      _check(target, tree)
      return tree, head
    except (OSError, ValueError, KeyError) as e:
      warnings.warn(f'checkpoint {path.name} is damaged ({e}); trying the one before', stacklevel=2)
  return None


def remove(directory: pathlib.Path) -> None:
  """Removes all checkpoints of a run that is done."""
  for path in _files(directory):
    path.unlink(missing_ok=True)


def _files(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(directory.glob('checkpoint_*.ckpt'), key=_number)


def _number(path: pathlib.Path) -> int:
  digits = path.stem.rpartition('_')[2]
  return int(digits) if digits.isdigit() else -1


def _check(target: Any, tree: Any) -> None:
  for wanted, got in zip(jax.tree.leaves(target), jax.tree.leaves(tree), strict=True):
    if np.shape(wanted) != np.shape(got) or np.asarray(wanted).dtype != np.asarray(got).dtype:
      raise ValueError(f'an array of shape {np.shape(got)} stands where {np.shape(wanted)} belongs')
