"""Times for people."""

import math


def duration(seconds: float) -> str:
  """A time in the unit that fits it.

  Args:
    seconds: NaN if not known.

  Returns:
    Such as `3.1 h`; a dash for what is not known.
  """
  if math.isnan(seconds):
    return '–'
  for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
    if seconds >= 2 * size:
      return f'{seconds / size:.1f} {unit}'
  return f'{seconds:.1f} s'
