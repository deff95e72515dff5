"""The plan: cells times seeds become runs, each with an identity and a predicted cost."""

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from jaxbudget import config as config_lib
from jaxbudget import data, names
from jaxbudget.augment import AUGMENTS
from jaxbudget.build import Parts, build
from jaxbudget.selectors import SELECTORS, keyword_options
from jaxbudget.types import Cost


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run of a plan.

  Attributes:
    run_id: readable, and a hash of all that can change its numbers.
    cell_id: the same without the seed.
    config_hash: the hash, of everything but the seed.
    seed: of the run.
    cell: the config.
    parts: what it is made of.
    info: of its data set.
    paper: the paper's cells that this run stands for.
  """

  run_id: str
  cell_id: str
  config_hash: str
  seed: int
  cell: FrozenConfigDict
  parts: Parts
  info: data.Info
  paper: tuple[Mapping[str, Any], ...]

  @property
  def planned(self) -> Cost:
    """Predicted cost in samples."""
    return self.parts.selector.facts.planned

  def record(self) -> dict[str, Any]:
    """The run's entry in plan.json (design.md 6)."""
    facts, cell = self.parts.selector.facts, self.cell
    return {
      'run_id': self.run_id,
      'cell_id': self.cell_id,
      'seed': self.seed,
      **{key: cell[key] for key in _PLAN_KEYS},
      'options': {**self.parts.selector_options, **self.parts.augment_options},
      'epochs_run': facts.epochs,
      'num_train': self.info.num_train,
      'num_test': self.info.num_test,
      'paper': [dict(place) for place in self.paper],
      'planned': cost_record(facts.epochs * facts.rows, facts.planned),
    }


_PLAN_KEYS = (
  'dataset model selector augment schedule budget budget_unit epochs batch_size fidelity'.split()
)


def cost_record(rows: int, cost: Cost) -> dict[str, int]:
  """A cost with the names that plan.json and result.json use (design.md 6)."""
  return {
    'rows': rows,
    'forward_scored': cost.scored,
    'forward_trained': cost.trained,
    'backward': cost.backward,
    'forward_equivalents': cost.forward_equivalents,
  }


def make_runs(config: ConfigDict, datasets: Mapping[Any, data.Dataset] | None = None) -> list[Run]:
  """Lays out the runs of a config; runs that coincide are one run.

  Args:
    config: with or without a grid.
    datasets: loaded data by `data_key`, where they are loaded; else the table of known
      data sets is asked, so that a study can be planned before its data are there.

  Returns:
    Runs in the order of the grid, the seeds of a cell together.

  Raises:
    ValueError: every fault of every cell, one a line.
  """
  seeds, faults = (), []
  try:
    seeds = config_lib.seed_tuple(config.seeds)
  except ValueError as e:
    faults.append(str(e))
  runs: dict[str, Run] = {}
  built: dict[FrozenConfigDict, tuple[data.Info, Parts]] = {}
  cells = config_lib.cells(config)
  faults += _unused_options(cells)
  for cell, paper in cells:
    try:
      if cell not in built:
        built[cell] = _assemble(cell, datasets or {})
    except ValueError as e:
      faults += str(e).splitlines()
      continue
    info, identity, parts = built[cell]
    digest = config_hash(cell, identity, parts)
    cell_id = f'{_label(cell)}-{digest}'
    for seed in seeds:
      run = Run(f'{cell_id}-s{seed}', cell_id, digest, seed, cell, parts, info, paper)
      if run.run_id in runs:  # another cell of the grid is the same experiment
        known = runs[run.run_id]
        run = dataclasses.replace(known, paper=_union(known.paper, paper))
      runs[run.run_id] = run
  if faults:
    raise ValueError('\n'.join(dict.fromkeys(faults)))
  return list(runs.values())


def _assemble(cell, datasets):
  dataset = datasets.get(data_key(cell))
  if dataset is None:
    info = data.info(cell.dataset, validation=cell.validation, **where(cell))
    return info, cell.dataset, build(cell, info)
  # People's own files are known by their content, official data sets by their name.
  official = dataset.info.name in data.KNOWN and not cell.data_checksums
  identity = cell.dataset if official else dataset.fingerprint
  return dataset.info, identity, build(cell, dataset.info)


def where(cell: FrozenConfigDict) -> dict[str, str | None]:
  """The keys that say where a data set is, as `data.load` takes them."""
  keys = ('data_dir', 'data_manual_dir', 'data_checksums')
  return {key: cell[key] or None for key in keys}


def data_key(cell: FrozenConfigDict) -> tuple:
  """Cells with equal keys train on the same data."""
  return (cell.dataset, cell.validation, *where(cell).values())


def config_hash(cell: FrozenConfigDict, identity: str, parts: Parts) -> str:
  """Hashes what can change the numbers of a run, apart from its seed.

  The fidelity preset counts through the options it resolves to: a cell that it does not
  affect is the same run under both presets.
  """
  skip = (*config_lib.INCIDENTAL, *config_lib.OPTION_KEYS, 'data_checksums', 'dataset', 'fidelity')
  relevant = {key: value for key, value in cell.to_dict().items() if key not in skip}
  relevant |= {'data': identity}
  relevant |= {'selector': [cell.selector, parts.selector_options]}
  relevant |= {'augment': [cell.augment, parts.augment_options]}
  text = json.dumps(relevant, sort_keys=True, default=list)
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def _label(cell) -> str:
  """The readable part of an identity: file-name safe, without directories."""
  kind, _, argument = cell.dataset.partition(':')
  dataset = f'{kind}_{pathlib.PurePath(argument).stem}' if argument else kind
  budget = f'b{cell.budget:g}{"c" if cell.budget_unit == "compute" else ""}'
  label = '-'.join([dataset, cell.selector, cell.augment, cell.schedule, budget])
  return re.sub(r'[^A-Za-z0-9._-]', '_', label)[:120]


def _union(a: Iterable[Mapping], b: Iterable[Mapping]) -> tuple[Mapping, ...]:
  return (*a, *(place for place in b if place not in a))


def _unused_options(cells) -> list[str]:
  """Options that are set but that no cell's method or augmentation knows."""
  faults = []
  for key, factories, choice in (
    ('selector_options', SELECTORS, 'selector'),
    ('augment_options', AUGMENTS, 'augment'),
  ):
    chosen = {cell[choice] for cell, _ in cells} & set(factories)
    known = {option for name in chosen for option in keyword_options(factories[name])}
    given = {o for cell, _ in cells for o, value in cell[key].items() if value is not None}
    for option in sorted(given - known):
      owners = [n for n, f in factories.items() if option in keyword_options(f)]
      faults.append(
        f'{key}.{option} is set, but only {", ".join(owners)} know it '
        f'(chosen: {", ".join(sorted(chosen)) or "nothing known"})'
      )
  return faults


def only(runs: list[Run], wanted: Mapping[str, Any]) -> list[Run]:
  """Narrows a plan, as `--only=key=value,...` does.

  Args:
    runs: the plan.
    wanted: values by key of plan.json's entries, e.g. selector, budget, seed.

  Returns:
    The runs whose entries have all these values.

  Raises:
    ValueError: a key that entries do not have, or nothing left.
  """
  if not wanted:
    return runs
  for key in wanted:
    names.check('key of --only', key, runs[0].record())
  kept = [r for r in runs if all(str(r.record()[k]) == str(v) for k, v in wanted.items())]
  if not kept:
    seen = {key: sorted({str(r.record()[key]) for r in runs}) for key in wanted}
    raise ValueError(f'--only={dict(wanted)} leaves no run; the plan has {seen}')
  return kept
