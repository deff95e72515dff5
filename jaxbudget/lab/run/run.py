"""A run: what it is, by what name it is known, and what it is predicted to cost."""

import dataclasses
import pathlib
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from jaxbudget import data
from jaxbudget.data.catalog import KNOWN
from jaxbudget.data.tables import BROUGHT
from jaxbudget.epoch import make_program
from jaxbudget.lab.differences import flatten
from jaxbudget.lab.frozen_config import FrozenConfig
from jaxbudget.lab.run.build import Parts
from jaxbudget.types import Cost


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run of a plan.

  Attributes:
    run_id: readable, and a hash of all that can change its numbers.
    cell_id: the same without the seed.
    config_hash: the hash, of everything but the seed.
    identity: what was hashed, see `identity.content`.
    seed: of the run.
    cell: the config.
    parts: what it is made of.
    info: of its data set.
    paper: the paper's cells that this run stands for.
    needs: the runs that must be done before this one can start; they stand before it.
    selection: what these cost, see `sweep.needs.record`.
  """

  run_id: str
  cell_id: str
  config_hash: str
  identity: Mapping[str, Any]
  seed: int
  cell: FrozenConfig
  parts: Parts
  info: data.Info
  paper: tuple[Mapping[str, Any], ...]
  needs: tuple['Run', ...] = ()
  selection: Mapping[str, Any] | None = None

  @property
  def planned(self) -> Cost:
    """Predicted cost in samples."""
    return self.parts.selector.facts.planned

  @property
  def program(self) -> Hashable:
    """What its rows are compiled for: runs of equal ones share an executable."""
    parts = self.parts
    made_of = parts.model, parts.augment, parts.selector, parts.optimizer
    others = {'task': parts.task, 'averaging': parts.averaging}
    moved = parts.table(0).momentum is not None  # a column that other tables lack
    return make_program(parts.spec.num_classes, *made_of, **others), parts.spec, moved

  def record(self) -> dict[str, Any]:
    """The run's entry in plan.json."""
    facts, cell = self.parts.selector.facts, self.cell
    return {
      'run_id': self.run_id,
      'cell_id': self.cell_id,
      'seed': self.seed,
      **{key: cell[key] for key in _PLAN_KEYS},
      'options': {**self.parts.selector_options, **dict(flatten(self.parts.augment_options))},
      'parts': self.parts.augment.parts,
      'epochs_run': facts.epochs,
      'num_train': self.info.num_train,
      'num_test': self.info.num_test,
      'paper': [dict(place) for place in self.paper],
      'planned': cost_record(facts.epochs * facts.rows, facts.planned),
      'needs': [needed.run_id for needed in self.needs] or None,
      'selection': self.selection,
    }


def with_needed(runs: Iterable[Run]) -> list[Run]:
  """Runs behind those that they need, and what these need, each once."""
  found: dict[str, Run] = {}
  for run in runs:
    for one in (*with_needed(run.needs), run):
      found.setdefault(one.run_id, one)
  return list(found.values())


_PLAN_KEYS = (
  'dataset model selector augment schedule optimizer averaging tta recipe budget budget_unit '
  'epochs batch_size fidelity'
).split()


def cost_record(rows: int, cost: Cost) -> dict[str, int]:
  """A cost with the names that plan.json and result.json use."""
  return {
    'rows': rows,
    'forward_scored': cost.scored,
    'forward_trained': cost.trained,
    'backward': cost.backward,
    'forward_equivalents': cost.forward_equivalents,
  }


def must_be_read(cell: FrozenConfig) -> bool:
  """Whether a plan needs the data themselves: people's own files, mirrors, subsets."""
  local_copy = cell.dataset in BROUGHT and cell.data_manual_dir
  return bool(cell.dataset not in KNOWN or cell.data_checksums or local_copy)


def where(cell: FrozenConfig) -> dict[str, str | None]:
  """The keys that say where a data set is, as `data.load` takes them."""
  keys = ('data_dir', 'data_manual_dir', 'data_checksums')
  return {**{key: cell[key] or None for key in keys}, 'placement': cell.placement}


def data_key(cell: FrozenConfig) -> tuple:
  """Cells with equal keys train on the same data."""
  options = tuple(sorted(cell.dataset_options.to_dict().items()))
  return (cell.dataset, options, cell.validation, *where(cell).values())


def label(cell: FrozenConfig) -> str:
  """The readable part of an identity: file-name safe, without directories."""
  kind, _, argument = cell.dataset.partition(':')
  dataset = f'{kind}_{pathlib.PurePath(argument).stem}' if argument else kind
  budget = f'b{cell.budget:g}{"c" if cell.budget_unit == "compute" else ""}'
  label = '-'.join([dataset, cell.selector, cell.augment, cell.schedule, budget])
  return re.sub(r'[^A-Za-z0-9._-]', '_', label)[:120]
