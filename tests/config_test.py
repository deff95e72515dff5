"""Configs: reading, merging, laying out cells; all faults in one message."""

import copy
import itertools
import json
import pickle
import re

import numpy as np
import pytest

from jaxbudget import data, factories
from jaxbudget import options as options_lib
from jaxbudget.lab import cells, config
from jaxbudget.lab.frozen_config import FrozenConfig
from jaxbudget.lab.run import build
from jaxbudget.lab.sweep import grid

DIGITS = {'dataset': 'digits', 'model': 'resnet8', 'batch_size': 32}


def one(**values):
  ((cell, _, _),) = cells.lay_out(config.defaults(**DIGITS, **values))
  return cell


def refused(**values) -> str:
  with pytest.raises(ValueError) as fault:
    grid.make_runs(config.defaults(**{**DIGITS, **values}))
  return str(fault.value)


@pytest.mark.parametrize(
  'arg, parsed',
  [
    (
      'dataset=cifar10,budget=0.3,seeds=2,record_selection=True,width=16',
      {'dataset': 'cifar10', 'budget': 0.3, 'seeds': 2, 'record_selection': True, 'width': 16},
    ),
    ('', {}),
    (None, {}),
    ("dataset='npz:a,b.npz',epochs=3", {'dataset': 'npz:a,b.npz', 'epochs': 3}),
    ('a=(8,9.5),b=[1,"x,y"],c={"k":(1,)}', {'a': (8, 9.5), 'b': [1, 'x,y'], 'c': {'k': (1,)}}),
    ("name=it's,x=a(b,x=,y='='", None),
    ("name=it's,x=,y='='", {'name': "it's", 'x': '', 'y': '='}),
    ('dataset=npz:/data(1)/x.npz', {'dataset': 'npz:/data(1)/x.npz'}),
    ('selector_options.b=None', {'selector_options.b': None}),
  ],
)  # fmt: skip
def test_argument_values_are_literals_or_strings_and_brackets_protect(arg, parsed):
  if parsed is None:
    with pytest.raises(ValueError, match=r"lacks '\)' at its end"):
      config.parse_arg(arg)
  else:
    assert config.parse_arg(arg) == parsed


@pytest.mark.parametrize('arg', ['dataset', 'budget=1,budget=2', '=3,x'])
def test_malformed_arguments_are_refused(arg):
  with pytest.raises(ValueError, match='key=value|given twice'):
    config.parse_arg(arg)


def test_all_unknown_keys_and_wrong_types_come_in_one_message():
  with pytest.raises(ValueError) as fault:
    config.defaults(epoch=3, selektor='sgd', budget='half', selector_options='warmup')
  text = str(fault.value)
  assert "'epoch'; did you mean 'epochs'" in text and "'selektor'; did you mean 'selector'" in text
  assert 'budget' in text and "selector_options='warmup': it must be a dict" in text
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


@pytest.mark.parametrize('given', [0, -3, 'abc', 0.5, True, (), (1, 1), (0, 'a')])
def test_seeds_are_told_as_they_were_given(given):
  with pytest.raises(ValueError, match=rf'^seeds={re.escape(repr(given))}: give 1 to 10,000 whole'):
    config.seed_tuple(given)


@pytest.mark.parametrize(
  ('key', 'meant'),
  [
    ('lr', "'learning_rate'"),
    ('clip_norm', "'optimizer_options.clip_norm'"),
    ('warmup', "'selector_options.warmup' or 'schedule_options.warmup'"),
    ('wd', "'weight_decay'"),
    ('method', "'selector'"),
  ],
)
def test_a_key_that_others_know_is_named_as_it_is_here(key, meant):
  said = f"unknown config key '{key}'; did you mean {meant}? (known: augment,"
  with pytest.raises(ValueError, match='^' + re.escape(said)):
    config.defaults(**{key: 1})


