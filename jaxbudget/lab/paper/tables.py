"""Tables 1-6 in the paper's shape, the paper's number beside each of ours."""

import math

import pandas as pd

from jaxbudget.lab.paper import printed, protocol
from jaxbudget.lab.report import cells, layout, render, statistics
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.render import Cell, Table

TITLES = {
  '1': 'Table 1: accuracy, time and speed-up of importance sampling, step schedule',
  '2': 'Table 2: accuracy under a budget, step and linear schedule',
  '3': 'Table 3: accuracy under a budget by augmentation, CIFAR',
  '4': 'Table 4: accuracy under a budget by augmentation, SVHN and mini-ImageNet',
  '5': 'Table 5: wall-clock minutes at budget 0.3',
  '6': 'Table 6: accuracy under extreme budgets',
}
_ROW = ['augmentation', 'schedule', 'method', 'fidelity', 'model', 'variant']
_COLUMN = ['dataset', 'ran_on']


def paper_tables(workdir: Workdir) -> list[Table]:
  """All of Tables 1-6 that the plan has cells of.

  Args:
    workdir: a loaded workdir.

  Returns:
    Tables in the paper's order.
  """
  frame = paper_cells(workdir)
  return [
    _table(name, part)
    for name, part in frame.groupby('table')
    if set(part['method']) != {'sgd'} or name == '1'  # a reference of another table
  ]


def paper_cells(workdir: Workdir) -> pd.DataFrame:
  """Every planned cell beside the number of the paper that it stands for.

  A difference is given only where the run is the paper's experiment: its data set, and all of
  its protocol (`protocol.is_kept`). A rehearsal on other data has none.

  Args:
    workdir: a loaded workdir.

  Returns:
    Tidy rows: the paper's keys, what was run, `n`, means and standard deviations (final and
    best epoch, percent), the paper's, `difference` and `difference_se`
    (sqrt(std^2/n + paper_std^2/3)), minutes and speed-up (percent) with and without test
    passes, the paper's, and `state` in words.
  """
  frame = workdir.cells
  runs = workdir.runs[workdir.runs['status'] == 'done']
  device = runs.groupby('cell_id')['device'].agg(lambda d: ' | '.join(sorted(set(d))))
  config = dict(zip(runs['cell_id'], runs['run_id'].map(workdir.configs), strict=True))
  rows = []
  for cell in frame[frame['apart'] == ''].to_dict('records'):  # the cell of most seeds
    for place in cell['paper']:
      if printed.canonical(place.get('table')) in TITLES:
        cell_id = cell['cell_id']
        rows.append(_row(place, cell, device.get(cell_id, ''), config.get(cell_id, {})))
  found = pd.DataFrame(rows, columns=None if rows else [*printed.KEY, *_ROW, *_COLUMN])
  # Only cells that would take the same place need more words than the paper's.
  alone = ~found.duplicated([*printed.KEY, *_ROW[3:-1], 'ran_on'], keep=False)
  return _with_speedup(found.assign(variant=found['variant'].where(~alone, '')))


def _row(place: dict, cell: dict, device: str, config: dict) -> dict:
  mean, std = printed.lookup(place)
  own = (cell['mean'], cell['std'])
  same_data = printed.canonical(place.get('dataset')) == printed.canonical(cell['dataset'])
  exact = same_data and protocol.is_kept(place, cell, config)
  counts = (cell['done'], printed.RUNS)
  difference, se, _ = statistics.difference_of_means((own[0], mean), (own[1], std), counts, (1, -1))
  return {
    **{key: printed.canonical(place.get(key)) for key in printed.KEY},
    **{name: cell[name] for name in ('cell_id', 'fidelity', 'model')},
    'variant': ' '.join(filter(None, (cell['rule'].partition(' ')[2], cell['variant']))),
    'ran_on': cell['dataset'],
    'n': cell['done'],
    'mean': own[0],
    'std': own[1],
    'best_mean': cell['best_mean'],
    'best_std': cell['best_std'],
    'paper_mean': mean,
    'paper_std': std,
    'difference': difference if exact else math.nan,
    'difference_se': se if exact else math.nan,
    'best_difference': cell['best_mean'] - mean if exact else math.nan,
    'cost': cell['cost'],
    'minutes': (cell['seconds_train'] + cell['seconds_evaluate']) / 60,
    'minutes_train': cell['seconds_train'] / 60,
    'paper_minutes': printed.lookup(place, 'wall_clock_minutes')[0],
    'paper_speedup': printed.lookup(place, 'speedup_percent')[0],
    'device': device,
    'exact': exact,
    'state': cells.state(cell),
  }


