"""Features and tokens, classes and numbers: every method, every optimizer, the whole way round.

The whole table of task, input, optimizer and method would be 200 runs. Each method is run twice
here, once on features and once on tokens, one of them a regression if it asks for nothing that this
lacks; the optimizers take turns.
"""

import dataclasses
import functools
import itertools

import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from ml_collections import FrozenConfigDict
from rich.console import Console

from jaxbudget import data, engine, epoch, factories, load, models, parallel, registry
from jaxbudget.augment import make_augment
from jaxbudget.evaluation import Evaluation, evaluate
from jaxbudget.lab import config as config_lib
from jaxbudget.lab.run.ongoing import Stopped
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import local
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector, needs
from jaxbudget.step import row_hooks
from jaxbudget.task import make_task
from jaxbudget.types import Spec

N, LENGTH, CLASSES = 48, 4, 3
INPUTS = ('features', 'tokens')
TASKS = ('classification', 'regression')
# Those of any network: airbench's are for its own.
RATES = {'sgd': 0.03, 'nesterov': 0.03, 'adamw': 0.02, 'lion': 0.01, 'muon': 0.02}
NETWORKS = {
  'features': ('mlp', {'hidden': 8, 'depth': 1}),
  'tokens': ('transformer', {'width': 8, 'depth': 1, 'heads': 2}),
}


@functools.cache
def arrays(inputs, task):
  """Inputs whose first number, or first token, tells the label."""
  rng = np.random.RandomState(0)
  label = rng.randint(0, CLASSES, 2 * N)
  if inputs == 'features':
    x = rng.randn(2 * N, LENGTH)
    x[:, 0] = label - 1 + 0.1 * rng.randn(2 * N)
  else:
    x = rng.randint(CLASSES, CLASSES + 4, (2 * N, LENGTH))
    x[:, 0] = label
  y = label if task == 'classification' else 5.0 * label + 7
  return {'x_train': x[:N], 'y_train': y[:N], 'x_test': x[N:], 'y_test': y[N:]}


@functools.cache
def dataset(inputs, task):
  found = arrays(inputs, task)
  keys = ('x_train', 'y_train', 'x_test', 'y_test')
  return data.from_arrays(f'{task} of {inputs}', *(found[key] for key in keys))


def needed(name, options):
  """What other runs would have left, made up."""
  rising = np.arange(N, dtype=np.float32)
  shapes = {'logits': (N, CLASSES), 'features': (N, 2)}

  def one(takes):
    if takes == 'label':
      return np.arange(N, dtype=np.int32) % CLASSES
    return np.broadcast_to(rising[:, None], shapes[takes]) if takes in shapes else rising

  def of(need):
    if isinstance(need.takes, tuple):  # a core-set takes scores of one's own, too
      return rising
    return (one(need.takes),) * need.count if need.count > 1 else one(need.takes)

  part = factories.find('selector', name)
  return {need.parameter: of(need) for need in needs(name, part.fill(options))}


def selector_of(name, spec):
  options = {'recording': toys.recording(N, 12)} if name == 'replay' else {}
  if name == 'selective_backprop':
    options = {'history': 16}
  for budget in (0.75, 1.0):  # some want all of it
    try:
      return make_selector(name, spec, budget, options, needed(name, options)), budget
    except ValueError as e:
      refused = e
  raise refused


def spec_of(inputs, task):
  info = dataset(inputs, task).info
  return Spec(N, 8, info.num_classes, 12, info.image_shape, image_dtype=info.dtype)


def begin(inputs, task, name, optimizer, mesh=None):
  info, spec = dataset(inputs, task).info, spec_of(inputs, task)
  selector, budget = selector_of(name, spec)
  network, options = NETWORKS[inputs]
  return engine.start(
    spec, models.for_data(network, info, **options), make_augment('none', info), selector,
    make_optimizer(optimizer), budget, mesh=mesh, task=make_task(task, info),
  )  # fmt: skip


def trained(run, found, rate):
  train = parallel.place_data(data.place(found)[0], run.program.mesh)
  for e in range(run.selector.facts.epochs):
    run, progress = engine.run_epoch(run, train, e, rate)
  return run, progress


def score(run, found):
  sums = evaluate(
    run.program.model, run.program.augment.test, N, run.state.params, run.state.model_state,
    data.place(found)[1], Evaluation.blank(), jnp.int32(0), jnp.int32(1),
    task=run.program.task,
  )  # fmt: skip
  return run.program.task.score(int(sums.correct), float(sums.loss), N)


CHANCE = {'classification': 100 * 0.45, 'regression': 20.0}  # the commonest class has 40 %; R2


