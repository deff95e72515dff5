"""TensorBoard event files of a workdir's runs (optional extra `tensorboard`)."""

import importlib.util
import math
import pathlib
import shutil
import tempfile

from jaxbudget.lab.report.load import Workdir

_TAGS = {
  'train_loss': 'loss/train',
  'train_accuracy': 'accuracy/train',
  'test_accuracy': 'accuracy/test',
  'entropy_nats': 'selection/entropy_nats',
  'lr': 'schedule/learning_rate',
  'cost_forward_equivalents': 'cost/forward_equivalents',
}


def write_events(workdir: Workdir) -> pathlib.Path | None:
  """Writes `report/tensorboard/<run_id>/`, one directory of events per run.

  A run whose events are newer than its metrics is left alone.

  Args:
    workdir: a loaded workdir.

  Returns:
    The directory for `tensorboard --logdir`, or None if tensorboardX is not installed.
  """
  if importlib.util.find_spec('tensorboardX') is None:
    return None
  root = workdir.path / 'report' / 'tensorboard'
  root.mkdir(parents=True, exist_ok=True)
  for run_id, lines in workdir.epochs.groupby('run_id', sort=False):
    target = root / run_id
    metrics = workdir.path / 'runs' / run_id / 'metrics.jsonl'
    if target.exists() and target.stat().st_mtime > metrics.stat().st_mtime:
      continue
    with tempfile.TemporaryDirectory(dir=root, prefix='.') as temporary:
      _write_run(pathlib.Path(temporary) / 'run', lines)
      shutil.rmtree(target, ignore_errors=True)
      (pathlib.Path(temporary) / 'run').rename(target)
  return root


def _write_run(directory: pathlib.Path, lines) -> None:
  """Writes the events of one run, a step an epoch."""
  from tensorboardX import SummaryWriter  # the extra may be absent

  tags = _TAGS | {c: c.replace('_', '/', 1) for c in lines if c.startswith('selector_')}
  with SummaryWriter(str(directory), write_to_disk=True) as writer:
    for line in lines.to_dict('records'):
      for column, tag in tags.items():
        if not math.isnan(line[column]):
          writer.add_scalar(tag, line[column], int(line['epoch']))
