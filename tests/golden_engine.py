"""Golden numbers: what the engine and all that has a name gave when `ENGINE` was last raised.

Ids hold the engine's number instead of its code. So whatever changes these numbers must raise
`ENGINE` (jaxbudget/epoch.py): old results would else pass for results of the new rules.

  python tests/golden_engine.py     adds what is new; or writes all anew once ENGINE was raised

Decisions are driven by recorded losses: a network whose outputs stand in a table by sample, such
that losses or probabilities are exact on every machine. They are compared exactly, and weights,
pixels and rates within rounding.
"""

import functools
import importlib
import json
import math
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import selectors_common_test as common
import toys

FILE = pathlib.Path(__file__).parent / 'golden' / 'engine.json'
CLOSE = 1e-5  # relative above 1, absolute below
N, CLASSES = 48, 8
# Methods that look at probabilities; all others look at losses.
BY_PROBABILITY = ('p_sgd', 'c_sgd', 'active_bias', 'gradient_bound', 'rcap')
# Eigenvectors decide, or a network of the method's own, which processors round differently.
BY_ROUNDING = ('dpp', 'proxy_filter')
# Of these the weights after eight rows too: a plain step, weights, a queue, padding.
TRAINED = {
  'unif_sgd': ('unif_sgd', {}),
  'ordered_sgd': ('ordered_sgd', {'thresholds': (1.0, 99.0)}),
  'sb_flush': ('selective_backprop', {'tail': 'flush', 'history': 16}),
}
_INFO = {'num_train': 48, 'num_test': 8, 'num_classes': CLASSES, 'image_shape': (8, 8, 3),
         'mean': (0.5, 0.4, 0.3), 'std': (0.2, 0.3, 0.2), 'flip': 0.5, 'pad': 2}  # fmt: skip


class Library:
  """The library, or a copy of it under another name (a mutant)."""

  def __init__(self, package: str = 'jaxbudget'):
    self._package = package

  def __getattr__(self, module):
    return importlib.import_module(f'{self._package}.{module}')


LIBRARY = Library()


@functools.cache
def table(by_probability: bool) -> np.ndarray:
  """Logits f32[N,C] that give exact probabilities 1/k, or exact and distinct losses."""
  rng = np.random.default_rng(0)
  label = np.arange(N) % CLASSES
  logits = np.full((N, CLASSES), -1000.0, np.float32)  # exp gives 0
  for i in range(N):
    if by_probability:  # as likely as k - 1 others: p = 1/k, k in 1, 2, 4, 8
      others = rng.permutation([c for c in range(CLASSES) if c != label[i]])
      logits[i, others[: 2 ** (i % 4) - 1]] = 0
      logits[i, label[i]] = 0
    else:  # one other class is certain: the loss is the gap
      logits[i, (label[i] + 1) % CLASSES] = 0
      logits[i, label[i]] = -(110 + (7 * i) % N)
  return logits


def _forward(params, model_state, image, train, mask=None):
  del mask
  sample = image[:, 0, 0, 0].astype(jnp.int32)
  return model_state['table'][sample] + 0 * jnp.sum(params['w']), model_state


def _to_float(image):
  return image.astype(jnp.float32)


def _as_is(key, batch):
  del key
  return batch._replace(image=_to_float(batch.image))


@functools.cache
def _tabulated(lib: Library, by_probability: bool) -> tuple:
  """A network of a table and its data, once: methods with the same rows share their programs."""
  state = lambda: {'table': jnp.array(table(by_probability))}  # a run donates its own
  init = lambda key: ({'w': jnp.zeros(2, jnp.float32)}, state())
  features = lambda params, model_state, image: image.reshape(image.shape[0], -1)
  model = lib.types.Model(init, _forward, features)
  augment = lib.types.Augment(_as_is, _to_float)
  image = jnp.broadcast_to(jnp.arange(N, dtype=jnp.uint8)[:, None, None, None], (N, 2, 2, 1))
  data = lib.types.Data(image, jnp.arange(N, dtype=jnp.int32) % CLASSES)
  return model, augment, lib.optimizers.make_optimizer(), data


