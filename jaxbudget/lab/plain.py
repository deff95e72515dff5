"""Text from outside, shown as it is: never markup, never a command to the terminal.

Workdirs, class names, errors and options may hold `[brackets]`, `:smile:`, `$` or escape
sequences. What is printed goes through here.
"""

import rich.console
import rich.text


def text(value: object) -> str:
  r"""Any value as one can safely print it; control characters are written out, as in `\x1b`.

  Args:
    value: anything.

  Returns:
    The text, with line ends kept. Half of a surrogate pair (a file name that is no UTF-8) is
    written out too, so that the text can be encoded.
  """
  said = str(value)
  if said.isprintable():
    return said
  return ''.join(c if c.isprintable() or c == '\n' else _written_out(c) for c in said)


def _written_out(character: str) -> str:
  return ' ' if character == '\t' else ascii(character)[1:-1]


def rich_text(value: object, style: str = '') -> rich.text.Text:
  """The same as rich shows it, without looking for markup or emoji in it."""
  return rich.text.Text(text(value), style)


def say(console: rich.console.Console, value: object) -> None:
  """Prints a sentence; lines longer than the terminal are its to wrap.

  Args:
    console: to print to.
    value: what to say.
  """
  console.print(rich_text(value), soft_wrap=True)


def make_console(**options) -> rich.console.Console:
  """A console that takes no text for markup.

  Args:
    **options: of `rich.console.Console`.

  Returns:
    The console.
  """
  return rich.console.Console(highlight=False, markup=False, emoji=False, **options)
