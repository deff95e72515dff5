"""One owner per directory: among threads, processes, hosts, and after a death."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from jaxbudget.lab.run import files, lock


def write_foreign(directory: pathlib.Path, **values):
  """A lock as a process of another host leaves it."""
  record = {'host': 'elsewhere', 'boot': 'other', 'pid': 7, 'since': 'noon', 'token': 'x'}
  (directory / lock.FILE).write_text(json.dumps({**record, **values}))


def hold(directory: pathlib.Path) -> subprocess.Popen:
  """Another process that owns a directory until it is killed."""
  code = f"""
    import pathlib, time
    from jaxbudget.lab.run import files, lock
    with lock.own(pathlib.Path({str(directory)!r})):
      print('owned', flush=True)
      time.sleep(600)
  """
  process = subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == 'owned\n'
  return process


def test_the_owner_is_named_and_leaves_nothing(tmp_path):
  with lock.own(tmp_path) as owned:
    owned.check()
    assert lock.owner(tmp_path)['pid'] == os.getpid()
    with pytest.raises(lock.Busy, match=f'process {os.getpid()} on '), lock.own(tmp_path):
      pass
    assert lock.owner(tmp_path)['pid'] == os.getpid()
  assert not list(tmp_path.iterdir())
  with pytest.raises(RuntimeError), lock.own(tmp_path):
    raise RuntimeError
  assert not list(tmp_path.iterdir())


def test_a_killed_owner_on_this_host_is_succeeded_at_once(tmp_path):
  process = hold(tmp_path)
  with pytest.raises(lock.Busy, match=f'process {process.pid}'), lock.own(tmp_path):
    pass
  process.kill()
  process.wait()
  process.stdout.close()
  assert (tmp_path / lock.FILE).exists()
  with lock.own(tmp_path):
    assert lock.owner(tmp_path)['pid'] == os.getpid()
  assert not list(tmp_path.iterdir())


def test_a_lock_of_another_host_is_respected_until_it_is_stale(tmp_path, monkeypatch):
  write_foreign(tmp_path)
  monkeypatch.setattr(lock, 'STALE', 0.3)
  monkeypatch.setattr(lock, 'SETTLE', 0.01)
  for _ in range(8):  # it lives: its clock is of no interest, only that it is touched
    with pytest.raises(lock.Busy, match='process 7 on elsewhere since noon'), lock.own(tmp_path):
      pass
    os.utime(tmp_path / lock.FILE, (1.0, time.time()))
    time.sleep(0.1)
  with pytest.raises(lock.Busy), lock.own(tmp_path):
    pass
  time.sleep(0.4)
  with lock.own(tmp_path):
    assert lock.owner(tmp_path)['pid'] == os.getpid()


def test_two_hosts_that_take_over_at_once_leave_one_owner(tmp_path, monkeypatch):
  write_foreign(tmp_path)
  monkeypatch.setattr(lock, 'STALE', -1.0)

  def settle(seconds):
    write_foreign(tmp_path, host='faster')  # wrote after us, on its own flock

  monkeypatch.setattr(lock.time, 'sleep', settle)
  with pytest.raises(lock.Busy, match='faster'), lock.own(tmp_path):
    pass
  assert lock.owner(tmp_path)['host'] == 'faster'


def test_an_owner_notices_that_it_was_succeeded(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'BEAT', 0.02)
  with lock.own(tmp_path) as owned:
    write_foreign(tmp_path)
    deadline = time.monotonic() + 20
    with pytest.raises(lock.Lost, match='elsewhere'):
      while time.monotonic() < deadline:
        owned.check()
        time.sleep(0.01)
  assert lock.owner(tmp_path)['host'] == 'elsewhere'  # not ours to remove


def test_the_owner_touches_its_lock(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'BEAT', 0.02)
  with lock.own(tmp_path):
    os.utime(tmp_path / lock.FILE, (1.0, 1.0))
    deadline = time.monotonic() + 20
    while (tmp_path / lock.FILE).stat().st_mtime == 1.0:
      assert time.monotonic() < deadline
      time.sleep(0.01)


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_flock_the_touch_alone_tells(code, tmp_path, monkeypatch):
  def flock(*args):
    raise OSError(code, 'no locks here')

  monkeypatch.setattr(lock.fcntl, 'flock', flock)
  with lock.own(tmp_path):
    with pytest.raises(lock.Busy), lock.own(tmp_path):
      pass
  write_foreign(tmp_path, boot=lock._boot())  # of this host, but dead or alive?
  with pytest.raises(lock.Busy), lock.own(tmp_path):
    pass
  assert lock.owner(tmp_path)['token'] == 'x'


@pytest.mark.parametrize('code', [errno.EACCES, errno.EROFS])
def test_who_may_only_read_sees_the_owner_and_its_end(code, tmp_path, monkeypatch):
  """Another user, or a read-only mount."""
  opened = os.open

  def read_only(path, flags, *args, **kwargs):
    if flags & os.O_RDWR and pathlib.Path(path).name == lock.FILE:
      raise OSError(code, os.strerror(code), str(path))
    return opened(path, flags, *args, **kwargs)

  with lock.own(tmp_path), monkeypatch.context() as patched:
    patched.setattr(lock.os, 'open', read_only)
    assert lock.alive(tmp_path)['pid'] == os.getpid()
  write_foreign(tmp_path, boot=lock._boot())  # died on this host
  monkeypatch.setattr(lock.os, 'open', read_only)
  assert lock.alive(tmp_path) is None
  (tmp_path / lock.FILE).unlink()
  assert lock.alive(tmp_path) is None


def test_an_unreadable_lock_is_waited_for(tmp_path, monkeypatch):
  (tmp_path / lock.FILE).write_text('')  # its maker was killed before it could sign
  with pytest.raises(lock.Busy, match='another process'), lock.own(tmp_path):
    pass
  monkeypatch.setattr(lock, 'STALE', -1.0)
  monkeypatch.setattr(lock, 'SETTLE', 0.0)
  with lock.own(tmp_path):
    pass


def test_a_full_disk_leaves_no_lock_behind(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(lock.os, 'pwrite', full)
  with pytest.raises(OSError, match='No space left'), lock.own(tmp_path):
    pass
  assert not list(tmp_path.iterdir())


def test_an_owner_that_tidies_up_is_no_fault_of_who_comes_second(tmp_path, monkeypatch):
  link = os.link

  def slower(temporary, path):  # between our file and its link, another takes the directory
    monkeypatch.setattr(os, 'link', link)
    with lock.own(tmp_path):
      files.remove_temporaries(tmp_path)
      link(temporary, path)

  monkeypatch.setattr(os, 'link', slower)
  with pytest.raises(lock.Busy), lock.own(tmp_path):
    pass
  with lock.own(tmp_path):
    assert os.listdir(tmp_path) == [lock.FILE]


def test_many_threads_exclude_each_other(tmp_path):
  inside, most, turns = [], [], []

  def work():
    for _ in range(15):
      with lock.wait_for(tmp_path):
        inside.append(1)
        most.append(len(inside))
        inside.pop()
        turns.append(1)

  threads = [threading.Thread(target=work) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert max(most) == 1 and len(turns) == 90
  assert not list(tmp_path.iterdir())


def test_processes_that_die_holding_it_exclude_each_other(tmp_path):
  """Four processes add to a file that is only right if nobody else is inside; half die there."""
  (tmp_path / 'sum').write_text('0')
  code = f"""
    import os, pathlib, random, signal, sys
    from jaxbudget.lab.run import files, lock
    directory = pathlib.Path({str(tmp_path)!r})
    for turn in range(20):
      with lock.wait_for(directory):
        total = int((directory / 'sum').read_text())
        (directory / 'sum').write_text(str(total + 1))
        if turn == 10 and sys.argv[1] == 'die':
          os.kill(os.getpid(), signal.SIGKILL)
  """
  command = [sys.executable, '-c', textwrap.dedent(code)]
  processes = [subprocess.Popen([*command, how]) for how in ('live', 'die', 'live', 'die')]
  codes = [process.wait(timeout=120) for process in processes]
  assert codes == [0, -9, 0, -9]
  assert (tmp_path / 'sum').read_text() == str(2 * 20 + 2 * 11)
