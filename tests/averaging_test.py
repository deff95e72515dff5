"""Averages of the weights, and the table of values of a row, against NumPy row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxbudget import engine, precision, rows, schedules
from jaxbudget.averaging import make_averaging
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.sweep import grid
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.state import from_bytes, to_bytes

SELECTOR = make_selector('sgd', toys.SPEC, 1.0)  # 4 epochs of 6 rows
TOTAL = SELECTOR.facts.epochs * SELECTOR.facts.rows
TABLE = schedules.make_table('linear', SELECTOR.facts, toys.SPEC, 0.1, 1e-3)


def begin(averaging='none', optimizer='sgd', **options):
  averaging = make_averaging(averaging, **options)
  parts = toys.SPEC, toys.MODEL, toys.AUGMENT, SELECTOR, make_optimizer(optimizer)
  return engine.start(*parts, 1.0, averaging=averaging)


def flat(weights) -> np.ndarray:
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(weights[0]))])


def trained(run, table=TABLE, cut=(), epochs=range(4)):
  """The run after some epochs, cut into calls, and its weights after each call."""
  seen = []
  for e in epochs:
    run = engine.begin_epoch(run, e)
    for stop in (*cut, None):
      run, _ = engine.train_rows(run, toys.data(), table(e), stop)
      seen.append((flat((run.state.params,)), flat(engine.evaluated(run))))
  return run, seen


EVERY_ROW = range(1, SELECTOR.facts.rows)


def test_ema_stands_beside_weights_that_go_their_own_way():
  plain = begin()
  average = flat((plain.state.params,))
  _, alone = trained(plain, cut=EVERY_ROW)
  run, both = trained(begin('ema', decay=0.8, every=3), cut=EVERY_ROW)
  for step, ((expected, _), (weights, evaluated)) in enumerate(zip(alone, both, strict=True), 1):
    np.testing.assert_array_equal(weights, expected)
    if step % 3 == 0:
      average = 0.8**3 * average + (1 - 0.8**3) * expected
    np.testing.assert_allclose(evaluated, average, rtol=1e-5, atol=1e-6)
  assert int(engine.evaluated(run)[1]['steps']) == TOTAL - TOTAL % 3  # a count is no average


def test_lookahead_sets_the_weights_back_and_ends_with_the_slow_ones():
  averaging = make_averaging('lookahead', decay=0.7, every=4, power=2.0)
  total, update = 24, jax.jit(averaging.update)
  deltas = np.random.RandomState(0).normal(size=(total, 3)).astype(np.float32)
  weights = jnp.ones(3), {'var': jnp.zeros(3), 'steps': jnp.int32(0)}
  slow, average = np.ones(3), averaging.init(weights)
  fast = slow.copy()
  for step, delta in enumerate(deltas, 1):
    row = rows.Row(0.1, None, jnp.int32(step), jnp.float32(step / total))
    moved = weights[0] + delta, {'var': weights[1]['var'] + delta, 'steps': jnp.int32(step)}
    average, weights = update(average, moved, row)
    fast = fast + delta
    if step % 4 == 0:
      stays = 0.7**4 * (step / total) ** 2
      slow = stays * slow + (1 - stays) * fast
      fast = slow
    np.testing.assert_allclose(weights[0], fast, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights[1]['var'], fast - 1, rtol=1e-5, atol=1e-5)
    evaluated = averaging.evaluated(average, weights)
    np.testing.assert_allclose(evaluated[0], slow, rtol=1e-5, atol=1e-6)
  assert int(weights[1]['steps']) == total


def test_an_average_is_saved_with_the_run_and_goes_on_with_the_same_bits():
  whole, _ = trained(begin('lookahead'))
  half, _ = trained(begin('lookahead'), epochs=range(2))
  again = begin('lookahead')
  state = jax.tree.map(jnp.array, from_bytes(to_bytes(half.state), again.state))
  resumed, _ = trained(again._replace(state=state), cut=(2,), epochs=range(2, 4))
  assert to_bytes(whole.state) == to_bytes(resumed.state)
  assert to_bytes(whole.state.params) != to_bytes(trained(begin())[0].state.params)


def test_who_goes_by_progress_wants_a_table():
  with pytest.raises(ValueError, match='averaging lookahead goes by the progress of the run'):
    engine.run_epoch(begin('lookahead'), toys.data(), 0, 0.1)


@pytest.mark.parametrize(('options', 'said'), [
  ({'decay': 1.0}, r'decay=1.0 is refused: it must be in \[0, 1\)'),
  ({'every': 0}, 'every=0 is refused: it must be a whole number from 1'),
  ({'power': 0.0}, 'power=0.0 is refused: it must be positive and finite'),
])  # fmt: skip
def test_refusals(options, said):
  with pytest.raises(ValueError, match=said):
    make_averaging('lookahead', **options)


def test_a_table_tells_each_row_its_place_in_the_run():
  table = TABLE(2)
  np.testing.assert_array_equal(table.step, np.arange(13, 19))
  np.testing.assert_allclose(table.progress, np.arange(13, 19) / 24, rtol=1e-6)
  np.testing.assert_allclose(table.learning_rate[-1], 0.1 - (0.1 - 1e-3) * 17 / 23, rtol=1e-5)
  assert table.momentum is None and set(table.told) == {'learning_rate', 'step', 'progress'}
  assert rows.as_row(0.1) == rows.Row(0.1)


def test_the_momentum_of_a_schedule_reaches_the_optimizer_row_by_row():
  options = {'cycle_momentum': True}
  cycled = schedules.make_table('onecycle', SELECTOR.facts, toys.SPEC, 0.1, 0.0, options)
  least = min(cycled(e).momentum.min() for e in range(4))
  assert abs(least - 0.85) < 5e-3 and abs(cycled(0).momentum[0] - 0.95) < 1e-6
  own = schedules.make_table('onecycle', SELECTOR.facts, toys.SPEC, 0.1, 0.0)
  fixed = lambda e: own(e)._replace(momentum=np.full(SELECTOR.facts.rows, 0.9, np.float32))
  results = [trained(begin(), table)[1][-1][0] for table in (own, fixed, cycled)]
  np.testing.assert_array_equal(results[0], results[1])  # 0.9, as a constant or as a column
  assert np.abs(results[2] - results[0]).max() > 1e-4


@pytest.mark.parametrize('name', ['sgd', 'nesterov', 'muon', 'airbench_sgd'])
def test_a_buffer_decays_by_the_momentum_of_its_row(name):
  optimizer = precision.of_optimizer(make_optimizer(name, weight_decay=0.0), 'highest')
  params = {'w': jnp.ones((2, 3))}
  state, told = optimizer.init(params), {'step': jnp.int32(1), 'progress': jnp.float32(0.5)}
  gradient = lambda scale: {'w': scale * jnp.eye(2, 3)}

  def second(momentum):
    _, between = optimizer.update(gradient(1.0), state, params, momentum=momentum, **told)
    return optimizer.update(gradient(0.5), between, params, momentum=momentum, **told)[0]['w']

  default = optimizer.update(gradient(1.0), state, params, **told)
  plain = optimizer.update(gradient(0.5), default[1], params, **told)[0]['w']
  own = {'muon': 0.95, 'airbench_sgd': 0.85}.get(name, 0.9)
  np.testing.assert_allclose(second(jnp.float32(own)), plain, rtol=1e-5)
  if name == 'sgd':
    np.testing.assert_allclose(second(jnp.float32(0.2)), 0.7 * np.eye(2, 3), rtol=1e-6)


@pytest.mark.parametrize('name', ['ema', 'lookahead'])
def test_a_run_ends_no_earlier_than_its_first_average(name):
  config = {
    'dataset': 'digits', 'model': 'mlp', 'seeds': 1, 'epochs': 1, 'batch_size': 359,  # 4 rows
    'averaging': name,
  }  # fmt: skip
  with pytest.raises(ValueError, match=f"'{name}' with every=5 needs .* at least 5 rows, got 4"):
    grid.make_runs(config_lib.defaults(**config))
  assert grid.make_runs(config_lib.defaults(**config, averaging_options={'every': 4}))
