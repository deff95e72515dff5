"""Names: those that people type, checked against what exists, and the order of numbered ones."""

import difflib
import re
from collections.abc import Iterable


def check(key: str, value: object, known: Iterable[str]) -> None:
  """Refuses a name that is not known.

  Args:
    key: what the name is for, as the user wrote it.
    value: the name given.
    known: the names that exist.

  Raises:
    ValueError: with key, value, the closest match and all known names.
  """
  known = list(known)
  if value in known:
    return
  close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
  hint = f'; did you mean {close[0]!r}?' if close else ''
  raise ValueError(f'unknown {key} {value!r}{hint} (known: {", ".join(known)})')


def by_number(name: str) -> tuple:
  """A key to sort names by that takes the numbers in them as numbers, padded or not.

  Args:
    name: any, such as `epoch_10000`, which comes after `epoch_9999`.

  Returns:
    Something that compares.
  """
  parts = re.split('([0-9]+)', name)  # text and digits in turn
  digits = [part.lstrip('0') for part in parts[1::2]]
  parts[1::2] = [(len(number), number) for number in digits]
  return parts, name
