"""Recipes: what they set, what may be set otherwise, their optimizers and their views."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbudget import epoch, evaluation, recipes, rows
from jaxbudget.data.tables import INFO
from jaxbudget.lab import command
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.configs import airbench, imagenet
from jaxbudget.lab.run.flops import model_flops
from jaxbudget.lab.sweep import grid
from jaxbudget.optimizers import make_optimizer
from jaxbudget.types import Data, Model

ROWS = {
  'paper': 200 * 390, 'airbench94': 480, 'airbench95': 720, 'airbench96': 1776,
  'airbench94_muon': 200, 'resnet9': 24 * 97, 'wrn28_10': 200 * 390,
  'imagenet': 90 * 195, 'downsampled_imagenet': 40 * 390,
}  # fmt: skip
PFLOP = {'airbench94': 0.36, 'airbench95': 1.39, 'airbench96': 4.9, 'airbench94_muon': 0.29}


@functools.cache
def made(name):
  return recipes.make(name, INFO['cifar10'])


@pytest.mark.parametrize('name', recipes.RECIPES)
def test_a_recipe_runs_as_many_rows_as_published(name):
  facts = made(name).selector.facts
  assert facts.epochs * facts.rows == ROWS[name]
  if name in PFLOP:  # 10 epochs for 9.9, no last batches; what is published holds the test passes
    run = run_of(f'recipe={name}')
    forward, train = model_flops(run.cell.model, run.info, 1, run.parts.options['model'])
    assert train == 3 * forward
    tested = evaluation.TEST_TIME[run.cell.tta] * run.info.num_test
    total = train * facts.planned.trained + forward * tested
    assert total / 1e15 == pytest.approx(PFLOP[name], rel=0.03)


def run_of(arg, **values):
  found = config_lib.defaults(seeds=1, **values)
  config_lib.override(found, config_lib.parse_arg(arg))
  return grid.make_runs(found)[-1]


def test_airbench94_is_that_of_the_sheet():
  cell, parts = run_of('recipe=airbench94').cell, run_of('recipe=airbench94').parts
  assert parts.spec.batch_size == 1024 and cell.averaging == 'lookahead'
  assert cell.learning_rate == pytest.approx(1024 * 11.5 / 7850.67, rel=1e-5)
  decay = parts.options['optimizer']['weight_decay']
  assert decay * cell.learning_rate == pytest.approx(0.0019957, rel=1e-4)
  rates = np.concatenate([parts.table(e).learning_rate[:48] for e in range(10)])
  peak = rates.argmax()
  assert peak == 110 and rates[0] == pytest.approx(0.2 * 1.5) and rates.max() == 1.5
  assert rates[-1] == pytest.approx(1.5 * (0.07 + 0.93 / 370), rel=1e-5)
  stays = [0.95**5 * parts.table(e).progress[:48] ** 3 for e in range(10)]
  assert stays[-1][-1] == pytest.approx(0.95**5)


def test_a_recipe_comes_first_and_each_part_may_be_set_otherwise():
  run = run_of('learning_rate=2.0,recipe=airbench94,width=8,schedule=cosine,epochs=4')
  cell = run.cell
  assert (cell.learning_rate, cell.epochs, cell.schedule) == (2.0, 4, 'cosine')
  assert cell.model == 'airbench94' and run.parts.options['model']['width'] == 8
  assert cell.schedule_options.to_dict() == {}, 'those of airbench are of another schedule'
  assert run.record()['recipe'] == 'airbench94' and run.record()['averaging'] == 'lookahead'
  half = run_of('recipe=airbench94,budget=0.5').parts
  assert half.selector.facts.rows == 24 and half.table(9).progress[23] == 1
  pads = run_of('recipe=airbench96,augment_options.translate.pad=2').parts.augment_options
  assert pads == {
    'translate': {'pad': 2, 'mode': 'reflect'},
    'cutout': {'size': 12, 'inside': True},
  }


def test_a_recipe_counts_by_what_it_sets():
  assert run_of('recipe=paper').run_id == run_of('').run_id
  assert 'recipe' not in run_of('recipe=airbench94').identity['config']
  cells = ({'recipe': 'airbench94'}, {'recipe': 'airbench95', 'epochs': 5}, {'recipe': 'paper'})
  runs = grid.make_runs(config_lib.defaults(seeds=1, grid=cells))
  assert [run.parts.spec.epochs for run in runs] == [10, 5, 200]
  assert runs[0].run_id == run_of('recipe=airbench94').run_id
  assert config_lib.from_record(runs[1].cell.to_dict()).epochs == 5
  with pytest.raises(ValueError, match='epochs is set by the grid'):
    config_lib.override(config_lib.defaults(grid=cells[:1]), {'epochs': 3})


@pytest.mark.parametrize(('arg', 'given', 'said'), [
  ('epochs=200,budget=.3', '--grid=recipe=airbench94|paper', [
    "epochs: behind the colon, and set by recipe 'airbench94' of the grid; give what is meant in",
    "epochs: behind the colon, and set by recipe 'paper'",
  ]),
  ('weight_decay=0,epochs=3,tta=none', '--config.recipe=airbench94', [
    "epochs and optimizer_options.weight_decay and tta: behind the colon, and set by recipe 'air"
  ]),
  ('recipe=airbench96,width=8', '--grid=recipe=airbench94', ['recipe: behind the colon, and set']),
  ('recipe=airbench96,width=8', '--grid=budget=.1|.3', []),
  ('epochs=200,width=8', '--grid=recipe=airbench94;epochs=5|200', []),
  ('width=8', '--config.recipe=airbench94 --config.epochs=3', []),
])  # fmt: skip
def test_a_recipe_elsewhere_takes_nothing_away_in_silence(arg, given, said):
  found = config_lib.defaults()
  config_lib.override(found, config_lib.parse_arg(arg))
  rest, flags = command._overrides(given.split())
  grid_of = rest[0].removeprefix('--grid=') if rest else None
  faults = []
  try:
    command._set(found, grid_of, flags, arg)
  except ValueError as e:
    faults = str(e).splitlines()
  assert len(faults) == len(said) and all(map(str.startswith, faults, said)), faults


@pytest.mark.parametrize(('arg', 'said'), [
  ('recipe=airbench49', "unknown recipe 'airbench49'; did you mean 'airbench9"),
  ('recipe=airbench94,tta=miror', "unknown tta 'miror'; did you mean 'mirror'"),
  ('recipe=resnet9,optimizer=adamw,schedule=clr,schedule_options.cycle_momentum=True',
   "optimizer 'adamw' has no option momentum"),
  ('recipe=airbench94,averaging=lookahed', "averaging 'lookahed'; did you mean 'lookahead'"),
])  # fmt: skip
def test_refusals(arg, said):
  with pytest.raises(ValueError, match=said):
    run_of(arg)
  if arg.count(',') == 1:
    key, _, value = arg.partition(',')[2].partition('=')
    with pytest.raises(ValueError, match=said):
      recipes.make('airbench94', INFO['cifar10'], **{key: value})


def test_the_library_makes_the_parts_that_a_config_does():
  ours = recipes.make('airbench96', INFO['cifar10'], model_options={'width': 16}, epochs=3)
  parts = run_of('recipe=airbench96,width=16,epochs=3').parts
  for part in ('spec', 'model', 'augment', 'optimizer', 'task', 'averaging'):
    assert getattr(ours, part) == getattr(parts, part), part
  assert jax.tree.all(jax.tree.map(np.array_equal, ours.table(2), parts.table(2)))
  other = recipes.make('airbench96', INFO['cifar10'], optimizer='sgd')
  assert other.optimizer is make_optimizer('sgd'), 'options are of another optimizer'
  with pytest.raises(ValueError, match="unknown key of a recipe 'epoch'; did you mean 'epochs'"):
    recipes.make('paper', INFO['cifar10'], epoch=3)


@pytest.mark.parametrize(('key', 'value'), [
  ('learning_rate', -1), ('learning_rate', 0), ('learning_rate', float('nan')),
  ('learning_rate', '0.1'), ('learning_rate', None), ('final_learning_rate', -1), ('epochs', 2.5),
  ('batch_size', 64.0), ('batch_size', 0), ('batch_size', '64'), ('model_options', None),
])  # fmt: skip
def test_values_out_of_range_are_refused(key, value):
  with pytest.raises(ValueError, match=f'{key}=.* is refused: it must be '):
    recipes.make('paper', INFO['cifar10'], **{key: value})


def test_numbers_of_numpy_and_the_facts_of_data_are_taken():
  info = INFO['cifar10']
  recipe = recipes.make('paper', info, learning_rate=np.float32(0.5), epochs=np.int64(3))
  assert recipe.table(0).learning_rate[0] == 0.5 and recipe.spec.epochs == 3
  with pytest.raises(ValueError, match='info is a tuple: it must be an Info'):
    recipes.make('paper', (info,))
  tokens = dataclasses.replace(info, image_shape=(6,), vocabulary=11, mean=(), std=(), pad=0)
  for given, dtype in ((info, 'float32'), (tokens, 'int32')):
    assert recipes.spec_of(given, 8, 2, 1).image_dtype == dtype
  options = {'model': 'transformer', 'model_options': {'width': 8, 'depth': 1}, 'augment': 'none'}
  recipe = recipes.make('paper', tokens, 0.5, 'selective_backprop', batch_size=8, **options)
  queue = jax.eval_shape(recipe.selector.init, jax.random.key(0))
  assert not [x for x in jax.tree.leaves(queue) if x.shape[1:] == (6,) and x.dtype != jnp.int32]


@pytest.mark.parametrize('name', ['airbench94', 'airbench94_muon'])
def test_a_row_of_it_can_be_traced(name):
  recipe = recipes.make(name, INFO['cifar10'], model_options={'width': 4, 'conv': 'lax'})
  run = jax.eval_shape(lambda: recipes.start(recipe).state)
  parts = recipe.model, recipe.augment, recipe.selector, recipe.optimizer
  made_of = epoch.make_program(10, *parts, task=recipe.task, averaging=recipe.averaging)
  array = jax.ShapeDtypeStruct
  data = (array((50_000, 32, 32, 3), jnp.uint8), array((50_000,), jnp.int32))
  table = jax.tree.map(lambda x: array(x.shape, x.dtype), recipe.table(0))
  root = jax.eval_shape(lambda: jax.random.key(0))
  state, _ = jax.eval_shape(
    functools.partial(epoch.train_rows, made_of), run, Data(*data), table, root,
    array((), jnp.int32),
  )  # fmt: skip
  assert jax.tree.structure(state) == jax.tree.structure(run)


# The optimizers, in NumPy

RANDOM = np.random.RandomState(0)
SHAPES = {
  'whiten': {'bias': (4,)},
  'group1': {'conv1': {'kernel': (2, 2, 3, 4)}, 'norm1': {'bias': (4,)}},
  'linear': {'kernel': (4, 3)},
}
PARAMS = jax.tree.map(lambda s: RANDOM.randn(*s), SHAPES, is_leaf=lambda x: isinstance(x, tuple))
GRADIENTS = [jax.tree.map(lambda p: RANDOM.randn(*p.shape), PARAMS) for _ in range(4)]
GROUPS = {
  'whiten': {'bias': 'whiten'},
  'group1': {'conv1': {'kernel': 'filters'}, 'norm1': {'bias': 'norm'}},
  'linear': {'kernel': 'head'},
}
RATES = 0.8 * (1 - np.arange(4) / 4)


def steps_of(name, **options):
  """The parameters after four rows of a run of four."""
  optimizer = make_optimizer(name, **options)
  to_device = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, jnp.float32))
  params, gradients = to_device(PARAMS), to_device(GRADIENTS)
  state = optimizer.init(params)
  for t, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True)):
    row = rows.Row(jnp.float32(rate), None, jnp.int32(t + 1), jnp.float32((t + 1) / 4))
    updates, state = optimizer.update(gradient, state, params, **row.told)
    params = jax.tree.map(lambda p, u, rate=rate: p - jnp.float32(rate) * u, params, updates)
  return params


def nesterov(gradients, momentum):
  velocity, updates = 0, []
  for g in gradients:
    velocity = momentum * velocity + g
    updates.append(g + momentum * velocity)
  return updates[-1]


def polar(g, iterations):
  """Newton and Schulz's iteration on outputs by all else, as the source has it."""
  x = np.moveaxis(g, -1, 0).reshape(g.shape[-1], -1)
  x = x / np.linalg.norm(x)
  for _ in range(iterations):
    a = x @ x.T
    x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
  return np.moveaxis(x.reshape(g.shape[-1], *g.shape[:-1]), 0, -1)


