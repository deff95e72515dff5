"""The study of Arazo et al. (BMVC 2021): every number it prints, as the cell that makes it.

The cells come of the paper's own numbers (`report/paper_results.csv`, Tables 1-6, and
`report/fig1_digitised.csv`, Figure 1) and the protocol of fidelity.md, which is here and
nowhere else: `configs/table1.py` and its neighbours only name their tables.
"""

import csv
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxbudget import ledger, registry
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import fidelity

TABLES = ('1', '2', '3', '4', '5', '6', 'figure1')
METHODS = {
  'SGD': 'sgd',
  'scan-SGD': 'scan_sgd',
  'unif-SGD': 'unif_sgd',
  'p-SGD': 'p_sgd',
  'c-SGD': 'c_sgd',
  'SB': 'selective_backprop',
  'OSGD': 'ordered_sgd',
  'Random': 'random_subset',
  'Core-set': 'coreset',
}
SCALES = {
  'paper': {'model': 'resnet18', 'epochs': 200, 'batch_size': 128, 'seeds': 3},
  # The same grid on a laptop. int(15 * .2) = 3 epochs are the fewest a step schedule can
  # have; at B = .05 there are 71 samples, two batches.
  'rehearsal': {
    'dataset': 'digits',
    'model': 'resnet8',
    'epochs': 15,
    'batch_size': 32,
    'seeds': 1,
    'evaluate_every': 3,
    'evaluate_batch': 360,
  },
}
NARROWING = ('table', 'dataset', 'method', 'augment', 'schedule', 'budget', 'fidelity')

# Table 1 prints no budget for Selective Backprop: its times and its entry in Table 2 say
# b = 3 and b = 1 (fidelity.md 2.6), and b = 1/B - 1.
_TABLE1_SB_BUDGET = {'cifar10': 0.25, 'cifar100': 0.5}
_TABLE1_WARMUP = 0.35  # of T: 70 of 200 epochs; no other table warms up (fidelity.md 2.4)

# Figure 1 (c), (d): schedule, augmentation and options of p-SGD (fidelity.md section 5).
_FIGURE1_BUDGET = 0.3
_FIGURE1_SERIES = {
  'SLR_noeps_noavg': ('step', 'standard', {'smoothing': False, 'average': False}),
  'LLR_noeps_noavg': ('linear', 'standard', {'smoothing': False, 'average': False}),
  'LLR_noeps_avg': ('linear', 'standard', {'smoothing': False}),
  'LLR_eps_avg': ('linear', 'standard', {}),
  'LLR_eps_avg_ricap': ('linear', 'ricap', {}),
}


def get_config(tables: Iterable[str], arg: str | None = None) -> ConfigDict:
  """The cells of some tables as a config with a grid.

  Every cell is there as the released code would run it, and again with that code's slips
  repaired. Where the two do not differ the plan makes them one run. BatchNorm's running
  variance is PyTorch's in all of them: it is no slip, and apart from slips they are to be equal.

  Args:
    tables: some of `TABLES`.
    arg: `key=value,...`. `scale=paper` (default) or `scale=rehearsal`. The keys of
      `NARROWING` keep the cells that have the value, or one of several joined by `+`
      (`budget=0.2+0.3`). Names are those of the paper or those of the code.

  Returns:
    A locked config.

  Raises:
    ValueError: unknown keys or values, or a combination that no cell has.
  """
  tables, wanted = tuple(tables), config_lib.parse_arg(arg)
  scale = wanted.pop('scale', 'paper')
  registry.check('scale', scale, SCALES)
  protocol = SCALES[scale]
  cells = [cell for table in tables for cell in table_cells(table, protocol['epochs'])]
  return config_lib.defaults(
    name='all' if tables == TABLES else '-'.join(map(_file_name, tables)),
    fidelity='released',
    grid=_grid(_narrow(cells, wanted), fixed=protocol),
    model_options={'bn_running_var': 'unbiased'},
    **protocol,
  )


def _file_name(table: str) -> str:
  return table if table.startswith('figure') else f'table{table}'


def table_cells(table: str, epochs: int) -> list[dict[str, Any]]:
  """The cells of a table in the paper's order, each under both fidelity presets.

  Args:
    table: one of `TABLES`.
    epochs: T.

  Returns:
    Dicts with the keys of `NARROWING` (`method` is a selector), the selector's `options`,
    and `paper`, the place in the paper's spelling: `table` (a number, or figure1),
    `dataset`, `method`, `augmentation`, `schedule`, `budget` (None where the paper prints
    none), for the figure also `panel` and `series`.

  Raises:
    ValueError: no such table.
  """
  registry.check('table', table, TABLES)
  places = _figure1_places() if table == 'figure1' else _table_places(int(table), epochs)
  return [
    {
      'table': table,
      'dataset': place['dataset'].replace('-', '_'),
      'method': METHODS[place['method']],
      'augment': place['augmentation'],
      'schedule': place['schedule'],
      'budget': place['budget'] or _TABLE1_SB_BUDGET[place['dataset']],
      'fidelity': preset,
      'options': options,
      'paper': place,
    }
    for preset in fidelity.PRESETS
    for place, options in places
  ]


