"""What selection costs, to the sample: the totals that a study must compare by, in full trainings.

T epochs of N samples; f the share kept; E the epochs of a scoring run; R the epochs between two
choices. A forward pass is a third of a training step.
"""

import math
from fractions import Fraction

import faulty
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console

from jaxbudget.lab import config
from jaxbudget.lab.sweep import calibrate, grid, needs

N, T, THIRD = faulty.N, 20, Fraction(1, 3)
F = Fraction(1, 2)

# Cell -> its relative total, at f = 1/2.
TOTALS = [
  ({'selector': 'unif_sgd'}, F),
  ({'selector': 'random_subset'}, F),
  ({'selector': 'rcap'}, F),
  ({'score': 'forgetting'}, F + 1),
  ({'score': 'aum', 'choice': 'strata', 'cutoff': 0.1}, F + 1),
  ({'score': 'dyn_unc'}, F + 1),
  ({'score': 'dual', 'window': 3, 'choice': 'beta'}, F + Fraction(3, T)),
  ({'score': 'entropy'}, F + (T + THIRD) / T),
  ({'score': 'kcenter'}, F + (T + THIRD) / T),
  ({'score': 'moderate', 'choice': 'middle'}, F + (T + THIRD) / T),
  ({'score': 'forgetting', 'choice': 'graph'}, F + (T + THIRD) / T),
  ({'score': 'margin', 'scoring': 0.25}, F + (5 + THIRD) / T),
  ({'score': 'el2n'}, F + 10 * (2 + THIRD) / T),
  ({'score': 'el2n', 'runs': 2}, F + 2 * (2 + THIRD) / T),
  ({'score': 'grand_last_layer'}, F + 10 * (2 + THIRD) / T),
  ({'score': 'grand'}, F + 10 * Fraction(3, T)),
  ({'score': 'grand', 'choice': 'graph'}, F + 10 * (3 + THIRD) / T),  # and features
  # Two models on half of the data each, both of which look at everything.
  ({'score': 'none', 'choice': 'random', 'quota': 'drop'}, F + 1 + 2 * THIRD / T),
  ({'selector': 'craig'}, F + THIRD),
  ({'selector': 'craig', 'period': 7}, F + math.ceil(T / 7) * THIRD / T),
  ({'selector': 'gradmatch', 'period': 4}, F + 5 * THIRD / T),
  ({'selector': 'gradmatch', 'period': 4, 'warmup': 10}, F + 3 * THIRD / T),
  ({'selector': 'glister'}, F + THIRD / T),
]


def cell(options, **more):
  """A coreset, or the selector that is named."""
  options = dict(options)
  return {
    'selector': options.pop('selector', 'coreset'), 'budget': 0.5, 'selector_options': options,
    **more,
  }  # fmt: skip


@pytest.fixture(scope='module')
def plan(tmp_path_factory, linear_model):  # noqa: F811
  dataset = faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')

  def plan(*cells, **more):
    values = faulty.settings(dataset, epochs=T, batch_size=4, grid=cells, **more)
    return grid.make_runs(values, faulty.planned(values)[1])

  return plan


def test_every_method_is_charged_what_its_rule_costs(plan):
  for options, total in TOTALS:
    run = plan(cell(options))[-1]
    assert needs.relative_totals(run)[0] == total, options


def test_a_scoring_run_is_shared_by_those_that_need_it(plan):
  cells = [cell({'score': s}, budget=b) for s in ('forgetting', 'entropy') for b in (0.25, 0.5)]
  runs = {(r.cell.selector_options.get('score'), r.cell.budget): r for r in plan(*cells)[1:]}
  assert len(runs) == 4
  for (score, budget), run in runs.items():
    own = Fraction(budget) + (THIRD / T if score == 'entropy' else 0)
    assert needs.relative_totals(run) == (own + 1, own + Fraction(1, 4))


