"""The hash of source: prose and layout do not count, all else does, under every Python alike."""

import glob
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

from jaxbudget import source

# Syntax whose trees have changed between Pythons, or whose text may be cut into other pieces.
TRICKY = r'''
"""Prose."""
from __future__ import annotations
import functools, os.path as p
X: float = 1e-4; Y = 0x_ff, 1_000, -0.0, 1j, b'\xff', ..., None, True, 'ü\u2028\U0001f600' u'k'
A = f'a' 'b' f'{X!r:>{Y}}{X = }' '' f'', f'{X:}', f"{'q'}{{}}", ''
@functools.cache
def f(a, /, b: int = 1, *c, d=None, e, **g) -> 'str':
  """Prose
  in two lines."""
  global Z
  x = [*c, *(i async for i in a if i)], {**g, 'x': lambda: (yield)}, a[1:2, ...], a[*c]
  return b if d else x
class C(dict, metaclass=type):
  x = 1
  "What x is."
  async def m(self):
    async with self as (s, t), open(p.join('a')) as u: await s
    try:
      pass
    except* ValueError as err:
      raise err from None
match X:
  case {'k': [1, *_], **rest} | C(x=0) as whole if (n := 3) > 2: del rest
  case _: assert not X, 'why'
'''
PINNED = 'f38a2498d960006f'


def pythons():
  """This Python, and the others that are allowed, as far as they are here."""
  root = os.environ.get('PYENV_ROOT') or pathlib.Path.home() / '.pyenv'
  found = {sys.version_info[:2]: sys.executable}
  for minor in (11, 12, 13):
    here = shutil.which(f'python3.{minor}') or ''
    tried = [*sorted(glob.glob(f'{root}/versions/3.{minor}.*/bin/python')), here]
    for path in tried if (3, minor) not in found else ():
      if path and subprocess.run([path, '-V'], capture_output=True).returncode == 0:
        found.setdefault((3, minor), path)
  return sorted(found.values())


def test_the_hash_is_equal_under_every_python(tmp_path):
  write(tmp_path, tricky=TRICKY + 'from own import other\n', other='import json\n')
  script = (
    'import runpy, pathlib, sys; m = runpy.run_path(sys.argv[1]); '
    'print(m["source_hash"](["own.tricky"], [pathlib.Path(sys.argv[2])]))'
  )
  for python in pythons():
    done = subprocess.run(
      [python, '-c', script, source.__file__, tmp_path], capture_output=True, text=True
    )
    assert (python, done.stdout.strip()) == (python, PINNED), done.stderr


def write(folder, **modules) -> pathlib.Path:
  """Makes a package `own` in a folder."""
  for name, text in {'__init__': '', **modules}.items():
    file = folder / 'own' / f'{name.replace(".", "/")}.py'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
  return folder


def hash_of(folder, module='own.a', **kwargs):
  return source.source_hash([module], [folder], **kwargs)


def files_of(folder, module='own.a', **kwargs):
  return set(source.sources([module], [folder], **kwargs)[0])


PLAIN = '''
  """Prose."""
  def rank(x):
    """More prose."""
    y = 2 * x
    return y
'''


@pytest.mark.parametrize(
  ('old', 'new', 'same'),
  [
    ('"""Prose."""', '"""Other prose."""', True),
    ('"""More prose."""', '"""Other prose."""  # and a remark', True),
    ('    y = 2', '\n\n    y = (2', True),
    ('y = 2 * x', 'y = x * 2', False),
    ('y = 2 * x', 'y = 2.0 * x', False),
    ('y = 2 * x', "y = '2' * x", False),
    ('y = 2 * x', 'y = z = 2 * x', False),
    ('rank(x)', 'rank(x: int)', False),
    ('rank(x)', 'rank(x, /)', False),
    ('return y', 'yield y', False),
  ],
)
def test_prose_and_layout_do_not_count(tmp_path, old, new, same):
  before = hash_of(write(tmp_path, a=PLAIN))
  changed = PLAIN.replace(old, new)
  changed = changed.replace('(2 * x', '(2 * x)')
  assert changed != PLAIN
  after = hash_of(write(tmp_path, a=changed))
  assert (after == before) is same


