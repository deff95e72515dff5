"""A whole run: every epoch planned, trained and evaluated, start-up and compilation beside it."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import engine, evaluation, recipes
from jaxbudget.data.tables import INFO
from jaxbudget.evaluation import Evaluation, forward_batch
from jaxbudget.types import Data
from on_device.rows import placed, random_data

# Table 5 of the paper: minutes on one GTX 1080 Ti, CIFAR-100, standard augmentation, B = 0.3, with
# a test pass after each epoch.
PAPER = {('paper', 'unif_sgd', 0.3): 47, ('paper', 'p_sgd', 0.3): 48}


class Whole(NamedTuple):
  """What is trained: a recipe, by its numbers, in bfloat16."""

  recipe: str = 'paper'
  selector: str = 'unif_sgd'
  budget: float = 0.3
  others: tuple[tuple[str, Any], ...] = ()  # keys of the recipe that are to be otherwise
  side: int = 32
  examples: int = 50_000  # where no data are given
  tested: int = 10_000

  @property
  def title(self) -> str:
    """For a table."""
    given = ''.join(f' {name}={value}' for name, value in self.others)
    return f'{self.recipe}{given}, B = {self.budget:g}: {self.selector}'


def read(path: str) -> tuple[Data, Data]:
  """The splits of an npz file with `x_train`, `y_train`, `x_test`, `y_test`, on the device."""
  with np.load(path) as file:
    both = [(file[f'x_{split}'], file[f'y_{split}']) for split in ('train', 'test')]
  train, test = (placed(Data(x, y.reshape(-1).astype(np.int32))) for x, y in both)
  return train, test


def measure(whole: Whole, path: str | None) -> dict[str, Any]:
  """Trains from the first epoch to the last, and evaluates after each.

  Args:
    whole: what is trained.
    path: of real data, see `read`; random images without it.

  Returns:
    Minutes of all, the part of training, and seconds of what came before; of real data the
    accuracy after the last epoch, in percent, by the recipe's views of each image. Minutes of the
    paper where it trained the same.
  """
  began = time.perf_counter()
  train, test = (
    read(path)
    if path
    else (placed(random_data(n, whole.side)) for n in (whole.examples, whole.tested))
  )
  recipe = _recipe(whole, train)
  run = engine.prepare(recipes.start(recipe), train)
  epochs, per_epoch = recipe.selector.facts.epochs, recipe.selector.facts.rows
  total = test.label.shape[0]
  per_batch = forward_batch(total, recipe.spec)

  def evaluate(model):
    sums = evaluation.evaluate(
      model, recipe.augment.test, per_batch, *engine.evaluated(run), test, Evaluation.blank(),
      jnp.int32(0), jnp.int32(-(-total // per_batch)),
    )  # fmt: skip
    return 100 * int(sums.correct) / total

  # Compiles, and trains on nothing: the plan of a copy, and no row of it.
  copy = run._replace(state=jax.tree.map(lambda x: x.copy(), run.state))
  engine.run_epoch(copy, train, 0, recipe.table(0), stop=0)
  evaluate(recipe.model)
  ready = time.perf_counter()
  training = 0.0
  for e in range(epochs):
    start = time.perf_counter()
    run, progress = engine.run_epoch(run, train, e, recipe.table(e))
    jax.block_until_ready((run.state, progress))
    training += time.perf_counter() - start
    evaluate(recipe.model)
  seconds = time.perf_counter() - ready
  return {
    'epochs': epochs,
    'rows': epochs * per_epoch,
    'minutes': seconds / 60,
    'training %': 100 * training / seconds,
    'start-up and compilation, s': ready - began,
    **_of_the_paper(whole),
    **({'accuracy, %': evaluate(recipe.evaluated)} if path else {}),
  }


def _of_the_paper(whole: Whole) -> dict[str, float]:
  minutes = PAPER.get((whole.recipe, whole.selector, whole.budget))
  changed = whole.others or whole.side != 32 or whole.examples != 50_000
  return {} if changed or minutes is None else {'minutes in the paper, GTX 1080 Ti': minutes}


def _recipe(whole: Whole, train: Data) -> recipes.Recipe:
  shape = train.image.shape[1:]
  info = dataclasses.replace(
    INFO['cifar10'], num_train=train.label.shape[0], image_shape=shape, pad=shape[0] // 8
  )
  others = dict(whole.others)
  if 'model' not in others:
    others['model_options'] = {'compute_dtype': 'bfloat16', 'conv': 'lax'}
  return recipes.make(whole.recipe, info, whole.budget, whole.selector, **others)
