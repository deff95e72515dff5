"""Names for the methods of a report, long enough to tell its cells apart.

A table shows data set, network, augmentation, schedule and budget in columns of their own.
All else in which its cells differ stands in the label: `p_sgd smoothing=False
learning_rate=0.05`.
"""

import zlib

import pandas as pd

from jaxbudget.lab import config as config_lib
from jaxbudget.lab import fidelity
from jaxbudget.lab.differences import departures, flatten, most_common, value_text

COLUMNS = ('method', 'rule', 'variant')
_SHOWN = ('dataset', 'model', 'augment', 'schedule', 'budget')  # in columns of their own
_NOT_SETTINGS = (
  *_SHOWN, *config_lib.INCIDENTAL, 'selector', 'fidelity', 'data', 'data_checksums', 'run_id',
  'cell_id', 'seed', 'config_hash', 'identity', 'num_train', 'num_test', 'parts',
)  # fmt: skip
_METHOD_OPTIONS = ('selector_options', 'augment_options')  # in plan.json as `options`


def method_labels(
  runs: pd.DataFrame, configs: dict[str, dict], apart: dict[str, dict[str, str]]
) -> tuple[pd.DataFrame, dict[str, str]]:
  """Names what tells the cells of a report apart.

  Args:
    runs: rows with `run_id`, `cell_id`, `selector`, `options`, `fidelity`, `epochs`,
      `batch_size`, `budget_unit`, `data_fingerprint` and the columns that tables show.
    configs: run_id -> the run's config, empty where it is not known.
    apart: cell_id -> conditions that set it apart, see `cells.separate`.

  Returns:
    (one row per run: `method`, the label, and its parts, `rule`: the selector with the options
    that tell it apart, such as `p_sgd smoothing=False`, and `variant`: what else differs, such
    as `learning_rate=0.05`; what goes unsaid in the labels, because most cells share it).
  """
  cells = runs.drop_duplicates('cell_id').set_index('cell_id')
  labels = pd.DataFrame({'rule': cells['selector'].astype(str), 'variant': ''})
  unsaid: dict[str, str] = {}
  _name_options(labels, cells, unsaid)
  settings = _settings(runs, configs)
  _extend(labels, 'variant', [settings[name] for name in cells.index], list(cells.index), unsaid)
  _name_data(labels, runs, unsaid)
  _name_sources(labels, runs, configs)
  _name_conditions(labels, apart)
  preset = _presets(cells)
  _tell_apart(labels, preset, cells)
  labels['method'] = [
    ' '.join(filter(None, parts))
    for parts in zip(labels['rule'], labels['variant'], preset, strict=True)
  ]
  return labels.loc[runs['cell_id'], list(COLUMNS)].set_axis(runs.index), unsaid


def _name_options(labels: pd.DataFrame, cells: pd.DataFrame, unsaid: dict[str, str]) -> None:
  """Adds the options of method and augmentation to the rules, selector by selector."""
  switches = fidelity.options()
  for selector, part in cells.groupby('selector', dropna=False):
    options = [
      fidelity.as_asked(preset, selector, given)
      for preset, given in zip(part['fidelity'], part['options'], strict=True)
    ]
    own = [_texts(o, lambda name: name not in (*switches, 'budget_unit')) for o in options]
    _extend(labels, 'rule', own, list(part.index), unsaid, f'{selector} ')
    for _, alike in part.groupby(['augment', 'fidelity'], dropna=False):
      own = [_texts(o, switches.__contains__) for o in alike['options']]
      _extend(labels, 'rule', own, list(alike.index), unsaid, f'{selector} ')


def _texts(options: dict, wanted) -> dict[str, str]:
  return {name: value_text(options[name]) for name in sorted(options) if wanted(name)}


def _settings(runs: pd.DataFrame, configs: dict[str, dict]) -> dict[str, dict[str, str]]:
  """cell_id -> every key of its config that a table does not show, as text."""
  found: dict[str, dict[str, str]] = {}
  columns = ('cell_id', 'run_id', 'epochs', 'batch_size', 'budget_unit')
  defaults = config_lib.defaults().to_dict()  # what older configs meant that lack a key
  for cell_id, run_id, *planned in runs[list(columns)].itertuples(index=False):
    if configs.get(run_id) or cell_id not in found:
      config = configs.get(run_id)
      own = defaults | config if config else {}
      own |= {key: value for key, value in zip(columns[2:], planned, strict=True) if value == value}
      own = {k: v for k, v in own.items() if k not in (*_NOT_SETTINGS, *_METHOD_OPTIONS)}
      own = {key.partition('_options.')[2] or key: value for key, value in flatten(own)}
      found[cell_id] = {key: value_text(value) for key, value in sorted(own.items())}
  return found