def sgd_by_hand(group, params, gradients, share):
  scale, history = {'norm': 64.0}.get(group, 1.0), []
  for t, g in enumerate(gradients):
    history.append(scale * g + 0.1 * params)
    if group != 'whiten' or t < 4 * share:
      params = params - RATES[t] * nesterov(history, 0.85)
  return params


def muon_by_hand(group, params, gradients, share):
  history = []
  for t, g in enumerate(gradients):
    if group == 'filters':
      history.append(g)
      params = params * np.sqrt(params.shape[-1]) / np.linalg.norm(params)
      params = params - RATES[t] * polar(nesterov(history, 0.6), 3)
      continue
    history.append((3.0 if group == 'head' else 2.0) * g + 0.1 * params)
    # The rate of a whitening bias falls to 0 by itself, from the same height.
    rate = RATES[0] * max(0, 1 - t / 4 / share) if group == 'whiten' else RATES[t]
    params = params - rate * nesterov(history, 0.85)
  return params


@pytest.mark.parametrize(('name', 'by_hand', 'options'), [
  ('airbench_sgd', sgd_by_hand, {'whiten_share': 0.5}),
  ('airbench_muon', muon_by_hand, {'whiten_share': 0.75, 'bias_scale': 2.0, 'head_scale': 3.0}),
])  # fmt: skip
def test_four_steps_are_those_of_the_rule(name, by_hand, options):
  found = steps_of(name, weight_decay=0.1, **options)
  expected = jax.tree.map(
    lambda group, p, *g: by_hand(group, p, g, options['whiten_share']), GROUPS, PARAMS, *GRADIENTS
  )
  for wanted, got in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4)