def test_a_refusal_holds_what_was_not_refused():
  values = config.defaults()
  with pytest.raises(config.Refusal) as refused:
    config.override(values, {'seeds': 0, 'epochz': 3, 'epochs': 4})
  assert refused.value.keys == ('seeds', 'epochz') and refused.value.config.epochs == 4
  assert config.defaults(seeds=2).seeds == (0, 1)


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
  monkeypatch.setattr(grid, '_add', None)
  many = tuple({'learning_rate': 1 / n} for n in range(1, 40))
  with pytest.raises(ValueError, match='39 cells with 9,000 seeds each are 351,000 runs; at most'):
    grid.make_runs(config.defaults(dataset='digits', grid=many, seeds=9000))
  with pytest.raises(ValueError, match='grid has 100,001 cells'):
    cells.lay_out(config.defaults(grid=100_001 * ({},)))


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


@pytest.mark.parametrize('number', [float('inf'), float('nan'), 10**400])
@pytest.mark.parametrize(
  'part, option',
  [
    ('selector.craig', 'memory_gib'), ('selector.rcap', 'temperature'),
    ('selector.kakurenbo', 'confidence'), ('schedule.poly', 'power'), ('schedule.htd', 'upper'),
    ('schedule.clr', 'max_momentum'), ('schedule.onecycle', 'final_div'),
    ('schedule.airbench', 'start'),
  ],
)  # fmt: skip
def test_options_are_finite_for_json_has_no_other_numbers(part, option, number):
  kind, name = part.split('.')
  said = refused(**{kind: name, f'{kind}_options.{option}': number})
  assert re.search(f'option {option}={number} of {name} is refused: .*finite', said)


def test_numbers_of_a_config_are_finite():
  for key in ('checkpoint_every', 'slurm.confirm_hours', 'slurm.memory_gb', 'learning_rate'):
    for number in (float('inf'), float('nan')):
      assert f'{key}={number} is refused' in refused(**{key: number})


def test_numbers_of_numpy_are_those_of_python_and_can_be_written():
  given = {'epochs': np.int64(4), 'learning_rate': np.float32(0.5)}
  options = {'selector': 'p_sgd', 'selector_options': {'warmup': np.int64(2)}}
  ours, theirs = (
    config.defaults(dataset='digits', seeds=1, grid=(cell,), **values)
    for values, cell in (
      (given, options),
      ({'epochs': 4, 'learning_rate': 0.5}, options | {'selector_options': {'warmup': 2}}),
    )
  )
  (ours,), (theirs,) = grid.make_runs(ours), grid.make_runs(theirs)
  assert ours.run_id == theirs.run_id
  assert json.dumps(ours.cell.to_dict()) == json.dumps(theirs.cell.to_dict())


def test_an_infinite_default_of_others_stays():
  def endless(spec, budget, *, most: float = float('inf')):
    del spec, budget, most

  options = options_lib.of(endless)
  part = factories.Part('selector', 'a:endless', 'endless', endless, options, {}, True)
  assert part.fill(part.fill({})) == {'most': float('inf')}
  with pytest.raises(ValueError, match='finite'):
    part.fill({'most': float('1e999')})


@pytest.mark.parametrize(
  'values, size',
  [
    ({'model_options.bn_ghost_size': 12}, 32),
    (
      {
        'model_options.bn_ghost_size': 16,
        'batch_size': 48,
        'selector': 'ordered_sgd',
        'selector_options.backward': 'compact',
      },
      24,  # half a batch, once the accuracy is there
    ),
  ],
)
def test_ghost_batches_must_divide_every_step(values, size):
  said = f'is refused: allowed is a divisor of the {size} examples of a step'
  with pytest.raises(ValueError, match=said):
    grid.make_runs(config.defaults(**{'dataset': 'digits', 'batch_size': 32, **values}))


def test_grid_cells_differ_in_what_they_say():
  second = {
    'selector': 'p_sgd',
    'budget': 0.3,
    'selector_options': {'warmup': 2},
    'paper': ({'table': 1},),
  }
  values = config.defaults(epochs=7, grid=({'selector': 'sgd'}, second))
  (first, none, _), (second, paper, _) = cells.lay_out(values)
  assert (first.selector, first.budget, first.epochs, none) == ('sgd', 1.0, 7, ())
  assert (second.selector, second.budget, second.selector_options.warmup) == ('p_sgd', 0.3, 2)
  assert paper == ({'table': 1},)
  (cell,) = cells.lay_out(config.defaults(grid=({'selctor': 'sgd'},)))
  assert "unknown config key 'selctor'" in cell.faults[0]


