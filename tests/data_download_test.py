"""Downloads, from an HTTP server on the loopback interface only."""

import contextlib
import hashlib
import http.server
import threading
import time

import numpy as np
import pytest

from jaxbudget import data
from jaxbudget.data import download, tables

CONTENT = np.random.RandomState(0).bytes(3_000_000)


@contextlib.contextmanager
def serve(behave):
  """Runs a server; `behave(handler, start, number)` answers request `number` (from 1)."""
  seen = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      start = int(self.headers.get('Range', 'bytes=0-')[len('bytes=') : -1])
      seen.append(start)
      with contextlib.suppress(ConnectionError):
        behave(self, start, len(seen))

    def log_message(self, *what):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/file.bin', seen
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def answer(handler, start, body, resumes=True):
  """A proper answer; `body` may be shorter than it announces."""
  partial = start and resumes
  handler.send_response(206 if partial else 200)
  handler.send_header('Content-Length', str(len(CONTENT) - (start if partial else 0)))
  handler.end_headers()
  handler.wfile.write(body)


def whole(handler, start, number):
  answer(handler, start, CONTENT[start:])


def archive(url, content=CONTENT):
  return tables.Archive(url, len(content), hashlib.sha256(content).hexdigest(), 'file.bin')


def fetch(url, target, told=None, content=CONTENT, **more):
  progress = lambda *what: told.append(what) if told is not None else None
  options = {'timeout': 5.0, 'attempts': 3} | more
  download.download(archive(url, content), target, progress, **options)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
  monkeypatch.setattr(download.time, 'sleep', lambda seconds: None)


def test_download_tells_its_progress(tmp_path):
  told = []
  with serve(whole) as (url, seen):
    fetch(url, tmp_path / 'd' / 'file.bin', told)
  assert (tmp_path / 'd' / 'file.bin').read_bytes() == CONTENT
  assert seen == [0]
  arrived = [done for task, done, total in told if task == 'downloading file.bin']
  assert arrived[-1] == len(CONTENT) and arrived == sorted(arrived)
  assert [path.name for path in (tmp_path / 'd').iterdir()] == ['file.bin']


def test_cut_connection_is_tried_again_from_the_start(tmp_path):
  def cut_twice(handler, start, number):
    answer(handler, start, CONTENT[:1_000_000] if number < 3 else CONTENT)

  with serve(cut_twice) as (url, seen):
    fetch(url, tmp_path / 'file.bin')
  assert (tmp_path / 'file.bin').read_bytes() == CONTENT
  assert seen == [0, 0, 0]


def test_what_never_arrives_whole_leaves_nothing(tmp_path):
  with serve(lambda h, start, n: answer(h, start, CONTENT[:500])) as (url, seen):
    with pytest.raises(data.DataError, match='it broke: .* .2 attempts.; try again later'):
      fetch(url, tmp_path / 'file.bin', attempts=2)
  assert len(seen) == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('other', [CONTENT[:-1] + b'?', CONTENT + b'more'])
def test_wrong_checksum_is_refused(tmp_path, other):
  def behave(handler, start, number):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(other)

  with serve(behave) as (url, _):
    expected = CONTENT if len(other) == len(CONTENT) else b'x' * 100
    with pytest.raises(data.DataError, match='file has the wrong checksum.*thrown away'):
      fetch(url, tmp_path / 'file.bin', content=expected)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('when', ['before the answer', 'in the middle'])
def test_silent_server_times_out(tmp_path, when):
  release = threading.Event()

  def silent(handler, start, number):
    if when == 'in the middle':
      answer(handler, start, CONTENT[start : start + 10])
      handler.wfile.flush()
    release.wait(20)

  with serve(silent) as (url, seen):
    began = time.monotonic()
    with pytest.raises(data.DataError, match='silent for 0.2 s .2 attempts.*data_manual_dir'):
      fetch(url, tmp_path / 'file.bin', timeout=0.2, attempts=2)
    release.set()
  assert len(seen) == 2 and time.monotonic() - began < 15  # a hang, not a timing


def test_server_that_refuses(tmp_path):
  with serve(lambda handler, start, number: handler.send_error(404)) as (url, seen):
    with pytest.raises(data.DataError, match='answers 404'):
      fetch(url, tmp_path / 'file.bin')
  assert len(seen) == 1
  with serve(lambda handler, start, number: handler.send_error(503)) as (url, seen):
    with pytest.raises(data.DataError, match='answers 503 .* .3 attempts'):
      fetch(url, tmp_path / 'file.bin')
  assert len(seen) == 3
  with pytest.raises(data.DataError, match='no connection'):
    fetch(url, tmp_path / 'file.bin')
  (tmp_path / 'file').write_text('')
  with pytest.raises(data.DataError, match='cannot be written: Not a directory'):
    fetch(url, tmp_path / 'file' / 'file.bin')
  with pytest.raises(data.DataError, match='only http and https'):
    fetch('file:///etc/passwd', tmp_path / 'file.bin')


def test_mirror_through_a_checksum_file(tmp_path):
  """The whole way: a mirror's url in the checksum file, download, verification, kept."""
  directory = tmp_path / 'downloads'
  with serve(whole) as (url, seen):
    official = tables.Archive('http://127.0.0.1:9/official', 1, '0' * 64, 'file.bin')
    (tmp_path / 'mirror.tsv').write_text('\t'.join(map(str, archive(url))) + '\n')
    (mirror,) = download.replace_listed([official], tmp_path / 'mirror.tsv')
    for _ in range(2):  # the second time it is there
      path = download.get(mirror, [tmp_path / 'none'], directory, lambda *what: None)
    assert path.read_bytes() == CONTENT and seen == [0]
    path.write_bytes(CONTENT[:-1])  # a damaged download of ours is fetched again
    assert download.get(mirror, [], directory, lambda *what: None).read_bytes() == CONTENT
