"""The lock: two results stand in one row only if they differ in nothing but the method."""

from collections.abc import Iterable

import pandas as pd

from jaxbudget import registry
from jaxbudget.lab import fidelity
from jaxbudget.lab.report.load import Workdir

_OF_RUNS = (
  'dataset', 'num_train', 'num_test', 'data_fingerprint', 'model', 'augment', 'schedule',
  'epochs', 'batch_size', 'fidelity', 'version', 'code',
)  # fmt: skip
_OF_CONFIGS = (
  'validation', 'width', 'bn_gamma_init', 'compute_dtype', 'augment_options', 'learning_rate',
  'final_learning_rate', 'momentum', 'weight_decay', 'evaluate_every',
)  # fmt: skip
FIELDS = (*_OF_RUNS, *_OF_CONFIGS)


def check_allowed(allow: Iterable[str]) -> tuple[str, ...]:
  """Refuses overrides of fields that the lock does not know.

  Args:
    allow: names of fields.

  Returns:
    The same as a tuple.

  Raises:
    ValueError: an unknown field, with the closest match.
  """
  allow = tuple(allow)
  for field in allow:
    registry.check('field to allow', field, FIELDS)
  return allow


def lock_values(workdir: Workdir) -> dict[str, dict[str, str]]:
  """What may not differ between compared runs.

  A run whose options no fidelity preset touches has an empty `fidelity`: it is the same run
  under both presets. The switches of a preset count as fidelity, not as augmentation.

  Args:
    workdir: a loaded workdir.

  Returns:
    run_id -> field -> value as text.
  """
  switches = set(fidelity.PRESETS['released'])
  values = {}
  for run in workdir.runs.to_dict('records'):
    config = workdir.configs.get(run['run_id'], {})
    own = {field: _text(run[field]) for field in _OF_RUNS}
    own |= {field: _text(config.get(field)) for field in _OF_CONFIGS}
    options = config.get('augment_options')
    if isinstance(options, dict):
      kept = {k: v for k, v in sorted(options.items()) if k not in switches and v is not None}
      own['augment_options'] = _text(kept)
    if not fidelity.affected(run['selector'], run['augment'], run['options']):
      own['fidelity'] = ''
    values[run['run_id']] = own
  return values


def differing(lock: dict[str, dict[str, str]], run_ids: Iterable[str]) -> dict[str, str]:
  """The fields in which runs differ.

  Args:
    lock: of `lock_values`.
    run_ids: runs that shall stand in one comparison.

  Returns:
    field -> the values found, for people; empty when the comparison is fair.
  """
  found = {}
  rows = [lock[run_id] for run_id in run_ids]
  for field in FIELDS:
    seen = dict.fromkeys(row[field] for row in rows)
    if field == 'fidelity':
      seen.pop('', None)
    if len(seen) > 1:
      found[field] = ' | '.join(value or 'unknown' for value in seen)
  return found


def refusal(differences: dict[str, str], allow: Iterable[str]) -> tuple[str, str]:
  """Splits differences into what forbids a comparison and what was overridden.

  Args:
    differences: of `differing`.
    allow: overridden fields.

  Returns:
    (why it is refused, what was overridden), each empty if there is nothing.
  """
  texts = {field: f'{field} differs ({values})' for field, values in differences.items()}
  refused = '; '.join(text for field, text in texts.items() if field not in allow)
  return refused, '; '.join(text for field, text in texts.items() if field in allow)


def _text(value) -> str:
  if value is None or (isinstance(value, float) and pd.isna(value)):
    return ''
  return f'{value:g}' if isinstance(value, float) else str(value)