def test_every_fault_of_a_cell_is_named_at_once():
  bad = one(
    selector='psgd', augment='mixp', schedule='linar', budget=1.5, epochs=0, learning_rate=-1.0,
    momentum=1.0, budget_unit='backwards', evaluate_every=0, rows_per_call=-1, optimizer='adm',
  )  # fmt: skip
  with pytest.raises(ValueError) as fault:
    build.build(bad, data.info('digits'))
  text = str(fault.value)
  for name in ('psgd', 'linar', 'budget=1.5', 'epochs=0', 'learning_rate=-1.0',
               'backwards', 'evaluate_every=0', 'rows_per_call=-1', 'mixp', 'adm'):  # fmt: skip
    assert name in text, name


@pytest.mark.parametrize(
  'values, told',
  [
    (
      {'model_options.bn_ghost_size': 7, 'schedule': 'step', 'schedule_options.drop': -1.0},
      ['bn_ghost_size=7', 'drop must be'],
    ),
    (
      {'budget': 1e-9, 'schedule': 'step', 'schedule_options.drop': -1.0},
      ['no batch fits', 'drop must be'],
    ),
    (
      {'optimizer': 'sdg', 'budget': 1e-9, 'model_options.bn_ghost_size': 7},
      ["unknown optimizer 'sdg'", 'no batch fits', 'bn_ghost_size=7'],
    ),
  ],
)
def test_a_fault_hides_no_other(values, told):
  lines = refused(**values).splitlines()
  assert len(lines) == len(told) and all(t in line for t, line in zip(told, lines, strict=True))


@pytest.mark.parametrize(
  ('values', 'told'),
  [
    ({'model': 'transformer', 'augment': 'none'}, []),
    ({'model': 'transformer'}, []),
    ({'task': 'regression'}, []),
    ({'model': 'mlp', 'augment': 'none', 'task': 'regression'}, []),
    ({'selector': 'craig', 'budget': 0.3}, []),
    ({'augment': 'cutout', 'augment_options.size': 100}, []),
    ({'batch_size': 100_000}, []),
    ({'model': 'transformer', 'augment': 'none', 'model_options.heads': 5}, ['heads=5 is refused']),
    (
      {'selector': 'p_sgd', 'selector_options.warmup': -2, 'tta': 'miror', 'budget_unit': 'x'},
      ["unknown budget_unit 'x'", "unknown tta 'miror'; did you mean 'mirror'?"],
    ),
    (
      {'selector': 'p_sgd', 'selector_options.warmup': -2, 'schedule_options.warmup': 2.0},
      ['warmup must be 0 or more epochs, got -2', 'warmup must be'],
    ),
  ],
)
def test_what_is_said_of_data_that_are_not_there_is_true_of_any(values, told):
  first, *others = refused(dataset='nothere.npz', **values).splitlines()
  assert first == 'dataset=npz:nothere.npz: no such file'
  assert len(others) == len(told), others
  assert all(t in line for t, line in zip(told, others, strict=True)), others


def test_values_of_a_config_that_is_not_whole_are_judged_each_by_itself():
  values = {'dataset': 'cifar1', 'model': 'resnet19', 'epochs': -3, 'placement': 'files'}
  # What only another key could put right: options of the part that it names.
  values |= {'schedule_options.milestones': 3, 'batch_size': 10**5}
  told = grid.wrong_values(config.defaults(**values))
  known = ['epochs=-3 is refused', "unknown dataset 'cifar1'", "unknown model 'resnet19'"]
  assert len(told) == 3 and all(line.startswith(k) for line, k in zip(told, known, strict=True))


@pytest.mark.parametrize('text', ['{[]:1}', '-' * 20_000 + '1', '(' * 5_000])
def test_what_no_literal_can_be_is_text(text):
  assert config.literal(text) == text


@pytest.mark.parametrize(
  'cell, said',
  [
    ({'budget': 10**400}, 'budget is refused: the number is too large'),
    ({1: 2}, "unknown config key '1'"),
    ({'selector_options': {1: 2}}, "unknown option of unif_sgd '1'"),
    ({'selector_options': {'a': np.ones(2)}}, 'it must be None, a number, text or a tuple'),
    ({'paper': 5}, 'paper=5 must be a tuple of dicts'),
    ({'paper': [5]}, 'paper=[5] must be a tuple of dicts'),
    ({'paper': ({},)}, "each with its 'table'"),
  ],
)
def test_what_is_no_cell_is_refused_in_a_sentence(cell, said):
  lines = refused(grid=(cell, {'budget': 2.0})).splitlines()
  assert len(lines) == 2 and said in lines[0] and 'budget=2.0' in lines[1]


