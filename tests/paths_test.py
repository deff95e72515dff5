"""Paths as people write them: homes, links, names that are no UTF-8, names made of paths."""

import ast
import os
import pathlib
import pwd
import re
import shutil

import jax
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxbudget
from jaxbudget import data, paths, recording
from jaxbudget.lab import config, launcher
from jaxbudget.lab.sweep import inputs

NOBODY = '~no_such_user/x'


@pytest.fixture
def homeless(monkeypatch):
  """A container's user: no HOME, and not in the list of users."""

  def unknown(uid):
    raise KeyError(uid)

  monkeypatch.delenv('HOME', raising=False)
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', unknown)


def test_homes_are_where_a_shell_finds_them(monkeypatch):
  monkeypatch.setenv('HOME', '/home/of/mine')
  assert paths.expand('~/a') == pathlib.Path('/home/of/mine/a')
  assert paths.expand('~') == pathlib.Path('/home/of/mine')
  assert paths.expand('a/~') == pathlib.Path('a/~')
  with pytest.raises(ValueError, match=f'{NOBODY}: nobody knows what ~no_such_user is'):
    paths.expand(NOBODY)


@pytest.mark.parametrize(
  'use',
  [
    lambda: data.load(f'npz:{NOBODY}'),
    lambda: data.load(f'folder:{NOBODY}'),
    lambda: data.load('digits', data_dir=NOBODY),
    lambda: data.load('digits', data_manual_dir=NOBODY),
    lambda: data.load('cifar10', data_checksums=NOBODY),
    lambda: data.info('digits', data_dir=NOBODY),  # for a plan, where it need not be there
    lambda: data.info('cifar10', data_checksums=NOBODY),
    lambda: recording.find(NOBODY),
    lambda: jaxbudget.load(NOBODY),
  ],
)
def test_the_home_of_nobody_is_refused_everywhere(use):
  with pytest.raises(ValueError, match=NOBODY):
    use()


def test_no_home_is_needed_where_none_is_used(homeless, tmp_path):
  assert paths.expand(tmp_path) == tmp_path
  assert data.load('digits').info.num_train == 1437
  for name in ('cifar10', 'mini_imagenet', 'tfds:mnist'):
    with pytest.raises(data.DataError, match='data_dir must be given: there is no home'):
      data.load(name)
  images(tmp_path / 'pets')
  (note,) = data.load(f'folder:{tmp_path}/pets').notes
  assert note.endswith('decoded again at every start: there is no home directory to keep them in')


def images(root: pathlib.Path, name: str = 'a.png') -> None:
  """The smallest folder of images there can be."""
  for split in ('train', 'test'):
    (root / split / 'cat').mkdir(parents=True)
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / split / 'cat' / 'b.png')
    shutil.copy(root / split / 'cat' / 'b.png', root / split / 'cat' / name)


@pytest.mark.parametrize('cache', ['', 'relative'])
def test_programs_are_kept_at_home_or_not_at_all(cache, homeless, monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', cache)
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', None)
    inputs.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv('HOME', str(tmp_path))
    inputs.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == f'{tmp_path}/.cache/jaxbudget/jax'
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


@pytest.mark.parametrize(('asked', 'kept'), [(1.0, 0.2), (0.0, 0.0)])
def test_programs_are_kept_from_a_fifth_of_a_second_on_or_from_less_if_asked(asked, kept):
  name = 'jax_persistent_cache_min_compile_time_secs'
  before = getattr(jax.config, name)
  try:
    jax.config.update(name, asked)
    inputs.use_compilation_cache()
    assert getattr(jax.config, name) == kept
  finally:
    jax.config.update(name, before)


def test_a_cache_that_is_no_directory_does_not_keep_images_from_being_read(tmp_path):
  images(tmp_path / 'pets')
  for root in ('/proc/nowhere', '/dev/null/x'):
    loaded = data.load(f'folder:{tmp_path}/pets', data_dir=root)
    assert (
      f'{root}/jaxbudget/folder-' in loaded.notes[-1] and 'cannot be written' in loaded.notes[-1]
    )
    assert loaded.info.num_train == 2


def test_a_cache_of_somebody_else_does_not_keep_images_from_being_read(tmp_path, monkeypatch):
  images(tmp_path / 'pets')
  data.load(f'folder:{tmp_path}/pets', data_dir=tmp_path / 'root')
  os.utime(tmp_path / 'pets' / 'train' / 'cat' / 'b.png', (1, 1))  # so that it is stale

  def rename(path, target):  # as in a directory like /tmp
    raise PermissionError(1, 'Operation not permitted', str(path))

  monkeypatch.setattr(pathlib.Path, 'rename', rename)
  loaded = data.load(f'folder:{tmp_path}/pets', data_dir=tmp_path / 'root')
  assert 'cannot be written (Operation not permitted)' in loaded.notes[-1]
  assert not list((tmp_path / 'root').rglob('*.tmp-*'))


def plan(workdir, **values) -> int:
  return launcher.launch(
    config.defaults(dataset='digits', model='resnet8', **values), workdir, 'plan'
  )


def test_a_workdir_at_home(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path)
  assert plan('~/work') == 0
  assert [path.name for path in tmp_path.iterdir()] == ['home']
  assert (tmp_path / 'home' / 'work' / 'plan.json').exists()
  assert plan(NOBODY) == 2
  assert f'refused: --workdir: {NOBODY}' in capsys.readouterr().err


def test_a_workdir_behind_a_link_that_leads_nowhere_is_refused(tmp_path, capsys):
  (tmp_path / 'link').symlink_to('nowhere')
  for workdir in (tmp_path / 'link', tmp_path / 'link' / 'deep'):
    assert plan(workdir) == 2
    assert 'link to nowhere, which does not exist' in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ['link']


def test_file_names_that_are_no_utf8_are_named(tmp_path):
  name = os.fsdecode(b'\xff\xfe.png')
  images(tmp_path / 'pets', name)
  assert data.load(f'folder:{tmp_path}/pets', data_dir=tmp_path / 'root').info.num_train == 2
  (tmp_path / 'pets' / 'train' / 'cat' / name).write_bytes(b'no image')
  with pytest.raises(data.DataError, match=re.escape(name)):
    data.load(f'folder:{tmp_path}/pets', data_dir=tmp_path / 'root')


TEXT = st.text(st.characters(codec='utf-8') | st.sampled_from('/:._ \udcff'), max_size=120)


@settings(deadline=None, max_examples=300)
@given(TEXT, TEXT)
def test_two_texts_never_share_a_file_name(a, b):
  names = [paths.file_name(text) for text in (a, b)]
  assert (names[0] == names[1]) == (a == b)
  for name in names:
    assert re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}', name)


def test_no_text_is_read_or_written_in_the_encoding_of_a_locale():
  found = []
  for file in pathlib.Path(jaxbudget.__file__).parent.rglob('*.py'):
    for node in ast.walk(ast.parse(file.read_bytes())):
      if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        before = {'read_text': 0, 'write_text': 1}.get(node.func.attr)  # the encoding
        named = any(key.arg == 'encoding' for key in node.keywords)
        if before is not None and len(node.args) <= before and not named:
          found.append(f'{file}:{node.lineno}')
  assert found == []


def test_plain_names_stay_what_they_are():
  assert paths.file_name('frontier_digits_b0.3') == 'frontier_digits_b0.3'
  assert re.fullmatch('npz_home_a_b.npz-[0-9a-f]{8}', paths.file_name('npz:/home/a b.npz'))
