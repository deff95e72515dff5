"""What a run needs of a device's memory, by the memory analysis of its compiled program."""

import functools

import jax
import jax.numpy as jnp

from jaxbudget import epoch
from jaxbudget.augment import make_augment
from jaxbudget.build import momentum_sgd
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.selectors import make_selector
from jaxbudget.state import init_state
from jaxbudget.types import Data, Spec

GIB = 2**30


def peak_bytes(side, num_examples, num_classes):
  """Arguments, results and scratch of `train_rows`; what is donated counts once."""
  shape = (side, side, 3)
  spec = Spec(num_examples, 128, num_classes, 200, shape)
  info = Info('x', num_examples, 0, num_classes, shape, (0.5,) * 3, (0.2,) * 3, 0.5, side // 8)
  selector, optimizer = make_selector('p_sgd', spec, 0.3), momentum_sgd(0.9, 1e-4)
  model = make_model('resnet18', num_classes, shape, conv='lax')
  augment = make_augment('standard', info)
  program = epoch.make_program(num_classes, model, augment, selector, optimizer)
  start = functools.partial(init_state, 0, spec, model, selector, optimizer, 0.3, 'backward')
  state, root = jax.eval_shape(start), jax.eval_shape(lambda: jax.random.key(0))
  array = jax.ShapeDtypeStruct
  data = Data(array((num_examples, *shape), jnp.uint8), array((num_examples,), jnp.int32))
  rates = array((state.plan.index.shape[0],), jnp.float32)
  lowered = epoch.train_rows.lower(program, state, data, rates, root, array((), jnp.int32))
  found = lowered.compile().memory_analysis()
  results = found.output_size_in_bytes - found.alias_size_in_bytes
  return found.argument_size_in_bytes + results + found.temp_size_in_bytes


def test_mini_imagenet_fits_the_papers_card():
  side, num_examples, data_bytes = 84, 38_400, 38_400 * 84 * 84 * 3
  assert data_bytes < peak_bytes(side, num_examples, num_classes=100) <= 11 * GIB
