"""From Python: plan, train and compare, in a script or a notebook.

    from jaxbudget.lab import api
    study = api.run(dataset='digits', model='resnet8', epochs=10, batch_size=32,
                    selector=['unif_sgd', 'p_sgd'], budget=[.1, .3], seeds=3)
    study.frame, study.compare(), study.plot(), study.report()

The files are those of the launcher: a workdir may be begun here and finished there.
"""

import dataclasses
import numbers
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxbudget import factories, paths, registry
from jaxbudget.lab import alternatives, launcher, plain
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import report as report_lib
from jaxbudget.lab.run import files, process
from jaxbudget.lab.sweep import inputs, local, outside, plan_file
from jaxbudget.lab.sweep import workers as workers_lib

if TYPE_CHECKING:  # pandas and matplotlib are slow to import, and not wanted before the end
  import pandas as pd
  from matplotlib.axes import Axes

_FRAME = (
  'run_id', 'cell_id', 'seed', 'dataset', 'model', 'augment', 'schedule', 'method', 'selector',
  'budget', 'budget_unit', 'epochs', 'batch_size', 'fidelity', 'is_scoring', 'status',
  'error',
  'score_name', 'final_accuracy', 'best_accuracy', 'cost', 'realised_budget', 'entropy_nats',
  'rows', 'forward_scored', 'forward_trained', 'backward', 'forward_equivalents',
  'forward_evaluated', 'flops', 'seconds_data', 'seconds_compile', 'seconds_train',
  'seconds_evaluate',
)  # fmt: skip
_WHOLE = (  # numbers of things; NA where a run has not come so far
  'seed', 'epochs', 'batch_size', 'rows', 'forward_scored', 'forward_trained', 'backward',
  'forward_evaluated',
)  # fmt: skip
_COMPARED = {
  'dataset': 'dataset', 'model': 'model', 'augment': 'augment', 'schedule': 'schedule',
  'epochs': 'epochs', 'budget': 'budget', 'method': 'method', 'cost': 'cost',
  'accuracy': 'accuracy', 'baseline': 'baseline', 'mean': 'difference', 'se': 'se', 'low': 'low',
  'high': 'high', 'n': 'seeds', 'p': 'p', 'p_holm': 'p_holm', 'verdict': 'verdict',
  'same_budget': 'at_equal_budget', 'state': 'state', 'reason': 'reason',
}  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class Study:
  """A workdir as it was when it was read: its runs, and what they show.

  Attributes:
    path: the workdir.
    loaded: what a report is made of, see `jaxbudget.lab.report.load.Workdir`.
    allow: fields in which compared runs may differ.
  """

  path: pathlib.Path
  loaded: Any
  allow: tuple[str, ...] = ()

  @property
  def frame(self) -> 'pd.DataFrame':
    """One row a run, planned or finished.

    Accuracies are in percent; of a task that has none, its score stands in their place, as
    `score_name` says. `error` is what a run that failed said last. `entropy_nats` in nats,
    `seconds_*` in seconds. `rows` counts steps, `forward_*`, `backward` and `forward_equivalents`
    samples, and `cost` is `forward_equivalents`, with those of the runs that it needs, in units of
    a full training (3TN: T epochs over N samples, a forward pass counting 1 and a backward pass 2).
    """
    return self.loaded.runs[list(_FRAME)].astype(dict.fromkeys(_WHOLE, 'Int64'))

  def compare(self) -> 'pd.DataFrame':
    """What methods gain over uniform sampling that costs the same, paired by seed.

    Returns:
      One row a cell that is not baseline. `difference` (points of accuracy) is `accuracy` less
      `baseline`, unif_sgd interpolated at the same `cost` seed by seed, all means over the `seeds`
      that are paired; `se`, `low`, `high` are its standard error and 95% interval; `p` is of an
      exact two-sided sign-flip test, `p_holm` the same after Holm's correction over all rows;
      `verdict` says what that amounts to. Where there is no comparison `state` and `reason` say
      why; where one lacks seeds `reason` alone says so.

    Raises:
      ValueError: an unknown field in `allow`.
    """
    from jaxbudget.lab.report import frontier

    compared = frontier.equal_compute(self.loaded, self.allow)
    return compared[list(_COMPARED)].rename(columns=_COMPARED)

  def plot(self, ax: 'Axes | Sequence[Axes] | None' = None) -> 'Axes | np.ndarray':
    """Draws accuracy against cost, with 95% intervals over seeds.

    Args:
      ax: to draw on; one for each data set, network, augmentation and schedule. Made by
        pyplot if there is none.

    Returns:
      The axes; an array of them if there are several.

    Raises:
      ValueError: no run has finished, or the number of axes is another.
    """
    from matplotlib import pyplot

    from jaxbudget.lab.report import figures, picture

    drawings = list(figures.frontiers(self.loaded))
    if not drawings:
      raise ValueError(f'there is nothing to plot: no run in {self.path} has finished')
    figure = None
    if ax is None:  # outside of the settings, which would undo what a notebook sets up with it
      figure = pyplot.figure(figsize=(5.6 * len(drawings), 3.9), layout='constrained')
    with picture.settings():
      axes = np.atleast_1d(figure.subplots(1, len(drawings)) if figure else ax)
      if len(axes) != len(drawings):
        names = '; '.join(drawing.title for drawing in drawings)
        raise ValueError(f'{len(axes)} axes for {len(drawings)} frontiers: {names}')
      for one, drawing in zip(axes, drawings, strict=True):
        (panel,) = drawing.picture()['panels']
        picture.draw_panel(one, panel)
        one.set_title(picture.words(panel['title']))
        one.legend()
    return axes[0] if len(axes) == 1 else axes

  def report(self, figures: str = 'page') -> pathlib.Path:
    """Writes `report/` into the workdir, as `--stage=report` does.

    Args:
      figures: to draw, those that the page shows, `all`, or `none`.

    Returns:
      Path of the page, one HTML file.

    Raises:
      ValueError: an unknown field in `allow`.
    """
    from jaxbudget.lab.paper.sections import sections

    return report_lib.write_report(self.loaded, self.allow, [sections], figures)

  def __repr__(self) -> str:
    counts = self.loaded.runs['status'].value_counts()
    return f'Study({str(self.path)!r}: {", ".join(f"{n} {name}" for name, n in counts.items())})'


