"""Budgets, caps, allowances and entropies."""

import math
from decimal import Decimal
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbudget import ledger
from jaxbudget.selectors import make_selector
from jaxbudget.types import Cost, Facts, Spec

PAPER = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
SVHN = Spec(73_257, 128, 10, epochs=200, image_shape=(32, 32, 3))
ROWS = {  # fidelity.md 1.3
  PAPER: {0.05: 19, 0.1: 39, 0.2: 78, 0.3: 117, 0.5: 195, 0.7: 273, 0.8: 312, 0.9: 351, 1: 390},
  SVHN: {0.05: 28, 0.1: 57, 0.2: 114, 0.3: 171, 0.5: 286, 0.7: 400, 0.8: 457, 0.9: 515, 1: 572},
}


@pytest.mark.parametrize('spec', ROWS)
def test_rows_per_epoch_are_those_of_the_study(spec):
  for budget, rows in ROWS[spec].items():
    assert make_selector('unif_sgd', spec, budget).facts.rows == rows
    assert make_selector('p_sgd', spec, budget).facts.rows == rows


def test_truncated_training_keeps_rows_and_drops_epochs():
  for budget, epochs in {0.05: 10, 0.1: 20, 0.2: 40, 0.3: 60, 0.5: 100, 1: 200}.items():
    facts = make_selector('scan_sgd', PAPER, budget).facts
    assert (facts.rows, facts.epochs) == (390, epochs)


def test_share_is_safe_from_binary_fractions():
  assert ledger.share(100, 0.29) == 29 and math.floor(100 * 0.29) == 28
  assert ledger.share(50_000, 0.3) == 15_000
  assert ledger.share(200, 0.3) == 60


FLOATS = (float, np.float16, np.float32, np.float64, np.longdouble)


@given(st.integers(1, 10**9), st.sampled_from(FLOATS), st.data())
def test_share_is_the_floor_of_the_decimal_that_was_written(total, kind, data):
  places = data.draw(st.integers(1, np.finfo(kind).precision))  # decimals that a float keeps apart
  numerator = data.draw(st.integers(1, 10**places))
  written = Fraction(numerator, 10**places)
  total += data.draw(st.sampled_from([0, -total % written.denominator]))  # often a whole share
  text = f'{numerator // 10**places}.{numerator % 10**places:0{places}d}'
  for budget in (kind(text), np.array(kind(text)), Decimal(text), written):
    assert ledger.exact(budget) == written
    assert ledger.share(total, budget) == total * numerator // 10**places


def test_share_where_a_binary_float_is_one_off():
  assert ledger.share(365_676_700, 0.7) == 255_973_690  # the product rounds to one less
  assert ledger.share(10**9, np.float32(0.3)) == 300_000_000  # float32 0.3 is over 3/10
  assert ledger.share(3, Fraction(1, 3)) == 1
  assert ledger.share(7, 1) == ledger.share(7, np.int32(1)) == ledger.share(7, jnp.float32(1)) == 7
  assert make_selector('unif_sgd', PAPER, np.float32(0.3)).facts.rows == 117


@pytest.mark.parametrize('value', [math.nan, math.inf, np.float32('nan'), 'much', None])
def test_what_is_no_number_has_no_share(value):
  with pytest.raises(ValueError):
    ledger.share(10, value)


def test_caps_and_realised_budgets():
  facts = make_selector('sgd', PAPER, 1).facts
  assert ledger.cap(PAPER, 0.3, facts) == 3_000_000
  assert ledger.cap(PAPER, ledger.as_budget(0.3, 'compute'), facts) == 9_000_000
  assert ledger.cap(PAPER, 0.3, facts._replace(cap=7)) == 7
  spent = facts.planned
  assert spent.forward_equivalents == 3 * 200 * 390 * 128
  for unit in ledger.BUDGET_UNITS:
    assert ledger.realised_budget(spent, PAPER, unit) == pytest.approx(390 * 128 / 50_000)
  assert ledger.realised_budget(Cost(50_000 * 200, 0, 0), PAPER, 'compute') == pytest.approx(1 / 3)
  assert ledger.realised_budget(Cost(50_000 * 200, 0, 0), PAPER, 'backward') == 0


@given(
  st.integers(0, 10**11),
  st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=4),
  st.sampled_from(ledger.BUDGET_UNITS),
)
@settings(deadline=None, max_examples=40)
def test_allowance_is_exact_beyond_32_bits(total, rows, unit):
  spec = Spec(num_examples=1, batch_size=1, num_classes=2, epochs=1, image_shape=(1, 1, 1))
  row_cost = Cost(10**6, 10**6, 10**6)
  # A cap of exactly `total`, whichever the unit.
  facts = Facts(1, 1, 1, Cost(), row_cost, cap=total)
  spec = spec if unit == 'backward' else Spec(total, 1, 2, 1, (1, 1, 1))
  total = total if unit == 'backward' else 3 * total
  allowance = ledger.allowance(spec, ledger.as_budget(1, unit), facts)
  for scored, trained in rows:
    fits = total >= ledger.price(row_cost, unit)
    assert bool(ledger.affordable(allowance)) == fits
    if not fits:
      return
    cost = Cost(scored, trained, trained)
    allowance = ledger.spend(allowance, Cost(*(jnp.int32(c) for c in cost)))
    total -= ledger.price(cost, unit)
    high, low = (int(x) for x in allowance.left)
    assert high * 2**20 + low == total


