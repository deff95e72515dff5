"""Names that people type: checked against what exists, with the closest match."""

import difflib
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