def load(workdir: str | os.PathLike, allow: Sequence[str] = ()) -> Study:
  """Reads a workdir, finished or still training, whoever launched it.

  Args:
    workdir: that `run` or the launcher has written.
    allow: fields in which compared runs may differ; reports say so.

  Returns:
    The study.

  Raises:
    ValueError: there is no such directory.
  """
  path, allow = paths.expand(workdir), _listed(allow)
  return Study(path, report_lib.load_workdir(path, allow), allow)


def _listed(allow: str | Sequence[str]) -> tuple[str, ...]:
  """Fields as a tuple; a text is one field, not its letters."""
  return (allow,) if isinstance(allow, str) else tuple(allow)


def run(
  *,
  workdir: str | os.PathLike | None = None,
  allow: Sequence[str] = (),
  resume: str = 'auto',
  workers: int = 1,
  progress: bool = True,
  **values: Any,
) -> Study:
  """Plans, trains what is not finished, and reads what came out.

  Ctrl-C, or the stop button of a notebook, saves the run in hand; the same call with the same
  workdir goes on where it stopped.

  Args:
    workdir: where results go; None for a temporary one, whose path is told.
    allow: fields in which compared runs may differ; reports say so.
    resume: `auto`, or `force` to go on from checkpoints of other code, versions or devices.
    workers: processes that train; 1 is this one.
    progress: whether to show it.
    **values: by key of `jaxbudget.lab.config.defaults`; a list holds alternatives, and every
      combination is a cell. Options are nested, `selector_options={'floor': [.1, 1.]}`, and
      `seeds=3` stands for 0, 1 and 2. A part may be a function.

  Returns:
    The study, whatever became of its runs: `frame['status']` tells.

  Raises:
    ValueError: a refused config or data; every fault in one message, and nothing is written.
    KeyboardInterrupt: it was stopped, and saved.
    OSError: a file could not be written.
  """
  factories.search_last(os.curdir)
  inputs.use_compilation_cache()
  allow = _listed(allow)
  _check_call(allow, resume, workers)
  config = config_of(**values)
  datasets, runs = inputs.begin(config)
  inputs.load_data(datasets, runs)
  if workers > 1:
    outside.check(runs)
  # A reader of the output that leaves must not end what is trained.
  out = process.forgiving(sys.stdout)
  if workdir is None:
    workdir = tempfile.mkdtemp(prefix='jaxbudget-')
    print(plain.text(f'workdir: {workdir}'), file=out, flush=True)
  workdir = paths.expand(workdir)
  launcher.check_writable(workdir)
  console = plain.make_console(file=out, quiet=not progress)
  plan_file.write(runs, workdir, _told(workdir, values))
  if workers > 1:
    code = workers_lib.run_all(config, runs, workdir, workers, console, resume)
  else:
    code = local.run_all(runs, datasets, workdir / 'runs', console, resume)
  if code > 128:
    raise KeyboardInterrupt(f'stopped and saved in {workdir}; run again with this workdir to go on')
  study = load(workdir, allow)
  if code:
    warnings.warn(f'runs failed or were refused: {study}{_first_error(study)}', stacklevel=2)
  return study


