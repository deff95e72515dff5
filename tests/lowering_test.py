"""What an accelerator would be given, read off lowered programs: there is none to run them."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.extend.core import jaxprs_in_params
from selectors_common_test import PATHS, VARIANTS, make

from jaxbudget import engine, epoch, gradients, registry
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.evaluation import Evaluation, evaluate
from jaxbudget.feeding import Chunk
from jaxbudget.lab.run import flops
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.scoring.distances import herding_order
from jaxbudget.selectors import glister, make_selector, poisson_disk
from jaxbudget.state import slots
from jaxbudget.types import Spec, blank_batch, take_all, with_epoch

LAYERS = 9  # convolutions of resnet8: the stem, two in each of 3 blocks, 2 shortcuts
PLATFORMS = ('cuda', 'tpu')
SIDE = 16


def images(spec):
  """What augmentations are told of a data set."""
  colours = spec.image_shape[-1]
  mean, std = (0.5,) * colours, (0.2,) * colours
  return Info('x', spec.num_examples, 0, 3, spec.image_shape, mean, std, flip=0.5, pad=1)


def abstract_run(selector, spec, *, augment='standard', budget=0.5, **model):
  """Arguments of `train_rows` as shapes, with the convolution that accelerators get."""
  model = make_model('resnet8', 3, spec.image_shape, width=2, conv='lax', **model)
  augment = make_augment(augment, images(spec))
  return engine.row_shapes(spec, model, augment, selector, make_optimizer(), budget)


def lowered_for_all(function, *arguments):
  """StableHLO of a jitted function, one program for all platforms."""
  return function.trace(*arguments).lower(lowering_platforms=PLATFORMS).as_text()


def lowered(function, *arguments):
  """StableHLO of a jitted function for every platform, by platform."""
  traced = function.trace(*arguments)
  return {p: traced.lower(lowering_platforms=(p,)).as_text() for p in PLATFORMS}


def equations(found):
  """Equations, and all those of the programs within them."""
  for equation in found:
    yield equation
    for inner in jaxprs_in_params(equation.params):
      yield from equations(inner.eqns)


def rows_and_rest(arguments):
  """What `train_rows` does in each row, and what it does before and after."""
  program = epoch.train_rows.trace(*arguments).jaxpr.jaxpr
  *_, rows = (e for e in program.eqns if e.primitive.name == 'while')
  rest = [e for e in program.eqns if e is not rows]
  return list(equations(rows.params['body_jaxpr'].jaxpr.eqns)), list(equations(rest))


def convolutions(text):
  """Convolutions by the order of their left operand's dimensions: [f... is a weight gradient."""
  return collections.Counter(re.findall(r'stablehlo\.convolution.*dim_numbers = \[(\w)', text))


def assert_plain_convolutions(text, steps, forwards):
  """A step is: all layers forward, all but the first backward to the input, all to the weights."""
  found = convolutions(text)
  assert found == {'b': steps * (2 * LAYERS - 1) + forwards * LAYERS, 'f': steps * LAYERS}
  # The CPU rule would show as matrix products; these are of the linear layer.
  assert text.count('stablehlo.dot_general') >= 3 * steps + forwards
  found = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
  plain = [line for line in found if 'batching_dims' not in line]  # else pixels are looked up
  assert not [line for line in plain if re.search(r'tensor<\d+x\d+x\d+x\d+x', line)]


@pytest.mark.parametrize('variant', PATHS)
def test_rows_hold_plain_convolutions(variant):
  selector, budget = make(variant)
  arguments = abstract_run(selector, toys.SPEC, budget=budget)
  steps = len(selector.sizes) or 1
  for text in lowered(epoch.train_rows, *arguments).values():
    assert_plain_convolutions(text, steps, forwards=0 if selector.select is take_all else 1)


@pytest.mark.parametrize(
  'variant',
  [
    v if v in registry.names('selector') else pytest.param(v, marks=pytest.mark.long)
    for v in VARIANTS
  ],
)
def test_every_method_lowers_for_accelerators(variant):
  """Its hooks, that is: what is around them lowers as it does for `PATHS`."""
  selector, _ = make(variant)
  row, arguments = toys.row(selector)
  lowered_for_all(row, *arguments)
  state, root, _ = arguments
  rows = slots(selector.facts, toys.SPEC)
  plans = lowered_for_all(epoch.plan_program, selector.plan, rows, state, jnp.int32(0), root)
  # Of 64 bits, window reductions are what TPUs have no form of.
  assert not re.search(r'reduce_window"[^^]*\^bb0\(%\w+: tensor<u?i64>', plans)
  assert_exact_products(plans)


