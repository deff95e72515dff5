"""Streams that cannot be written, terminals that go away, and signals that ask to end."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from jaxbudget.lab.run import process

ROOT = pathlib.Path(__file__).parents[1]

# Without the package around it, which takes longer to load than all of this.
PREAMBLE = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location('process', sys.argv[1])
process = importlib.util.module_from_spec(spec)
spec.loader.exec_module(process)
"""


def start(
  script: str, *, shell: str = '', guard: str = 'process.guard_streams()\n', **streams
) -> subprocess.Popen:
  """Starts a guarded program, `shell` says what becomes of its streams."""
  command = [sys.executable, '-S', '-c', PREAMBLE + guard + script, process.__file__]
  if shell:
    command = ['sh', '-c', f'"$@" {shell}', 'sh', *command]
  return subprocess.Popen(command, text=True, **streams)


SPEAK = """
import subprocess
for i in range(3):
  print('out' * 9999, flush=True)
  print('err' * 9999, file=sys.stderr)
os.write(os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), b'whole')
print(subprocess.run(['echo', 'child'], stdout=subprocess.PIPE).stdout)
sys.exit(7)
"""


@pytest.mark.parametrize(
  'streams, seen',
  [
    ('>/dev/full', 'err'),
    ('2>/dev/full', 'out'),
    ('>&-', 'err'),
    ('2>&-', 'out'),
    ('1</dev/null', 'err'),
    ('<&- >&- 2>&-', ''),
    ('>/dev/full 2>&1', ''),
  ],
)
def test_output_that_cannot_be_written_changes_nothing(streams, seen, tmp_path):
  program = start(SPEAK, shell=f'{tmp_path / "file"} {streams}', stdout=-1, stderr=-1)
  out, err = program.communicate(timeout=60)
  assert program.returncode == 7
  assert (tmp_path / 'file').read_text() == 'whole', 'nothing else was written into it'
  assert 'Error' not in out + err and 'Exception' not in out + err
  assert (('out' in out) * 'out' + ('err' in err) * 'err') == seen


def test_a_reader_that_leaves_ends_nothing(tmp_path):
  program = start(SPEAK, shell=f'{tmp_path / "file"} | head -c 3', stdout=-1, stderr=-1)
  out, err = program.communicate(timeout=60)
  assert out == 'out' and 'Error' not in err and (tmp_path / 'file').read_text() == 'whole'


def test_a_program_that_keeps_its_stream_may_have_another_that_never_fails(tmp_path):
  speak = """
out = process.forgiving(sys.stdout)
assert sys.stdout is sys.__stdout__
for i in range(3):
  print('out' * 99999, file=out, flush=True)
os.write(os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY), b'whole')
"""
  program = start(speak, guard='', shell=f'{tmp_path / "file"} | head -c 3', stdout=-1, stderr=-1)
  out, err = program.communicate(timeout=60)
  assert out == 'out' and 'Error' not in err and (tmp_path / 'file').read_text() == 'whole'


def test_a_stream_that_does_not_block_loses_nothing():
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  program = start('print("x" * 500_000)', stdout=writing)
  os.close(writing)
  time.sleep(0.3)  # until the pipe is full
  with open(reading) as pipe:
    assert pipe.read() == 'x' * 500_000 + '\n'
  assert program.wait(60) == 0


def test_nobody_reads_and_still_a_signal_is_answered():
  script = """
with process.collecting() as received:
  print('x' * 200_000)
sys.exit(received[0])
"""
  program = start(script, stdout=subprocess.PIPE)
  held = [0, 0]
  while not held[-1] or held[-1] != held[-2]:  # until the pipe is full
    assert program.poll() is None, 'a pipe that is full is waited for'
    time.sleep(0.1)
    waiting = fcntl.ioctl(program.stdout, termios.FIONREAD, bytes(4))
    held.append(int.from_bytes(waiting, sys.byteorder))
  program.send_signal(signal.SIGHUP)
  assert program.wait(60) == signal.SIGHUP
  program.stdout.close()


def test_names_that_the_terminal_cannot_show_are_no_fault():
  script = 'print("\\u4e2d \\udce9 \\u0131 ok")'
  environment = {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}
  program = start(script, stdout=-1, stderr=-1, env=environment)
  out, err = program.communicate(timeout=60)
  assert program.returncode == 0 and 'ok' in out and not err


def test_streams_that_others_have_replaced_stay_theirs(capsys):
  ours = sys.stdout
  process.guard_streams()
  assert sys.stdout is ours


@pytest.mark.parametrize('number', process.STOP)
def test_signals_raise_where_there_is_nothing_to_save(number):
  before = signal.getsignal(number)
  fault = KeyboardInterrupt if number == signal.SIGINT else process.Signalled
  with pytest.raises(fault) as raised, process.answering():
    signal.raise_signal(number)
  assert number == signal.SIGINT or raised.value.number == number
  assert signal.getsignal(number) is before


@pytest.mark.parametrize('number', process.STOP)
def test_signals_are_collected_where_there_is(number):
  with process.answering():
    with process.collecting() as received:
      signal.raise_signal(number)
      if number != signal.SIGINT:
        signal.raise_signal(number)
    with pytest.raises((KeyboardInterrupt, process.Signalled)):
      signal.raise_signal(number)
  assert set(received) == {number}


def test_a_second_interrupt_is_obeyed_at_once():
  with pytest.raises(KeyboardInterrupt), process.collecting():
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)


def test_what_was_to_be_ignored_is_ignored(monkeypatch):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
  try:
    with process.answering(), process.collecting() as received:
      signal.raise_signal(signal.SIGHUP)
    assert received == [] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


def test_other_threads_leave_signals_alone():
  found = []

  def work():
    with process.answering(), process.collecting() as received:
      found.append(received)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [[]]
