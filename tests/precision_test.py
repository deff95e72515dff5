"""How exactly products are computed: bound to network and optimizer, part of a run's identity."""

import jax
import jax.numpy as jnp
import pytest
from faulty import linear_model, planned, settings, write_images  # noqa: F401  a fixture
from lowering_test import equations
from rich.console import Console

import jaxbudget
from jaxbudget import engine, epoch, precision
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.lab.run import conditions, files
from jaxbudget.lab.sweep import local
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Spec

HIGHEST = jax.lax.Precision.HIGHEST
INFO = Info('x', 48, 8, 3, (8, 8, 3), (0.5,) * 3, (0.2,) * 3, flip=0.5, pad=1)


def products(jaxpr):
  """The precision of every product in a program."""
  return [e.params['precision'] for e in equations(jaxpr.eqns) if 'precision' in e.params]


@pytest.mark.parametrize('wanted, found', [('', None), ('highest', (HIGHEST, HIGHEST))])
def test_every_product_of_a_row_and_a_test_is_of_the_precision(wanted, found):
  spec = Spec(48, 8, 3, 4, INFO.image_shape)
  plain = make_model('resnet8', 3, INFO.image_shape, width=2, conv='lax')
  model = precision.of_model(plain, wanted)
  assert model is precision.of_model(plain, wanted)  # else it would be compiled again
  optimizer = precision.of_optimizer(make_optimizer('muon'), wanted)
  selector = make_selector('selective_backprop', spec, 0.5, {'history': 16})
  augment = make_augment('standard', INFO)
  arguments = engine.row_shapes(spec, model, augment, selector, optimizer, 0.5)
  in_row = products(epoch.train_rows.trace(*arguments).jaxpr.jaxpr)
  layers, steps_of_muon = 9 + 1, 3 * 5
  assert len(in_row) > 4 * layers - 1 + steps_of_muon and set(in_row) == {found}
  _, state, data, *_ = arguments
  of_test = jax.make_jaxpr(
    lambda params, state, image: model.apply(params, state, augment.test(image), train=False)
  )(state.params, state.model_state, data.image)
  assert products(of_test.jaxpr) == [found] * layers


@pytest.mark.usefixtures('linear_model')
def test_a_run_has_the_precision_in_its_id_its_conditions_and_when_loaded(tmp_path):
  dataset = write_images(tmp_path / 'tiny.npz')
  values = {'epochs': 1, 'budget': 1.0, 'selector': 'sgd'}
  (plain,), _ = planned(settings(dataset, **values))
  runs, datasets = planned(settings(dataset, **values, matmul_precision='highest'))
  assert plain.run_id != runs[0].run_id
  assert 'matmul_precision' not in plain.identity['config']
  assert local.run_all(runs, datasets, tmp_path / 'runs', Console()) == 0
  directory = tmp_path / 'runs' / runs[0].run_id
  result = files.read_json(directory / files.RESULT)
  assert result['conditions']['matmul_precision'] == 'highest'
  assert conditions.of(plain, '')['matmul_precision'] == jax.config.jax_default_matmul_precision
  trained = jaxbudget.load(directory, trust=True)
  image = jnp.zeros((2, *trained.config.data.image_shape))
  weights = trained.params, trained.model_state
  program = jax.make_jaxpr(lambda x: trained.model.apply(*weights, x, train=False))
  assert set(products(program(image).jaxpr)) == {(HIGHEST, HIGHEST)}


def test_an_unknown_precision_is_refused():
  with pytest.raises(ValueError, match="matmul_precision 'hihgest'.*did you mean 'highest'"):
    planned(settings('digits', matmul_precision='hihgest'))
