"""The studies of core-sets and of schedules: what is in them, and that they say what they cost."""

import functools
import re

import pytest

from jaxbudget import registry
from jaxbudget.lab.configs import coresets, schedules
from jaxbudget.lab.sweep import grid, needs
from jaxbudget.scoring.choices import CHOICES
from jaxbudget.scoring.table import SCORES


@functools.cache
def runs_of(study):
  return grid.make_runs(study.get_config())


@pytest.mark.parametrize('study', [coresets, schedules])
def test_a_study_costs_what_it_says(study):
  runs = runs_of(study)
  scoring = [run for run in runs if run.seed > 1]
  said = re.search(
    r'Cost: (\d+) cells x 2 seeds(?: and (\d+) scoring runs)? of a small network, ([\d.]+) full',
    study.__doc__,
  )
  spec = runs[0].parts.spec
  full = sum(run.planned.forward_equivalents for run in runs) / (
    3 * spec.epochs * spec.num_examples
  )
  assert (int(said[1]), int(said[2] or 0)) == ((len(runs) - len(scoring)) / 2, len(scoring))
  assert f'{full:.1f}' == said[3]


def test_core_sets_are_compared_at_equal_cost():
  """Every score and choice, and uniform sampling at what the subsets cost, to half a percent."""
  runs = [run for run in runs_of(coresets) if run.seed == 0]
  used = [run.parts.selector_options for run in runs if run.cell.selector == 'coreset']
  assert set(coresets.SCORES) | {'none'} == {options['score'] for options in used}
  assert set(SCORES) - {o['score'] for o in used} == {
    'aum_probability',
    'aum_last',
    'el2n_training',
  }
  assert set(CHOICES) - {o['choice'] for o in used} == {'bottom'}
  uniform = [float(needs.relative_totals(r)[0]) for r in runs if r.cell.selector == 'unif_sgd']
  for run in runs:
    total = float(needs.relative_totals(run)[0])
    early = run.parts.selector_options.get('score') == 'dual'
    if early or run.cell.selector in (*coresets.RESELECT, 'rcap', 'random_subset'):
      assert min(abs(total - other) for other in uniform) < 0.01, run.run_id


def test_every_schedule_is_compared_at_every_budget():
  runs = runs_of(schedules)
  for budget in (*schedules.BUDGETS, 1.0):
    named = {run.cell.schedule for run in runs if run.cell.budget == budget}
    assert named == set(registry.names('schedule'))