# Views at test time


def told(params, model_state, image, train, mask=None):
  """A network that tells places apart."""
  del train, mask
  return image.reshape(image.shape[0], -1) @ params, model_state


def test_views_are_weighted_as_published_and_only_when_evaluated():
  model = Model(lambda key: (None, None), told)
  image = RANDOM.randn(2, 4, 4, 1).astype(np.float32)
  params = jnp.asarray(RANDOM.randn(16, 3), jnp.float32)
  look = lambda view: view.reshape(2, -1) @ np.asarray(params)
  mirrored = lambda view: (look(view) + look(view[:, :, ::-1])) / 2
  padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), 'reflect')
  moved = [view(padded) for view in (lambda x: x[:, :4, :4], lambda x: x[:, 2:, 2:])]
  expected = {
    ('mirror', True): mirrored(image),
    ('mirror_translate', True): mirrored(image) / 2 + sum(map(mirrored, moved)) / 4,
    ('mirror', False): look(image),  # where a mirror image means something else
    ('mirror_translate', False): look(image) / 2 + sum(map(look, moved)) / 4,
  }
  for (name, flip), outputs in expected.items():
    viewed = evaluation.test_time(model, name, flip)
    found, state = viewed.apply(params, 'kept', jnp.asarray(image), False)
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-5)
    assert state == 'kept' and evaluation.test_time(model, name, flip) is viewed
    trained, _ = viewed.apply(params, None, jnp.asarray(image), True)
    np.testing.assert_allclose(trained, look(image), rtol=1e-4, atol=1e-5)
  assert evaluation.test_time(model, 'none') is model
  counts = [evaluation.num_views(n, f) for n in evaluation.TEST_TIME for f in (True, False)]
  assert counts == [1, 1, 2, 1, 6, 3]


