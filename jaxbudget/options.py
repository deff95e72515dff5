"""Options: the keyword-only parameters of a factory, and values of the types it names.

Values come from configs, flags and JSON: None, truth values, numbers, strings, and tuples of
these. A value fits an annotation or is refused; nothing is guessed.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbudget import registry
from jaxbudget.types import Needed

REQUIRED = inspect.Parameter.empty
_PLAIN = (bool, int, float, str, type(None))
_WORDS = {
  bool: 'True or False',
  int: 'a whole number',
  float: 'a number',
  str: 'a string',
  None: 'None',
  type(None): 'None',
}
_UNIONS = (typing.Union, types.UnionType)


class Option(NamedTuple):
  """A keyword-only parameter of a factory.

  Attributes:
    annotation: what its values must be; anything plain where the factory says nothing.
    default: `REQUIRED` where there is none.
  """

  annotation: Any
  default: Any


def of(factory: Callable) -> dict[str, Option]:
  """The options of a factory, in its order.

  Args:
    factory: any callable with a signature.

  Returns:
    By name, without what is `Needed` of other runs. A default that its annotation reads
    otherwise (4 for a float) is given as read.
  """
  return dict(_of(factory))


@functools.lru_cache(maxsize=1024)
def _of(factory: Callable) -> dict[str, Option]:
  try:
    parameters = inspect.signature(factory, eval_str=True).parameters.values()
  except NameError:  # names imported for type checkers only
    parameters = inspect.signature(factory).parameters.values()
  found = {}
  for p in parameters:
    needed = p.annotation == Needed or Needed in typing.get_args(p.annotation)
    if p.kind is p.KEYWORD_ONLY and not needed:
      annotation = Any if p.annotation is p.empty or isinstance(p.annotation, str) else p.annotation
      default = p.default
      if default is not REQUIRED:
        default = _read(default, annotation, default)
      found[p.name] = Option(annotation, default)
  return found


def convert(key: str, value: Any, annotation: Any) -> Any:
  """A value as an annotation wants it.

  Whole numbers pass for fractions and lists for tuples, truth values for no number. Numbers are
  finite: JSON has no others, and what a run was told must be read again as it was.

  Args:
    key: for the message, such as `option n=True of randaugment`.
    value: plain.
    annotation: a type, `X | None`, `Literal[...]`, `tuple[X, ...]` or `Any`.

  Returns:
    The value, unchanged or converted.

  Raises:
    ValueError: it does not fit.
  """
  read = _read(value, annotation, REQUIRED)
  if read is REQUIRED:
    hint = ', in quotes' if annotation is str and isinstance(value, int | float) else ''
    close = registry.closest(value, _choices(annotation))
    hint = f'; did you mean {close!r}?' if close else hint
    raise ValueError(f'{key} is refused: it must be {described(annotation)}{hint}')
  if not _finite(read):
    raise ValueError(f'{key} is refused: it must be {described(annotation)}, and finite')
  return read


def _finite(value) -> bool:
  if isinstance(value, tuple):
    return all(map(_finite, value))
  return not isinstance(value, float) or math.isfinite(value)


def described(annotation: Any) -> str:
  """An annotation in words: `a number or None`, `'own' or 'first'`."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Literal:
    return ' or '.join(repr(value) for value in arguments)
  if origin is typing.Annotated:
    return described(arguments[0])
  if origin in _UNIONS:
    return ' or '.join(described(member) for member in arguments)
  if _is_list(annotation):
    each = ', '.join('...' if a is Ellipsis else described(a) for a in arguments)
    return f'a tuple ({each})' if each else 'a tuple'
  return _WORDS.get(annotation, 'None, a number, a string or a tuple of these')


def _choices(annotation) -> list[str]:
  """The strings that an annotation lists."""
  arguments = typing.get_args(annotation)
  if typing.get_origin(annotation) is typing.Literal:
    return [a for a in arguments if isinstance(a, str)]
  return [choice for member in arguments for choice in _choices(member)]


def _read(value, annotation, otherwise):
  """The value as an annotation wants it; `otherwise` if it does not fit."""
  value = python(value)
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in _UNIONS:
    # A type that is met exactly goes before one that would convert.
    members = sorted(arguments, key=lambda member: type(value) is not member)
    fits = (_read(value, member, REQUIRED) for member in members)
    return next((found for found in fits if found is not REQUIRED), otherwise)
  if origin is typing.Literal:
    return next((a for a in arguments if a == value and type(a) is type(value)), otherwise)
  if origin is typing.Annotated:
    return _read(value, arguments[0], otherwise)
  if _is_list(annotation):
    return _read_list(value, arguments, otherwise)
  if annotation is float:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return _as_float(value) if fits else otherwise
  if annotation is None or annotation in _PLAIN:
    wanted = type(None) if annotation is None else annotation
    return value if type(value) is wanted else otherwise
  return _plain(value, otherwise)


def python(value: Any) -> Any:
  """A number or text of NumPy's or JAX's as Python's, in tuples and lists too; else as it is."""
  if isinstance(value, tuple | list):
    return type(value)(map(python, value)) if type(value) in (tuple, list) else value
  array = isinstance(value, np.generic | np.ndarray | jax.Array)
  return value.item() if array and value.ndim == 0 else value


def _as_float(value: int | float) -> float:
  try:
    return float(value)
  except OverflowError:  # of a whole number that no float comes near
    return math.inf if value > 0 else -math.inf


def _is_list(annotation) -> bool:
  origin = typing.get_origin(annotation) or annotation
  return isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str


def _read_list(value, arguments, otherwise):
  if not isinstance(value, tuple | list):
    return otherwise
  fixed = arguments and arguments[-1] is not Ellipsis and len(arguments) > 1
  if fixed and len(arguments) != len(value):
    return otherwise
  wanted = arguments if fixed else (arguments[:1] or (Any,)) * len(value)
  read = tuple(_read(v, a, REQUIRED) for v, a in zip(value, wanted, strict=True))
  return otherwise if any(v is REQUIRED for v in read) else read


def _plain(value, otherwise):
  """Values of unknown type: lists become tuples, what JSON cannot hold is refused."""
  if isinstance(value, tuple | list):
    read = tuple(_plain(v, REQUIRED) for v in value)
    return otherwise if any(v is REQUIRED for v in read) else read
  return value if type(value) in _PLAIN else otherwise
