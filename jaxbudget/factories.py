"""Factories by name: found, imported, and given their options.

A *part* of a run is made by a factory, a function whose keyword-only parameters are its
options: `selective_backprop(spec, budget, *, b=None, ...)`. Ours are those of `registry`;
anybody's are named `package.module:factory`. docs/parts.md has the six signatures.
"""

import dataclasses
import functools
import importlib
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxbudget import options as options_lib
from jaxbudget.options import Option
from jaxbudget.registry import CHAINED, NAMES, PREFIXES, check, closest

_WORD = r'[^\W\d]\w*'
_DOTTED = re.compile(rf'{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*')


@dataclasses.dataclass(frozen=True)
class Part:
  """A factory that somebody named; equal if name and factory are.

  Attributes:
    kind: one of `KINDS`.
    name: as it was given.
    short: what its options are addressed by: a known name, or the factory's own.
    factory: makes the part.
    options: of the factory, by name.
    bound: options that the name itself sets, as `npz:PATH` does.
    outside: whether it is of another package.
  """

  kind: str
  name: str
  short: str
  factory: Callable
  options: dict[str, Option] = dataclasses.field(compare=False)
  bound: dict[str, Any] = dataclasses.field(compare=False)
  outside: bool

  def fill(self, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options: those given, in the types the factory wants, and its defaults.

    Args:
      given: some options by name.

    Returns:
      A value for every option.

    Raises:
      ValueError: every fault: unknown names, values of the wrong type, missing ones.
    """
    faults, filled = [], {}
    for name, value in {**self.bound, **given}.items():
      key = f'option {name}={value!r} of {self.short}'
      try:
        check(f'option of {self.short}', name, self.options)
        if name in self.bound and value != self.bound[name]:
          raise ValueError(f'{key} is refused: {self.name!r} says otherwise')
        option = self.options[name]
        # A default is no fault of whoever fills in again what was filled in, infinity neither.
        kept = isinstance(value, float) and value is option.default
        filled[name] = value if kept else options_lib.convert(key, value, option.annotation)
      except ValueError as e:
        faults.append(str(e))
    for name, option in self.options.items():
      if option.default is options_lib.REQUIRED and not {name} & {*self.bound, *given}:
        wanted = options_lib.described(option.annotation)
        faults.append(f'{self.short} needs its option {name}, which must be {wanted}')
    if faults:
      raise ValueError('\n'.join(faults))
    return {name: filled.get(name, option.default) for name, option in self.options.items()}

  def make(self, wanted: type | tuple[type, ...], /, *arguments: Any, **options: Any) -> Any:
    """Calls the factory.

    Args:
      wanted: what it must make.
      *arguments: what factories of this kind are given.
      **options: of `fill`.

    Returns:
      What it made.

    Raises:
      ValueError: what the factory refuses; of others' factories, whatever they raise; or what
        it made is something else.
    """
    try:
      made = self.factory(*arguments, **options)
    except ValueError:
      raise
    except Exception as e:
      if not self.outside:
        raise
      raise ValueError(self.said(e)) from e
    if not isinstance(made, wanted):
      one = wanted if isinstance(wanted, tuple) else (wanted,)
      names = ' or '.join(kind.__name__ for kind in one)
      raise ValueError(f'{self.kind} {self.name!r} made a {type(made).__name__}, not a {names}')
    return made

  def said(self, error: Exception) -> str:
    """What the part raised, and the line that did."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = '' if place.filename == __file__ else f' ({place.filename}, line {place.lineno})'
    return f'{self.kind} {self.name!r} raised {type(error).__name__}: {error}{where}'


def find(kind: str, name: str, trusted: bool = True) -> Part:
  """Finds a part by its name, and imports what it names.

  Args:
    kind: one of `KINDS`.
    name: a known one, `PREFIX:ARGUMENT`, or `package.module:factory`.
    trusted: False refuses all but known names: nothing is imported that others wrote.

  Returns:
    The part.

  Raises:
    ValueError: there is no such name, or it cannot be imported.
  """
  known, prefixes = NAMES[kind], PREFIXES.get(kind, {})
  head, _, argument = str(name).partition(':')
  if name in known or (argument and head in prefixes):
    return _ours(kind, name, known[head], prefixes.get(head, ''))
  if not _DOTTED.fullmatch(str(name)):
    raise ValueError(_unknown(kind, name))
  if not trusted:
    raise ValueError(f'{kind} {name!r} is of another package and is imported only on trust')
  factory = _import(kind, name)
  return Part(kind, name, re.split('[.:]', name)[-1], factory, options_lib.of(factory), {}, True)


@functools.lru_cache(maxsize=1024)  # a plan asks for each once a cell, a few times
def _ours(kind: str, name: str, place: str, option: str) -> Part:
  """A part of this package, at a place; what stands behind a colon is an option."""
  head, _, argument = str(name).partition(':')
  factory = pkgutil.resolve_name(place)
  bound = {option: argument} if argument else {}
  return Part(kind, name, head, factory, options_lib.of(factory), bound, outside=False)


def chain(kind: str, name: str, trusted: bool = True) -> list[Part]:
  """The parts of a name: augmentations are chained by `+`, all else is one part.

  Args:
    kind: one of `KINDS`.
    name: as for `find`; of an augmentation, one or several joined by `+`.
    trusted: as for `find`.

  Returns:
    The parts in order.

  Raises:
    ValueError: every fault, among them a part that comes twice.
  """
  faults, parts = [], []
  for one in str(name).split('+') if kind in CHAINED else (name,):
    try:
      parts.append(find(kind, one, trusted))
    except ValueError as e:
      faults.append(str(e))
  shorts = [part.short for part in parts]
  for short in dict.fromkeys(shorts):
    if shorts.count(short) > 1:
      faults.append(f'{kind} {name!r} names {short} more than once')
  if faults:
    raise ValueError('\n'.join(dict.fromkeys(faults)))
  return parts


def divide(
  parts: Sequence[Part], given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
  """Divides options among the parts that share them.

  Args:
    parts: of `chain`.
    given: options by name; `{short: {option: value}}` are those of one part only.

  Returns:
    (for each part its own, what no part knows, dotted).

  Raises:
    ValueError: an option that several parts own, or that is given twice.
  """
  found: dict[str, dict[str, Any]] = {part.short: {} for part in parts}
  known = {(part.short, option) for part in parts for option in part.options}
  faults, unknown = [], []
  for name, value in given.items():
    nested = isinstance(value, Mapping) and (value or name in found)
    places = {(name, o): v for o, v in value.items()} if nested else {}
    owners = [part.short for part in parts if name in part.options and not nested]
    if len(owners) > 1:
      spelt = ' or '.join(f'{parts[0].kind}_options.{short}.{name}' for short in owners)
      faults.append(f'option {name} is of {" and ".join(owners)}: write {spelt}')
      continue
    if not nested:
      places = {(owners[0], name): value} if owners else {}
      unknown += [] if owners else [name]
    for (short, option), v in places.items():
      if (short, option) not in known:
        unknown.append(f'{short}.{option}')
      elif option in found[short]:
        faults.append(f'option {option} of {short} is given twice')
      else:
        found[short][option] = v
  if faults:
    raise ValueError('\n'.join(faults))
  return list(found.values()), unknown


def unknown_option(parts: Sequence[Part], path: str) -> str:
  """Says that parts have no such option, and which they have.

  Args:
    parts: of `chain`.
    path: of `divide`: an option, or a part and an option.

  Returns:
    The message.
  """
  short, _, option = path.rpartition('.')
  by_short = {part.short: part for part in parts}
  try:
    if short and short not in by_short:
      check(f'part with options in {parts[0].kind} {"+".join(by_short)!r}', short, by_short)
    asked = [by_short[short]] if short else parts
    known = [o for part in asked for o in part.options]
    check(f'option of {" or ".join(part.short for part in asked)}', option, known)
  except ValueError as e:
    return str(e)
  return ''


def name_of(kind: str, factory: Callable) -> str:
  """The name by which a factory can be found again.

  Args:
    kind: one of `KINDS`.
    factory: a function at the top of a module, or of a notebook.

  Returns:
    `module:function`.

  Raises:
    ValueError: it is not found by that name.
  """
  name = f'{factory.__module__}:{factory.__qualname__}'
  found = find(kind, name).factory if _DOTTED.fullmatch(name) else None
  if found is not factory:
    raise ValueError(f'{kind}={name} is not found by that name: define it at the top of a module')
  return name


def search_last(folder: str | os.PathLike) -> None:
  """Lets modules be found in a folder, after all other places, wherever Python put it before.

  Args:
    folder: of the launch.
  """
  folder = os.path.abspath(folder)
  others = [place for place in sys.path if os.path.abspath(place or os.curdir) != folder]
  sys.path[:] = [*others, folder]
  importlib.invalidate_caches()


def _import(kind: str, name: str) -> Callable:
  """The factory that `package.module:factory` names."""
  module = name.partition(':')[0]
  try:
    factory = pkgutil.resolve_name(name)
  except ModuleNotFoundError as e:
    if not f'{module}.'.startswith(f'{e.name}.'):
      raise ValueError(f'{kind} {name!r}: importing it raised ModuleNotFoundError: {e}') from e
    raise ValueError(_unknown(kind, name, f', there is no module {e.name!r}')) from e
  except AttributeError as e:
    if module not in sys.modules:  # it was not the factory that was missing
      raise ValueError(f'{kind} {name!r}: importing it raised AttributeError: {e}') from e
    found = [key for key, value in vars(sys.modules[module]).items() if callable(value)]
    close = closest(name.partition(':')[2], found)
    hint = f'; did you mean {close!r}?' if close else ''
    raise ValueError(f'{kind} {name!r}: {e}{hint}') from e
  except (Exception, SystemExit) as e:  # a module is a program, anything can happen in it
    raise ValueError(f'{kind} {name!r}: importing it raised {type(e).__name__}: {e}') from e
  if not callable(factory):
    raise ValueError(f'{kind} {name!r} is a {type(factory).__name__}, not a factory')
  return factory


def _spelt(kind: str, name: str) -> str:
  """A known name as it is typed: `npz` with what stands behind its colon."""
  argument = PREFIXES.get(kind, {}).get(name)
  return f'{name}:{argument.upper()}' if argument else name


def _unknown(kind: str, name: object, why: str = '') -> str:
  """Says that there is no such name, with the closest one and all known."""
  head = str(name).partition(':')[0]
  # A module is a misspelt prefix at most: known names have no colon.
  close = closest(head, PREFIXES.get(kind, {}) if _DOTTED.fullmatch(str(name)) else NAMES[kind])
  hint = f'; did you mean {_spelt(kind, close)!r}?' if close else ''
  known = ', '.join(_spelt(kind, one) for one in NAMES[kind])
  return f'unknown {kind} {name!r}{why}{hint} (known: {known}, or package.module:factory)'