def decisions(lib: Library, name: str, options: dict, budget: float) -> dict[str, Any]:
  """Who is trained on, row by row, and what the method says of itself."""
  model, augment, optimizer, data = _tabulated(lib, name in BY_PROBABILITY)
  spec = lib.types.Spec(N, 8, CLASSES, 4, (2, 2, 1))
  selector = lib.selectors.make_selector(name, spec, budget, options, toys.needed(name, options))
  run = lib.engine.start(spec, model, augment, selector, optimizer, budget)
  epochs, before = [], np.zeros(N, int)
  for e in range(selector.facts.epochs):
    if selector.facts.scan.due(e):
      weights = run.state.params, run.state.model_state
      seen = lib.scan.observe(model, _to_float, *weights, data, 16, selector.facts.scan.wants)
      run = run._replace(state=lib.scan.apply(selector, run.state, seen, e, run.root))
    run = lib.engine.begin_epoch(run, e)
    run, progress = lib.engine.train_rows(run, data, 0.1)
    after, metrics = np.asarray(run.state.times_trained), jax.device_get(progress.metrics)
    row = {key: getattr(metrics, key).tolist() for key in ('examples', 'scored', 'trained')}
    figures = {key: float(value) for key, value in progress.report.items()}
    # A row's mean loss tells which samples it holds.
    epochs.append({
      'ids': ' '.join(map(str, np.repeat(np.arange(N), after - before))),
      'loss': _numbers(metrics.loss), **row, **figures,
    })  # fmt: skip
    before = after
  scores = selector.scores(run.state.selector)
  return {'epochs': epochs, 'scores': None if scores is None else _numbers(scores)}


def weights(lib: Library, name: str, options: dict) -> list[float]:
  """Weights of the toy after eight rows, with a decay that shows."""
  spec = lib.types.Spec(48, 8, 3, 4, (2, 2, 1))
  selector = lib.selectors.make_selector(name, spec, 0.5, options)
  optimizer = lib.optimizers.make_optimizer(momentum=0.9, weight_decay=0.05)
  run = lib.engine.start(spec, toys.MODEL, toys.AUGMENT, selector, optimizer, 0.5)
  data, left, e = lib.types.Data(*toys.data()), 8, 0
  while left:
    rows = min(left, selector.facts.rows)
    run, _ = lib.engine.train_rows(lib.engine.begin_epoch(run, e), data, 0.1, rows)
    left, e = left - rows, e + 1
  return _numbers([*run.state.params['w'].ravel(), *run.state.params['b']])


def augmented(lib: Library, name: str) -> dict[str, Any]:
  """Some pixels of a batch that an augmentation made, and who is in each picture."""
  info = lib.data.Info('golden', **_INFO)
  augment = lib.augment.make_augment(name, info)
  rng = np.random.RandomState(0)
  image = jnp.asarray(rng.randint(0, 256, (8, 8, 8, 3)).astype(np.uint8))
  data = lib.types.Data(image, jnp.arange(8, dtype=jnp.int32))
  index = jnp.arange(8, dtype=jnp.int32)
  plain = lib.types.plain_batch(data, index, jnp.ones(8, jnp.float32), CLASSES)
  batch = jax.jit(augment.train)(jax.random.key(3), plain)
  return {
    'who': np.asarray(batch.part_index).tolist(),
    'labels': np.asarray(batch.part_label).tolist(),
    'shares': _numbers(batch.part_share),
    'target': _numbers(batch.target[::3]),
    'pixels': _numbers(batch.image.ravel()[::37]),
    'test': _numbers(augment.test(image).ravel()[::151]),
  }


