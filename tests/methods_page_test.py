"""The page of methods is true: cost formulas, tests that exist, and the text itself."""

import pathlib

import pytest

from jaxbudget import ledger, registry
from jaxbudget.lab.paper import methods

ROOT = pathlib.Path(__file__).parents[1]


def test_the_page_is_written_from_the_registry():
  assert tuple(methods.METHODS) == registry.names('selector')
  assert (ROOT / 'docs/methods.md').read_text() == methods.to_markdown()
  for method in methods.METHODS.values():
    file, _, name = method.test.partition('::')
    assert f'def {name}(' in (ROOT / 'tests' / file).read_text(), method.test


def test_the_state_of_each_epoch_is_told():
  assert methods.state_text('dynamics_sgd') == '8 T + 4 B'  # as scoring/dynamics.py says


@pytest.mark.parametrize('unit', ledger.BUDGET_UNITS)
def test_cost_formulas_are_what_is_planned_in_both_units(unit):
  spec = methods.SPEC
  for name in registry.names('selector'):
    if name == 'replay':
      continue
    selector = methods.make(name, 0.6, unit)
    facts = selector.facts
    planned = facts.planned.forward_equivalents / facts.epochs
    if name == 'rho_loss':  # rows and candidates do not divide N
      assert planned <= 3 * facts.planned.backward / facts.epochs + spec.num_examples
    expected = methods.cost(methods.METHODS[name].cost, selector)
    # What is expected is rounded to samples of a run.
    assert planned == pytest.approx(expected, rel=2e-3), name
    if unit == 'compute':
      cap = ledger.cap(spec, ledger.as_budget(1.0 if name.endswith('gd') else 0.6, unit), facts)
      assert facts.planned.forward_equivalents <= cap, name
