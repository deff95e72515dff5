"""A whole run: every epoch planned, trained and evaluated, start-up and compilation beside it."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from jaxbudget import evaluation
from jaxbudget.evaluation import Evaluation, forward_batch
from on_device.rows import Rows, Setting, parts, random_data


def measure(setting: Setting, epochs: int, test: int) -> dict[str, Any]:
  """Trains from the first epoch to the last.

  Args:
    setting: what is trained.
    epochs: T.
    test: images evaluated after every epoch.

  Returns:
    Minutes of all, of training, of evaluation, and of compilation before it.
  """
  began = time.perf_counter()
  rows = Rows(setting)
  program = rows.trained.program
  held_out = random_data(test, setting.side)
  per_batch = forward_batch(test, parts(setting).spec)

  def evaluate():
    state = rows.trained.state
    sums = evaluation.evaluate(
      program.model, program.augment.test, per_batch, state.params, state.model_state, held_out,
      Evaluation.blank(), jnp.int32(0), jnp.int32(-(-test // per_batch)),
    )  # fmt: skip
    return jax.block_until_ready(sums)

  evaluate()
  ready = time.perf_counter()
  spent = {'training': 0.0, 'evaluation': 0.0}
  for _ in range(epochs):
    start = time.perf_counter()
    rows.epoch()
    trained = time.perf_counter()
    evaluate()
    spent['training'] += trained - start
    spent['evaluation'] += time.perf_counter() - trained
  total = sum(spent.values())
  return {
    'epochs': epochs,
    'rows': epochs * rows.per_epoch,
    'minutes': total / 60,
    'training %': 100 * spent['training'] / total,
    'start-up and compilation, s': ready - began,
  }
