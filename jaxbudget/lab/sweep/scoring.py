"""Scoring runs: what a core-set needs before it can start, and what that costs.

A scoring run is an ordinary run of the plan, trained once and shared by all budgets, seeds
and kinds of score that start from it (fidelity.md 2.9).
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from jaxbudget import ledger
from jaxbudget.data import Dataset
from jaxbudget.epoch import forward_batch
from jaxbudget.keys import derive
from jaxbudget.lab.run import files
from jaxbudget.lab.run.run import Run
from jaxbudget.selectors import SCORED_BY, SELECTORS
from jaxbudget.selectors.coreset import FROM_MODEL, scores_from_model, selection_cost
from jaxbudget.types import Cost

SCORING_SEED = 2**31 - 1  # the largest there is: a seed of its own, unlike those of people
SCORES_FILE = 'scores.npy'
WEIGHTS_FILE = 'params.msgpack'


def scoring_cell(cell: FrozenConfigDict) -> FrozenConfigDict | None:
  """The cell that must be trained before another one can start.

  Args:
    cell: config of a cell.

  Returns:
    A full run of the scoring method with the step schedule and the standard augmentation,
    else as the cell; None if the cell needs none.
  """
  scorer = SCORED_BY.get(cell.selector)
  if scorer is None:
    return None
  first = ConfigDict(cell.to_dict())
  first.update(selector=scorer, budget=1.0, augment='standard', schedule='step')
  first.selector_options, first.augment_options = {}, {}
  return FrozenConfigDict(first)


def selection_record(run: Run, scoring: Cost, shared_by: int) -> dict[str, Any]:
  """What the choice of a subset costs, beside the cost of training on it.

  The paper does not charge this. Charged, it is the scoring run, in full or in equal shares,
  and what scoring with its model takes on top.

  Args:
    run: that needs a scoring run.
    scoring: cost of the scoring run.
    shared_by: runs of the plan that need the same one.

  Returns:
    `needs`, `shared_by`, forward passes and `forward_equivalents` in full, and
    `forward_equivalents_shared`, this run's share.
  """
  own = selection_cost(run.parts.spec, run.parts.selector_options['score'])
  cost = Cost(*(a + b for a, b in zip(scoring, own, strict=True)))
  return {
    'needs': run.needs,
    'shared_by': shared_by,
    'forward_scored': cost.scored,
    'forward_trained': cost.trained,
    'backward': cost.backward,
    'forward_equivalents': cost.forward_equivalents,
    'forward_equivalents_shared': own.forward_equivalents + scoring.forward_equivalents / shared_by,
  }


def prepare(
  run: Run,
  directory: pathlib.Path,
  dataset: Dataset,
  between: Callable[[], None] = lambda: None,
) -> Run:
  """Gives a run the scores that it needs, from the files of its finished scoring run.

  Args:
    run: of a plan.
    directory: that holds the run directories.
    dataset: the run's.
    between: called between calls to the device, of which there may be many; may raise to stop.

  Returns:
    The run, ready to be trained; itself if it needs nothing.

  Raises:
    ValueError: the scoring run is not finished, or its files do not fit.
  """
  if run.needs is None:
    return run
  score = run.parts.selector_options['score']
  path = directory / run.needs / (WEIGHTS_FILE if score in FROM_MODEL else SCORES_FILE)
  if not path.is_file():
    raise ValueError(f'{run.run_id} needs run {run.needs}, which has not left {path.name}')
  files.verify(path)
  from_model = score in FROM_MODEL
  scores = _model_scores(run, score, path, dataset, between) if from_model else _read(path)
  parts = run.parts
  selector = SELECTORS[run.cell.selector](
    parts.spec, run.cell.budget, scores, **parts.selector_options
  )
  return dataclasses.replace(run, parts=parts._replace(selector=selector))


def _read(path: pathlib.Path) -> np.ndarray:
  try:
    return np.load(path, allow_pickle=False)
  except (OSError, EOFError, ValueError) as e:
    raise ValueError(f'{path} is damaged: {e}') from e


def _model_scores(
  run: Run, score: str, path: pathlib.Path, dataset: Dataset, between: Callable[[], None]
) -> np.ndarray:
  """Scores by the scoring run's trained weights."""
  parts = run.parts
  try:
    weights = files.read_weights(path, parts.model)
  except ValueError as e:
    raise ValueError(f'{path} does not hold weights of {run.cell.model}: {e}') from e
  params, model_state = jax.device_put(weights)
  return scores_from_model(
    score,
    parts.model,
    parts.augment.test,
    params,
    model_state,
    dataset.train_image,
    samples=ledger.share(parts.spec.num_examples, run.cell.budget),
    key=derive(jax.random.key(run.seed), 'init_selector'),
    batch_size=forward_batch(parts.spec.num_examples, parts.spec, run.cell.evaluate_batch),
    between=between,
  )
