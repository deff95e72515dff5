"""In what configs differ: the words that tell cells apart, in plans and in reports."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def flatten(config: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Pairs of dotted key and value; the options of methods are one level down."""
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def value_text(value: Any) -> str:
  """A value as people set it, exact enough that different values never look alike."""
  if isinstance(value, str):
    return value
  if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
    return str(int(value))  # JSON does not tell 1.0 from 1
  return repr(value)


def departures(
  values: Sequence[Mapping[str, str]],
) -> tuple[list[dict[str, str]], dict[str, str]]:
  """What sets each of several settings apart from the others.

  A value that more than half of them share goes unsaid. Where no value is so common, each
  says its own. A key that a setting does not have departs from nothing.

  Args:
    values: key -> value as text, one mapping for each.

  Returns:
    (for each the keys and values to name, the values that go unsaid where others differ).
  """
  named: list[dict[str, str]] = [{} for _ in values]
  unsaid = {}
  for key in dict.fromkeys(key for own in values for key in own):
    found = [own[key] for own in values if key in own]
    usual = most_common(found)
    if len(set(found)) < 2:
      continue
    if 2 * found.count(usual) > len(found):
      unsaid[key] = usual
    for own, names in zip(values, named, strict=True):
      if key in own and unsaid.get(key) != own[key]:
        names[key] = own[key]
  return named, unsaid


def most_common(values: Iterable[str]) -> str:
  """The commonest value; among equals the first seen."""
  counts = collections.Counter(values).most_common(1)
  return counts[0][0] if counts else ''
