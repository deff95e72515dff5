"""Configs: reading, merging, laying out cells; all faults in one message."""

import itertools
import re

import pytest

from jaxbudget import data
from jaxbudget.lab import config
from jaxbudget.lab.run import build
from jaxbudget.lab.sweep import grid


def one(**values):
  ((cell, _),) = config.cells(
    config.defaults(dataset='digits', model='resnet8', batch_size=32, **values)
  )
  return cell


def test_argument_values_are_literals_or_strings():
  parsed = config.parse_arg('dataset=cifar10,budget=0.3,seeds=2,record_selection=True,width=16')
  assert parsed == {
    'dataset': 'cifar10', 'budget': 0.3, 'seeds': 2, 'record_selection': True, 'width': 16,
  }  # fmt: skip
  assert config.parse_arg('') == config.parse_arg(None) == {}


@pytest.mark.parametrize('arg', ['dataset', 'budget=1,budget=2', '=3,x'])
def test_malformed_arguments_are_refused(arg):
  with pytest.raises(ValueError, match='key=value|given twice'):
    config.parse_arg(arg)


def test_all_unknown_keys_and_wrong_types_come_in_one_message():
  with pytest.raises(ValueError) as fault:
    config.defaults(epoch=3, selektor='sgd', budget='half', **{'selector_options.warm_up': 1})
  text = str(fault.value)
  assert "'epoch'; did you mean 'epochs'" in text and "'selektor'; did you mean 'selector'" in text
  assert 'budget' in text and "'warm_up'; did you mean 'warmup'" in text
  assert len(text.splitlines()) == 4


def test_whole_numbers_fit_where_fractions_belong():
  assert config.defaults(budget=1).budget == 1.0
  assert isinstance(config.defaults(budget=1).budget, float)


def test_an_int_of_seeds_counts_them():
  assert config.defaults(seeds=3).seeds == (0, 1, 2)
  assert config.defaults(seeds=(5, 7)).seeds == (5, 7)
  for bad in (0, (), (1, 1), (-1,), (0.5,), (True,), (2**31,)):
    with pytest.raises(ValueError, match='seeds'):
      config.seed_tuple(bad)


@pytest.mark.parametrize('count', [20240501, 10**12, 10**100])
def test_a_date_is_no_count_of_seeds(count):
  for attempt in (config.seed_tuple, lambda seeds: config.defaults(seeds=seeds)):
    with pytest.raises(ValueError, match=rf'at most 10,000 .* seeds=\({count},\)'):
      attempt(count)


def test_too_many_seeds_are_refused_before_they_are_counted():
  for endless in (itertools.count(), range(10**15), 10**5 * (1,)):
    with pytest.raises(ValueError, match=r'seeds=\(.*, \.\.\.\): give 1 to 10,000') as refused:
      config.seed_tuple(endless)
    assert len(str(refused.value)) < 300


def test_too_many_runs_are_refused_before_they_are_laid_out(monkeypatch):
  monkeypatch.setattr(grid, '_run', None)
  cells = tuple({'learning_rate': 1 / n} for n in range(1, 40))
  with pytest.raises(ValueError, match='39 cells with 9,000 seeds each are 351,000 runs; at most'):
    grid.make_runs(config.defaults(dataset='digits', grid=cells, seeds=9000))
  with pytest.raises(ValueError, match='grid has 100,001 cells'):
    config.cells(config.defaults(grid=100_001 * ({},)))


@pytest.mark.parametrize(
  'values, said',
  [
    ({'width': 10**6}, 'width=1000000 is refused'),
    ({'rows_per_call': 10**12}, 'rows_per_call=1000000000000 is refused: whole numbers'),
    ({'selector': 'p_sgd', 'selector_options.warmup': 2**31}, 'selector_options.warmup=2147483648'),
    ({'slurm.minutes': 10**30}, 'slurm.minutes=1'),
    (
      {'selector': 'selective_backprop', 'selector_options.history': 2**21},
      'history must hold a batch of 32 losses and at most 1048576, got 2097152',
    ),
  ],
)
def test_numbers_that_would_fill_the_memory_are_refused(values, said):
  with pytest.raises(ValueError, match=re.escape(said)):
    grid.make_runs(config.defaults(dataset='digits', batch_size=32, **values))


def test_grid_cells_differ_in_what_they_say():
  grid = (
    {'selector': 'sgd'},
    {
      'selector': 'p_sgd',
      'budget': 0.3,
      'selector_options': {'warmup': 2},
      'paper': ({'table': 1},),
    },
  )
  (first, none), (second, paper) = config.cells(config.defaults(epochs=7, grid=grid))
  assert (first.selector, first.budget, first.epochs, none) == ('sgd', 1.0, 7, ())
  assert (second.selector, second.budget, second.selector_options.warmup) == ('p_sgd', 0.3, 2)
  assert paper == ({'table': 1},)
  with pytest.raises(ValueError, match="unknown config key 'selctor'"):
    config.cells(config.defaults(grid=({'selctor': 'sgd'},)))


