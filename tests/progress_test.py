"""What is seen of a launch: bars in a terminal, lines elsewhere, time left by the work planned."""

import io

import numpy as np
import pytest
import rich.console

from jaxbudget.lab import config, plain
from jaxbudget.lab.sweep import inputs, progress

VALUES = dict(dataset='digits', model='resnet8', epochs=10, batch_size=32, seeds=1)
LINE = {'steps': 4, 'train_loss': 0.5214, 'test_score': 88.33}


@pytest.fixture(scope='module')
def runs():
  """One that costs three times as much as each of the others, behind them."""
  grid = {'budget': 0.1}, {'budget': 0.1, 'selector': 'p_sgd'}, {'budget': 0.3}
  return inputs.plan_runs(config.defaults(**VALUES, grid=grid))[1]


@pytest.fixture
def clock(monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  return now


class Mute:
  """A view that shows nothing."""

  def begin(self, launch):
    """Shows nothing."""

  update = begin


def test_time_left_is_by_planned_work_of_what_was_trained_here(runs, clock):
  work = [run.planned.forward_equivalents for run in runs]
  launch = progress.Launch(runs, Mute())
  assert np.isnan(launch.left).all() and launch.where == 'run 1 of 3'
  launch.settled(runs[0].run_id)  # done before
  launch.begin(runs[1])
  launch.update(4.0)  # of a checkpoint, which took no time now
  assert np.isnan(launch.left).all()
  clock[0] += 60.0
  launch.update(7.0)
  pace = 60.0 / (0.3 * work[1])
  np.testing.assert_allclose(launch.left, (0.3 * work[1] * pace, pace * (0.3 * work[1] + work[2])))
  assert launch.where == 'run 2 of 3'
  np.testing.assert_allclose(launch.part, (work[0] + 0.7 * work[1]) / sum(work))
  clock[0] += 60.0
  launch.update(10.0)
  launch.end()
  launch.settled(runs[1].run_id)
  pace = 120.0 / (0.6 * work[1])
  np.testing.assert_allclose(launch.left, (0.0, pace * work[2]))


def test_figures_of_an_epoch_in_words(runs):
  assert progress.in_words(runs[0], LINE) == 'loss 0.521, accuracy 88.3 %'
  assert progress.in_words(runs[0], LINE | {'test_score': None}) == 'loss 0.521'
  assert progress.in_words(runs[0], LINE | {'steps': 0, 'test_score': None}) == ''
  seconds = {'train': 6.0, 'evaluate': 2.0, 'data_wait': 2.0}
  told = progress.in_words(runs[0], LINE | {'seconds': seconds})
  assert told == 'loss 0.521, accuracy 88.3 %, waits for data 25 % of the time'
  few = LINE | {'seconds': seconds | {'data_wait': 0.1}}
  assert progress.in_words(runs[0], few) == 'loss 0.521, accuracy 88.3 %'


def test_lines_come_every_tenth_but_not_often_and_every_five_minutes(runs, clock):
  file = io.StringIO()
  with progress.show(plain.make_console(file=file, width=40), runs) as bars:
    bars.begin(runs[2])
    for tenth_of_epochs in range(101):
      bars.update(tenth_of_epochs / 10)
      bars.told(LINE)
      clock[0] += 2.0  # 20 s for each tenth of the run
    quick = file.getvalue().splitlines()
    bars.end()
    bars.begin(runs[2])
    for step in range(1, 20):  # ever at the beginning of the first epoch
      clock[0] += 61.0
      bars.update(step / 1000)
    slow = file.getvalue().splitlines()[len(quick) :]
  assert len(quick) == 9 and len(slow) == 19 // 5
  assert quick[0] == (
    f'run 1 of 3, {runs[2].run_id}: epoch 2 of 10, loss 0.521, accuracy 88.3 %, 3.0 min left, '
    '5.1 min for all'
  )


def test_runs_that_others_train_too_are_not_counted_as_ones_own(runs, clock):
  file = io.StringIO()
  console = plain.make_console(file=file, width=40)
  with progress.show(console, runs, everywhere=lambda: 90.0) as bars:
    bars.begin(runs[2])
    for epochs in (0.0, 5.0):
      bars.update(epochs)
      bars.told(LINE)
      clock[0] += 400.0
  assert file.getvalue().endswith('6.7 min left, 90.0 s for all\n')


@pytest.mark.parametrize('width', [80, 120])
def test_bars_fit_the_terminal_and_never_cut_the_method(runs, clock, width):
  file = io.StringIO()
  console = rich.console.Console(file=file, width=width, force_terminal=True, color_system=None)
  with progress.show(console, runs) as bars:
    bars.begin(runs[1])
    bars.update(0.0)
    bars.told(LINE)
    clock[0] += 60.0
    bars.update(3.0)
    shown = [plain.text(line) for line in _last(bars, width)]
  assert shown[0].startswith('run 1 of 3') and shown[0].rstrip().endswith('16.5 min left')
  assert shown[1].startswith('p_sgd B=0.1 seed 0')
  assert shown[1].rstrip().endswith('epoch 4 of 10, loss 0.521, accuracy 88.3 %')
  assert all(len(line.rstrip()) <= width for line in shown)


def _last(bars, width):
  """What stands at the foot of the terminal."""
  file = io.StringIO()
  rich.console.Console(file=file, width=width).print(bars._view._bars.get_renderable())
  return file.getvalue().splitlines()
