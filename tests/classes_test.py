"""Accuracy by class, and runs that are no better than guessing."""

import numpy as np
import pytest
import report_workdirs as workdirs

from jaxbudget.lab.report import load_workdir, tables
from jaxbudget.lab.run import classes, files


def test_recalls_and_their_mean():
  found = classes.summary(np.array([10, 0, 40]), np.array([5, 0, 40]))
  assert found == {
    'class_accuracy': [50.0, None, 100.0],
    'balanced_accuracy': 75.0,
    'majority_share': 80.0,
    'guessing': False,
  }
  assert classes.summary(np.zeros(0, int), np.zeros(0, int)) == {}, 'labels are numbers'
  assert classes.summary(np.array([4, 4]), np.zeros(0, int)) == {}, 'nobody counted by class'


@pytest.mark.parametrize(
  ('tested', 'correct', 'guessing'),
  [
    ([900, 100], [900, 0], True),  # always the majority
    ([900, 100], [810, 80], False),  # less accurate than that, but balanced: it has learned
    ([500, 500], [260, 255], True),  # 51.5 %, where chance gives 50 ± 1.6
    ([500, 500], [300, 300], False),
    ([2, 2], [2, 1], True),  # four samples show nothing
    ([100] * 10, [100] + 9 * [0], True),
    ([100] * 10, [12] * 10, False),  # 12 %, where chance gives 10 ± 0.95
  ],
)
def test_guessing_is_within_two_standard_errors_of_both_kinds_of_chance(tested, correct, guessing):
  found = classes.summary(np.array(tested), np.array(correct))
  assert found['guessing'] == guessing
  said = classes.warning(found)
  assert ('no better than guessing' in said) == guessing
  assert not guessing or f'{100 * max(tested) / sum(tested):.2f} %' in said


@pytest.mark.parametrize('count', [3, 40])
def test_the_report_tells_classes_apart(tmp_path, count):
  plan = workdirs.small_plan()
  workdirs.write_workdir(tmp_path, plan)
  names = [f'kind {i}' for i in range(count)]
  for run in plan:
    directory = tmp_path / 'runs' / run['run_id']
    result = files.read_json(directory / files.RESULT)
    each = [50.0 + run['seed'], *([100.0] * (count - 2)), None]
    more = {'class_accuracy': each, 'balanced_accuracy': 75.0, 'guessing': run['seed'] == 1}
    files.write_json(directory / files.RESULT, result | more)
    config = files.read_json(directory / files.CONFIG) or {}
    files.write_json(directory / files.CONFIG, config | {'data': {'class_names': names}})
    (directory / files.SUMS).unlink(missing_ok=True)
  workdir = load_workdir(tmp_path)
  table = tables.class_table(workdir)
  assert len(table.rows) == 5 and table.rows[0][2].text == '75.00'
  first = [cell.text for cell in table.rows[0][3:]]
  assert first == (['50.5', '100.0', '–'] if count == 3 else ['50.5', 'kind 0', '100.0', first[3]])
  assert table.columns[3:] == (tuple(names) if count == 3 else ('lowest', 'of', 'highest', 'of'))
  assert '5 of 10 runs are no better than guessing' in table.notes[1]
  assert len(table.data) == 5 * count
  assert set(workdir.runs['balanced_accuracy']) == {75.0}


def test_without_classes_there_is_no_table(tmp_path):
  assert (
    tables.class_table(load_workdir(workdirs.write_workdir(tmp_path, workdirs.small_plan())))
    is None
  )