def rows():
  """(input, task, method, optimizer) of each run; equal programs take equal optimizers."""
  optimizers, turn = tuple(RATES), {}
  spec = Spec(N, 8, CLASSES, 12, (LENGTH,))
  known = make_task('regression', dataset('tokens', 'regression').info).capabilities
  for name in registry.names('selector'):
    selector = selector_of(name, spec)[0]
    fits = set(selector.facts.asks) <= set(known)
    turn.setdefault((row_hooks(selector), fits), len(turn))
    place = turn[row_hooks(selector), fits]
    for j, inputs in enumerate(INPUTS):
      task = TASKS[1] if fits and (place + j) % 2 else TASKS[0]
      yield inputs, task, name, optimizers[(2 * place + j) % len(optimizers)]


# These have every way through the engine; the others meet features and tokens in the long tests.
PATHS = ('sgd', 'p_sgd', 'selective_backprop', 'ordered_sgd', 'gradient_bound', 'infobatch')
TABLE = [row if row[2] in PATHS else pytest.param(*row, marks=pytest.mark.long) for row in rows()]


@pytest.mark.parametrize(('inputs', 'task', 'name', 'optimizer'), TABLE)
def test_every_method_learns_from_features_and_from_tokens(inputs, task, name, optimizer):
  found = dataset(inputs, task)
  run, progress = trained(begin(inputs, task, name, optimizer), found, RATES[optimizer])
  assert np.isfinite(progress.metrics.loss).all()
  assert score(run, found) > CHANCE[task]


def test_the_table_holds_every_pair():
  table = set(rows())
  assert {(i, t) for i, t, _, _ in table} == {(i, t) for i in INPUTS for t in TASKS}
  pairs = {(inputs, optimizer) for inputs, _, _, optimizer in table}
  assert pairs == {(i, o) for i in INPUTS for o in RATES}
  assert len(table) == 2 * len(registry.names('selector'))


@pytest.mark.parametrize('inputs', INPUTS)
def test_two_devices_and_other_platforms(inputs):
  """A queue of features or of tokens on two devices gives the counts of one, and lowers."""
  task = TASKS[INPUTS.index(inputs)] if inputs == 'features' else TASKS[0]
  name = 'selective_backprop'
  one, _ = trained(begin(inputs, task, name, 'sgd'), dataset(inputs, task), 0.03)
  mesh = parallel.make_mesh(2, 8)
  two, _ = trained(begin(inputs, task, name, 'sgd', mesh), dataset(inputs, task), 0.03)
  np.testing.assert_array_equal(one.state.times_trained, two.state.times_trained)
  for a, b in zip(
    jax.tree.leaves(one.state.params), jax.tree.leaves(two.state.params), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-3)
  info, spec = dataset(inputs, task).info, spec_of(inputs, task)
  network, options = NETWORKS[inputs]
  shapes = engine.row_shapes(
    spec, models.for_data(network, info, **options), make_augment('none', info), one.selector,
    make_optimizer(), 0.75,
  )  # fmt: skip
  assert shapes[2].image.dtype == info.dtype
  for platform in ('cuda', 'tpu'):
    text = epoch.train_rows.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert 'stablehlo.while' in text and 'callback' not in text


CASES = {
  'numbers of features': {
    'inputs': 'features', 'task': 'regression', 'model': 'mlp', 'selector': 'infobatch',
    'optimizer': 'adamw', 'model_options': {'hidden': 8, 'depth': 1},
  },
  'classes of tokens': {
    'inputs': 'tokens', 'task': 'classification', 'model': 'transformer', 'optimizer': 'lion',
    'selector': 'selective_backprop', 'selector_options.history': 16,
    'model_options': {'width': 8, 'depth': 1, 'heads': 2, 'head': 'last'},
    'task_options.label_smoothing': 0.1, 'optimizer_options.clip_norm': 1.0,
  },
}  # fmt: skip


def values(tmp_path, inputs, labels, **changes):
  path = tmp_path / f'{inputs}_{labels}.npz'
  if not path.exists():
    np.savez(path, **arrays(inputs, labels))
  return config_lib.defaults(**{
    'dataset': f'npz:{path}', 'task': labels, 'augment': 'none', 'batch_size': 8, 'epochs': 12,
    'budget': 0.75, 'seeds': 1, 'learning_rate': 0.02, 'record_selection': True,
    'evaluate_batch': 32, **changes,
  })  # fmt: skip


