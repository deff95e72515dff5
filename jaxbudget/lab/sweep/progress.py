"""How a launch is seen while it runs: bars in a terminal, lines in a file or a pipe."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import progress as rich_progress
from rich.console import Console

from jaxbudget.lab import plain
from jaxbudget.lab.run.run import Run
from jaxbudget.lab.sweep import notebook
from jaxbudget.lab.sweep.duration import duration

_PART, _OFTEN, _LONG = 0.1, 10.0, 300.0  # a line for a tenth of a run, at most, and at least: s
_WAITED = 0.03  # of the time of an epoch, from which waiting for data is told


def show(
  console: Console,
  runs: Sequence[Run] = (),
  brief: bool = False,
  everywhere: Callable[[], float] | None = None,
) -> 'Launch | notebook.Bars':
  """What shows the progress of a launch on a console; to be used in a `with` block.

  Args:
    console: to show it on.
    runs: of the launch.
    brief: no lines of progress, for somebody else shows it.
    everywhere: seconds that all will take, if others train some of them too.

  Returns:
    Something with the methods of `Launch`: bars in a terminal or a notebook, else lines.
  """
  if console.is_jupyter and not console.quiet:
    return notebook.Bars(len(runs))
  in_terminal = console.is_terminal and not console.quiet
  return Launch(runs, Bars(console) if in_terminal else Lines(console, brief), everywhere)


class Launch:
  """How far a launch is, and how long it will go on at its pace so far.

  Args:
    runs: of the launch; what one costs is what it is planned to.
    view: shown this whenever it changes.
    everywhere: as of `show`.
  """

  def __init__(
    self,
    runs: Sequence[Run],
    view: 'Bars | Lines',
    everywhere: Callable[[], float] | None = None,
  ):
    self._everywhere = everywhere
    self._work = {run.run_id: max(1, run.planned.forward_equivalents) for run in runs}
    self._total = sum(self._work.values()) or 1
    self._over = 0  # work of runs that are settled
    self._settled = 0
    self._done = self._seconds = 0.0  # work done here by runs that have ended, and its time
    self._start = self._first = math.nan  # of the run under way
    self._view = view
    self.run: Run | None = None
    self.share = 0.0  # of the run under way
    self.figures = ''  # loss and score of its last epochs

  def __enter__(self):
    self._view.start()
    return self

  def __exit__(self, *raised):
    self._view.stop()

  def say(self, line: str) -> None:
    """Prints a line."""
    self._view.say(line)

  finished = say

  def begin(self, run: Run) -> None:
    """The training of a run begins, or goes on from a checkpoint."""
    self.run, self.share, self.figures = run, 0.0, ''
    self._start = self._first = math.nan
    self._view.begin(self)

  def update(self, epochs: float) -> None:
    """It has come so far."""
    self.share = epochs / self.run.parts.selector.facts.epochs
    if math.isnan(self._first):  # compilation is over
      self._start, self._first = time.monotonic(), self.share
    self._view.update(self)

  def told(self, line: Mapping[str, Any]) -> None:
    """An epoch has left a line of metrics."""
    self.figures = in_words(self.run, line) or self.figures

  def end(self) -> None:
    """It has ended, or was stopped."""
    work, seconds = self._under_way()
    self._done, self._seconds, self.run = self._done + work, self._seconds + seconds, None
    self._view.update(self)

  def settled(self, run_id: str) -> None:
    """Nothing is left to do for a run, whoever trained it."""
    self._settled += 1
    self._over += self._work.get(run_id, 0)
    self._view.update(self)

  def _own(self) -> int:
    return self._work.get(self.run.run_id, 1) if self.run else 0

  def _under_way(self) -> tuple[float, float]:
    if self.run is None or math.isnan(self._first):
      return 0.0, 0.0
    return self._own() * (self.share - self._first), time.monotonic() - self._start

  @property
  def where(self) -> str:
    """The place of the run under way: `run 7 of 39`."""
    return f'run {min(self._settled + 1, len(self._work))} of {len(self._work)}'

  @property
  def epoch(self) -> str:
    """Where the run under way is, and its last figures."""
    epochs = self.run.parts.selector.facts.epochs
    now = min(epochs, math.floor(self.share * epochs + 1e-6) + 1)
    return ', '.join(filter(None, (f'epoch {now} of {epochs}', self.figures)))

  @property
  def part(self) -> float:
    """Of all the work there is, how much is done."""
    return (self._over + self._own() * self.share) / self._total

  @property
  def left(self) -> tuple[float, float]:
    """Seconds that the run under way, and all together, will take; NaN if nothing is known."""
    work, seconds = self._under_way()
    work, seconds = work + self._done, seconds + self._seconds
    pace = seconds / work if work > 0 else math.nan
    own = pace * self._own() * (1 - self.share)
    return own, self._everywhere() if self._everywhere else pace * self._total * (1 - self.part)


def in_words(run: Run, line: Mapping[str, Any]) -> str:
  """Loss and score of an epoch.

  Args:
    run: that is trained.
    line: of its metrics.jsonl.

  Returns:
    Such as `loss 0.521, accuracy 88.3 %`, and if training waited for data how much of its time;
    '' where it has nothing.
  """
  score = line.get('test_score')
  found = [f'loss {line["train_loss"]:.3f}'] if line.get('steps') else []
  found += [] if score is None else [f'{run.parts.task.score_name} {score:.1f} %']
  seconds = line.get('seconds', {})
  waited = seconds.get('data_wait', 0.0)
  waited = waited and waited / (seconds['train'] + seconds['evaluate'])
  found += [f'waits for data {100 * waited:.0f} % of the time'] if waited >= _WAITED else []
  return ', '.join(found)


class Bars:
  """Two bars at the foot of a terminal: all runs, and the one under way."""

  def __init__(self, console: Console):
    self._bars = rich_progress.Progress(
      rich_progress.TextColumn('{task.description}', markup=False),
      rich_progress.BarColumn(bar_width=12),
      rich_progress.TextColumn('{task.fields[state]}', markup=False),
      console=console,
      transient=True,
    )
    self._all = self._bars.add_task('', total=1, state='')
    self._one = self._bars.add_task('', total=1, state='', visible=False)
    self.start, self.stop = self._bars.start, self._bars.stop

  def say(self, line: str) -> None:
    """Prints a line above the bars."""
    plain.say(self._bars.console, line)

  def begin(self, launch: Launch) -> None:
    """Shows the run that is trained now, its method first, for what is too long is cut."""
    cell = launch.run.cell
    what = plain.text(f'{cell.selector} B={cell.budget:g} seed {launch.run.seed}')
    self._bars.reset(self._one, description=what, visible=True)
    self.update(launch)

  def update(self, launch: Launch) -> None:
    """Moves both."""
    left = launch.left[1]
    state = '' if math.isnan(left) else f'{duration(left)} left'
    where = launch.where
    self._bars.update(self._all, description=where, completed=launch.part, state=state)
    one = {'completed': launch.share, 'state': plain.text(launch.epoch)} if launch.run else {}
    self._bars.update(self._one, visible=launch.run is not None, **one)


class Lines:
  """Where there is no terminal: a line every tenth of a run, but not often, and every 5 minutes."""

  def __init__(self, console: Console, brief: bool = False):
    self._console, self._brief = console, brief
    self._said = self._said_at = 0.0

  def start(self) -> None:
    """Nothing to prepare."""

  def stop(self) -> None:
    """Nothing to take away."""

  def say(self, line: str) -> None:
    """Prints a line."""
    plain.say(self._console, line)

  def begin(self, launch: Launch) -> None:
    """Says nothing yet."""
    del launch
    self._said, self._said_at = 0.0, time.monotonic()

  def update(self, launch: Launch) -> None:
    """Says how far it is, if it is time to."""
    since = time.monotonic() - self._said_at
    tenth = launch.share - self._said >= _PART and since > _OFTEN and launch.figures
    due = tenth or since > _LONG
    if launch.run and launch.share < 1 and due and not self._brief:
      self._said, self._said_at = launch.share, time.monotonic()
      own, every = (duration(left) for left in launch.left)
      where = f'{launch.where}, {launch.run.run_id}'
      self.say(f'{where}: {launch.epoch}, {own} left, {every} for all')