def assert_exact_products(text):
  """Who is chosen follows from all digits: by default a GPU keeps ten bits of each factor."""
  found = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
  assert not [line for line in found if 'precision = [HIGHEST, HIGHEST]' not in line]


def test_searches_before_a_run_keep_all_digits():
  key, x = jax.random.key(0), jnp.ones((8, 3), jnp.float32)
  held_out = glister.HeldOut(x, x, x)
  greedy = glister.greedy.trace(gradients.Factored(x, x), held_out, 0.1, key, 2)
  mingling = poisson_disk.mingling.trace(x, jnp.zeros(8, jnp.int32))
  herding = jax.jit(herding_order, static_argnums=1).trace(x, 2)
  for traced, fewest in ((greedy, 2), (mingling, 1), (herding, 1)):
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    assert text.count('stablehlo.dot_general') >= fewest
    assert_exact_products(text)


@pytest.mark.parametrize('name', registry.names('augment'))
def test_every_augmentation_lowers_for_accelerators(name):
  spec = Spec(48, 8, 3, 4, (SIDE, SIDE, 3))
  augment = make_augment(name, images(spec))

  def both(key, batch):
    return with_epoch(augment.train, key, jnp.int32(0), batch), augment.test(batch.image)

  batch = blank_batch(spec, 8)
  raw = batch._replace(image=jnp.zeros(batch.image.shape, jnp.uint8))
  lowered_for_all(jax.jit(both), jax.random.key(0), raw)


def test_rows_that_are_fed_lower_for_accelerators():
  selector, budget = make('sb_flush')
  program, state, data, *others = engine.row_shapes(
    toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget
  )
  pixels = jax.ShapeDtypeStruct((2, state.plan.index.shape[1], 4), jnp.uint8)
  chunk = Chunk(pixels, jax.ShapeDtypeStruct((), jnp.int32), toys.SPEC.image_shape)
  fed = program, state, data._replace(image=chunk), *others
  for text in lowered(epoch.train_rows, *fed).values():
    assert re.search(r'dynamic_slice.*tensor<2x8x4xui8>', text)


@pytest.mark.parametrize('name', ['p_sgd', 'selective_backprop'])
@pytest.mark.parametrize('augment', ['standard', 'ricap'])
def test_steps_on_augmented_images_hold_plain_convolutions(name, augment):
  parts = {'ricap': 4}.get(augment, 1)
  spec = Spec(48, 8, 3, 4, (SIDE, SIDE, 3), parts)
  options = {'history': 16} if name == 'selective_backprop' else {}
  selector = make_selector(name, spec, 0.5, options)
  arguments = abstract_run(selector, spec, augment=augment)
  for text in lowered(epoch.train_rows, *arguments).values():
    assert_plain_convolutions(text, steps=1, forwards=0 if selector.select is take_all else 1)


@pytest.mark.parametrize('variant', PATHS)
def test_no_weight_is_handed_through_a_cond(variant):
  """GPUs copy what it returns, in every row; what a loop carries is changed in place."""
  selector, budget = make(variant)
  arguments = abstract_run(selector, toys.SPEC, budget=budget)
  weights = {x.shape for x in jax.tree.leaves(arguments[1].params) if len(x.shape) == 4}
  body, _ = rows_and_rest(arguments)
  returned = lambda e: {v.aval.shape for v in e.outvars}
  steps = [e for e in body if e.primitive.name == 'while' and weights <= returned(e)]
  assert len(steps) == (0 if selector.select is take_all else len(selector.sizes) or 1)
  assert not [e for e in body if e.primitive.name == 'cond' and weights & returned(e)]


