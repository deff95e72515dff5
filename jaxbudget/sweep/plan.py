"""The plan: cells times seeds become runs, each with an identity and a predicted cost."""

import collections
import dataclasses
import functools
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
from jaxbudget.data.catalog import KNOWN
from jaxbudget.selectors import SELECTORS, keyword_options
from jaxbudget.sweep import prerequisites
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
    needs: the run whose scores this one starts from, which stands before it in the plan.
    selection: what these scores cost, see `prerequisites.selection_record`.
  """

  run_id: str
  cell_id: str
  config_hash: str
  seed: int
  cell: FrozenConfigDict
  parts: Parts
  info: data.Info
  paper: tuple[Mapping[str, Any], ...]
  needs: str | None = None
  selection: Mapping[str, Any] | None = None

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
      'needs': self.needs,
      'selection': self.selection,
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
    datasets: by `data_key`, those that `must_be_read`; for the others a table is asked, so
      that a study can be planned before its data are there.

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
  assemble = functools.cache(functools.partial(_assemble, datasets=datasets or {}))
  cells = config_lib.cells(config)
  faults += _unused_options(cells)
  for cell, paper in cells:
    try:
      assembled, needs = assemble(cell), None
      first = prerequisites.scoring_cell(cell)
      if first is not None:
        scoring = _run(first, prerequisites.SCORING_SEED, (), assemble(first))
        needs = runs.setdefault(scoring.run_id, scoring).run_id
      for seed in seeds:
        run = _run(cell, seed, paper, assembled, needs)
        if run.run_id in runs:  # another cell of the grid is the same experiment
          known = runs[run.run_id]
          run = dataclasses.replace(known, paper=_union(known.paper, paper))
        runs[run.run_id] = run
    except ValueError as e:
      faults += str(e).splitlines()
  if faults:
    raise ValueError('\n'.join(dict.fromkeys(faults)))
  return _with_selection(runs)


def _run(cell, seed, paper, assembled, needs=None) -> Run:
  info, identity, parts = assembled
  digest = config_hash(cell, identity, parts, needs)
  cell_id = f'{_label(cell)}-{digest}'
  return Run(f'{cell_id}-s{seed}', cell_id, digest, seed, cell, parts, info, paper, needs)


def _with_selection(runs: Mapping[str, Run]) -> list[Run]:
  """Enters the cost of scoring runs into the runs that need them."""
  sharing = collections.Counter(run.needs for run in runs.values() if run.needs)
  return [
    run
    if run.needs is None
    else dataclasses.replace(
      run,
      selection=prerequisites.selection_record(run, runs[run.needs].planned, sharing[run.needs]),
    )
    for run in runs.values()
  ]


# Stands in for data that cannot be read, so that the other faults of a cell come out too.
_STAND_IN = data.Info('', 10**6, 10**4, 10, (32, 32, 3), (0.5,) * 3, (0.5,) * 3, flip=0.0, pad=4)


def _assemble(cell, datasets):
  dataset = datasets.get(data_key(cell))
  try:
    info = dataset.info if dataset else data.info(cell.dataset, cell.validation, **where(cell))
  except data.DataError as fault:
    try:
      build(cell, _STAND_IN)
    except ValueError as others:
      raise ValueError(f'{fault}\n{others}') from None
    raise
  # People's own files are known by their content, official data sets by their name.
  return info, dataset.fingerprint if must_be_read(cell) else cell.dataset, build(cell, info)


def must_be_read(cell: FrozenConfigDict) -> bool:
  """Whether a plan needs the data themselves: people's own files, mirrors, subsets."""
  local_copy = cell.dataset == 'mini_imagenet' and cell.data_manual_dir
  return bool(cell.dataset not in KNOWN or cell.data_checksums or local_copy)


def where(cell: FrozenConfigDict) -> dict[str, str | None]:
  """The keys that say where a data set is, as `data.load` takes them."""
  keys = ('data_dir', 'data_manual_dir', 'data_checksums')
  return {key: cell[key] or None for key in keys}


def data_key(cell: FrozenConfigDict) -> tuple:
  """Cells with equal keys train on the same data."""
  return (cell.dataset, cell.validation, *where(cell).values())


def config_hash(
  cell: FrozenConfigDict, identity: str, parts: Parts, needs: str | None = None
) -> str:
  """Hashes what can change the numbers of a run, apart from its seed.

  The fidelity preset counts through the options it resolves to: a cell that it does not
  affect is the same run under both presets.
  """
  skip = (*config_lib.INCIDENTAL, *config_lib.OPTION_KEYS, 'data_checksums', 'dataset', 'fidelity')
  relevant = {key: value for key, value in cell.to_dict().items() if key not in skip}
  relevant |= {'data': identity}
  given = parts.selector_options.items()
  known = {key: value for key, value in given if key not in config_lib.INCIDENTAL_OPTIONS}
  relevant |= {'selector': [cell.selector, known]}
  relevant |= {'augment': [cell.augment, parts.augment_options]}
  relevant |= {'needs': needs} if needs else {}
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
    The runs whose entries have all these values, and the scoring runs that these need.

  Raises:
    ValueError: a key that entries do not have, or nothing left.
  """
  if not wanted:
    return runs
  records = [run.record() for run in runs]
  for key in wanted:
    names.check('key of --only', key, records[0])
  kept = {r['run_id'] for r in records if all(str(r[k]) == str(v) for k, v in wanted.items())}
  if not kept:
    seen = {key: sorted({str(r[key]) for r in records}) for key in wanted}
    raise ValueError(f'--only={dict(wanted)} leaves no run; the plan has {seen}')
  kept |= {run.needs for run in runs if run.run_id in kept}
  return [run for run in runs if run.run_id in kept]