@pytest.mark.parametrize(
  'statement',
  [
    'from own import b',
    'from own.b import value',
    'from own.b import *',
    'import own.b',
    'import own.b as other',
    'from . import b',
    'from .b import value',
    'import own\nown.b.value()',
    'import own as o\no.b.value()',
    'from own import b as other\nother.value()',
    'def f():\n  from own import b',
    'class C:\n  def f(self):\n    import own.b',
    'if False:\n  from own import b',
    'from own.sub.c import value',  # which imports own.b
    'from own import sub\nsub.c.value()',
  ],
)
def test_what_is_imported_counts(tmp_path, statement):
  others = {
    'b': 'value = 1',
    'unused': 'value = 1',
    'sub.__init__': '',
    'sub.c': 'from ..b import *',
  }
  write(tmp_path, a=statement, **others)
  assert files_of(tmp_path) - {'own.sub.c'} == {'own.a', 'own.b'}
  before = hash_of(tmp_path)
  assert hash_of(write(tmp_path, a=statement, **{**others, 'unused': 'value = 2'})) == before
  assert hash_of(write(tmp_path, a=statement, **{**others, 'b': 'value = 2'})) != before


@pytest.mark.parametrize(
  ('init', 'counts'),
  [
    ('from own.b import value', {'own.b'}),
    ('from .b import other as value\nfrom own.c import x', {'own.b'}),
    ('import own.b as value', {'own.b'}),
    ('from own.c import x\nfrom own.b import *', {'own', 'own.b', 'own.c'}),  # cannot be seen
    ('from own.b import f\nvalue = f()', {'own', 'own.b'}),  # it is defined here
    ('def __getattr__(name):\n  from own import b\n  return b.value', {'own', 'own.b'}),
  ],
)
def test_names_are_followed_through_packages(tmp_path, init, counts):
  write(tmp_path, __init__=init, a='from own import value', b='', c='')
  assert files_of(tmp_path) == {'own.a', *counts}


def test_tables_of_names_do_not_bind_everything_together(tmp_path):
  table = "from own import a, b\nTABLE = {'a': a.f, 'b': b.f}\n"
  write(tmp_path, __init__=table, a='from own.c import x', b='', c='')
  before = hash_of(tmp_path)
  write(tmp_path, __init__=table + 'from own import d', a='from own.c import x', d='')
  assert hash_of(tmp_path) == before and files_of(tmp_path) == {'own.a', 'own.c'}


def test_circles_end(tmp_path):
  write(tmp_path, a='from own import b', b='from own import a', c='from own import c')
  assert files_of(tmp_path) == {'own.a', 'own.b'}
  assert files_of(tmp_path, 'own.c') == {'own.c'}


def test_other_distributions_count_by_version_unless_skipped(tmp_path):
  write(tmp_path, a='import numpy.linalg, os.path\nfrom nowhere import x')
  assert source.sources(['own.a'], [tmp_path])[1] == {'numpy', 'nowhere'}
  versions = {'numpy': '2.0', 'nowhere': ''}
  before = hash_of(tmp_path, version=versions.get)
  assert hash_of(tmp_path, version={**versions, 'numpy': '3.0'}.get) != before
  skipped = hash_of(tmp_path, version=versions.get, skip={'numpy'})
  assert skipped == hash_of(tmp_path, version={**versions, 'numpy': '3.0'}.get, skip={'numpy'})
  write(tmp_path, a='from own import b', b='')
  assert files_of(tmp_path, skip={'own.b'}) == {'own.a'}
  assert source.installed_version('yaml') and not source.installed_version('nowhere')


def test_roots_are_folders_packages_or_files(tmp_path):
  write(tmp_path, a='from own import b\nimport beside', b='')
  (tmp_path / 'beside.py').write_text('')
  assert files_of(tmp_path) == {'own.a', 'own.b', 'beside'}
  assert files_of(tmp_path, skip={'beside'}) == {'own.a', 'own.b'}
  assert files_of(tmp_path / 'own') == {'own.a', 'own.b'}
  assert files_of(tmp_path / 'beside.py', 'beside') == {'beside'}
  with pytest.raises(ValueError, match=r"'own.nothing' is not found in"):
    files_of(tmp_path, 'own.nothing')


def test_what_is_no_python_is_named(tmp_path):
  write(tmp_path, a='from own import b', b='def')
  with pytest.raises(ValueError, match=r'own/b.py is not Python'):
    hash_of(tmp_path)


def test_the_root_of_a_module(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(write(tmp_path, a=''))
  (tmp_path / 'single.py').write_text('')
  assert source.root_of('own.a') == source.root_of('single') == tmp_path
  assert source.root_of('numpy.linalg').name == 'numpy'  # not all that is installed beside it
  with pytest.raises(ValueError, match='nowhere'):
    source.root_of('nowhere')


def test_text_of_a_function():
  assert source.text_hash('def f():\n  "a"\n  return 1') == source.text_hash('def f():\n  return 1')
  assert source.text_hash('def f():\n  return 1') != source.text_hash('def f():\n  return 2')
