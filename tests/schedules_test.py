"""Schedules against NumPy, endpoints and milestones included (fidelity.md 1.5)."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxbudget import factories, recipes, registry, schedules
from jaxbudget.ledger import share


def table(name, epochs, rows, padded=None, final=1e-6, **options):
  schedule = schedules.make_schedule(name, epochs, rows, 0.1, final, options)
  rates = schedules.by_epoch(schedule, epochs, rows, padded or rows)
  return np.stack([rates(e) for e in range(epochs)])


ROW = np.arange(640, dtype=np.float32)  # one shape for all runs: operations compile once


def rates(name, total, final=0.0, **options):
  """Rates of a run of one row an epoch, the largest as 1."""
  schedule = schedules.make_schedule(name, total, 1, 1.0, final, options)
  return np.broadcast_to(np.asarray(schedule(ROW)), ROW.shape)[:total]


def momenta(name, total, **options):
  return np.asarray(
    schedules.make_momentum(name, total, 1, {'cycle_momentum': True, **options})(ROW)
  )[:total]


def test_runs_of_any_length_share_what_is_compiled():
  shapes = set()

  def schedule(row):
    shapes.add(row.shape)
    return row / 1000

  for epochs, rows in ((3, 5), (10, 45), (7, 100)):
    rates = schedules.by_epoch(schedule, epochs, rows, rows + 2)
    expected = np.arange(epochs * rows, dtype=np.float32).reshape(epochs, rows) / 1000
    found = np.stack([rates(e) for e in range(epochs)])
    np.testing.assert_array_equal(found, np.pad(expected, ((0, 0), (0, 2))))
  assert len(shapes) == 1


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
  rates = schedules.by_epoch(lambda row: row == place, 1, place + 2, place + 2)(0)
  assert np.flatnonzero(rates).tolist() == [place]


def test_step_drops_where_it_is_told():
  rates = table('step', 8, 3, milestones=(0.5, 0.75), drop=0.2)
  np.testing.assert_allclose(rates[:, 0], 0.1 * np.array([1, 1, 1, 1, 0.2, 0.2, 0.04, 0.04]), 1e-6)


def test_step_needs_three_epochs():
  with pytest.raises(ValueError, match='at least 3 epochs'):
    table('step', 2, 5)


def test_cosine_starts_and_ends_where_it_should():
  rates = table('cosine', 4, 5).ravel()
  i = np.arange(20)
  expected = 1e-6 + (0.1 - 1e-6) * (1 + np.cos(np.pi * i / 19)) / 2
  np.testing.assert_allclose(rates, expected, atol=1e-7)


U = np.arange(101) / 100


@pytest.mark.parametrize(
  ('name', 'options', 'expected'),
  [
    ('constant', {}, np.ones(101)),
    ('poly', {}, (1 - U) ** 0.9),
    ('poly', {'power': 1.0}, 1 - U),
    ('exp', {'final': 1e-3}, 1e-3**U),
    ('exp', {'final': 1.0}, np.ones(101)),
    ('htd', {}, (1 - np.tanh(-4 + 8 * U)) / 2),
    ('rex', {}, (1 - U) / (0.5 + (1 - U) / 2)),
    ('clr', {}, 1 - np.abs(2 * U - 1)),
    ('dawn', {}, np.interp(24 * U, (0, 5, 24), (0, 1, 0))),
    ('wsd', {'warmup': 0.1}, np.interp(U, (0, 0.1, 0.8, 1), (0, 1, 1, 0))),
    ('wsd', {'warmup': 0.0, 'decay': 1.0}, 1 - U),
    ('wsd', {'warmup': 0.3, 'decay': 0.7}, np.interp(U, (0, 0.3, 1), (0, 1, 0))),  # a triangle
    ('wsd', {'warmup': 0.0, 'decay': 0.5, 'fall': 'sqrt'},
     1 - np.sqrt(np.clip((U - 0.5) / 0.5, 0, 1))),
  ],
)  # fmt: skip
def test_rates_over_progress(name, options, expected):
  np.testing.assert_allclose(rates(name, 101, **options), expected, atol=2e-6)


def test_values_of_the_sources():
  np.testing.assert_allclose(rates('rex', 101)[[25, 50, 75]], [6 / 7, 2 / 3, 0.4], rtol=1e-5)
  wide = rates('htd', 301, lower=-6.0, upper=3.0)[[200, 300]]
  np.testing.assert_allclose(wide, [0.5, 0.00247], atol=1e-5)
  assert rates('clr', 9).tolist() == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0]
  halves = rates('clr', 17, cycles=2, mode='triangular2')
  np.testing.assert_allclose(halves[[4, 8, 12, 16]], [1, 0, 0.5, 0], atol=1e-6)
  fading = rates('clr', 17, cycles=2, mode='exp_range', decay=0.1)
  np.testing.assert_allclose(fading[[4, 12]], 0.1 ** np.array([0.25, 0.75]), rtol=1e-5)
  assert int(np.argmax(rates('airbench', 100, peak=0.29))) == 29  # 0.29 * 100 < 29 in binary
  speedrun = rates('airbench', 476)
  np.testing.assert_allclose(speedrun[[0, 109, 475]], [0.2, 1, 0.0725], atol=5e-5)
  np.testing.assert_allclose(
    speedrun, np.interp(np.arange(476), (0, 109, 476), (0.2, 1, 0.07)), rtol=1e-5
  )
  fastest = rates('airbench', 600, **recipes.values('airbench96')['schedule_options'])
  np.testing.assert_allclose(  # up in a tenth of the rows, then to 0
    fastest, np.interp(np.arange(600), (0, 60, 600), (0.2, 1, 0)), rtol=1e-5
  )
  one = 0.1 * rates('onecycle', 100)
  np.testing.assert_allclose(one[[0, 10, 29, 64, 99]], [4e-3, 0.029516, 0.1, 0.05, 4e-7], rtol=2e-5)
  np.testing.assert_allclose(momenta('onecycle', 100)[[0, 29, 99]], [0.95, 0.85, 0.95], rtol=1e-6)


def test_a_run_of_few_rows_starts_where_its_climb_would_end():
  np.testing.assert_allclose(rates('airbench', 4), [1, 0.7675, 0.535, 0.3025])
  np.testing.assert_allclose(rates('airbench', 4, peak=0.0), [1, 0.7675, 0.535, 0.3025])
  np.testing.assert_allclose(rates('onecycle', 3), [1, 0.5, 4e-6], rtol=1e-4)
  for form in ('torch', 'three_phase', 'fastai'):
    assert rates('onecycle', 1, form=form)[0] == 1
    np.testing.assert_allclose(rates('onecycle', 2, form=form), [1, 0], atol=1e-5)
  for name in ('wsd', 'dawn'):  # which would not train at all: their ends are 0
    assert rates(name, 1)[0] == 1
    np.testing.assert_allclose(rates(name, 2, final=0.1), [1, 0.1], rtol=1e-6)
  # The way up and down again ends before the second row, and with a ramp before the second of it.
  assert rates('onecycle', 5, form='three_phase')[0] == 1
  np.testing.assert_allclose(rates('dawn', 10, final=0.1, warmup=0.8)[-2:], [1, 0.1], rtol=1e-6)
  momentum = momenta('onecycle', 3, form='three_phase')
  np.testing.assert_allclose(momentum, [0.85, 0.9, 0.95], rtol=1e-6)


@pytest.mark.parametrize('total', [2, 10])
def test_a_ramp_leaves_the_last_row_to_the_schedule(total):
  np.testing.assert_allclose(rates('linear', total, warmup=0.95)[[0, -1]], [0, 1])


def torch_onecycle(total, pct, values, three_phase, linear):
  """PyTorch's OneCycleLR, phase by phase."""
  ends = [pct * total - 1, *([2 * pct * total - 2] if three_phase else []), total - 1]
  rates = []
  for t in range(total):
    start = 0
    for i, end in enumerate(ends):
      if t <= end or i == len(ends) - 1:
        a, b, done = values[i], values[i + 1], (t - start) / (end - start)
        rates.append(
          (b - a) * done + a if linear else b + (a - b) / 2 * (1 + math.cos(math.pi * done))
        )
        break
      start = end
  return rates