def network(lib: Library, name: str) -> dict[str, Any]:
  """What an untrained network, as narrow as it can be made, says of a batch."""
  part = lib.factories.find('model', name)
  options = {'width': 4} if 'width' in part.options else {}
  options |= {'conv': 'lax'} if 'conv' in part.options else {}
  model = lib.models.make_model(name, CLASSES, (8, 8, 3), **options)
  params, state = model.init(jax.random.key(0))
  image = jnp.asarray(np.random.RandomState(1).normal(size=(4, 8, 8, 3)).astype(np.float32))
  logits, after = jax.jit(functools.partial(model.apply, train=True))(params, state, image)
  sums = [float(jnp.abs(leaf.astype(jnp.float32)).sum()) for leaf in jax.tree.leaves(after)]
  return {'logits': _numbers(logits), 'state': _numbers([sum(sums)])}


def rates(lib: Library, name: str) -> list[float]:
  """The learning rate of each of 12 rows."""
  schedule = lib.schedules.make_schedule(name, 4, 3, 0.1, 1e-3)
  return _numbers(np.broadcast_to(np.asarray(schedule(np.arange(12, dtype=np.float32))), 12))


def updates(lib: Library, name: str) -> list[float]:
  """The updates of an optimizer for four gradients of two weights."""
  optimizer = optax.with_extra_args_support(lib.optimizers.make_optimizer(name))
  params, found = {'w': jnp.array([1.0, -200.0])}, []
  state = optimizer.init(params)
  for step in range(4):
    gradient = {'w': jnp.array([0.5 - step, 3.0 * step])}
    row = lib.rows.Row(0.1, None, jnp.int32(step + 1), jnp.float32((step + 1) / 4))
    update, state = optimizer.update(gradient, state, params, **row.told)
    params = jax.tree.map(lambda p, u: p - 0.1 * u, params, update)
    found += [*update['w']]
  return _numbers(found)


def averaged(lib: Library, name: str) -> list[float]:
  """Evaluated and trained weights along six rows, each of which adds to them."""
  averaging = lib.averaging.make_averaging(name)
  weights, found = (jnp.array([1.0, -200.0]), ()), []
  average = averaging.init(weights)
  for step in range(1, 7):
    row = lib.rows.Row(0.1, None, jnp.int32(step), jnp.float32(step / 6))
    average, weights = averaging.update(average, (weights[0] + step, ()), row)
    found += [*averaging.evaluated(average, weights)[0], *weights[0]]
  return _numbers(found)


def told(lib: Library, name: str) -> dict[str, Any]:
  """What a task makes of outputs: losses, and what methods are told."""
  rng = np.random.RandomState(2)
  output = jnp.asarray(rng.normal(size=(4, CLASSES)).astype(np.float32))
  target = jnp.asarray(rng.dirichlet(np.ones(CLASSES), 4).astype(np.float32))
  labels = {'label_mean': CLASSES * (0.2,), 'label_std': CLASSES * (0.5,)}
  info = lib.data.Info('golden', **_INFO, **(labels if name == 'regression' else {}))
  options = {'label_smoothing': 0.1} if name == 'classification' else {}
  task = lib.task.make_task(name, info, **options)
  loss = task.loss(output, target)
  trained, outputs = task.trained(output, target, loss), task.told(output, target, loss)
  return {
    'loss': _numbers(loss), 'trained': _numbers(trained),
    'told': [_numbers(leaf) for leaf in jax.tree.leaves(outputs)],
  }  # fmt: skip


_OTHERS = {
  'task': told, 'augment': augmented, 'model': network, 'schedule': rates, 'optimizer': updates,
  'averaging': averaged,
}  # fmt: skip
# Of the kinds whose programs take seconds to compile, those of the study: the others have
# published numbers or NumPy to agree with in tests of their own.
_STUDY = {'augment': ('standard', 'randaugment', 'mixup', 'ricap'), 'model': ('resnet8',)}


