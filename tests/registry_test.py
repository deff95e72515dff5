"""Names in the order of their numbers."""

from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.registry import by_number


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