def test_every_fault_of_a_cell_is_named_at_once():
  bad = one(
    selector='psgd', augment='mixp', schedule='linar', budget=1.5, epochs=0, learning_rate=-1.0,
    momentum=1.0, budget_unit='backwards', evaluate_every=0, rows_per_call=-1,
  )  # fmt: skip
  with pytest.raises(ValueError) as fault:
    build.build(bad, data.info('digits'))
  text = str(fault.value)
  for name in ('psgd', 'linar', 'budget=1.5', 'epochs=0', 'learning_rate=-1.0', 'momentum=1.0',
               'backwards', 'evaluate_every=0', 'rows_per_call=-1'):  # fmt: skip
    assert name in text, name


def test_options_nobody_uses_are_refused_and_shared_ones_reach_only_who_knows_them():
  values = {'dataset': 'digits', 'model': 'resnet8', 'batch_size': 32, 'selector_options.warmup': 2}
  with pytest.raises(ValueError, match='warmup is set, but only p_sgd, c_sgd know it'):
    grid.make_runs(config.defaults(**values))
  two = ({'selector': 'unif_sgd', 'budget': 0.3}, {'selector': 'p_sgd', 'budget': 0.3})
  uniform, chosen = grid.make_runs(config.defaults(**values, grid=two, seeds=1))
  assert 'warmup' not in uniform.parts.selector_options
  assert chosen.parts.selector_options['warmup'] == 2


def test_run_ids_hash_only_what_can_change_numbers():
  def run_id(**values):
    return grid.make_runs(config.defaults(
      **{'dataset': 'digits', 'model': 'resnet8', 'batch_size': 32, 'selector': 'p_sgd',
         'budget': 0.3, 'seeds': (4,), **values}
    ))[0].run_id  # fmt: skip

  same = [
    run_id(),
    run_id(rows_per_call=7),
    run_id(checkpoint_every=1.0),
    run_id(data_dir='/nowhere'),
    run_id(name='x'),
    run_id(seeds=(4, 5)),
    run_id(record_selection=True),
    run_id(fidelity='released'),  # makes no difference without mixing and warm-up
    run_id(**{'selector_options.average': True}),  # the default, said aloud
  ]
  assert len(set(same)) == 1
  assert same[0].startswith('digits-p_sgd-standard-linear-b0.3-') and same[0].endswith('-s4')
  other = [
    run_id(epochs=100), run_id(learning_rate=0.05), run_id(budget=0.4), run_id(seeds=(5,)),
    run_id(augment='mixup'), run_id(augment='mixup', fidelity='released'), run_id(width=8),
    run_id(**{'selector_options.average': False}), run_id(bn_gamma_init='ones'),
    run_id(budget_unit='compute'),
  ]  # fmt: skip
  assert len({same[0], *other}) == 11


def test_presets_differ_in_exactly_their_switches():
  def options(**values):
    return build.options(one(**values))

  def both(**values):
    return options(fidelity='released', **values), options(fidelity='corrected', **values)

  released, corrected = both(selector='p_sgd', augment='ricap')
  assert (released[0].pop('credit'), corrected[0].pop('credit')) == ('first', 'aligned')
  assert released == corrected
  released, corrected = both(selector='c_sgd')
  assert (released[0].pop('unseen'), corrected[0].pop('unseen')) == ('code', 'max_c')
  assert released == corrected
  released, corrected = both(selector='p_sgd', **{'selector_options.warmup': 70})
  assert (released[0].pop('warmup'), corrected[0].pop('warmup')) == (69, 70)
  assert released == corrected
  released, corrected = both(selector='selective_backprop', augment='mixup')
  assert released[0].pop('label_weights') == 'first' and corrected[0].pop('label_weights') == 'own'
  assert (released[1].pop('mix_image'), corrected[1].pop('mix_image')) == (False, True)
  assert (released[1].pop('fold'), corrected[1].pop('fold')) == (True, False)
  assert released == corrected
  for same in ({'selector': 'unif_sgd', 'augment': 'mixup'}, {'selector': 'ordered_sgd'},
               {'selector': 'selective_backprop', 'augment': 'randaugment'}):  # fmt: skip
    assert len({str(o) for o in both(**same)}) == 1
  explicit = options(selector='p_sgd', augment='ricap', fidelity='released',
                     **{'selector_options.credit': 'aligned'})  # fmt: skip
  assert explicit[0]['credit'] == 'aligned'
