"""Files of a run: written under a temporary name, synced, then renamed.

What stands under a final name is whole. `load` gives a trained model back.
"""

import io
import json
import os
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import flax.serialization
import jax
import numpy as np

RESULT = 'result.json'
METRICS = 'metrics.jsonl'


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file so that it is never seen half-written.

  Args:
    path: final name; its directory must exist.
    content: the whole file.

  Raises:
    OSError: the disk is full or not writable; nothing is left behind then.
  """
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON, atomically; what is not finite becomes null, as JSON has no NaN."""
  text = json.dumps(_finite(content), indent=1, allow_nan=False, default=_plain)
  write_bytes(path, text.encode() + b'\n')


def _plain(value):
  """JSON for what configs and metrics hold besides plain Python."""
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return np.asarray(value).tolist()
  if hasattr(value, 'to_dict'):
    return value.to_dict()
  raise TypeError(f'cannot write {type(value).__name__} as JSON')


def _finite(value):
  if isinstance(value, Mapping):
    return {key: _finite(v) for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(v) for v in value]
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
    return json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return None


def write_lines(path: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
  """Writes one JSON object a line, atomically."""
  lines = [json.dumps(_finite(r), allow_nan=False, default=_plain) for r in records]
  write_bytes(path, ''.join(line + '\n' for line in lines).encode())


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads JSON lines up to the first that is torn or missing.

  Args:
    path: of the file.

  Returns:
    The records before the damage; none if there is no file.
  """
  records = []
  try:
    for line in path.read_text().splitlines():
      records.append(json.loads(line))
  except (FileNotFoundError, ValueError):
    pass
  return records


def append_line(path: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Appends one JSON object as a line."""
  with path.open('a') as file:
    file.write(json.dumps(_finite(record), allow_nan=False, default=_plain) + '\n')


def write_weights(path: pathlib.Path, params: Any, model_state: Any) -> None:
  """Writes a network's weights as msgpack (flax.serialization), atomically."""
  tree = {'params': params, 'model_state': model_state}
  write_bytes(path, flax.serialization.msgpack_serialize(jax.tree.map(np.asarray, tree)))


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
  """Writes an array as npy, atomically, nothing pickled."""
  buffer = io.BytesIO()
  np.save(buffer, np.asarray(array), allow_pickle=False)
  write_bytes(path, buffer.getvalue())
