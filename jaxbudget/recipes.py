"""Recipes: all parts of a published way to train a network, together.

A recipe is plain values by the names of the laboratory's configs, each of which may be given
otherwise. Under a budget it keeps batch size and largest learning rate and gets shorter: its
schedule, its averaging and the end of its whitening are shapes over the progress of the run.

From the library alone:

  recipe = recipes.make('airbench94', info, budget=0.5)
  run = engine.prepare(recipes.start(recipe), data)
  for e in range(recipe.selector.facts.epochs):
    run, progress = engine.run_epoch(run, data, e, recipe.table(e))
  weights = engine.evaluated(run)  # for `evaluate(recipe.evaluated, ...)`
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from jaxbudget import engine, evaluation, registry, rows, schedules
from jaxbudget import options as options_lib
from jaxbudget.augment import make_augment
from jaxbudget.averaging import Averaging, make_averaging
from jaxbudget.data.dataset import Info
from jaxbudget.ledger import Budget, as_budget
from jaxbudget.models import for_data
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.task import Task, make_task
from jaxbudget.types import Augment, Model, Selector, Spec

# Rates of airbench are in units of 1 + 1 / (1 - momentum) rows; decays stand beside them.
_LONGER = 1 + 1 / 0.15


def _airbench(model, rate, decay, epochs, stages, **options):
  """What airbench94, 95 and 96 have in common; `stages` are its augmentations beside the flip."""
  return {
    'model': model,
    'optimizer': 'airbench_sgd',
    'optimizer_options': {'weight_decay': decay / rate, 'whiten_share': 3 / epochs},
    'task_options': {'label_smoothing': 0.2},
    'augment': '+'.join(('alternating_flip', *stages)),
    'augment_options': stages,
    'schedule': 'airbench',
    'schedule_options': options,
    'learning_rate': rate / _LONGER,
    'averaging': 'lookahead',
    'tta': 'mirror_translate',
    'epochs': epochs,
    'batch_size': 1024,
  }


# What recipes have in common unless they say otherwise.
_PLAIN = {
  'task': 'classification', 'averaging': 'none', 'tta': 'none', 'final_learning_rate': 1e-6,
}  # fmt: skip
_AIRBENCH96 = {'translate': {'pad': 4}, 'cutout': {'size': 12, 'inside': True}}
RECIPES: dict[str, dict[str, Any]] = {
  # Arazo et al., 2021: what a config is without a recipe.
  'paper': {
    'model': 'resnet18',
    'optimizer': 'sgd',
    'augment': 'standard',
    'schedule': 'linear',
    'learning_rate': 0.1,
    'epochs': 200,
    'batch_size': 128,
  },
  # Jordan, https://arxiv.org/abs/2404.00498; whole epochs, so 10 for the 9.9 of airbench94.
  'airbench94': _airbench('airbench94', 11.5, 0.0153, 10, {'translate': {'pad': 2}}),
  'airbench95': _airbench('airbench95', 10.0, 0.0153, 15, {'translate': {'pad': 2}}),
  'airbench96': _airbench('airbench96', 9.0, 0.012, 37, _AIRBENCH96, peak=0.1, end=0.0),
  # airbench94_muon of https://github.com/KellerJordan/cifar10-airbench.
  'airbench94_muon': {
    'model': 'airbench94',
    'model_options': {'head': 'unit'},
    'optimizer': 'airbench_muon',
    'task_options': {'label_smoothing': 0.2},
    'augment': 'alternating_flip+translate',
    'augment_options': {'translate': {'pad': 2}},
    'schedule': 'linear',
    'learning_rate': 0.24,
    'final_learning_rate': 0.0,
    'tta': 'mirror_translate',
    'epochs': 8,
    'batch_size': 2000,
  },
  # Page, https://github.com/davidcpage/cifar10-fast, the 24 epochs of DAWNBench.
  'resnet9': {
    'model': 'resnet9',
    'optimizer': 'nesterov',
    'optimizer_options': {'momentum': 0.9, 'weight_decay': 5e-4},
    'augment': 'translate+cutout',
    'augment_options': {'translate': {'pad': 4}, 'cutout': {'size': 8, 'inside': True}},
    'schedule': 'dawn',
    'learning_rate': 0.4,
    'final_learning_rate': 0.0,
    'epochs': 24,
    'batch_size': 512,
  },
  # Zagoruyko and Komodakis, https://arxiv.org/abs/1605.07146.
  'wrn28_10': {
    'model': 'wrn',
    'model_options': {'depth': 28, 'width': 10},
    'optimizer': 'nesterov',
    'optimizer_options': {'momentum': 0.9, 'weight_decay': 5e-4},
    'augment': 'translate',
    'augment_options': {'translate': {'pad': 4}},
    'schedule': 'step',
    'schedule_options': {'milestones': (0.3, 0.6, 0.8), 'drop': 0.2},
    'learning_rate': 0.1,
    'epochs': 200,
    'batch_size': 128,
  },
  # He et al., https://arxiv.org/abs/1812.01187, sections 2.1, 3.1 and 5.1-5.2, at 90 epochs.
  'imagenet': {
    'model': 'resnet50',
    'model_options': {'bn_gamma_init': 'zero_last'},
    'optimizer': 'nesterov',
    'optimizer_options': {'momentum': 0.9, 'weight_decay': 1e-4, 'decay_mask': 'matrices'},
    'task_options': {'label_smoothing': 0.1},
    'augment': 'standard',  # the random crop comes with the data
    'schedule': 'cosine',
    'schedule_options': {'warmup': 5 / 90},
    'learning_rate': 0.1,
    'final_learning_rate': 0.0,
    'epochs': 90,
    'batch_size': 256,
  },
  # Chrabaszcz et al., https://arxiv.org/abs/1707.08819, section 3.
  'downsampled_imagenet': {
    'model': 'wrn',
    'model_options': {'depth': 28, 'width': 2},
    'optimizer': 'nesterov',
    'optimizer_options': {'momentum': 0.9, 'weight_decay': 5e-4},
    'augment': 'standard',
    'schedule': 'step',
    'schedule_options': {'milestones': (0.25, 0.5, 0.75), 'drop': 0.2},
    'learning_rate': 0.01,
    'epochs': 40,
    'batch_size': 128,
  },
}


def values(name: str) -> dict[str, Any]:
  """The values of a recipe.

  Args:
    name: of the recipe.

  Returns:
    By key of a config; options of a part are a dict, of a part in a chain by its name.

  Raises:
    ValueError: an unknown name, with the closest match.
  """
  registry.check('recipe', name, RECIPES)
  return copy.deepcopy({**_PLAIN, **RECIPES[name]})


class Recipe(NamedTuple):
  """The parts of a run, ready for `start`.

  Attributes:
    table: `epoch -> rows.Row`, what `engine.run_epoch` is given.
    evaluated: the network with its test-time augmentation, for `evaluation.evaluate`.
    views: forward passes that this takes for an image.
  """

  spec: Spec
  budget: Budget
  model: Model
  augment: Augment
  selector: Selector
  optimizer: optax.GradientTransformation
  task: Task
  averaging: Averaging
  table: Callable[[int], rows.Row]
  evaluated: Model
  views: int


def make(
  name: str,
  info: Info,
  budget: Budget | float = 1.0,
  selector: str = 'unif_sgd',
  selector_options: Mapping[str, Any] | None = None,
  **others: Any,
) -> Recipe:
  """Makes the parts of a recipe for a data set.

  Args:
    name: of the recipe.
    info: of the data set.
    budget: B, or a `Budget`.
    selector: the method.
    selector_options: of the method.
    **others: what the recipe sets, otherwise, such as `epochs=5`; options of a part are a dict
      and go over those of the recipe, unless the part is another one too.

  Returns:
    The parts.

  Raises:
    ValueError: an unknown name or option, or a value out of range.
  """
  plain = values(name)
  for key in others:
    registry.check('key of a recipe', key.removesuffix('_options'), sorted(plain))
  chosen = merged(plain, others)
  _check(chosen, info)
  options = {kind: chosen.get(f'{kind}_options', {}) for kind in registry.KINDS}
  augment = make_augment(chosen['augment'], info, **options['augment'])
  spec = spec_of(info, chosen['batch_size'], chosen['epochs'], augment.parts)
  budget = as_budget(budget)
  method = make_selector(selector, spec, budget, selector_options)
  model = for_data(chosen['model'], info, **options['model'])
  rates = chosen['learning_rate'], chosen['final_learning_rate']
  return Recipe(
    spec,
    budget,
    model,
    augment,
    method,
    make_optimizer(chosen['optimizer'], **options['optimizer']),
    make_task(chosen['task'], info, **options['task']),
    make_averaging(chosen['averaging'], **options['averaging']),
    schedules.make_table(chosen['schedule'], method.facts, spec, *rates, options['schedule']),
    evaluation.test_time(model, chosen['tta'], info.flip > 0),
    evaluation.num_views(chosen['tta'], info.flip > 0),
  )


def spec_of(info: Info, batch_size: int, epochs: int, parts: int) -> Spec:
  """The sizes of a run on a data set.

  Args:
    info: of the data set.
    batch_size: s.
    epochs: T.
    parts: M, samples that one augmented image shows.

  Returns:
    The sizes, with the type of what a network is given: augmentation makes images float32.

  Raises:
    ValueError: a value is no size.
  """
  return Spec(
    num_examples=info.num_train,
    batch_size=batch_size,
    num_classes=info.num_classes,
    epochs=epochs,
    image_shape=info.image_shape,
    parts=parts,
    image_dtype='float32' if info.kind == 'images' else info.dtype,
  )


def _check(chosen: Mapping[str, Any], info: Info) -> None:
  """Refuses what no part looks at. Batch size and epochs are looked at by `Spec`.

  Raises:
    ValueError: every fault, one a line.
  """
  faults = []
  if not isinstance(info, Info):
    faults.append(f'info is a {type(info).__name__}: it must be an Info, such as dataset.info')
  for key in (f'{kind}_options' for kind in registry.KINDS):
    if not isinstance(chosen.get(key, {}), Mapping):
      faults.append(f'{key}={chosen[key]!r} is refused: it must be a dict')
  for key, above in (('learning_rate', True), ('final_learning_rate', False)):
    value = chosen[key]
    try:
      number = options_lib.convert(f'{key}={value!r}', value, float)
    except ValueError as e:
      faults.append(str(e))
      continue
    if number < 0 or (above and not number):
      faults.append(f'{key}={value!r} is refused: it must be {"> 0" if above else ">= 0"}')
  if faults:
    raise ValueError('\n'.join(faults))


def merged(recipe: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
  """Values with others over them; options of a part that is another one now are left out.

  Args:
    recipe: of `values`.
    others: by key, options of a part as a dict.

  Returns:
    All of them.
  """
  found = {**recipe, **others}
  for kind in registry.KINDS:
    key = f'{kind}_options'
    same = found.get(kind) == recipe.get(kind, found.get(kind))
    own, over = recipe.get(key, {}) if same else {}, others.get(key, {})
    if not isinstance(over, Mapping):  # told by who knows what it must be
      continue
    both = _over(own, over)
    if both or key in found:
      found[key] = both
  return found


def _over(own, others):
  """Nested options with others over them."""
  return {
    **own,
    **{
      key: _over(own[key], value)
      if isinstance(value, Mapping) and isinstance(own.get(key), Mapping)
      else value
      for key, value in others.items()
    },
  }


def start(recipe: Recipe, seed: int = 0, mesh: jax.sharding.Mesh | None = None) -> engine.Engine:
  """Sets a run up, as `engine.start` does; then `engine.prepare` it with the data."""
  parts = recipe.model, recipe.augment, recipe.selector, recipe.optimizer
  return engine.start(
    recipe.spec, *parts, recipe.budget,
    seed=seed, mesh=mesh, task=recipe.task, averaging=recipe.averaging,
  )  # fmt: skip