@pytest.mark.parametrize('total', [100, 77, 11])
@pytest.mark.parametrize('linear', [False, True])
@pytest.mark.parametrize('three', [False, True])
def test_onecycle_is_that_of_pytorch(total, linear, three):
  options = {'form': 'three_phase' if three else 'torch', 'anneal': 'linear' if linear else 'cos'}
  values = [0.04, 1, *([0.04] if three else []), 4e-6]
  expected = torch_onecycle(total, 0.3, values, three, linear)
  found = rates('onecycle', total, **options)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
  values = [0.95, 0.85, *([0.95] if three else []), 0.95]
  expected = torch_onecycle(total, 0.3, values, three, linear)
  np.testing.assert_allclose(momenta('onecycle', total, **options), expected, rtol=1e-5)


def test_onecycle_of_fastai():
  """Half cosines lr/25 -> lr -> lr/1e5 with the peak at a quarter."""
  ease = lambda a, b, x: b + (a - b) / 2 * (1 + np.cos(np.pi * x))
  expected = np.where(U <= 0.25, ease(1 / 25, 1, U / 0.25), ease(1, 1e-5, (U - 0.25) / 0.75))
  np.testing.assert_allclose(rates('onecycle', 101, form='fastai'), expected, atol=1e-6)


def joined(pieces, ends):
  """Straight lines (from, to) one after the other, by optax; `ends` are their last rows."""
  starts = [0, *ends]
  lines = [
    optax.linear_schedule(a, b, end - start)
    for (a, b), start, end in zip(pieces, starts, ends, strict=False)
  ]
  return optax.join_schedules(lines, ends[:-1])