def test_options_are_those_of_the_chosen_factory_and_of_its_types():
  text = refused(
    selector='p_sgd', budget=0.3, augment='ricap', width='8', momentum=1.0,
    **{'selector_options.warmpu': 1, 'selector_options.average': 1, 'augment_options.fold': True},
  )  # fmt: skip
  for said in (
    "unknown option of p_sgd 'warmpu'; did you mean 'warmup'? (known: warmup, average,",
    'option average=1 of p_sgd is refused: it must be True or False',
    "unknown option of ricap 'fold' (known: alpha); mixup has it",
    "option width='8' of resnet8 is refused: it must be a whole number",
    'momentum=1.0 is refused: it must be in [0, 1)',
  ):
    assert said in text, (said, text)


def test_common_options_reach_only_who_knows_them():
  assert 'unknown option of unif_sgd' in refused(**{'selector_options.warmup': 2})
  two = ({'selector': 'unif_sgd', 'budget': 0.3}, {'selector': 'p_sgd', 'budget': 0.3})
  values = {**DIGITS, 'seeds': 1, 'selector_options.warmup': 2}
  uniform, chosen = grid.make_runs(config.defaults(**values, grid=two))
  assert uniform.parts.selector_options == {}
  assert chosen.parts.selector_options['warmup'] == 2
  own = ({**two[0], 'selector_options.warmup': 3}, two[1])
  assert refused(**values, grid=own).startswith('unif_sgd at budget 0.3: selector_options.warmup')


def test_two_methods_may_use_one_name_for_different_types():
  """`warmup` is epochs of p_sgd and a share of the schedule's; `decay` a number or nothing."""
  cells_ = (
    {'selector': 'p_sgd', 'selector_options.warmup': 2},
    {'selector': 'unif_sgd', 'schedule_options': {'warmup': 0.25}},
  )
  first, second = grid.make_runs(config.defaults(**DIGITS, seeds=1, budget=0.3, grid=cells_))
  assert first.parts.options['selector']['warmup'] == 2
  assert first.parts.options['schedule']['warmup'] == 0.0
  assert second.parts.options['schedule']['warmup'] == 0.25
  # Written for one part only, in a grid where others have an option of that name.
  named = {'selector_options': {'p_sgd': {'warmup': 3}}}
  three = ({'selector': 'p_sgd'}, {'selector': 'c_sgd'}, {'selector': 'unif_sgd'})
  runs = grid.make_runs(config.defaults(**DIGITS, **named, seeds=1, budget=0.3, grid=three))
  assert [r.parts.selector_options.get('warmup') for r in runs] == [3, 0, None]


def test_options_of_a_chain_and_a_grid():
  values = {
    **DIGITS, 'seeds': 1, 'budget': 0.3, 'augment': 'randaugment+mixup',
    'grid': ({'augment_options.alpha': 0.5}, {'augment_options.alpha': 1, 'augment': 'mixup'}),
  }  # fmt: skip
  both, alone = grid.make_runs(config.defaults(**values))
  assert both.parts.augment_options['mixup']['alpha'] == 0.5
  assert both.parts.augment_options['randaugment'] == {'n': 2, 'm': 4.0}
  assert alone.parts.augment_options['alpha'] == 1.0
  assert both.record()['options']['mixup.alpha'] == 0.5
  text = refused(augment='mixup+ricap', **{'augment_options.alpha': 0.5})
  assert 'write augment_options.mixup.alpha or augment_options.ricap.alpha' in text
  assert 'names mixup more than once' in refused(augment='mixup+mixup')
  assert "unknown augment 'mixp'; did you mean 'mixup'" in refused(augment='randaugment+mixp')