def cases() -> dict[str, Any]:
  """What is recorded: by name a function of the library."""
  lib, found = LIBRARY, {}
  for variant, (name, options) in common.VARIANTS.items():
    if name in BY_ROUNDING:
      continue
    if name == 'replay':
      options = {'recording': toys.recording()}
    given = {'history': 16, **options} if name == 'selective_backprop' else options
    if name == 'ordered_sgd':
      given = {'thresholds': (10.0, 30.0, 60.0), **options}
    budget = 1.0 if common.whole(variant) else 0.5
    found[f'decisions {variant}'] = functools.partial(
      decisions, name=name, options=given, budget=budget
    )
  for variant, (name, options) in TRAINED.items():
    found[f'weights {variant}'] = functools.partial(weights, name=name, options=options)
  for kind, function in _OTHERS.items():
    for name in _STUDY.get(kind, lib.registry.names(kind)):
      found[f'{kind} {name}'] = functools.partial(function, name=name)
  return found


def record() -> dict[str, Any]:
  """All numbers as they are now."""
  lib = LIBRARY
  numbers = {name: as_json(case(lib)) for name, case in cases().items()}
  return {'engine': lib.epoch.ENGINE, 'numbers': numbers}


def as_json(numbers: Any) -> Any:
  """Numbers as a file gives them back."""
  return json.loads(json.dumps(numbers))


def difference(was: Any, now: Any, place: str = '') -> str:
  """The first place where numbers differ; '' if there is none."""
  if isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys():
    pairs = [(f'{place} {key}', was[key], now[key]) for key in was]
  elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
    pairs = [(f'{place}[{i}]', *pair) for i, pair in enumerate(zip(was, now, strict=True))]
  elif isinstance(was, float) and isinstance(now, float | int):
    same = math.isclose(was, now, rel_tol=CLOSE, abs_tol=CLOSE) or (was != was and now != now)
    return '' if same else _told(place, was, now)
  else:
    return '' if was == now else _told(place, was, now)
  return next(filter(None, (difference(a, b, where) for where, a, b in pairs)), '')


def _told(place: str, was: Any, now: Any) -> str:
  was, now = (text if len(text) < 200 else f'{text[:200]}...' for text in (repr(was), repr(now)))
  return f'{place}: {was} was recorded, {now} is found'


def fault(recorded: dict[str, Any], now: dict[str, Any]) -> str:
  """What is wrong with the engine's number; '' if nothing is."""
  here = 'python tests/golden_engine.py'
  if recorded['engine'] != now['engine']:
    return f'ENGINE is {now["engine"]}, the numbers are of {recorded["engine"]}: {here}'
  known = {name: now['numbers'][name] for name in recorded['numbers'] if name in now['numbers']}
  found = difference({name: recorded['numbers'][name] for name in known}, known)
  if found:
    return (
      f'results have changed:{found}. If that is meant, raise ENGINE in jaxbudget/epoch.py, which '
      f'gives every run a new id, say so in CHANGELOG.md, and write the numbers anew: {here}'
    )
  missing = now['numbers'].keys() ^ recorded['numbers'].keys()
  return f'not recorded, or gone: {", ".join(sorted(missing))}: {here}' if missing else ''


def write(recorded: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
  """What to record: all of a new engine, and what is new of the present one.

  Raises:
    ValueError: numbers have changed, and the engine's number has not.
  """
  if recorded is None or recorded['engine'] != now['engine']:
    return now
  wrong = fault(recorded, now)
  if 'have changed' in wrong:
    raise ValueError(wrong)
  kept = {name: recorded['numbers'].get(name, value) for name, value in now['numbers'].items()}
  return {**recorded, 'numbers': kept}


def _numbers(values) -> list[float]:
  """Numbers with 7 digits, flat."""
  return [float(f'{float(value):.7g}') for value in np.asarray(values, np.float64).ravel()]


if __name__ == '__main__':
  old = json.loads(FILE.read_text()) if FILE.exists() else None
  try:
    content = write(old, record())
  except ValueError as e:
    sys.exit(str(e))
  lines = [f'  {json.dumps(name)}: {json.dumps(n)}' for name, n in content['numbers'].items()]
  text = ',\n'.join(lines)
  FILE.write_text(f'{{"engine": {content["engine"]}, "numbers": {{\n{text}\n}}}}\n')
