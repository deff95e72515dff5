"""Checkpoints: one file with everything, checksummed, the last two kept.

Layout: a line of text (format, sha256 of the rest), then msgpack by `flax.serialization`: the
host's record, its length in front, and the state as `state.to_bytes` writes it. Nothing is ever
unpickled.
"""

import errno
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.serialization

from jaxbudget.lab.run import conditions, files, hosts
from jaxbudget.state import from_bytes, to_bytes

_MAGIC = b'jaxbudget checkpoint 3 '
_LENGTH = 8  # bytes of a length
_KEEP = 2


class Refused(Exception):  # noqa: N818
  """The run cannot be resumed under the present conditions; nothing was changed.

  Attributes:
    differing: what differs, `{'field', 'was', 'is'}` each; empty if force does not help.
  """

  def __init__(self, why: str, differing: list[dict[str, Any]] | None = None):
    super().__init__(why)
    self.differing = differing or []


class Checkpoint(NamedTuple):
  """What a checkpoint holds."""

  path: pathlib.Path
  state: Any  # a pytree of host arrays; bytes before `restore` has given them their structure
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
  about = {'record': dict(record), 'belongs_to': dict(belongs_to)}
  about = flax.serialization.msgpack_serialize(about)
  body = len(about).to_bytes(_LENGTH) + about + to_bytes(tree)
  head = _MAGIC + hashlib.sha256(body).hexdigest().encode() + b'\n'
  existing = _files(directory)
  number = _number(existing[-1]) + 1 if existing else 0
  path = directory / f'checkpoint_{number:06d}.ckpt'
  files.write_bytes(path, head + body)
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
  path, body = _newest(directory, note) if hosts.is_first() else (None, None)
  name = hosts.agree(path and path.name)
  if name is None:
    return None
  path = directory / name
  body = body or _body(path)
  if body is None:
    raise OSError(errno.EIO, 'is not what process 0 has read', str(path))
  end = _LENGTH + int.from_bytes(body[:_LENGTH])
  about = flax.serialization.msgpack_restore(body[_LENGTH:end])
  return Checkpoint(path, state=body[end:], **about)


def _newest(
  directory: pathlib.Path, note: Callable[[str], None]
) -> tuple[pathlib.Path, bytes] | tuple[None, None]:
  for path in reversed(_files(directory)):
    body = _body(path)
    if body is not None:
      return path, body
    note(f'{path} is damaged and was removed; going back to the one before, or to the start')
    path.unlink(missing_ok=True)
  return None, None


def _body(path: pathlib.Path) -> bytes | None:
  """What a checkpoint file holds after its first line; None if it is damaged."""
  head, _, body = path.read_bytes().partition(b'\n')
  return body if head == _MAGIC + hashlib.sha256(body).hexdigest().encode() else None


def restore(
  directory: pathlib.Path,
  target: Any,
  belongs_to: Mapping[str, Any],
  resume: str,
  note: Callable[[str], None] = print,
) -> Checkpoint | None:
  """Reads the newest whole checkpoint of a run that is to go on.

  Args:
    directory: of the run.
    target: a pytree of the structure, shapes and dtypes expected.
    belongs_to: the present conditions, to be compared with those it was written under.
    resume: `force` accepts other conditions, `auto` does not.
    note: told of damaged files.

  Returns:
    The checkpoint, `state` of the structure of the target; what was accepted to differ is added
    to `forced` in its record. None if there is none.

  Raises:
    Refused: the conditions differ, or the checkpoint is of another structure.
    OSError: a file cannot be read.
  """
  saved = load(directory, note)
  if saved is None:
    return None
  forced = agree(saved, belongs_to, resume)
  try:
    tree = from_bytes(saved.state, target)
  except ValueError as e:
    raise unfit(saved, e) from e
  saved.record['forced'] = [*saved.record.get('forced', ()), *forced]
  return saved._replace(state=tree)


def agree(
  saved: Checkpoint, belongs_to: Mapping[str, Any], resume: str = 'auto'
) -> list[dict[str, Any]]:
  """Compares the conditions of a checkpoint with the present ones, as far as they must be equal.

  Args:
    saved: what `load` gave.
    belongs_to: the present conditions, and the run.
    resume: `force` accepts other code, versions and devices.

  Returns:
    What differs, if that is accepted: `{'field', 'was', 'is'}` each.

  Raises:
    Refused: something differs.
  """
  names = ('run', *conditions.RESUME)
  differing = conditions.differing(saved.belongs_to, belongs_to, names)
  if not differing:
    return []
  shown = '; '.join(f'{d["field"]}: {d["was"]!r} then, {d["is"]!r} now' for d in differing)
  if {'run', 'data_fingerprint'} & {d['field'] for d in differing}:
    raise Refused(f'{saved.path} belongs to another run or other data ({shown})')
  if resume != 'force':
    raise Refused(
      f'{saved.path.name} was written under other conditions ({shown}); --resume=force goes on '
      'all the same, and the result will say so; or remove the run directory to start again',
      differing,
    )
  return differing


def unfit(saved: Checkpoint, why: Exception) -> Refused:
  """The refusal of a checkpoint that does not hold what it should."""
  return Refused(
    f'{saved.path} cannot be resumed: {why}; remove {saved.path.parent}/*.ckpt to train it from '
    'the start'
  )


def remove(directory: pathlib.Path) -> None:
  """Removes all checkpoints of a run that is done."""
  for path in _files(directory):
    path.unlink(missing_ok=True)


def _files(directory: pathlib.Path) -> list[pathlib.Path]:
  return sorted(directory.glob('checkpoint_*.ckpt'), key=_number)


def _number(path: pathlib.Path) -> int:
  digits = path.stem.rpartition('_')[2]
  return int(digits) if digits.isdecimal() else -1
