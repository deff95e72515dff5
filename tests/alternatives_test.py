"""Sweeps from the command line and from Python: alternatives, typed, in every combination."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.lab import alternatives, command, config
from jaxbudget.lab.sweep import grid

DIGITS = {'dataset': 'digits', 'model': 'resnet8', 'epochs': 10, 'batch_size': 32, 'seeds': 2}


def cells_of(text, **values):
  swept = config.defaults(**DIGITS, **values)
  alternatives.multiply(swept, alternatives.read(text)[0])
  return swept.grid


def test_every_combination_is_a_cell_with_typed_values():
  runs_of = config.defaults(**DIGITS)
  command._set(runs_of, 'selector=p_sgd|unif_sgd; budget=.1|.3|1', {})
  runs = grid.make_runs(runs_of)
  found = [(run.cell.selector, run.cell.budget, run.seed) for run in runs]
  wanted = itertools.product(('p_sgd', 'unif_sgd'), (0.1, 0.3, 1.0), (0, 1))
  assert found == list(wanted)
  assert all(type(run.cell.budget) is float for run in runs)


def test_brackets_and_quotes_protect():
  text = "augment='a|b'|mixup;train_part=(0, 2)|(1, 2);selector_options.p_sgd.warmup=3|4"
  assert alternatives.read(text)[0] == {
    'augment': ['a|b', 'mixup'],
    'train_part': [(0, 2), (1, 2)],
    'selector_options.p_sgd.warmup': [3, 4],
  }


@given(st.dictionaries(st.sampled_from('abcd'), st.lists(st.integers(), min_size=1), min_size=1))
def test_what_is_written_is_read(values):
  text = ';'.join(f'{key}={"|".join(map(str, found))}' for key, found in values.items())
  assert alternatives.read(text) == (values, [])


def test_a_grid_of_the_config_is_multiplied():
  own = ({'selector': 'unif_sgd'}, {'selector': 'p_sgd'})
  assert cells_of('budget=.1|.3', grid=own) == (
    {'selector': 'unif_sgd', 'budget': 0.1},
    {'selector': 'unif_sgd', 'budget': 0.3},
    {'selector': 'p_sgd', 'budget': 0.1},
    {'selector': 'p_sgd', 'budget': 0.3},
  )


@pytest.mark.parametrize(
  'text, messages',
  [
    ('selector;budget=.1|;=3', ["'selector' is not of", "'budget=.1|' lacks", "'=3' is not of"]),
    ('budget=.1;budget=.3', ["'budget' is given twice"]),
    ('', ['--grid is empty']),
    ('selector=(p_sgd', ["lacks ')'"]),
    ('budget=.1|0.1;seeds=1|2', ['budget=0.1 is given twice', 'seeds are the same for all']),
    ('model_options.width=4|8;epochs=1', ['model_options.width is set by the grid of this']),
    (f'epochs={"|".join(map(str, range(400)))};batch_size={"|".join(map(str, range(400)))}',
     ['160,000 combinations; at most 100,000']),
  ],
)  # fmt: skip
def test_refused_with_all_faults_in_one_message(text, messages):
  own = config.defaults(**DIGITS, grid=({'width': 4},))
  with pytest.raises(ValueError) as refused:
    command._set(own, text, {'budgte': '1'})
  for message in [*messages, "did you mean 'budget'"]:
    assert message in str(refused.value)


def test_wrong_keys_and_values_are_told_with_the_closest_match():
  with pytest.raises(ValueError) as refused:
    command._set(
      config.defaults(**DIGITS),
      'selector=psgd|unif_sgd|mine.rank:rank;bugdet=.1;epochs=ten|2;augment=mixup+ricup;x',
      {'dataest': '1'},
    )
  told = str(refused.value)
  for name in ('p_sgd', 'budget', 'ricap'):
    assert f'did you mean {name!r}' in told
  assert "epochs='ten'" in told and "'x' is not of" in told and 'dataest' in told
  assert len(told.splitlines()) == 6


@pytest.mark.parametrize(
  'written, config_name',
  [
    (['--grid=budget=.1'], 'single'),
    (['--grid', 'budget=.1'], 'single'),
    (['--config', 'quickstart', '--grid=epochs=3|4'], 'quickstart'),
    (['--config=quickstart:seeds=1'], 'quickstart'),
  ],
)
def test_a_grid_without_a_config_is_of_single(written, config_name):
  rest, _ = command._overrides(written)
  (found,) = [word for word in rest if word.startswith('--config=')]
  assert f'configs/{config_name}.py' in found
