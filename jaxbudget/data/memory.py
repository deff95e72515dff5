"""Memory that is left on this host, as the kernel, and the group it put us into, will allow."""

import pathlib

_PROC, _GROUPS = pathlib.Path('/proc'), pathlib.Path('/sys/fs/cgroup')


def host_free_bytes() -> int | None:
  """Memory that this process may still take.

  A container or a batch system gives less than the host has: the smallest allowance of the
  control group of this process and of those above it counts, what its files occupy apart, for
  the kernel gives that back.

  Returns:
    Bytes; None if nobody knows.
  """
  found = [_available(), *_allowances()]
  return min((free for free in found if free is not None), default=None)


def _available() -> int | None:
  """What the whole host has left."""
  for line in _lines(_PROC / 'meminfo'):
    if line.startswith('MemAvailable:'):
      return int(line.split()[1]) * 1024
  return None


def _allowances() -> list[int]:
  """What each control group that has a limit has left: version 2, or 1 where it governs memory."""
  found = []
  for line in _lines(_PROC / 'self/cgroup'):
    _, controllers, path = line.split(':', 2)
    if controllers == '':
      root, names = _GROUPS, ('memory.max', 'memory.current', 'inactive_file')
    elif 'memory' in controllers.split(','):
      root = _GROUPS / 'memory'
      names = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
    else:
      continue
    group = root / path.lstrip('/')
    for place in (group, *group.parents):
      limit, used = _number(place / names[0]), _number(place / names[1])
      if limit is not None and used is not None:
        cache = dict(line.split(maxsplit=1) for line in _lines(place / 'memory.stat'))
        found.append(max(0, limit - used + int(cache.get(names[2], 0))))
      if place == root:
        break
  return found


def _number(path: pathlib.Path) -> int | None:
  """A number in a file; None where it says `max`, or is not there."""
  text = ''.join(_lines(path)).strip()
  return int(text) if text.isdecimal() else None


def _lines(path: pathlib.Path) -> list[str]:
  try:
    return path.read_text('utf-8', 'replace').splitlines()
  except OSError:
    return []