@pytest.mark.parametrize(
  ('options', 'overhead', 'shared_by'),
  [
    ({'score': 'dual', 'window': 3}, Fraction(3, T), 1),
    ({'score': 'forgetting'}, Fraction(1, 4), 4),
    ({'score': 'entropy'}, Fraction(1, 4) + THIRD / T, 4),
    ({'selector': 'craig', 'period': 5}, 4 * THIRD / T, 1),
    ({'selector': 'glister', 'period': 5}, 4 * THIRD / T, 1),
  ],
)
def test_under_compute_the_kept_share_is_what_the_cost_leaves(plan, options, overhead, shared_by):
  """f such that the total is B, whoever else is in the plan; refused where nothing is left."""
  asked = dict(budget_unit='compute', shared_by=shared_by)
  budget = float(F + overhead) + 1e-9
  alone = plan(cell(options, **asked | {'budget': budget}))[-1]
  others = plan(*(cell(options, **asked | {'budget': b}) for b in (budget, 0.9, 0.95)))
  assert alone.planned.trained == T * N // 2
  assert alone.run_id in {run.run_id for run in others}
  with pytest.raises(ValueError, match="budget_unit='compute' is impossible"):
    plan(cell(options, **asked | {'budget': 0.99 * float(overhead)}))


def test_a_proxy_is_charged_by_its_operations(plan):
  """Of another network, in passes of the run's own."""
  options = {'score': 'least_confidence', 'proxy': 'linear', 'scoring': 0.5}
  scoring, run = plan(cell(options), model='resnet8')
  assert scoring.cell.model == 'linear' and run.cell.model == 'resnet8'
  rho = needs.price(scoring, run.cell)
  assert 0 < rho < Fraction(1, 1000)
  expected = math.ceil(rho * 3 * N * T / 2) + math.ceil(rho * N)
  assert run.selection['forward_equivalents'] == expected
  # The network itself as its proxy is the scoring run that there is without one.
  same, plain = (
    plan(cell({**options, 'proxy': proxy}), model='resnet8') for proxy in ('resnet8', '')
  )
  assert same[0].run_id == plain[0].run_id
  assert needs.relative_totals(same[1]) == needs.relative_totals(plain[1])


# f = 0.3, T = 200: by whom -> the uniform budget that costs the same.
PUBLISHED = [
  ({'selector': 'craig', 'period': 20}, 0.317),
  ({'selector': 'craig', 'period': 1}, 0.633),
  ({'selector': 'glister', 'period': 20}, 0.317),
  ({'score': 'dual', 'choice': 'beta'}, 0.45),
  ({'score': 'el2n'}, 1.317),
  ({'score': 'least_confidence', 'proxy': 'preact_resnet', 'scoring': 0.905}, 0.367),
  ({'selector': 'rcap'}, 0.3),
]


def test_the_uniform_budgets_of_a_study_on_cifar10():
  cells = [cell(options, budget=0.3) for options, _ in PUBLISHED]
  common = dict(dataset='cifar10', model='resnet18', epochs=200, batch_size=100, seeds=1)
  runs = grid.make_runs(config.defaults(**common, grid=cells))
  found = [needs.relative_totals(run)[0] for run in runs if run.seed == 0]
  assert [round(float(total), 3) for total in found] == [total for _, total in PUBLISHED]


def test_the_plan_prints_the_uniform_budget_that_costs_the_same(plan):
  runs = plan(
    cell({'score': 'forgetting'}, budget=0.25), cell({'score': 'forgetting'}),
    cell({'score': 'forgetting'}, budget=0.75, shared_by=10), cell({'selector': 'unif_sgd'}),
  )  # fmt: skip
  console = Console(width=200)
  with console.capture() as capture:
    console.print(calibrate.plan_table(runs))
  text = capture.get()
  assert '1.25 / 0.583' in text and '1.5 / 0.833' in text
  assert '0.85 / 1.08' in text, 'charged by shared_by, whoever is in the plan'
  assert 'shared_by) / in equal shares' in ' '.join(text.split())