def _table_places(table: int, epochs: int) -> list[tuple[dict, dict]]:
  """Places of a table, with the options of the selector."""
  places = {}  # several figures (accuracy, time) are of one place
  for row in _read('paper_results.csv'):
    place = {'table': int(row['table'])}
    place |= {key: row[key] for key in ('dataset', 'method', 'augmentation', 'schedule')}
    place['budget'] = float(row['budget']) if row['budget'] else None
    # Table 5 gives times; what they are relative to is the SGD run of Table 3.
    reference = table == 5 and place == {
      'table': 3,
      'dataset': 'cifar100',
      'method': 'SGD',
      'augmentation': 'standard',
      'schedule': 'linear',
      'budget': 1.0,
    }
    if place['table'] == table or reference:
      places[tuple(place.values())] = place
  warm = {'warmup': round(ledger.exact(_TABLE1_WARMUP) * epochs)}
  warmed = ('p-SGD', 'c-SGD') if table == 1 else ()
  return [(place, warm if place['method'] in warmed else {}) for place in places.values()]


def _figure1_places() -> list[tuple[dict, dict]]:
  """Bars of Figure 1, with the options of the selector."""
  places = []
  for bar in _read('fig1_digitised.csv'):
    if bar['panel'] in 'ab':
      schedule, augmentation, options = 'step', 'standard', {}
      budget = float(bar['series'])
    else:
      schedule, augmentation, options = _FIGURE1_SERIES[bar['series']]
      budget = _FIGURE1_BUDGET
    place = {
      'table': 'figure1',
      'dataset': bar['dataset'],
      'method': bar['group'],
      'augmentation': augmentation,
      'schedule': schedule,
      'budget': budget,
      'panel': bar['panel'],
      'series': bar['series'],
    }
    places.append((place, options))
  return places


def _read(name: str) -> Iterator[dict[str, str]]:
  path = pathlib.Path(__file__).parent / name
  with path.open(newline='', encoding='utf-8') as file:
    yield from csv.DictReader(file)


def _narrow(cells: list[dict], wanted: Mapping[str, Any]) -> list[dict]:
  """Keeps the cells that have all the wanted values."""
  faults, values = [], {}
  for key, value in wanted.items():
    try:
      registry.check('config argument', key, (*NARROWING, 'scale'))
      known = dict.fromkeys(s for cell in cells for s in _spellings(cell, key))
      values[key] = [_plain(v) for v in str(value).split('+')]
      for v in values[key]:
        registry.check(key, v, known)
    except ValueError as e:
      faults.append(str(e))
  if faults:
    raise ValueError('\n'.join(faults))
  kept = [
    cell
    for cell in cells
    if all(not set(_spellings(cell, key)).isdisjoint(v) for key, v in values.items())
  ]
  if not kept:
    given = ', '.join(f'{key}={"+".join(v)}' for key, v in values.items())
    raise ValueError(f'no cell has {given} together')
  return kept


def _spellings(cell: Mapping[str, Any], key: str) -> list[str]:
  """How a value of a cell may be written: the code's way and the paper's."""
  own = _plain(cell[key])
  printed = _plain(cell['paper'].get(key) or own)
  return list(dict.fromkeys((own, printed)))


def _plain(value: Any) -> str:
  """Numbers without trailing zeros."""
  try:
    return f'{float(value):g}'
  except (TypeError, ValueError):
    return str(value)


def _grid(cells: Iterable[dict], fixed: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
  """Cells as grid entries, those with equal settings merged; `fixed` keys are left out."""
  merged: dict[str, dict] = {}
  for cell in cells:
    settings = {
      'dataset': cell['dataset'],
      'selector': cell['method'],
      'augment': cell['augment'],
      'schedule': cell['schedule'],
      'budget': cell['budget'],
      'fidelity': cell['fidelity'],
      'selector_options': cell['options'],
    }
    settings = {key: value for key, value in settings.items() if key not in fixed}
    entry = merged.setdefault(repr(settings), {**settings, 'paper': ()})
    if cell['paper'] not in entry['paper']:
      entry['paper'] += (cell['paper'],)
  return tuple(merged.values())
