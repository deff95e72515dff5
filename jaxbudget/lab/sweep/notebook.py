"""The progress of a launch in a notebook: one line below the cell, renewed in place.

It needs what every notebook has, IPython, and no widgets: the last state stays in the file.
"""

import html
import time
from collections.abc import Mapping
from typing import Any

from jaxbudget.lab import plain
from jaxbudget.lab.run.run import Run

_EVERY = 0.2  # seconds between pictures


class Bars:
  """What `local` tells its progress to.

  Args:
    count: of runs.
  """

  def __init__(self, count: int):
    self._count, self._done = count, 0
    self._now: tuple[str, float, float] | None = None  # a run, its epochs so far, of how many
    self._shown = 0.0
    self._display: Any = None

  def __enter__(self):
    from IPython import display  # there is one, or this would be no notebook

    self._html = display.HTML
    self._display = display.display(self._html(''), display_id=True)
    self._show()
    return self

  def __exit__(self, *raised):
    self._now = None
    self._show()

  def say(self, line: str) -> None:
    """Prints a line."""
    print(plain.text(line), flush=True)

  def finished(self, line: str) -> None:
    """Says nothing of a run that was trained: results are looked at below."""

  def settled(self, run_id: str) -> None:
    """Tells that a run is over, also if it was before."""
    del run_id
    self._done += 1
    self._show()

  def begin(self, run: Run) -> None:
    """Shows the run that is trained now."""
    self._now = run.run_id, 0.0, run.parts.selector.facts.epochs
    self._show()

  def update(self, epochs: float) -> None:
    """Moves its bar."""
    name, _, total = self._now
    self._now = name, epochs, total
    if time.monotonic() - self._shown > _EVERY:
      self._show()

  def told(self, line: Mapping[str, Any]) -> None:
    """Says nothing of its epochs."""

  def end(self) -> None:
    """It is trained, or stopped."""
    self._now = None

  def _show(self) -> None:
    self._shown = time.monotonic()
    name, epochs, total = self._now or ('', 0.0, 0.0)
    part = epochs / total if total else 0.0
    what = f', now {html.escape(plain.text(name))}, epoch {epochs:.1f} of {total:g}' if name else ''
    self._display.update(
      self._html(
        f'<progress max="{self._count}" value="{self._done + part:.3f}"></progress> '
        f'{self._done} of {self._count} runs{what}'
      )
    )
