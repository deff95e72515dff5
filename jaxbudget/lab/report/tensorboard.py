"""TensorBoard event files of a workdir's runs (optional extra `tensorboard`)."""

import importlib.util
import math
import pathlib
import shutil
import tempfile
import time

from jaxbudget.lab.report.load import Workdir, load_epochs

_TAGS = {
  'train_loss': 'loss/train',
  'train_accuracy': 'accuracy/train',
  'test_accuracy': 'accuracy/test',
  'entropy_nats': 'selection/entropy_nats',
  'lr': 'schedule/learning_rate',
  'cost_forward_equivalents': 'cost/forward_equivalents',
}
_NAME = 'events.out.tfevents.0.jaxbudget'


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
  with tempfile.TemporaryDirectory(dir=root, prefix='.') as temporary:
    for run_id in workdir.runs.loc[workdir.runs['has_metrics'], 'run_id']:
      target = root / run_id
      metrics = workdir.path / 'runs' / run_id / 'metrics.jsonl'
      if target.exists() and target.stat().st_mtime > metrics.stat().st_mtime:
        continue
      directory = pathlib.Path(temporary) / 'run'
      directory.mkdir()
      _write_run(directory / _NAME, load_epochs(workdir, run_id))
      shutil.rmtree(target, ignore_errors=True)
      directory.rename(target)
  return root


def _write_run(file: pathlib.Path, rows: list[dict[str, float]]) -> None:
  """Writes the events of one run, all figures of an epoch in one: a tenth of the time."""
  from tensorboardX.proto import event_pb2, summary_pb2  # the extra may be absent
  from tensorboardX.record_writer import RecordWriter

  names = {name for row in rows for name in row if name.startswith('selector_')}
  tags = _TAGS | {name: name.replace('_', '/', 1) for name in sorted(names)}
  writer = RecordWriter(str(file))
  writer.write(event_pb2.Event(file_version='brain.Event:2').SerializeToString())
  written = time.time()
  for row in rows:
    values = [
      summary_pb2.Summary.Value(tag=tag, simple_value=row[name])
      for name, tag in tags.items()
      if math.isfinite(row.get(name, math.nan))
    ]
    summary = summary_pb2.Summary(value=values)
    event = event_pb2.Event(wall_time=written, step=int(row['epoch']), summary=summary)
    writer.write(event.SerializeToString())
  writer.close()
