"""Checkpoints: what is saved comes back, what is damaged is noticed."""

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxbudget.lab.run import checkpoint, files
from jaxbudget.state import from_bytes, to_bytes


@flax.struct.dataclass
class State:
  step: object
  params: object
  empty: object


def state(value: float = 1.0, size: int = 5) -> State:
  params = {'w': jnp.full((size, 2), float(value)), 'h': jnp.arange(3, dtype=jnp.bfloat16)}
  return State(jnp.int32(value), params, ((), jnp.zeros((0, 4), bool)))


RECORD = {'epochs': 3, 'cost': 5 * 10**10, 'lines': '{"a": 1}\n', 'accuracy': 12.5, 'forced': []}


def save(directory, value=1.0):
  return checkpoint.save(directory, state(value), RECORD, {'run': 'r', 'cpus': 2})


def value_of(saved):
  return float(from_bytes(saved.state, state()).params['w'][0, 0])


def test_round_trip(tmp_path):
  record = {**RECORD, 'planes': {'0001': np.arange(6, dtype=np.uint8).reshape(2, 3)}}
  checkpoint.save(tmp_path, state(2.5), record, {'run': 'r'})
  saved = checkpoint.load(tmp_path)
  tree = from_bytes(saved.state, state())
  assert tree.step == 2 and tree.step.dtype == np.int32
  np.testing.assert_array_equal(tree.params['w'], np.full((5, 2), 2.5, np.float32))
  assert tree.params['h'].dtype == jnp.bfloat16 and tree.empty[1].shape == (0, 4)
  np.testing.assert_array_equal(saved.record.pop('planes')['0001'], record.pop('planes')['0001'])
  assert saved.record == record and saved.belongs_to == {'run': 'r'}


def test_none_is_there(tmp_path):
  assert checkpoint.load(tmp_path) is None
  assert checkpoint.load(tmp_path / 'nowhere') is None


def test_the_last_two_are_kept_in_order_beyond_the_digits(tmp_path):
  (tmp_path / 'checkpoint_999998.ckpt').write_bytes(save(tmp_path).read_bytes())
  for value in (2, 3, 4):
    save(tmp_path, value)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ['checkpoint_1000000.ckpt', 'checkpoint_1000001.ckpt']
  assert value_of(checkpoint.load(tmp_path)) == 4
  checkpoint.remove(tmp_path)
  assert not list(tmp_path.iterdir())


def test_damage_falls_back_with_a_note_and_leaves_no_rubbish(tmp_path):
  save(tmp_path, 1)
  newest = save(tmp_path, 2)
  newest.write_bytes(newest.read_bytes()[:-1])
  notes = []
  assert value_of(checkpoint.load(tmp_path, notes.append)) == 1
  assert len(notes) == 1 and str(newest) in notes[0] and not newest.exists()
  save(tmp_path, 3)
  assert value_of(checkpoint.load(tmp_path)) == 3 and len(list(tmp_path.iterdir())) == 2


@settings(
  deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_damage_goes_unnoticed(tmp_path, data):
  whole = save(tmp_path).read_bytes()
  checkpoint.remove(tmp_path)
  position = data.draw(st.integers(0, len(whole) - 1))
  bit = data.draw(st.integers(0, 7))
  damaged = {
    'flip': whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :],
    'cut': whole[:position],
    'longer': whole + b'\0',
    'shifted': b'\n' + whole,
  }[data.draw(st.sampled_from(['flip', 'cut', 'longer', 'shifted']))]
  (tmp_path / 'checkpoint_000000.ckpt').write_bytes(damaged)
  notes = []
  assert checkpoint.load(tmp_path, notes.append) is None
  assert len(notes) == 1


@pytest.mark.parametrize(
  'target',
  [
    state(size=6),
    state().replace(step=jnp.float32(1)),
    state().replace(params={'w': jnp.zeros((5, 2))}),
    state().replace(empty=()),
  ],
)
def test_a_state_of_another_structure_is_refused(target, tmp_path):
  save(tmp_path)
  with pytest.raises(checkpoint.Refused, match=r'checkpoint_000000.ckpt cannot be .*: it holds'):
    checkpoint.restore(tmp_path, target, {'run': 'r', 'cpus': 2}, 'auto')


@pytest.mark.parametrize('content', [b'', b'\x81', b'rubbish', to_bytes(state())[:-1]])
def test_what_is_no_state_is_refused(content):
  with pytest.raises(ValueError, match='it holds'):
    from_bytes(content, state())


def test_bytes_fit_shapes_that_were_never_computed():
  tree = from_bytes(to_bytes(state(3.0)), jax.eval_shape(state))
  chex.assert_trees_all_equal(tree, state(3.0))


def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch):
  save(tmp_path, 1)
  before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

  def full(handle):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(files.os, 'fsync', full)
  with pytest.raises(OSError, match=r'No space left.*checkpoint_000001.ckpt'):
    save(tmp_path, 2)
  assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
