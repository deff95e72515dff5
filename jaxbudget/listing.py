"""What there is: every known part with its options, read off the source without importing it."""

import ast
import functools
import pathlib
import textwrap
from typing import NamedTuple

from jaxbudget.registry import NAMES, PREFIXES, check

_ROOT = pathlib.Path(__file__).parents[1]


class Entry(NamedTuple):
  """A known part.

  Attributes:
    spelt: what is typed: its name, with what stands behind the colon if there is a colon.
    summary: the first line of its docstring.
    options: (annotation, default) as they stand in the source, by name; the default of an
      option without one is empty.
  """

  spelt: str
  summary: str
  options: dict[str, tuple[str, str]]


def entries(kind: str) -> dict[str, Entry]:
  """The known parts of a kind.

  Args:
    kind: one of `registry.KINDS`.

  Returns:
    By name.
  """
  return {name: _entry(kind, name, place) for name, place in NAMES[kind].items()}


def _entry(kind: str, name: str, place: str) -> Entry:
  module, _, attribute = place.partition(':')
  function = _functions(module).get(attribute)
  if function is None:  # lent by somebody else, as tests do
    return Entry(name, '', {})
  arguments = function.args
  options = {
    a.arg: (_annotation(a.annotation, module), ast.unparse(d) if d else '')
    for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    if not (a.annotation and 'Needed' in ast.unparse(a.annotation))
  }
  bound = PREFIXES.get(kind, {}).get(name)
  summary = (ast.get_docstring(function) or '').partition('\n')[0]
  return Entry(f'{name}:{bound.upper()}' if bound else name, summary, options)


@functools.cache
def _statements(module: str) -> list[ast.stmt]:
  file = _ROOT / f'{module.replace(".", "/")}.py'
  text = file.read_text(encoding='utf-8') if file.exists() else ''
  return ast.parse(text).body


def _functions(module: str) -> dict[str, ast.FunctionDef]:
  return {node.name: node for node in _statements(module) if isinstance(node, ast.FunctionDef)}


def text(which: str, width: int = 100) -> str:
  """What there is, for the terminal.

  Args:
    which: a kind, or `all`.
    width: columns.

  Returns:
    For each part a line with its name and summary, and one for each of its options.

  Raises:
    ValueError: an unknown kind.
  """
  check('kind of part', which, (*NAMES, 'all'))
  lines = []
  for kind in NAMES if which == 'all' else (which,):
    lines += [f'{kind}: --config.{kind}=NAME, --config.{kind}_options.OPTION=VALUE']
    for entry in entries(kind).values():
      head = f'  {entry.spelt:<18}  '
      lines += textwrap.wrap(entry.summary, width, initial_indent=head, subsequent_indent=' ' * 22)
      for name, (annotation, default) in entry.options.items():
        said = f'{name}: {annotation or "any"}' + (f' = {default}' if default else '')
        lines += textwrap.wrap(said, width, initial_indent=' ' * 6, subsequent_indent=' ' * 22)
    lines += ['']
  return '\n'.join([*lines, "And anybody's, as package.module:factory (docs/parts.md)."])


def _annotation(node: ast.expr | None, module: str) -> str:
  """An annotation as it stands, listed values as `'own' | 'first'`, also those that have a name."""
  if node is None:
    return ''
  if isinstance(node, ast.BinOp):
    return f'{_annotation(node.left, module)} | {_annotation(node.right, module)}'
  if isinstance(node, ast.Name) and (named := _named(node.id, module)):
    return _annotation(*named)
  if isinstance(node, ast.Subscript) and ast.unparse(node.value) == 'Literal':
    values = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return ' | '.join(map(ast.unparse, values))
  return ast.unparse(node)


def _named(name: str, module: str) -> tuple[ast.expr, str] | None:
  """What a module, or one of this package that it imports from, calls so, and where that stands."""
  for node in _statements(module):
    if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
      return node.value, module
    if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
      return _named(name, node.module)
  return None