def test_shapes_that_optax_has_too_are_those_of_optax():
  """Ours are not delegated where optax rounds otherwise, or takes no more than a row at a time."""
  rows = jnp.arange(101, dtype=jnp.float32)
  lines = {
    'dawn': ({'peak': 0.2}, [(0, 1), (1, 0)], [20, 100]),
    'wsd': ({'warmup': 0.1}, [(0, 1), (1, 1), (1, 0)], [10, 80, 100]),
    'airbench': ({'peak': 0.2}, [(0.2, 1), (1, 0.07)], [20, 101]),
    'clr': ({}, [(0, 1), (1, 0)], [50, 100]),
  }
  for name, (options, pieces, ends) in lines.items():
    theirs = joined(pieces, ends)(rows)
    np.testing.assert_allclose(rates(name, 101, **options), theirs, atol=1e-6, err_msg=name)
  by_row = {'fastai': optax.cosine_onecycle_schedule(100, 1.0, 0.25, 25.0, 1e5 / 25)}
  phases = {29: 25.0, 58: 1 / 25, 99: 1e-4}  # those of PyTorch's three
  for anneal, kind in (('linear', 'linear'), ('cos', 'cosine')):
    by_row[anneal] = optax.piecewise_interpolate_schedule(kind, 1 / 25, phases)
  with jax.numpy_dtype_promotion('standard'):
    theirs = {name: np.asarray(jax.vmap(schedule)(rows)) for name, schedule in by_row.items()}
  fastai = rates('onecycle', 101, form='fastai')
  np.testing.assert_allclose(fastai, theirs.pop('fastai'), atol=1e-6)
  for anneal, expected in theirs.items():
    found = rates('onecycle', 100, form='three_phase', anneal=anneal)
    np.testing.assert_allclose(found, expected[:100], atol=1e-6, err_msg=anneal)


def test_clr_momentum_mirrors_the_rate():
  options = {'cycles': 3, 'mode': 'triangular2'}
  height = rates('clr', 50, **options)
  np.testing.assert_allclose(momenta('clr', 50, **options), 0.9 - 0.1 * height, atol=1e-6)


def test_momentum_takes_the_options_of_its_schedule():
  def options(factory):
    return [p for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]

  for name, momentum in schedules.MOMENTA.items():
    assert options(momentum) == options(factories.find('schedule', name).factory)
  assert schedules.make_momentum('cosine', 3, 4) is None
  assert schedules.make_momentum('onecycle', 3, 4) is None, "the optimizer's, unless asked"


@pytest.mark.parametrize('name', registry.names('schedule'))
def test_a_budget_compresses_the_whole_shape(name):
  """lr(t; S) = lr(2t; 2S) up to one row, the largest rate is lr0, none is negative."""
  short, long = (rates(name, total, final=1e-3) for total in (300, 600))
  away = np.abs(long[::2] - short)
  if name == 'step':  # drops may come a row apart
    away = np.delete(away, [100, 200])
  assert away.max() < 0.03
  for curve in (short, long):
    assert curve.min() >= 0
    np.testing.assert_allclose(curve.max(), 1, atol=0.01)


@pytest.mark.parametrize('name', registry.names('schedule'))
def test_warm_up_climbs_and_then_runs_everything(name):
  plain, warmed = rates(name, 81, final=1e-3, warmup=0.0), rates(name, 101, final=1e-3, warmup=0.2)
  if name == 'wsd':  # which cuts its flat part short
    np.testing.assert_allclose(warmed[:21], np.arange(21) / 20, atol=1e-6)
    return
  ramp = 20
  np.testing.assert_allclose(warmed[:ramp], plain[0] * np.arange(ramp) / ramp, atol=1e-6)
  if name in ('onecycle', 'airbench', 'step'):  # rows of the whole run, told by their number
    np.testing.assert_allclose(warmed[[ramp, -1]], plain[[0, -1]], atol=4e-3)
  else:
    np.testing.assert_allclose(warmed[ramp:], plain, atol=1e-5)
  assert not warmed[0]


def test_momentum_waits_while_the_rate_climbs():
  momentum = momenta('onecycle', 100, warmup=0.2)
  assert (momentum[:20] == np.float32(0.95)).all() and momentum.min() < 0.851


