"""Optimizers: three steps of each, derived again in NumPy at double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxbudget.optimizers import make_optimizer
from jaxbudget.state import from_bytes, to_bytes

RATES = (0.5, 0.25, 0.125)  # each step has its own, as rows have
RANDOM = np.random.RandomState(0)
SHAPES = {'bias': (3,), 'kernel': (2, 2, 1, 3), 'matrix': (4, 3)}
PARAMS = {name: RANDOM.randn(*shape) for name, shape in SHAPES.items()}
GRADIENTS = [{name: RANDOM.randn(*shape) for name, shape in SHAPES.items()} for _ in RATES]
CLIP, DECAY = 1.5, 0.1  # each gradient is longer
NORMS = [np.sqrt(sum((g**2).sum() for g in gradient.values())) for gradient in GRADIENTS]


def trained(name, **options):
  """The parameters after three steps, taken as `make_step` takes them, under one jit."""
  optimizer = make_optimizer(name, **options)

  @jax.jit
  def step(params, state, gradient, rate):
    updates, state = optimizer.update(gradient, state, params)
    updates = jax.tree.map(lambda u: -rate * u, updates)
    return optax.apply_updates(params, updates), state

  params, *gradients = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), [PARAMS, *GRADIENTS])
  state = optimizer.init(params)
  for gradient, rate in zip(gradients, RATES, strict=True):
    params, state = step(params, state, gradient, rate)
    state = jax.tree.map(jnp.array, from_bytes(to_bytes(state), state))  # files can hold it
  assert step._cache_size() == 1  # rates are no constants
  return params


def heavy_ball(history, momentum=0.9):
  return sum(momentum**age * g for age, g in enumerate(reversed(history)))


def nesterov(history):
  return history[-1] + 0.9 * heavy_ball(history)


def moment(history, beta):
  """The exponential mean, from zero."""
  return (1 - beta) * heavy_ball(history, beta)


def adam(history):
  t = len(history)
  mean = moment(history, 0.9) / (1 - 0.9**t)
  square = moment([g**2 for g in history], 0.999) / (1 - 0.999**t)
  return mean / (np.sqrt(square) + 1e-8)


def lion(history):
  return np.sign(0.9 * moment(history[:-1], 0.99) + 0.1 * history[-1])


def ahead(history, beta):
  """Nesterov's mean: that of the next step, were its gradient this one's."""
  t = len(history)
  now = (1 - beta) * history[-1] / (1 - beta**t)
  return beta * moment(history, beta) / (1 - beta ** (t + 1)) + now


def muon(history):
  if history[0].ndim < 2:
    square = moment([g**2 for g in history], 0.999) / (1 - 0.999 ** len(history))
    return ahead(history, 0.9) / (np.sqrt(square) + 1e-8)
  x = ahead(history, 0.95)
  wide, shape = x.reshape(-1, x.shape[-1]), x.shape
  x = wide.T if wide.shape[0] > wide.shape[1] else wide
  x = x / np.linalg.norm(x)
  for _ in range(5):  # Newton and Schulz's iteration, with Jordan's coefficients
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  x = x.T if wide.shape[0] > wide.shape[1] else x
  return (np.sqrt(max(1, wide.shape[1] / wide.shape[0])) * x).reshape(shape)


RULES = {'sgd': heavy_ball, 'nesterov': nesterov, 'adamw': adam, 'lion': lion, 'muon': muon}
COUPLED = ('sgd', 'nesterov')  # the decay is a part of the gradient


def by_hand(name, decay=DECAY, decay_mask='all', clip=None):
  expected = {}
  for array, w in PARAMS.items():
    decay_here = 0.0 if decay_mask == 'matrices' and w.ndim < 2 else decay
    history = []
    for gradient, norm, rate in zip(GRADIENTS, NORMS, RATES, strict=True):
      g = gradient[array] * (1 if clip is None else min(1, clip / norm))
      history.append(g + decay_here * w if name in COUPLED else g)
      decoupled = 0 if name in COUPLED else decay_here * w
      w = w - rate * (RULES[name](history) + decoupled)
    expected[array] = w
  return expected


@pytest.mark.parametrize('name', RULES)
def test_three_steps_are_those_of_the_rule(name):
  for mask, clip in (('all', None), ('matrices', CLIP)):
    found = trained(name, weight_decay=DECAY, decay_mask=mask, clip_norm=clip)
    expected = by_hand(name, DECAY, mask, clip)
    for array, value in found.items():
      close = 1e-4 if name == 'muon' else 1e-5
      np.testing.assert_allclose(value, expected[array], rtol=close, atol=close)


def test_a_short_gradient_is_not_clipped_and_the_default_is_the_papers():
  assert min(NORMS) > CLIP
  papers = by_hand('sgd', decay=1e-4)
  for options in ({}, {'clip_norm': 100.0}):
    found = trained('sgd', **options)
    for array, value in found.items():
      np.testing.assert_allclose(value, papers[array], rtol=1e-5, atol=1e-6)
  state = make_optimizer().init({'w': jnp.zeros(2)})  # what every checkpoint of before holds
  assert isinstance(state[0], optax.EmptyState) and isinstance(state[1], optax.TraceState)
  assert len(state) == 2


def test_equal_options_are_the_identical_object():
  assert make_optimizer('muon', b1=0.8) is make_optimizer('muon', b1=0.8)
  assert make_optimizer('sgd', clip_norm=None) is make_optimizer('sgd')


@pytest.mark.parametrize(('name', 'options', 'said'), [
  ('sgd', {'clip_norm': 0.0}, r'clip_norm=0.0 is refused: it must be positive and finite'),
  ('nesterov', {'momentum': 1.0}, r'momentum=1.0 is refused: it must be in \[0, 1\)'),
  ('adamw', {'b2': 1.0}, r'b2=1.0 is refused: it must be in \[0, 1\)'),
  ('adamw', {'eps': 0.0}, r'eps=0.0 is refused: it must be positive and finite'),
  ('lion', {'eps': 1e-8}, r"unknown option of lion 'eps'"),
  ('muon', {'weight_decay': -1.0}, r'weight_decay=-1.0 is refused: it must be >= 0 and finite'),
  ('sgd', {'weight_decay': -1, 'clip_norm': -3}, r'^weight_decay=-1.0 .*\nclip_norm=-3.0 is'),
  ('muon', {'b1': 2, 'eps': 0, 'weight_decay': -1}, r'^b1=2.0 .*\nweight_decay=-1.0 .*\neps=0.0'),
  ('airbench_sgd', {'momentum': 1, 'whiten_share': 2}, r'^momentum=1.0 .*\nwhiten_share=2.0 is'),
  ('airbench_muon', {'head_scale': 0, 'whiten_share': 0}, r'^head_scale=0.0 .*\nwhiten_share=0.0'),
  ('adamw', {'decay_mask': 'matrix'}, r"'all' or 'matrices'; did you mean 'matrices'\?"),
  ('adam', {}, r"unknown optimizer 'adam'; did you mean 'adamw'\?"),
])  # fmt: skip
def test_refusals(name, options, said):
  with pytest.raises(ValueError, match=said):
    make_optimizer(name, **options)