def test_the_config_compares_at_equal_operations():
  found = airbench.get_config('part=equal,dataset=cifar10,seeds=1')
  ours, theirs = grid.make_runs(found)
  spent = [
    model_flops(run.cell.model, run.info, 1, run.parts.options['model'])[1] * run.planned.trained
    for run in (ours, theirs)
  ]
  assert spent[0] == pytest.approx(spent[1], rel=0.02)
  cells = {run.cell.selector: run for run in grid.make_runs(airbench.get_config(
    'part=proxy,dataset=cifar10,seeds=1'
  )) if run.cell.budget == 0.5}  # fmt: skip
  assert {'unif_sgd', 'selective_backprop', 'proxy_filter'} == set(cells)
  full = 3 * 20 * 50_000
  for run in cells.values():
    assert run.planned.forward_equivalents / full == pytest.approx(0.5, abs=0.02)


def test_imagenet_is_planned_without_being_there():
  """Each method at its cost, in full trainings; of photographs and of what is downsampled."""
  arg = "seeds=1,selectors=('unif_sgd','selective_backprop'),budgets=(.1,.5)"
  runs = grid.make_runs(imagenet.get_config(arg))
  n = 1_281_167
  shares = [run.planned.forward_equivalents / (3 * 90 * n) for run in runs]
  # N - N mod 256 samples an epoch; Selective Backprop looks at all of them besides.
  np.testing.assert_allclose(shares, [1, 0.1, 0.5, 0.1 + 1 / 3 + 0.01, 0.5 + 1 / 3], atol=0.02)
  assert {run.cell.model for run in runs} == {'resnet50'}
  assert runs[0].info.image_shape == (224, 224, 3) and runs[0].cell.learning_rate == 0.1
  assert runs[0].parts.options['model']['compute_dtype'] == 'bfloat16'
  (small, *_) = grid.make_runs(imagenet.get_config(f'{arg},dataset=imagenet64,epochs=8'))
  assert small.cell.model == 'wrn' and small.cell.epochs == 8
  assert small.info.image_shape == (64, 64, 3) and small.info.pad == 8
  with pytest.raises(ValueError, match='budget is set by the grid of this config'):
    imagenet.get_config('budget=.3')
