"""What the packaged configs say that they cost, read off their plans: nothing is trained."""

import importlib
import re

import pytest

from jaxbudget.lab.sweep import inputs


def planned(name: str, argument: str | None = None) -> list:
  """The runs of a packaged config."""
  get_config = importlib.import_module(f'jaxbudget.lab.configs.{name}').get_config
  return inputs.plan_runs(get_config(argument) if argument else get_config())[1]


def cost(runs: list, fidelity: str) -> tuple[int, int, float]:
  """(cells, runs, full trainings) of a fidelity."""
  runs = [run for run in runs if run.cell.fidelity == fidelity]
  sizes = [3 * run.parts.spec.epochs * run.parts.spec.num_examples for run in runs]
  trainings = sum(
    run.planned.forward_equivalents / size for run, size in zip(runs, sizes, strict=True)
  )
  return len({run.cell_id for run in runs}), len(runs), trainings


def said(name: str, pattern: str) -> list[float]:
  """The numbers in the part of a config's docstring that matches."""
  text = ' '.join(importlib.import_module(f'jaxbudget.lab.configs.{name}').__doc__.split())
  found = re.search(pattern, text)
  assert found, f'{name}: there is nothing like {pattern} in: {text}'
  return [float(number.replace(',', '')) for number in found.groups()]


# `all`, which takes as long as the others together, is the test below.
@pytest.mark.parametrize(
  'name', ['table1', 'table2', 'table3', 'table4', 'table5', 'table6', 'figure1']
)
def test_a_table_costs_what_it_says(name):
  _check(name)


@pytest.mark.long
def test_the_whole_study_costs_what_it_says():
  _check('all')


def _check(name):
  cells, trainings, repaired, added = said(
    name,
    r'Cost: (\d+) cells x 3 seeds .*?([\d.]+) full trainings \(3TN.*?\); (\d+) repaired variants '
    r'(?:\(.*?\) )?add ([\d.]+)\. ',
  )
  runs = planned(name)
  released, corrected = cost(runs, 'released'), cost(runs, 'corrected')
  assert (trainings, repaired, added) == (
    round(released[2], 1), corrected[0], round(corrected[2], 1),
  )  # fmt: skip
  single = sum(run.cell.selector == 'dynamics_sgd' for run in runs)  # scoring runs have one seed
  assert released[1] == 3 * cells + (single if name == 'figure1' else -2 * single)
  count, epochs = said(name, r'Rehearsal: (\d+) runs on digits, ([\d,]+) epochs of full SGD')
  runs = planned(name, 'scale=rehearsal')
  spec = runs[0].parts.spec
  full = sum(run.planned.forward_equivalents for run in runs) / (3 * spec.num_examples)
  assert (count, epochs) == (len(runs), round(full))
