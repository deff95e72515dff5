"""What submitit carries to a node: a task of a job, and what to do when its time is up.

Pickled with its code, not by its module's name: to read it back imports neither JAX nor this
package. So submitit's signal handlers stand before these are loaded, which can take long, and a
warning that comes then is not the end of the task.
"""

import signal
import sys
from typing import Any


class Work:
  """A task of a job.

  Args:
    directory: of the job, absolute.
    task: which one.
  """

  def __init__(self, directory: str, task: int):
    self.directory, self.task = directory, task

  def __call__(self) -> None:
    """Trains the runs of the task; ends the process with the exit code if that is not 0."""
    import pathlib

    from jaxbudget.lab.run import process
    from jaxbudget.lab.sweep import jobs

    process.guard_streams()
    process.collect_less()
    code = jobs.work(pathlib.Path(self.directory), self.task)
    if code == 128 + signal.SIGUSR2:  # saved; now submitit may requeue
      signal.raise_signal(signal.SIGUSR2)
    if code:
      sys.exit(code)

  def checkpoint(self) -> Any:
    """What submitit requeues: the same again."""
    import submitit

    return submitit.helpers.DelayedSubmission(self)