def _with_speedup(frame: pd.DataFrame) -> pd.DataFrame:
  """Adds the time saved against plain SGD on the same data, schedule and device."""
  if frame.empty:
    return frame
  frame = frame.assign(speedup=math.nan, speedup_train=math.nan)
  keys = ['dataset', 'ran_on', 'model', 'variant', 'schedule', 'device']
  rows = frame.to_dict('records')
  full = {
    tuple(row[k] for k in keys): row
    for row in rows if row['method'] == 'sgd' and row['augmentation'] == 'standard'
  }  # fmt: skip
  for row in rows:
    same = full.get(tuple(row[k] for k in keys))
    if same and row['device'] and '|' not in row['device']:
      row['speedup'] = 100 * (1 - row['minutes'] / same['minutes'])
      row['speedup_train'] = 100 * (1 - row['minutes_train'] / same['minutes_train'])
  return pd.DataFrame(rows, columns=frame.columns)


def _table(name: str, part: pd.DataFrame) -> Table:
  """Pivots tidy rows into the paper's layout."""
  theirs = printed.results()
  theirs = theirs[theirs['table'].astype(str) == name]
  order = {
    key: list(dict.fromkeys(map(printed.canonical, theirs[key]))) for key in printed.KEY
  } | {key: list(dict.fromkeys(part[key])) for key in (*_ROW[3:], *_COLUMN[1:])}  # fmt: skip
  metrics = _metrics(name, part, order)
  row_keys = sorted(
    set(part[_ROW].itertuples(index=False, name=None)),
    key=lambda row: [_place(order[k], v) for k, v in zip(_ROW, row, strict=True)],
  )
  shown = [k for k in _ROW if k == 'method' or len({row[_ROW.index(k)] for row in row_keys}) > 1]
  block = [row[:2] for row in row_keys]
  spelling = {printed.canonical(name): name for key in _ROW[:3] for name in theirs[key]}
  index = {}
  for found in part.to_dict('records'):
    at = tuple(found[key] for key in _ROW), *(found[key] for key in _COLUMN)
    index.setdefault(at, found)
    index.setdefault((*at, found['budget']), found)
  rows, costs = [], []
  for row in row_keys:
    labels = [row[_ROW.index(key)] for key in shown]
    labels = [render.text_cell(spelling.get(label, label)) for label in labels]
    found = [index.get((row, *at)) for _, at, _ in metrics]
    rows.append(labels + [_pick(f, metric) for f, (*_, metric) in zip(found, metrics, strict=True)])
    costs.append([
      f['cost'] if f and metric == 'accuracy' else math.nan
      for f, (*_, metric) in zip(found, metrics, strict=True)
    ])  # fmt: skip
  _embolden(rows, block, len(shown), costs)
  rules = frozenset(i for i in range(1, len(block)) if block[i] != block[i - 1])
  titles = tuple(title for title, *_ in metrics)
  return Table(
    f'table{name}', _title(name, part), (*shown, *titles), [tuple(row) for row in rows], part,
    _notes(name, part), len(shown), rules,
  )  # fmt: skip


def _metrics(name: str, part: pd.DataFrame, order) -> list[tuple[str, tuple, str]]:
  """Columns of a table: heading, the cells that go there, the figure shown."""
  datasets = sorted(
    set(part[_COLUMN].itertuples(index=False, name=None)),
    key=lambda pair: [_place(order[k], v) for k, v in zip(_COLUMN, pair, strict=True)],
  )
  if name in ('1', '5'):
    times = [('minutes', 'minutes'), ('speed-up %', 'speedup')]
    shown = [('accuracy', 'accuracy'), *times] if name == '1' else times
    return [(f'{_heading(*d)} {title}', d, m) for d in datasets for title, m in shown]
  budgets = sorted(set(part['budget']), key=float)
  found = set(part[[*_COLUMN, 'budget']].itertuples(index=False, name=None))
  return [
    (f'{_heading(*d)} B={b}', (*d, b), 'accuracy')
    for d in datasets for b in budgets if (*d, b) in found
  ]  # fmt: skip