def test_what_was_typed_after_the_config_wins_or_is_refused():
  values = config.defaults(**DIGITS, grid=({'budget': 0.3}, {'budget': 0.5}), selector='p_sgd')
  typed = {'selector_options.warmup': '2', 'width': '4', 'seeds': '7', 'slurm.setup': "('a',)"}
  config.override(values, {key: config.literal(text) for key, text in typed.items()})
  assert values.selector_options.warmup == 2 and values.model_options.width == 4
  assert values.seeds == tuple(range(7)) and values.slurm.setup == ('a',)
  with pytest.raises(ValueError, match="budget is set by the grid.*0.4.*\n.*'epoch'.*'epochs'"):
    config.override(values, {'budget': 0.4, 'epoch': 3})


def test_an_unknown_recipe_hides_no_key_that_the_grid_sets():
  values = config.defaults(**DIGITS, grid=({'budget': 0.3}, {'budget': 0.5}))
  with pytest.raises(config.Refusal, match="^budget is set by the grid.*\nunknown recipe 'papr'"):
    config.override(values, {'budget': 0.4, 'recipe': 'papr'})


def test_what_stands_behind_the_colon_wins_or_is_refused():
  from configs import quickstart, single

  assert quickstart.get_config('seeds=7,epochs=2').seeds == tuple(range(7))
  with pytest.raises(ValueError, match='budget is set by the grid of this config.*0.4'):
    quickstart.get_config('budget=0.4')
  with pytest.raises(ValueError, match='width is set by the grid of this config.*it cannot be 8'):
    single.get_config("width=8,grid=[{'model_options.width': 4}]")


def test_values_of_a_wrong_type_are_refused_everywhere():
  for key in {*config.defaults()} - {'seeds'}:  # which have a sentence of their own
    is_dict = key.endswith('_options') or key == 'slurm'
    for wrong in (None, 3.5j, {1}, *(() if is_dict else ({},))):
      with pytest.raises(ValueError, match=f'^{key}={re.escape(repr(wrong))}: it ') as caught:
        config.defaults(**{key: wrong})
      assert 'ConfigDict' not in str(caught.value) and '\n' not in str(caught.value)
  for key in ('selector_options.warmup', 'width', 'momentum', 'schedule_options.warmup'):
    for wrong in (None, {}, (), 'x'):
      text = refused(**{**DIGITS, 'selector': 'p_sgd', key: wrong})
      assert f'{key.rpartition(".")[2]}={wrong!r} of ' in text


def test_a_fault_of_some_cells_says_which():
  cells_ = tuple({'selector': 'unif_sgd', 'budget': b} for b in (0.001, 0.3, 0.002))
  text = refused(grid=cells_, epochs=0)
  assert 'unif_sgd at budget 0.001: ' not in text and text.startswith('epochs=0')
  text = refused(grid=({'budget': 0.3}, {'budget': 0.3, 'augment': 'mixup', 'model': 'resnt8'}))
  assert text.startswith("unif_sgd at budget 0.3, model resnt8, augment mixup: unknown model 'resn")


def test_none_is_a_value_of_its_own():
  values = config.defaults(selector='selective_backprop', **{'selector_options.b': None})
  again = config.from_record(values.to_dict())
  assert again.selector_options.to_dict() == {'b': None}


BIASED = {'model_options.bn_running_var': 'biased'}


def test_run_ids_hash_only_what_can_change_numbers():
  def run_id(**values):
    return grid.make_runs(config.defaults(
      **{**DIGITS, 'selector': 'p_sgd', 'budget': 0.3, 'seeds': (4,), **values}
    ))[0].run_id  # fmt: skip

  same = [
    run_id(),
    run_id(rows_per_call=7),
    run_id(checkpoint_every=1.0),
    run_id(data_dir='/nowhere'),
    run_id(name='x'),
    run_id(seeds=(4, 5)),
    run_id(record_selection=True),
    run_id(fidelity='released', **BIASED),  # no other difference without mixing and warm-up
    run_id(**{'selector_options.average': True}),  # the default, said aloud
    run_id(width=16, momentum=0.9, **{'schedule_options.warmup': 0}),
  ]
  assert len(set(same)) == 1
  assert same[0].startswith('digits-p_sgd-standard-linear-b0.3-') and same[0].endswith('-s4')
  other = [
    run_id(epochs=100), run_id(learning_rate=0.05), run_id(budget=0.4), run_id(seeds=(5,)),
    run_id(augment='mixup'), run_id(augment='mixup', fidelity='released'), run_id(width=8),
    run_id(**{'selector_options.average': False}), run_id(bn_gamma_init='ones'),
    run_id(budget_unit='compute'), run_id(momentum=0.8), run_id(augment='mixup+randaugment'),
    run_id(augment='randaugment+mixup'), run_id(**{'schedule_options.warmup': 0.5}),
    run_id(fidelity='released'),
  ]  # fmt: skip
  assert len({same[0], *other}) == 16


