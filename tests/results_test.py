"""Files of a run: whole or not there, and known again."""

import json
import os
import pathlib
import stat
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxbudget.lab.run import files


def test_json_holds_what_configs_and_metrics_hold(tmp_path):
  content = {
    'nan': float('nan'), 'inf': [np.float32('inf')], 'array': np.arange(2), 'jax': jnp.float32(0.5),
    'config': ConfigDict({'a': (1, 2)}), 'text': 'ü\n', 'none': None,
  }  # fmt: skip
  files.write_json(tmp_path / 'x.json', content)
  assert files.read_json(tmp_path / 'x.json') == {
    'nan': None, 'inf': [None], 'array': [0, 1], 'jax': 0.5, 'config': {'a': [1, 2]},
    'text': 'ü\n', 'none': None,
  }  # fmt: skip
  with pytest.raises(TypeError, match='object'):
    files.write_json(tmp_path / 'x.json', {'a': object()})


@pytest.mark.parametrize('text', ['', '{"a": 1', '\x00', '[' * 100_000])
def test_damaged_json_is_nothing(text, tmp_path):
  (tmp_path / 'x.json').write_text(text)
  assert files.read_json(tmp_path / 'x.json') is None
  assert files.read_json(tmp_path / 'no.json') is None


def test_a_seal_tells_changed_content():
  sealed = files.sealed({'runs': [{'budget': 0.3}], 'command': 'x', 'n': float('nan')})
  assert files.seal_holds(json.loads(json.dumps(sealed)))
  assert files.seal_holds({'runs': []})
  assert not files.seal_holds({**sealed, 'command': 'y'})
  sealed['runs'][0]['budget'] = 0.2
  assert not files.seal_holds(sealed)


def test_files_have_the_usual_permissions(tmp_path):
  before = os.umask(0o027)
  try:
    files.write_bytes(tmp_path / 'x', b'1')
  finally:
    os.umask(before)
  assert stat.S_IMODE((tmp_path / 'x').stat().st_mode) == 0o640


@pytest.mark.parametrize('call', ['fsync', 'replace'])
@pytest.mark.parametrize('fault', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_rubbish(call, fault, tmp_path, monkeypatch):
  files.write_bytes(tmp_path / 'x', b'old')

  def fail(*args):
    raise fault

  monkeypatch.setattr(files.os, call, fail)
  with pytest.raises(type(fault)) as raised:
    files.write_bytes(tmp_path / 'x', b'new')
  if isinstance(fault, OSError):
    assert raised.value.errno == 28 and raised.value.filename == str(tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == b'old'
  assert [path.name for path in tmp_path.iterdir()] == ['x']


def test_errors_of_every_writer_name_the_file(tmp_path):
  gone = tmp_path / 'gone' / 'x'
  for write in (
    lambda: files.write_bytes(gone, b''),
    lambda: files.append_text(gone, 'a'),
    lambda: files.write_array(gone, np.zeros(2)),
  ):
    with pytest.raises(FileNotFoundError) as raised:
      write()
    assert raised.value.filename == str(gone)


def test_rubbish_of_a_killed_process_is_removed(tmp_path):
  for name in ('.x.12ab.tmp', '.params.msgpack.0f.tmp', 'keep.tmp', '.keep'):
    (tmp_path / name).write_text('')
  files.remove_temporaries(tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == {'keep.tmp', '.keep'}


@pytest.fixture
def finished(tmp_path):
  """A directory with checksums."""
  files.write_json(tmp_path / 'config.json', {'a': 1})
  files.write_array(tmp_path / 'counts.npy', np.arange(3))
  files.write_weights(tmp_path / files.LAST, {'w': jnp.ones(3)}, {})
  (tmp_path / 'lock').write_text('')
  content = files.json_bytes({'status': 'done'})
  files.write_sums(tmp_path, content)
  files.write_bytes(tmp_path / files.RESULT, content)
  return tmp_path


def test_sums_are_those_of_sha256sum(finished):
  assert set(files.read_sums(finished)) == {
    'config.json', 'counts.npy', 'params.msgpack', 'result.json',
  }  # fmt: skip
  command = ['sha256sum', '--check', '--strict', '--quiet', files.SUMS]
  assert subprocess.run(command, cwd=finished).returncode == 0
  for name in files.read_sums(finished):
    files.verify(finished / name)


def flip(path: pathlib.Path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('name', ['config.json', 'counts.npy', 'params.msgpack', 'result.json'])
@pytest.mark.parametrize('damage', [flip, pathlib.Path.unlink, lambda p: p.write_bytes(b'')])
def test_verify_names_a_damaged_file(name, damage, finished):
  damage(finished / name)
  with pytest.raises(files.Damaged, match=name):
    files.verify(finished / name)


def test_damaged_or_missing_sums(finished):
  (finished / files.SUMS).write_text('rubbish\n')
  with pytest.raises(files.Damaged, match=files.SUMS):
    files.verify(finished / 'counts.npy')
  (finished / files.SUMS).unlink()
  files.verify(finished / 'counts.npy')  # not finished, or not ours: nothing is known
