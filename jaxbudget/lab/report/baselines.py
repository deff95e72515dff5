"""The runs of uniform sampling that a cell is compared with: the nearest in setting."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxbudget.lab.report import cells, comparability


class Seed(NamedTuple):
  """A finished run of a cell."""

  run_id: str
  cost: float
  accuracy: float


def seeds(runs: pd.DataFrame) -> dict[str, dict[float | None, Seed]]:
  """cell_id -> seed -> its finished run, in rising order: plain values, for there are thousands."""
  done = cells.first_of_each_seed(runs[runs['status'] == 'done']).sort_values('seed')
  columns = ('cell_id', 'seed', 'run_id', 'cost', 'final_accuracy')
  found: dict[str, dict[float | None, Seed]] = {}
  for cell_id, seed, *rest in done[list(columns)].itertuples(index=False):
    found.setdefault(cell_id, {})[None if math.isnan(seed) else seed] = Seed(*rest)
  return found


def finder(baseline: pd.DataFrame, done, lock) -> Callable[[dict], list[dict]]:
  """Gives what finds a cell's knots: the baseline's points nearest in setting, one per budget.

  They stand by rising cost, and are of one variant, for a line joins only points that differ in
  their budget alone. Seeds that were set apart for their conditions are a variant of their own: of
  those it is that of the cell's conditions, whatever its name. Cells of a variant share points: in
  a sweep of thousands each is found once.
  """
  setting = (*cells.SETTING, *cells.SCALE, 'batch_size')
  columns = [baseline[name].to_numpy() for name in setting]
  names, variants, apart = (baseline[c].tolist() for c in ('cell_id', 'variant', 'apart'))
  alike: dict[tuple, list[int]] = {}
  for place, name in enumerate(names):
    if name in done:
      alike.setdefault(_locked(lock, run_ids(done, name)), []).append(place)

  @functools.cache
  def nearest(values: tuple, variant: str) -> list[int]:
    differs = np.stack([c != value for c, value in zip(columns, values, strict=True)], axis=1)
    unlike = [tuple(row) for row in differs.tolist()]
    least = min(unlike)
    found = [place for place, row in enumerate(unlike) if row == least]
    return [place for place in found if variants[place] == variant] or found

  @functools.cache
  def line(places: tuple[int, ...]) -> list[dict]:
    # unif_sgd at budget 1 would be sgd: either stands for it.
    found = baseline.iloc[list(places)].drop_duplicates('budget')
    return found.sort_values('expected').to_dict('records')

  def knots(cell: dict) -> list[dict]:
    if baseline.empty:
      return []
    own = run_ids(done, cell['cell_id'])

    def differing(place: int) -> int:
      return len(comparability.differing(lock, own + run_ids(done, names[place])))

    fair = [
      place
      for place in alike.get(_locked(lock, own), ())
      if variants[place] == cell['variant'] or cell['apart'] or apart[place]
      if own and not differing(place)
    ]
    fair.sort(key=lambda place: variants[place] != cell['variant'])
    near = nearest(tuple(cell[name] for name in setting), cell['variant'])
    near = sorted(near, key=lambda place: (names[place] not in done, differing(place)))
    near = [place for place in near if variants[place] == variants[near[0]]]
    return line(tuple(dict.fromkeys((*fair, *near))))

  return knots


def _locked(lock, names: list[str]) -> tuple:
  """What the lock says of runs, but for the preset, which may be empty; () if they differ."""
  said = {tuple((k, v) for k, v in lock[name].items() if k != 'fidelity') for name in names}
  return said.pop() if len(said) == 1 else ()


def run_ids(done, cell_id: str) -> list[str]:
  """The finished runs of a cell, see `seeds`; none of one that has none."""
  return [run.run_id for run in done.get(cell_id, {}).values()]
