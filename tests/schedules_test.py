"""Schedules against NumPy, endpoints and milestones included (fidelity.md 1.5)."""

import numpy as np
import pytest

from jaxbudget import schedules
from jaxbudget.ledger import share


def table(name, epochs, rows, padded=None):
  schedule = schedules.make_schedule(name, epochs, rows, 0.1, 1e-6)
  return schedules.tabulate(schedule, epochs, rows, padded or rows)


@pytest.mark.parametrize('budget', [0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
def test_linear_is_a_straight_line_with_both_endpoints(budget):
  rows = share(50_000, budget) // 128
  rates = table('linear', 200, rows, padded=390)
  line = np.linspace(0.1, 1e-6, 200 * rows).reshape(200, rows)
  np.testing.assert_allclose(rates[:, :rows], line, atol=1e-7, rtol=0)
  assert (rates[:, rows:] == 0).all()
  assert rates[0, 0] == np.float32(0.1)
  np.testing.assert_allclose(rates[-1, rows - 1], 1e-6, atol=1e-8)


@pytest.mark.parametrize(
  'epochs, milestones',
  [(200, (66, 133)), (100, (33, 66)), (60, (20, 40)), (40, (13, 26)), (3, (1, 2))],
)
def test_step_drops_at_a_third_and_two_thirds(epochs, milestones):
  rates = table('step', epochs, 7)
  expected = 0.1 * 0.1 ** np.searchsorted(milestones, np.arange(epochs), side='right')
  np.testing.assert_allclose(rates, np.repeat(expected[:, None], 7, axis=1), rtol=1e-6)


def test_rows_are_told_apart_beyond_those_that_float32_can_count():
  place = 2**24 + 1
  (rates,) = schedules.tabulate(lambda row: row == place, 1, place + 2, place + 2)
  assert np.flatnonzero(rates).tolist() == [place]


def test_step_needs_three_epochs():
  with pytest.raises(ValueError, match='at least 3 epochs'):
    table('step', 2, 5)


def test_cosine_starts_and_ends_where_it_should():
  rates = table('cosine', 4, 5).ravel()
  i = np.arange(20)
  expected = 1e-6 + (0.1 - 1e-6) * (1 + np.cos(np.pi * i / 19)) / 2
  np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_a_single_row_runs_at_the_first_rate():
  for name in ('linear', 'cosine'):
    np.testing.assert_allclose(table(name, 1, 1), [[0.1]])


def test_unknown_schedule_names_the_closest():
  with pytest.raises(ValueError, match="unknown schedule 'liner'; did you mean 'linear'"):
    table('liner', 4, 5)
