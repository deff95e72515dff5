"""What a piece of source does, as a hash: without prose, equal under every Python.

Needs nothing but the standard library. Comments, layout and strings that stand alone
(docstrings) do not count; everything else does, with the modules that are imported, at the top
or inside functions, as far as they lie within the given roots. Installed distributions count by
their version, the standard library not at all. `__init__.py` files tell where names come from:
what is imported through them is followed, they themselves are left out, unless the name that is
asked of one is defined in it.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import site
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple


def source_hash(
  modules: Iterable[str],
  roots: Iterable[pathlib.Path],
  skip: Container[str] = (),
  version: Callable[[str], str] | None = None,
) -> str:
  """Hashes modules together with what they import.

  Args:
    modules: dotted names of modules within the roots, e.g. `mypackage.rank`.
    roots: what counts by its source: folders of modules, packages (folders with an
      `__init__.py`) or single files.
    skip: packages and modules that do not count, wherever they lie, e.g. `jaxbudget`.
    version: what stands for any other import name, '' for nothing; by default the version of
      its installed distribution.

  Returns:
    16 hex digits.

  Raises:
    ValueError: a module that is not within the roots, or a file that is not Python.
  """
  files, others = sources(modules, roots, skip)
  digest = hashlib.sha256()
  for name in sorted(files):
    digest.update(f'{name} {_read(files[name]).digest}\n'.encode())
  for name in sorted(others):
    digest.update(f'{name}=={(version or installed_version)(name)}\n'.encode())
  return digest.hexdigest()[:16]


def text_hash(text: str) -> str:
  """Hashes a piece of source alone, e.g. that of a function: 16 hex digits.

  Raises:
    ValueError: it is not Python.
  """
  return _digest(_parse(text))[:16]


def root_of(module: str) -> pathlib.Path:
  """The root of a module that can be imported: what is people's own lies there.

  Args:
    module: its dotted name.

  Returns:
    The folder on the path that holds it, with all else there; of an installed distribution only
    the package, or the file, itself.

  Raises:
    ValueError: there is no such module, or it has no file.
  """
  spec = importlib.util.find_spec(module.partition('.')[0])
  if spec is None or not (spec.has_location or spec.submodule_search_locations):
    raise ValueError(f'module {module!r} has no source')
  folders = spec.submodule_search_locations
  place = pathlib.Path(folders[0] if folders else spec.origin)
  installed = {
    pathlib.Path(p).resolve() for p in (*site.getsitepackages(), site.getusersitepackages())
  }
  return place if place.parent.resolve() in installed else place.parent


def sources(
  modules: Iterable[str], roots: Iterable[pathlib.Path], skip: Container[str] = ()
) -> tuple[dict[str, pathlib.Path], set[str]]:
  """Finds what modules are made of, without importing anything.

  Args:
    modules: as for `source_hash`.
    roots: likewise.
    skip: likewise.

  Returns:
    (files by dotted name of the module, import names of other distributions).

  Raises:
    ValueError: as for `source_hash`.
  """
  roots = tuple(pathlib.Path(root).absolute() for root in roots)
  files: dict[str, pathlib.Path] = {}
  others: set[str] = set()
  waiting = []
  for module in modules:
    found = _find(module, roots)
    if found is None or found.rest or not found.file:
      shown = ', '.join(map(str, roots))
      raise ValueError(f'module {module!r} is not found in {shown}')
    waiting.append((found.module, found.file))
  while waiting:
    module, file = waiting.pop()
    if module in files:
      continue
    files[module] = file
    for name in _read(file).imported(module, file.name == '__init__.py'):
      if name.partition('.')[0] not in skip:
        behind = _behind(name, roots, others, set())
        waiting += [found for found in behind if found[0] not in skip]
  return files, others


def installed_version(name: str) -> str:
  """The version of the distribution that gives an import name; '' if it is not installed."""
  found = _version(name)  # most are called as they are imported: to list all takes long
  return found or next(filter(None, map(_version, _distributions().get(name, ()))), '')


def _version(distribution: str) -> str:
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return ''


@functools.cache
def _distributions():
  return importlib.metadata.packages_distributions()


class _Place(NamedTuple):
  """Where a dotted name leads: a module, and what is asked of it."""

  module: str
  file: pathlib.Path | None  # None: a folder without __init__.py
  rest: tuple[str, ...]  # attributes of the module


def _find(name: str, roots: tuple[pathlib.Path, ...]) -> _Place | None:
  """The longest part of a dotted name that is a module; None outside the roots."""
  first, *rest = name.split('.')
  here = _top(first, roots)
  if here is None:
    return None
  module = first
  while here.is_dir() and rest:
    below = _below(here, rest[0])
    if below is None:
      break
    here, module = below, f'{module}.{rest.pop(0)}'
  file = here / '__init__.py' if here.is_dir() else here
  return _Place(module, file if file.is_file() else None, tuple(rest))


def _top(name: str, roots) -> pathlib.Path | None:
  for root in roots:
    alone = root.is_file() or (root / '__init__.py').is_file()
    if alone and root.stem == name:
      return root
    below = None if alone else _below(root, name)
    if below:
      return below
  return None


def _below(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """The package, module or folder of modules of that name in a folder."""
  package, file = folder / name, folder / f'{name}.py'
  if (package / '__init__.py').is_file():
    return package
  if file.is_file():
    return file
  holds = (any(package.glob(pattern)) for pattern in ('*.py', '*/*.py'))
  return package if any(holds) else None


def _behind(name: str, roots, others: set[str], seen: set[str]) -> Iterator[tuple[str, Any]]:
  """The modules that stand behind an imported name, through packages that pass it on."""
  if name in seen:
    return
  seen.add(name)
  found = _find(name, roots)
  if found is None:
    first = name.partition('.')[0]
    if first not in sys.stdlib_module_names:
      others.add(first)
  elif found.file is None:  # a folder of modules has no names of its own
    pass
  elif found.file.name != '__init__.py':
    yield found.module, found.file
  elif found.rest:
    passed = _read(found.file).passed_on(found.module, found.rest[0])
    if passed is None:  # defined there, or in a way that cannot be seen
      yield found.module, found.file
    for target in passed or ():
      yield from _behind('.'.join((target, *found.rest[1:])), roots, others, seen)


class _Parsed(NamedTuple):
  """What is kept of a file.

  Attributes:
    digest: of its statements, without prose.
    bindings: (name it is known by, relative level, dotted origin, attribute of the origin; ''
      for the whole), for each import.
    chains: dotted names in its expressions, e.g. `a.b.c`.
  """

  digest: str
  bindings: tuple[tuple[str, int, str, str], ...]
  chains: frozenset[str]

  def imported(self, module: str, is_package: bool) -> set[str]:
    """Absolute dotted names that a module imports, with what it takes of packages."""
    known, found = {}, set()
    for name, level, origin, attribute in self.bindings:
      base = _absolute(module, is_package, level, origin)
      found.add(f'{base}.{attribute}' if attribute else base)
      # `import a.b` binds a, and `import a.b as c` the whole.
      whole = name == origin.partition('.')[0] and not attribute
      known[name] = name if whole and not level else f'{base}.{attribute}'.rstrip('.')
    for chain in self.chains:
      first, _, rest = chain.partition('.')
      if first in known:
        found.add(f'{known[first]}.{rest}')
    return found

  def passed_on(self, package: str, name: str) -> list[str] | None:
    """Where a package has a name from; None if it does not say."""
    found = [
      f'{_absolute(package, True, level, origin)}.{attribute}'.rstrip('.')
      for bound, level, origin, attribute in self.bindings
      if bound == name
    ]
    return found or None


def _absolute(module: str, is_package: bool, level: int, origin: str) -> str:
  """Resolves a relative import."""
  if not level:
    return origin
  parts = module.split('.')
  base = parts[: len(parts) - level + is_package]
  return '.'.join([*base, *([origin] if origin else [])])


def _read(file: pathlib.Path) -> _Parsed:
  try:
    return _parsed(file.read_bytes())
  except ValueError as e:
    raise ValueError(f'{file} is not Python: {e}') from e


@functools.lru_cache(maxsize=4096)
def _parsed(content: bytes) -> _Parsed:
  tree = _parse(content)
  bindings, chains = [], set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        bound = alias.asname or alias.name.partition('.')[0]
        bindings.append((bound, 0, alias.name, ''))
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        bindings.append((alias.asname or alias.name, node.level, node.module or '', alias.name))
    elif isinstance(node, ast.Attribute):
      chain = _chain(node)
      if chain:
        chains.add(chain)
  return _Parsed(_digest(tree), tuple(bindings), frozenset(chains))


def _parse(source: str | bytes) -> ast.Module:
  try:
    return ast.parse(source)
  except SyntaxError as e:
    raise ValueError(str(e)) from e


def _chain(node: ast.expr) -> str:
  """`a.b.c` of nested attributes; '' if they do not begin with a name."""
  parts = []
  while isinstance(node, ast.Attribute):
    parts.append(node.attr)
    node = node.value
  return '.'.join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ''


def _digest(tree: ast.AST) -> str:
  tokens: list[str] = []
  _write(tree, tokens.append)
  return hashlib.sha256('\n'.join(tokens).encode()).hexdigest()


# Fields that say nothing, or that not every Python has.
_SILENT = ('ctx', 'kind', 'type_comment', 'type_ignores')


def _write(value: Any, say: Callable[[str], None]) -> None:
  """Says a syntax tree token by token, in a form of our own: `ast.dump` differs between Pythons.

  Empty and absent fields are left out, so that a field which a later Python adds to old syntax
  changes nothing; names and strings are written in ASCII, for what is printable differs too.
  """
  if isinstance(value, ast.JoinedStr):
    _write_f_string(value, say)
  elif isinstance(value, ast.AST):
    say(f'({type(value).__name__}')
    for field in value._fields:
      content = getattr(value, field, None)
      if field not in _SILENT and content is not None and content != []:
        say(field)
        _write(content, say)
    say(')')
  elif isinstance(value, list):
    say('[')
    for item in value:
      if not _is_prose(item):
        _write(item, say)
    say(']')
  else:
    say(ascii(value))


def _is_prose(statement: Any) -> bool:
  """Whether a statement is a string that stands alone."""
  return (
    isinstance(statement, ast.Expr)
    and isinstance(statement.value, ast.Constant)
    and isinstance(statement.value.value, str)
  )


def _write_f_string(node: ast.JoinedStr, say: Callable[[str], None]) -> None:
  """An f-string; how its text is cut into pieces is up to the parser."""
  say('(JoinedStr')
  text = ''
  for part in node.values:
    if isinstance(part, ast.Constant):
      text += part.value
      continue
    if text:
      say(ascii(text))
    text = ''
    _write(part, say)
  if text:
    say(ascii(text))
  say(')')
