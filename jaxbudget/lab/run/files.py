"""Files of a run: written under a temporary name, synced, then renamed.

What stands under a final name is whole, and stays checked: `SHA256SUMS` beside the files of
a finished run says what they were (`sha256sum -c` reads it too), and plan.json holds its own
checksum. Nothing is ever unpickled.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxbudget.state import from_bytes, to_bytes, weight_shapes
from jaxbudget.types import Model

CONFIG = 'config.json'
RESULT = 'result.json'
METRICS = 'metrics.jsonl'
COUNTS = 'counts.npy'
LAST, BEST = 'params.msgpack', 'best.msgpack'
SUMS = 'SHA256SUMS'
ERROR = 'error.log'


class Damaged(ValueError):  # noqa: N818  the file is, not the program
  """A file is not what was written; the message names it."""


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file so that it is never seen half-written, not even after a power cut.

  Args:
    path: final name; its directory must exist.
    content: the whole file.

  Raises:
    OSError: the disk is full or not writable, with the name; nothing is left behind then.
  """
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')
  try:
    with temporary.open('xb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as e:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    raise OSError(e.errno, e.strerror or str(e), str(path)) from None
  except BaseException:  # e.g. a second Ctrl-C
    temporary.unlink(missing_ok=True)
    raise
  _sync_directory(path.parent)


def _sync_directory(directory: pathlib.Path) -> None:
  """Makes a rename last; file systems that cannot do this are left to do as they do."""
  with contextlib.suppress(OSError):
    handle = os.open(directory, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)


def remove_temporaries(directory: pathlib.Path) -> None:
  """Removes what a process left behind that was killed while it wrote."""
  for path in directory.glob('.*.tmp'):
    path.unlink(missing_ok=True)


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON, atomically; what is not finite becomes null, as JSON has no NaN."""
  write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
  """What `write_json` writes."""
  text = json.dumps(_plain(content), indent=1, allow_nan=False)
  return text.encode() + b'\n'


def json_line(record: Mapping[str, Any]) -> str:
  """One JSON object as a line."""
  return json.dumps(_plain(record), allow_nan=False) + '\n'


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
  """Adds a checksum of the rest to a JSON object, for files that stand alone.

  Args:
    content: what JSON can hold.

  Returns:
    The content as JSON gives it back, and `checksum`.
  """
  plain = json.loads(json.dumps(_plain(content), allow_nan=False))
  plain.pop('checksum', None)
  return {**plain, 'checksum': _checksum(plain)}


def seal_holds(content: Mapping[str, Any]) -> bool:
  """Whether the checksum in a JSON object is right, or there is none."""
  rest = {key: value for key, value in content.items() if key != 'checksum'}
  return 'checksum' not in content or content['checksum'] == _checksum(rest)


def _checksum(content: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value):
  """What JSON can hold, of what configs and metrics hold."""
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    value = np.asarray(value).tolist()
  if hasattr(value, 'to_dict'):
    value = value.to_dict()
  if isinstance(value, Mapping):
    return {key: _plain(v) for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def read_json(path: pathlib.Path) -> Any:
  """Reads JSON.

  Args:
    path: of the file.

  Returns:
    The content; None if there is no such file or it is damaged.
  """
  try:
    return json.loads(path.read_text('utf-8'))
  except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
    return None


def append_text(path: pathlib.Path, text: str) -> None:
  """Appends to a file.

  Raises:
    OSError: with the name; part of the text may be in the file.
  """
  try:
    with path.open('a', encoding='utf-8') as file:
      file.write(text)
  except OSError as e:
    raise OSError(e.errno, e.strerror or str(e), str(path)) from None


def write_weights(path: pathlib.Path, params: Any, model_state: Any) -> None:
  """Writes the weights of a network, atomically."""
  write_bytes(path, to_bytes({'params': params, 'model_state': model_state}))


def read_weights(path: pathlib.Path, model: Model) -> tuple[Any, Any]:
  """Reads the weights of a network.

  Args:
    path: of the file.
    model: the network.

  Returns:
    (params, model_state), on the host.

  Raises:
    ValueError: they are another network's, or no weights.
  """
  params, model_state = weight_shapes(model)
  tree = from_bytes(path.read_bytes(), {'params': params, 'model_state': model_state})
  return tree['params'], tree['model_state']


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
  """Writes an array as npy, atomically, nothing pickled."""
  buffer = io.BytesIO()
  np.save(buffer, np.asarray(array), allow_pickle=False)
  write_bytes(path, buffer.getvalue())


def write_sums(directory: pathlib.Path, result: bytes) -> None:
  """Writes down the checksums of a run's files before the result, its last file, is written.

  Args:
    directory: of the run; every file but the result is there.
    result: the content that result.json will have.
  """
  names = [path.name for path in directory.iterdir() if path.suffix in _SUMMED]
  found = {name: _digest(directory / name) for name in names}
  found[RESULT] = hashlib.sha256(result).hexdigest()
  lines = [f'{digest}  {name}\n' for name, digest in sorted(found.items())]
  write_bytes(directory / SUMS, ''.join(lines).encode())


_SUMMED = ('.json', '.jsonl', '.npy', '.npz', '.msgpack')


def _digest(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_sums(directory: pathlib.Path) -> dict[str, str] | None:
  """Checksums by file name.

  Args:
    directory: of a run.

  Returns:
    The checksums; None if there is no such file (the run is not finished).

  Raises:
    Damaged: the file is not a list of checksums.
  """
  path = directory / SUMS
  try:
    lines = path.read_text('utf-8').splitlines()
    pairs = [line.split('  ', 1) for line in lines]
    return {name: digest for digest, name in pairs}
  except (FileNotFoundError, NotADirectoryError):
    return None
  except ValueError:
    raise Damaged(f'{path} is damaged') from None


def verify(path: pathlib.Path) -> None:
  """Compares a file of a finished run with its checksum; without checksums all is well.

  Args:
    path: of the file.

  Raises:
    Damaged: it is missing, or not what was written.
  """
  expected = read_sums(path.parent)
  if expected is None:
    return
  if not path.is_file():
    raise Damaged(f'{path} is missing')
  if expected.get(path.name) != _digest(path):
    raise Damaged(f'{path} is damaged: it is not what {SUMS} says was written')