def test_presets_differ_in_exactly_their_switches():
  def options(**values):
    parts = build.build(one(**{'epochs': 200, 'budget': 0.5, **values}), data.info('digits'))
    assert parts.options['model']['bn_running_var'] == (
      'unbiased' if values.get('fidelity') == 'released' else 'biased'
    )
    return parts.selector_options.copy(), parts.augment_options.copy()

  def both(**values):
    return options(fidelity='released', **values), options(fidelity='corrected', **values)

  for augment in ('ricap', 'mixup', 'randaugment+ricap'):
    released, corrected = both(selector='p_sgd', augment=augment)
    assert (released[0].pop('credit'), corrected[0].pop('credit')) == ('first', 'aligned')
    assert released == corrected
  released, corrected = both(selector='c_sgd')
  assert (released[0].pop('unseen'), corrected[0].pop('unseen')) == ('code', 'max_c')
  assert released == corrected
  released, corrected = both(selector='p_sgd', **{'selector_options.warmup': 70})
  assert (released[0].pop('warmup'), corrected[0].pop('warmup')) == (69, 70)
  assert released == corrected
  mixed, plain = (both(selector='selective_backprop', augment=a) for a in ('mixup', 'randaugment'))
  for released, corrected in (mixed, plain):
    assert (released[0].pop('tail'), corrected[0].pop('tail')) == ('flush', 'carry')
    assert (released[0].pop('lr_ahead'), corrected[0].pop('lr_ahead')) == (True, False)
  assert plain[0] == plain[1]
  released, corrected = mixed
  assert released[0].pop('label_weights') == 'head' and corrected[0].pop('label_weights') == 'own'
  assert (released[1].pop('mix_image'), corrected[1].pop('mix_image')) == (False, True)
  assert (released[1].pop('fold'), corrected[1].pop('fold')) == (True, False)
  assert released == corrected
  for same in ({'selector': 'unif_sgd', 'augment': 'mixup'}, {'selector': 'ordered_sgd'}):
    assert len({str(o) for o in both(**same)}) == 1
  explicit = options(selector='p_sgd', augment='ricap', fidelity='released',
                     **{'selector_options.credit': 'aligned'})  # fmt: skip
  assert explicit[0]['credit'] == 'aligned'


def test_a_frozen_config_is_a_value():
  given = {'a': [1, [2]], 'options': {'items': 3, 'to_dict': {}}}
  frozen = FrozenConfig(given)
  assert frozen.a == (1, (2,)) and frozen.options['items'] == 3 and frozen.get('b', 4) == 4
  equal = FrozenConfig({'options': {'to_dict': {}, 'items': 3}, 'a': (1, (2,))})
  for other in (equal, pickle.loads(pickle.dumps(frozen)), copy.deepcopy(frozen)):
    assert other == frozen and hash(other) == hash(frozen) and other.to_dict() == frozen.to_dict()
  assert frozen != FrozenConfig({**given, 'a': [1, [3]]})
  for change in (lambda: setattr(frozen, 'a', 1), lambda: frozen.b, lambda: frozen.options.b):
    with pytest.raises(AttributeError, match="'b'|a cannot be set"):
      change()
  frozen.to_dict()['options']['items'] = 5
  given['options']['items'] = 6
  assert frozen.options['items'] == 3


def test_a_key_that_has_one_value_takes_no_dict():
  with pytest.raises(ValueError, match=r'budget\.x=3: budget has one value, no keys'):
    config.defaults(budget={'x': 3})
  with pytest.raises(ValueError, match=r"tta\.a=1: tta has one value.*\n.*'epocs'"):
    config.defaults(**{'tta.a': 1, 'epocs': 2})
  (cell,) = cells.lay_out(config.defaults(grid=({'threads': {'a': [1]}},)))
  assert 'threads.a=[1]: threads has one value, no keys' in str(cell)
