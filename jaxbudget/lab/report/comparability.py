"""The lock: two results stand in one row only if they differ in nothing but the method.

Its fields are settings, and the conditions that must be equal for runs to be compared.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from jaxbudget import registry
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import fidelity
from jaxbudget.lab.differences import flatten, value_text
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.run import conditions

_OF_RUNS = (
  'dataset', 'num_train', 'num_test', 'model', 'augment', 'schedule', 'epochs', 'batch_size',
  'fidelity',
)  # fmt: skip
# What a config says beside: all but the method, its budget and what moves no more than rounding.
_FREE = (
  *_OF_RUNS, *config_lib.INCIDENTAL, 'selector', 'selector_options', 'budget', 'budget_unit',
  'data', 'data_checksums', 'run_id', 'cell_id', 'seed', 'config_hash', 'identity', 'conv',
  'evaluate_batch', 'parts', 'shared_by', 'score_every', 'score_size', *conditions.POOL,
)  # fmt: skip


def fields(workdir: Workdir) -> tuple[str, ...]:
  """What the lock knows: facts of runs, every key of their configs that is no method's, conditions.

  Args:
    workdir: a loaded workdir.

  Returns:
    Names, the most telling first.
  """
  return _fields(k for config in workdir.configs.values() for k in config)


def _fields(found: Iterable[str] = ()) -> tuple[str, ...]:
  """The same, of configs that have other keys than ours."""
  keys = dict.fromkeys((*_defaults(), *found))
  return (*_OF_RUNS, *(key for key in keys if key not in _FREE), *conditions.POOL)


@functools.cache
def _defaults() -> dict[str, object]:
  """What a config meant that was written before a key existed."""
  return config_lib.defaults().to_dict()


def check_launched(allow: Iterable[str]) -> None:
  """Refuses, before there are runs, overrides of fields that the lock of new runs will not know.

  Args:
    allow: names of fields.

  Raises:
    ValueError: every unknown field, with the closest match, one a line.
  """
  faults = []
  for field in allow:
    try:
      registry.check('field to allow', field, _fields())
    except ValueError as e:
      faults.append(str(e))
  if faults:
    raise ValueError('\n'.join(faults))


def check_allowed(allow: Iterable[str], workdir: Workdir) -> tuple[str, ...]:
  """Refuses overrides of fields that the lock does not know.

  Args:
    allow: names of fields.
    workdir: a loaded workdir.

  Returns:
    The same as a tuple.

  Raises:
    ValueError: an unknown field, with the closest match.
  """
  allow = tuple(allow)
  for field in allow:
    registry.check('field to allow', field, fields(workdir))
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
  switches = {f'{switch.part}.{switch.option}' for switch in fidelity.SWITCHES}
  of_configs = [f for f in fields(workdir) if f not in (*_OF_RUNS, *conditions.POOL)]
  values = {}
  for run in workdir.runs.to_dict('records'):
    config = workdir.configs.get(run['run_id'], {})
    own = {field: _text(run[field]) for field in _OF_RUNS}
    known = _defaults() | config if config else {}
    own |= {field: _text(known.get(field)) for field in of_configs}
    options = config.get('augment_options')
    if isinstance(options, dict):
      named = {k if '.' in k else f'{run["augment"]}.{k}': v for k, v in flatten(options)}
      kept = {k: v for k, v in sorted(named.items()) if k not in switches and v is not None}
      own['augment_options'] = _text(kept)
    options = config.get('model_options')
    if isinstance(options, dict):  # `conv` of our networks moves no more than rounding
      free = ('conv',) if run['model'] in registry.names('model') else ()
      own['model_options'] = _text({k: v for k, v in sorted(options.items()) if k not in free})
    if not fidelity.affected(run):
      own['fidelity'] = ''
    values[run['run_id']] = own | workdir.conditions.get(run['run_id'], {})
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
  if all(row == rows[0] for row in rows):
    return found
  for field in rows[0]:
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
  return value_text(value)