def _heading(dataset: str, ran_on: str) -> str:
  """The data set that was trained on, and which of the paper's it stands for."""
  same = printed.canonical(ran_on) == dataset
  return dataset if same else f'{ran_on} (for {dataset})'


def _title(name: str, part: pd.DataFrame) -> str:
  """The paper's caption, and what was really trained on."""
  others = dict.fromkeys(
    ran_on
    for dataset, ran_on in part[_COLUMN].itertuples(index=False)
    if printed.canonical(ran_on) != dataset
  )
  number, _, words = TITLES[name].partition(':')
  return f'{number}, rehearsed on {", ".join(others)}:{words}' if others else TITLES[name]


def _pick(found: dict | None, metric: str) -> Cell:
  """The cell at one place; a dash where neither plan nor paper have anything."""
  if found is None:
    return Cell('–')
  if metric != 'accuracy':
    return _time_cell(found, metric)
  details = []
  if not math.isnan(found['paper_mean']):
    details.append(f'paper {render.mean_std(found["paper_mean"], found["paper_std"])}')
  if not math.isnan(found['difference']):
    delta = render.difference(found['difference'], found['difference_se'])
    details.append(f'Δ {delta}, best epoch {render.signed(found["best_difference"])}')
  kind = next((k for k in (*cells.LACKING, 'missing') if k in found['state']), '')
  if not found['n']:
    return Cell(kind, None, '; '.join(details), state=kind)
  details += [found['state']] if found['state'] else []
  text = render.mean_std(found['mean'], found['std'])
  return Cell(text, float(found['mean']), '; '.join(details), state=kind)


def _time_cell(found: dict, metric: str) -> Cell:
  details = []
  if not math.isnan(found[f'{metric}_train']):
    details.append(f'training only {found[f"{metric}_train"]:.3g}')
  if not math.isnan(found[f'paper_{metric}']):
    details.append(f'paper {found[f"paper_{metric}"]:g}')
  if math.isnan(found[metric]):
    kind = 'missing' if not found['n'] or metric == 'minutes' else 'no sgd run'
    return Cell(kind, None, '; '.join(details), state='missing')
  return Cell(f'{found[metric]:.3g}', float(found[metric]), '; '.join(details))


def _embolden(
  rows: list[list[Cell]], block: list[tuple], labels: int, costs: list[list[float]]
) -> None:
  """Sets in bold the best accuracy of a column among what cost the same, within a block."""
  for column, spent in enumerate(zip(*costs, strict=True), labels):
    for name in dict.fromkeys(block):
      own = pd.Series({i: spent[i] for i, key in enumerate(block) if key == name})
      own = own[[rows[i][column].sort is not None for i in own.index]]
      for group in layout.of_equal_cost(own):
        best = max(rows[i][column].sort for i in group)
        for i in group if len(group) > 1 else ():
          if rows[i][column].sort == best:
            rows[i][column] = rows[i][column]._replace(bold=True)


def _notes(name: str, part: pd.DataFrame) -> tuple[str, ...]:
  notes = [
    'Accuracy: mean ± standard deviation over seeds (ddof = 1), last epoch, in percent. '
    'Δ: ours − paper with its standard error (3 runs on the paper’s side). Bold: the most '
    'accurate of those that cost the same (to 1 %).'
  ]
  if name in ('1', '5'):
    notes.append(
      'Minutes of training and test passes; compilation and data loading are left out. '
      'Speed-up: time saved against sgd (standard augmentation) of this plan, same device.'
    )
  if not part['exact'].all():
    ran = ', '.join(sorted(set(part.loc[~part['exact'], 'ran_on'])))
    notes.append(
      f'Rehearsal (ran on {ran}): the paper’s numbers stand beside for orientation; a '
      'difference is given only for its own data, model, 200 epochs and learning rates.'
    )
  return tuple(notes)


def _place(order: list, value) -> int:
  return order.index(value) if value in order else len(order)