@pytest.mark.parametrize('name', registry.names('schedule'))
def test_runs_of_few_rows_have_finite_rates(name):
  for total in (3, 4, 6):
    curve = rates(name, total, final=1e-6)
    assert np.isfinite(curve).all() and (curve >= 0).all() and curve.any()


def test_schedules_can_be_traced():
  schedule = schedules.make_schedule('onecycle', 4, 5, 0.1, 0.0, {'warmup': 0.1})
  one = jax.jit(schedule)(jnp.float32(7))
  np.testing.assert_allclose(one, np.asarray(schedule(ROW))[7], rtol=1e-6)


def test_a_single_row_runs_at_the_first_rate():
  for name in ('linear', 'cosine', 'poly', 'rex', 'exp'):
    np.testing.assert_allclose(table(name, 1, 1), [[0.1]], rtol=1e-6)
  np.testing.assert_array_equal(table('constant', 2, 2, 3), np.float32([[0.1, 0.1, 0]] * 2))


@pytest.mark.parametrize('name', registry.names('schedule'))
def test_long_runs_are_laid_out_in_parts(name, monkeypatch):
  whole = table(name, 10, 7, padded=9)
  monkeypatch.setattr(schedules, '_BLOCK', 9 * 4)
  np.testing.assert_array_equal(table(name, 10, 7, padded=9), whole)
  monkeypatch.undo()
  schedule = schedules.make_schedule(name, 10**6, 10**4, 0.1, 1e-6)  # 40 GB as a table
  assert np.isfinite(schedules.by_epoch(schedule, 10**6, 10**4, 10**4)(10**5)).all()


def test_unknown_schedule_names_the_closest():
  with pytest.raises(ValueError, match="unknown schedule 'liner'; did you mean 'linear'"):
    table('liner', 4, 5)


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('poly', {'powr': 2}, "unknown option of poly 'powr'; did you mean 'power'"),
    ('poly', {'power': 0}, 'power must be positive'),
    ('exp', {'final': 0.0}, 'final_learning_rate must be positive'),
    ('htd', {'lower': 3.0, 'upper': -6.0}, 'lower must be below upper'),
    ('clr', {'mode': 'triangle'}, "did you mean 'triangular'"),
    ('clr', {'cycles': 0}, 'cycles must be at least 1'),
    ('clr', {'cycles': 20}, 'cycles=20 needs at least 41 rows, got 40'),
    ('clr', {'cycles': 10, 'warmup': 0.5}, 'cycles=10 needs at least 21 rows, got 20'),
    ('onecycle', {'form': 'keras'}, "option form='keras' of onecycle"),
    ('onecycle', {'form': 'three_phase', 'pct': 0.6}, r'pct must be in \(0, 0.5\)'),
    ('wsd', {'warmup': 0.5, 'decay': 0.6}, 'add up to 1'),
    ('airbench', {'peak': 1.0}, r'peak must be in \[0, 1\)'),
    ('linear', {'warmup': 1.0}, r'warmup must be a share of the run in \[0, 1\)'),
    ('step', {'milestones': (0.75, 0.5)}, 'its milestones'),
  ],
)
def test_options_out_of_range_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    table(name, 8, 5, **options)


def of_one_row(epochs, rows, learning_rate, final):
  return lambda row: learning_rate if row < rows else final


def of_a_list(epochs, rows, learning_rate, final):
  table = [learning_rate] * (epochs * rows)
  return lambda row: table[row]


def of_none(epochs, rows, learning_rate, final):
  return lambda row: None


def of_another_length(epochs, rows, learning_rate, final):
  return lambda row: row[1:]


def of_numpy(epochs, rows, learning_rate, final):
  return lambda row: np.where(np.asarray(row) < rows, learning_rate, final)


def of_nan(epochs, rows, learning_rate, final):
  return lambda row: jnp.where(row < rows, learning_rate, jnp.nan)


@pytest.mark.parametrize(('factory', 'said'), [
  (of_one_row, r'schedules_test.py, line \d+\); it is given the numbers of many rows at once'),
  (of_a_list, r"schedule 'schedules_test:of_a_list' raised TypeError"),
  (of_none, 'gives None for 20 rows'), (of_another_length, r'gives shape \(19,\) for 20 rows'),
])  # fmt: skip
def test_a_schedule_of_one_row_is_refused_before_compute(factory, said):
  with pytest.raises(ValueError, match=said):
    schedules.make_schedule(f'schedules_test:{factory.__name__}', 4, 5, 0.1, 0.0)


def test_rates_are_finite():
  assert table('schedules_test:of_numpy', 4, 5, final=0.0).ravel().tolist()[4:6] == [
    np.float32(0.1), 0.0,
  ]  # fmt: skip
  with pytest.raises(ValueError, match='what the schedule gives is nan at row 5, of 20 rows 15'):
    table('schedules_test:of_nan', 4, 5)