def _first_error(study: Study) -> str:
  """What the first run said that has an error, and where all of it is."""
  runs = study.loaded.runs
  for run_id, error in runs.loc[runs['error'] != '', ['run_id', 'error']].itertuples(index=False):
    log = study.path / 'runs' / run_id / files.ERROR
    return f'; run {run_id}: {error}' + (f' (see {log})' if log.is_file() else '')
  return ''


def _check_call(allow: Sequence[str], resume: str, workers: int) -> None:
  """Refuses what is said beside the config.

  Raises:
    ValueError: every fault, one a line.
  """
  from jaxbudget.lab.report import comparability

  faults = []
  for check, *arguments in (
    (comparability.check_launched, allow),
    (registry.check, 'resume', resume, ('auto', 'force')),
  ):
    try:
      check(*arguments)
    except ValueError as e:
      faults.append(str(e))
  if not isinstance(workers, numbers.Integral) or workers < 1:
    faults.append(f'workers={workers!r}: it must be a whole number from 1 on')
  elif workers > workers_lib.most():
    faults.append(f'workers={workers}: at most {workers_lib.most()}')
  if faults:
    raise ValueError('\n'.join(faults))


def config_of(**values: Any):
  """The config of `run`: lists are alternatives, and every combination is a cell.

  Args:
    **values: by key of `jaxbudget.lab.config.defaults`.

  Returns:
    A locked config.

  Raises:
    ValueError: unknown keys and wrong values, all in one message.
  """
  flat = dict(config_lib.flatten(values))
  swept = {key: value for key, value in flat.items() if isinstance(value, list) and key != 'seeds'}
  swept.pop('grid', None)
  faults, config = [], config_lib.defaults()
  fixed = {key: value for key, value in flat.items() if key not in swept}
  try:
    config = config_lib.defaults(**fixed)
  except ValueError as e:
    faults.append(str(e))
  empty = [f'{key}=[] has no alternative' for key, found in swept.items() if not found]
  try:
    if swept:
      alternatives.multiply(config, {key: found for key, found in swept.items() if found})
  except ValueError as e:
    faults.append(str(e))
  if faults or empty:
    raise ValueError('\n'.join([*faults, *empty]))
  return config


def _told(workdir: pathlib.Path, values: dict[str, Any]) -> str:
  """The call, for the report."""
  given = ', '.join(f'{key}={value!r}' for key, value in values.items())
  return f'api.run({given}, workdir={str(workdir)!r})'