@pytest.mark.parametrize('case', CASES)
def test_a_run_is_stopped_resumed_loaded_and_replayed(case, tmp_path, monkeypatch):
  changes = dict(CASES[case])
  inputs, task = changes.pop('inputs'), changes.pop('task')
  runs, datasets = faulty.planned(values(tmp_path, inputs, task, **changes))
  assert local.run_all(runs, datasets, tmp_path / 'whole', Console()) == 0
  pieces = []

  def train_in_pieces(run, train_data, test_data, directory, progress, stop, **more):
    del stop
    run = dataclasses.replace(
      run, cell=FrozenConfigDict({**run.cell.to_dict(), 'rows_per_call': 3})
    )
    while True:
      try:
        return train(run, train_data, test_data, directory, progress, stop_after(8), **more)
      except Stopped as e:
        pieces.append(e)

  monkeypatch.setattr(local, 'train', train_in_pieces)
  assert local.run_all(runs, datasets, tmp_path / 'pieces', Console()) == 0
  monkeypatch.undo()
  directories = [tmp_path / where / runs[0].run_id for where in ('whole', 'pieces')]
  whole, resumed = map(faulty.outcome, directories)
  assert len(pieces) > 1 and faulty.differences(whole, resumed) == []

  result, trained = whole['result.json'], load(directories[0])
  found = arrays(inputs, task)
  said = np.asarray(trained(jnp.asarray(found['x_test'], datasets_dtype(datasets))))
  assert result['score'] <= result['best_score'] and result['score'] > CHANCE[task]
  if task == 'regression':
    y = found['y_test']
    r2 = 1 - np.mean((y - said[:, 0]) ** 2) / found['y_train'].var()
    assert result['score'] == pytest.approx(100 * r2, abs=0.1) and result['score_name'] == 'R2'
    assert result['final_accuracy'] is result['best_accuracy'] is None
    assert {line['test_accuracy'] for line in whole['metrics.jsonl']} == {None}
  else:
    right = 100 * np.mean(said.argmax(1) == found['y_test'])
    assert result['score'] == result['final_accuracy'] == pytest.approx(right)
    assert result['score_name'] == 'accuracy' and result['best_score'] == result['best_accuracy']

  again = {**changes, 'selector': f'replay:{directories[0]}', 'batch_size': 6}
  again.pop('selector_options.history', None)
  runs, datasets = faulty.planned(values(tmp_path, inputs, task, **again))
  assert local.run_all(runs, datasets, tmp_path / 'again', Console()) == 0
  replayed = tmp_path / 'again' / runs[0].run_id
  assert (replayed / 'counts.npy').read_bytes() == (directories[0] / 'counts.npy').read_bytes()


def stop_after(asks):
  asked = itertools.count()
  return lambda: next(asked) > asks


def datasets_dtype(datasets):
  (found,) = datasets.values()
  return found.info.dtype


@pytest.mark.parametrize(('inputs', 'task', 'changes', 'said'), [
  ('features', 'classification', {'augment': 'mixup'},
   "augment 'mixup' is for images, but the inputs of npz:{} are features: allowed is 'none'"),
  ('tokens', 'classification', {'augment': 'standard'}, "augment 'standard' is for images"),
  ('tokens', 'classification', {'augment': 'none+ricap'}, "augment 'ricap' is for images"),
  ('features', 'classification', {'model': 'resnet8'},
   "model 'resnet8' is for images, but the inputs of npz:{} are features: allowed is mlp"),
  ('tokens', 'classification', {'model': 'mlp'},
   "model 'mlp' takes no tokens, but the inputs of npz:{} are tokens: allowed is a network with "
   'an option vocabulary, such as transformer'),
  ('features', 'classification', {'model': 'transformer'}, "model 'transformer' takes tokens"),
  ('tokens', 'classification', {'model': 'transformer', 'model_options.vocabulary': 2},
   'vocabulary=2 is refused: the tokens of npz:{} go up to 6'),
  ('tokens', 'classification', {'model': 'transformer', 'model_options.heads': 3},
   'heads=3 is refused: it must divide width=64'),
  ('features', 'regression', {'model': 'mlp', 'task': 'classification'},
   'task classification: the labels of npz:{} are numbers, not classes'),
  ('features', 'regression', {'model': 'mlp', 'selector': 'p_sgd'},
   "selector 'p_sgd' asks for probabilities, which task 'regression' does not have (it has "
   'gradient_norm)'),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(inputs, task, changes, said, tmp_path):
  changes = {'selector': 'unif_sgd', 'model': 'mlp', **changes}
  with pytest.raises(ValueError) as refused:
    faulty.planned(values(tmp_path, inputs, task, **changes))
  assert said.format(tmp_path / f'{inputs}_{task}.npz') in str(refused.value)
