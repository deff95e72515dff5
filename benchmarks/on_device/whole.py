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
from on_device.rows import random_data


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
  train, test = (Data(jnp.asarray(x), jnp.asarray(y.reshape(-1), jnp.int32)) for x, y in both)
  return train, test


def measure(whole: Whole, path: str | None) -> dict[str, Any]:
  """Trains from the first epoch to the last, and evaluates after each.

  Args:
    whole: what is trained.
    path: of real data, see `read`; random images without it.

  Returns:
    Minutes of all, the part of training, and seconds of what came before; of real data the
    accuracy after the last epoch, in percent, by the recipe's views of each image.
  """
  began = time.perf_counter()
  train, test = (
    read(path) if path else (random_data(n, whole.side) for n in (whole.examples, whole.tested))
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

  run, _ = engine.train_rows(run, train, recipe.table(0), stop=0)  # compiles, trains on nothing
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
    **({'accuracy, %': evaluate(recipe.evaluated)} if path else {}),
  }


def _recipe(whole: Whole, train: Data) -> recipes.Recipe:
  shape = train.image.shape[1:]
  info = dataclasses.replace(
    INFO['cifar10'], num_train=train.label.shape[0], image_shape=shape, pad=shape[0] // 8
  )
  others = dict(whole.others)
  if 'model' not in others:
    others['model_options'] = {'compute_dtype': 'bfloat16', 'conv': 'lax'}
  return recipes.make(whole.recipe, info, whole.budget, whole.selector, **others)
