"""Names: what they may mean, and their order by number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.registry import by_number, closest, data_name


@pytest.mark.parametrize(
  ('name', 'read'),
  [
    ('img.npz', 'npz:img.npz'), ('./img.npz', 'npz:./img.npz'), ('a/b.npz', 'npz:a/b.npz'),
    ('npz:img.npz', 'npz:img.npz'), ('./pets', 'folder:./pets'), ('pets', 'pets'), ('npz', 'npz'),
    ('.npz', 'npz:.npz'), ('mine.data:img.npz', 'mine.data:img.npz'),
  ],
)  # fmt: skip
def test_a_bare_path_is_what_its_name_says(name, read):
  assert data_name(name) == read


def test_everyday_names_are_understood():
  keys = ['slurm', 'learning_rate', 'model', 'selector', 'optimizer', 'seeds']
  for name, meant in (('lr', 'learning_rate'), ('Method', 'selector'), ('optim', 'optimizer')):
    assert closest(name, keys) == meant
  assert closest('lr', ['lr']) == 'lr' and closest('selectr', keys) == 'selector'
  assert closest('method', ['methods']) == 'methods' and closest('lr', ['width']) is None


@given(st.lists(st.integers(0, 10**30), unique=True), st.integers(0, 9))
def test_numbers_count_whatever_the_padding(numbers, padding):
  named = [f'a-{number:0{padding}d}.x' for number in numbers]
  assert sorted(named, key=by_number) == [f'a-{n:0{padding}d}.x' for n in sorted(numbers)]


@given(st.lists(st.text()))
def test_any_texts_have_one_order(texts):
  once = sorted(texts, key=by_number)
  assert sorted(reversed(texts), key=by_number) == once
  without = [text for text in once if not set(text) & set('0123456789')]
  assert without == sorted(without)