def test_a_plan_that_costs_more_than_there_is_is_refused_unless_it_is_a_guess():
  spec, charged = Spec(10, 1, 2, 4, (1, 1, 1)), ledger.as_budget(0.5, 'compute', spent=10)
  facts = Facts(4, 1, 1, Cost(2, 16, 16), Cost(1, 1, 1))
  ledger.check_planned(spec, charged, facts, 'it')  # 50 of 60, and 10 are spent
  dear = facts._replace(planned=Cost(3, 16, 16))
  for cost in ('exact', 'bound'):
    with pytest.raises(ValueError, match='for it at budget=0.5: .* 51 forward .* at most 50 are'):
      ledger.check_planned(spec, charged, dear._replace(cost=cost), 'it')
  ledger.check_planned(spec, charged, dear._replace(cost='expected'), 'it')
  ledger.check_planned(spec, 0.5, dear, 'it')


def test_an_epoch_asks_for_what_its_rows_may_cost():
  facts = Facts(4, 1, 1, Cost(20, 4, 4), Cost(10, 1, 1), scoring=range(0, 4, 2))
  spec = Spec(10, 1, 2, 4, (1, 1, 1))
  for unit, dearest in (('compute', [13, 3, 13, 3]), ('backward', [1, 1, 1, 1])):
    allowance = ledger.allowance(spec, ledger.as_budget(0.5, unit), facts)
    asked = [ledger.asking(allowance, facts.row_in(e)).row for e in range(4)]
    assert [int(row) for row in asked] == dearest
  budget = ledger.Budget(0.5, 'compute', scoring=Fraction(1, 3), every=2)
  assert budget.looks(range(5)) == 1 and budget.looks(range(1, 4, 2)) == 0
  assert budget.looks(range(0, 12, 3)) == Fraction(2, 3)  # 0 and 6


def test_entropy_is_in_nats_and_ignores_the_unseen():
  assert ledger.entropy_nats(np.zeros(5, np.int32)) == 0
  assert ledger.entropy_nats(np.array([3, 0, 0])) == 0
  assert ledger.entropy_nats(np.full(8, 4)) == pytest.approx(math.log(8))
  c = np.array([1, 2, 5])
  p = c / 8
  assert ledger.entropy_nats(c) == pytest.approx(-(p * np.log(p)).sum())


def test_a_budget_is_exact_scales_and_names_its_unit():
  budget = ledger.as_budget(0.29)
  assert budget == ledger.Budget(Fraction(29, 100)) and str(budget) == '0.29'
  assert ledger.share(100, budget) == 29 and ledger.share(300, budget * (1 / 3)) == 29 - 1
  assert ledger.share(300, budget * Fraction(1, 3)) == 29
  assert ledger.as_budget(budget, 'compute') is budget
  charged = ledger.as_budget(0.5, 'compute', spent=1000)
  assert (charged * 0.5).spent == 1000 and (charged * 0.5).unit == 'compute'
  facts = Facts(1, 1, 1, Cost(), Cost())
  assert ledger.cap(PAPER, charged, facts) == 15_000_000 - 1000
  for value, unit, message in ((0, 'backward', 'in .0, 1.'), (1.01, 'backward', 'got 1.01'),
                               (0.5, 'computer', "did you mean 'compute'")):  # fmt: skip
    with pytest.raises(ValueError, match=message):
      ledger.as_budget(value, unit)


@pytest.mark.parametrize('bad', [None, 'half', [0.3], True, float('nan'), 0, 1.1])
def test_a_budget_reads_what_it_is_given_as_decimals_or_refuses_it(bad):
  written = ledger.Budget(0.29, scoring=0.1)
  assert written == ledger.Budget(Fraction(29, 100), scoring=Fraction(1, 10))
  assert written == ledger.as_budget(ledger.Budget(np.float32(0.29), scoring=0.1))
  assert ledger.share(100, written) == 29
  with pytest.raises(ValueError, match=r'budget must be in \(0, 1\], got'):
    ledger.Budget(bad)
  if not isinstance(bad, int | float) or bad is True or bad != bad:
    with pytest.raises(ValueError, match='scoring: a number, got'):
      ledger.Budget(0.5, scoring=bad)