@pytest.mark.parametrize(
  'augment', ['mixup', 'ricap', 'mixup+ricap', 'cutmix:alpha=0.5', 'augmix:alpha=0.5']
)
def test_loops_of_unknown_length_are_drawn_before_the_rows(augment):
  name, _, alpha = augment.partition(':alpha=')
  shape = (SIDE, SIDE, 3)
  info = Info('x', 48, 0, 3, shape, (0.5,) * 3, (0.2,) * 3, flip=0.5, pad=1)
  augmentation = make_augment(name, info, **({'alpha': float(alpha)} if alpha else {}))
  spec = Spec(48, 8, 3, 4, shape, augmentation.parts)
  selector = make_selector('p_sgd', spec, 0.5)
  model = make_model('resnet8', 3, shape, width=2, conv='lax')
  body, before = rows_and_rest(
    engine.row_shapes(spec, model, augmentation, selector, make_optimizer(), 0.5)
  )
  assert not [e for e in body if e.primitive.name == 'random_gamma']
  assert [e for e in before if e.primitive.name == 'random_gamma']


def test_evaluation_lowers_for_accelerators():
  selector, _ = make('sgd')
  program, state, data, *_, place = abstract_run(selector, toys.SPEC)
  weights, sums = (state.params, state.model_state), jax.eval_shape(Evaluation.blank)
  arguments = program.model, program.augment.test, 8, *weights, data, sums, place, place
  for text in lowered(evaluate, *arguments).values():
    assert convolutions(text) == {'b': LAYERS}


def test_bfloat16_is_for_convolutions_alone():
  selector, _ = make('p_sgd')
  program, state, *rest = abstract_run(selector, toys.SPEC, compute_dtype='bfloat16')
  assert {x.dtype for x in jax.tree.leaves((state.params, state.opt_state))} == {
    np.dtype('float32')
  }
  stats = jax.tree.leaves(state.model_state)
  assert {x.dtype for x in stats} == {np.dtype('float32')}
  text = lowered(epoch.train_rows, program, state, *rest)['cuda']
  operands = re.findall(r'stablehlo\.convolution.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)', text)
  assert len(operands) == 3 * LAYERS - 1
  assert all(side.endswith('xbf16') for pair in operands for side in pair)
  reduced = re.findall(r'stablehlo\.reduce\(.*: \(tensor<([^>]*)>', text)
  assert reduced and not [kind for kind in reduced if kind.endswith('bf16')]


def test_the_state_is_donated_whole():
  selector, _ = make('p_sgd')
  arguments = abstract_run(selector, toys.SPEC)
  state = arguments[1]
  memory = epoch.train_rows.lower(*arguments).compile().memory_analysis()
  bytes_of_state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  assert memory.alias_size_in_bytes == bytes_of_state
  # What comes out besides is the progress of the epoch, and the table of the results.
  leaves = len(jax.tree.leaves(jax.eval_shape(epoch.train_rows, *arguments)))
  row_metrics = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.metrics))
  extra = memory.output_size_in_bytes - bytes_of_state
  assert extra <= row_metrics + 8 * leaves + 64


def test_an_epoch_is_two_dispatches(tmp_path):
  selector, budget = make('p_sgd')
  program, state = toys.start(selector, budget)
  rates, root, stop = toys.rates(state), jax.random.key(0), jnp.int32(100)

  def run_epoch(state, e):
    state = epoch.begin_epoch(selector, state, e, root)
    return jax.block_until_ready(epoch.train_rows(program, state, toys.data(), rates, root, stop))[
      0
    ]

  state = run_epoch(state, 0)
  with jax.profiler.trace(tmp_path):
    run_epoch(state, 1)
  (profile,) = tmp_path.rglob('*.xplane.pb')
  events = collections.Counter(
    event.name
    for plane in jax.profiler.ProfileData.from_file(str(profile)).planes
    for line in plane.lines
    for event in line.events
  )
  executions = {name: n for name, n in events.items() if name.endswith('OnSingleDevice')}
  assert sum(executions.values()) == 2, executions


def test_forward_flops_of_resnet18_are_those_of_the_network():
  info = Info('cifar10', 50_000, 10_000, 10, (32, 32, 3), (0.5,) * 3, (0.2,) * 3, 0.5, 4)
  forward, step = flops.model_flops('resnet18', info, 128)
  np.testing.assert_allclose(forward / 2, 0.5554e9, rtol=1e-4)  # padding included
  assert step == 3 * forward
