"""Progress bars for slow work on data."""

import contextlib
from collections.abc import Iterator

import rich.console
import rich.progress

from jaxbudget.data.dataset import Progress


@contextlib.contextmanager
def progress_bars(console: rich.console.Console | None = None) -> Iterator[Progress]:
  """Shows a bar with the time left for each task; silent if this is not a terminal.

  Args:
    console: where to draw; None is standard error.

  Yields:
    What `load` takes as `progress`.
  """
  console = console or rich.console.Console(stderr=True)
  columns = (
    rich.progress.TextColumn('{task.description}', markup=False),
    rich.progress.BarColumn(),
    rich.progress.TaskProgressColumn(),
    rich.progress.TimeRemainingColumn(),
  )
  with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bars:
    tasks = {}

    def progress(task: str, done: int, total: int | None) -> None:
      if task not in tasks:
        tasks[task] = bars.add_task(task, total=total)
      bars.update(tasks[task], completed=done, total=total)

    yield progress