def _name_data(labels: pd.DataFrame, runs: pd.DataFrame, unsaid: dict[str, str]) -> None:
  """Adds the data's fingerprint where one name stands for more than one content."""
  known = runs[runs['data_fingerprint'] != ''].drop_duplicates('cell_id')
  for dataset, part in known.groupby('dataset'):
    if part['data_fingerprint'].nunique() > 1:
      own = [{'data': fingerprint[:8]} for fingerprint in part['data_fingerprint']]
      _extend(labels, 'variant', own, list(part['cell_id']), unsaid, f'{dataset} ')


def _name_sources(labels: pd.DataFrame, runs: pd.DataFrame, configs: dict[str, dict]) -> None:
  """Adds the source of a part from outside where one name stands for more than one."""
  told: dict[tuple[str, str], str] = {}  # of cell and part; a cell's seeds are of one source
  for cell_id, run_id in runs[['cell_id', 'run_id']].itertuples(index=False):
    identity = configs.get(run_id, {}).get('identity')
    sources = identity.get('sources') if isinstance(identity, dict) else None
    for part, source in sources.items() if isinstance(sources, dict) else ():
      told[cell_id, part] = str(source)
  versions: dict[str, set[str]] = {}
  for (_, part), source in told.items():
    versions.setdefault(part, set()).add(source)
  selectors = dict(runs[['cell_id', 'selector']].itertuples(index=False))
  for (cell_id, part), source in told.items():
    if len(versions[part]) > 1:
      own = part == selectors[cell_id]
      column, key = ('rule', '') if own else ('variant', f'{part.rpartition(":")[2]}.')
      words = labels.at[cell_id, column], f'{key}source={source[:8]}'
      labels.at[cell_id, column] = ' '.join(filter(None, words))


def _name_conditions(labels: pd.DataFrame, apart: dict[str, dict[str, str]]) -> None:
  """Adds the conditions that set seeds of one cell apart; data are named already."""
  for cell_id, conditions in apart.items():
    words = [f'{key}={value}' for key, value in conditions.items() if key != 'data_fingerprint']
    labels.at[cell_id, 'variant'] = ' '.join(filter(None, (labels.at[cell_id, 'variant'], *words)))


def _extend(labels, column: str, own: list[dict[str, str]], cell_ids: list[str],
            unsaid: dict[str, str], of: str = '') -> None:  # fmt: skip
  """Adds to labels, in place, what sets cells apart."""
  named, usual = departures(own)
  unsaid |= {f'{of}{key}': value for key, value in usual.items()}
  for cell_id, names in zip(cell_ids, named, strict=True):
    if names:
      words = [labels.at[cell_id, column], *(f'{key}={value}' for key, value in names.items())]
      labels.at[cell_id, column] = ' '.join(filter(None, words))


def _presets(cells: pd.DataFrame) -> list[str]:
  """`(released)` where a cell follows the less common preset and would differ under the other."""
  usual = most_common(cells['fidelity'])
  return [
    f'({cell["fidelity"]})' if cell['fidelity'] != usual and fidelity.affected(cell) else ''
    for cell in cells.to_dict('records')
  ]


def _tell_apart(labels: pd.DataFrame, preset: list[str], cells: pd.DataFrame) -> None:
  """Gives cells that would still look alike the end of their id."""
  shown = cells[list(_SHOWN)].assign(rule=labels['rule'], variant=labels['variant'], preset=preset)
  alike = shown.duplicated(keep=False)
  for cell_id in labels.index[alike]:
    ending = cell_id.rpartition('-')[2]
    if not (len(ending) >= 8 and set(ending) <= set('0123456789abcdef')):
      ending = f'{zlib.crc32(cell_id.encode("utf-8", "surrogatepass")):08x}'
    words = labels.at[cell_id, 'variant'], f'#{ending[:8]}'
    labels.at[cell_id, 'variant'] = ' '.join(filter(None, words))
