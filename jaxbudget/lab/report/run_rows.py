"""One row of the table of runs: what the plan says of a run, and what the run left."""

import math

from jaxbudget.lab.report import reading
from jaxbudget.lab.sweep import plan_file

IDENTITY = (
  'cell_id', 'seed', 'dataset', 'model', 'selector', 'augment', 'schedule', 'budget',
  'budget_unit', 'epochs', 'batch_size', 'fidelity', 'num_train', 'num_test',
)  # fmt: skip
COST = (
  'rows', 'forward_scored', 'forward_trained', 'backward', 'forward_equivalents',
  'forward_evaluated', 'flops',
)  # fmt: skip
SECONDS = ('data', 'compile', 'train', 'evaluate')
NUMBERS = (
  'final_accuracy', 'best_accuracy', 'balanced_accuracy', 'realised_budget', 'entropy_nats',
)  # fmt: skip
_NUMERIC = ('seed', 'budget', 'epochs', 'batch_size', 'num_train', 'num_test')


def columns() -> list[str]:
  """The names of what stands in a row."""
  return [
    'run_id', *IDENTITY, 'options', 'parts', 'paper', 'is_scoring', 'has_metrics', 'status',
    'error', *NUMBERS, 'class_accuracy', 'guessing', 'score_name', *COST,
    *(f'planned_{name}' for name in COST),
    'scoring_forward_equivalents', *(f'seconds_{name}' for name in SECONDS), 'device', 'version',
    'commit', 'jax', 'data_fingerprint', 'config_hash',
  ]  # fmt: skip


def run_row(run: dict, config: dict, result: dict, last: dict) -> dict:
  """One row of the runs table from the plan's entry and the run's own files."""
  known = {name: run.get(name, config.get(name)) for name in IDENTITY}
  for name in _NUMERIC:
    known[name] = reading.number(known[name])
  for name in set(IDENTITY) - set(_NUMERIC):
    known[name] = '' if known[name] is None else str(known[name])
  cost = result.get('cost') if isinstance(result.get('cost'), dict) else {}
  planned = run.get('planned') if isinstance(run.get('planned'), dict) else {}
  seconds = result.get('seconds') if isinstance(result.get('seconds'), dict) else {}
  versions = result.get('versions') if isinstance(result.get('versions'), dict) else {}
  budgets = result.get('realised_budgets')
  budgets = budgets if isinstance(budgets, dict) else {}
  options = run.get('options', config_options(config))
  return {
    'run_id': run['run_id'],
    **known,
    'cell_id': known['cell_id'] or run['run_id'],
    'options': options if isinstance(options, dict) else {},
    'parts': run.get('parts', config.get('parts')),
    'paper': [entry for entry in _listed(run.get('paper')) if isinstance(entry, dict)],
    **{name: reading.number(result.get(name)) for name in NUMBERS},
    **_scores(result),
    'class_accuracy': _class_accuracy(result),
    'guessing': result.get('guessing') is True,
    'realised_budget': reading.number(budgets.get('backward', result.get('realised_budget'))),
    **{name: reading.number(cost.get(name, last.get(f'cost_{name}'))) for name in COST},
    **{f'planned_{name}': reading.number(planned.get(name)) for name in COST},
    'scoring_forward_equivalents': _charged(run, config, result, known),
    **{f'seconds_{name}': reading.number(seconds.get(name)) for name in SECONDS},
    'device': _device(result.get('device')),
    'version': str(versions.get('jaxbudget', '')),
    'commit': str(versions.get('commit') or ''),
    'jax': str(versions.get('jax', '')),
    'data_fingerprint': str(result.get('data_fingerprint', '')),
    'config_hash': str(result.get('config_hash', '')),
  }


def _scores(result: dict) -> dict:
  """What a run's accuracies are; of a task that has none, its score stands in their place."""
  name = str(result.get('score_name', 'accuracy' if result else ''))
  if name in ('accuracy', ''):
    return {'score_name': name}
  score, best = (reading.number(result.get(key)) for key in ('score', 'best_score'))
  return {'score_name': name, 'final_accuracy': score, 'best_accuracy': best}


def _class_accuracy(result: dict) -> tuple[float, ...]:
  """Percent by class, NaN of a class that was not tested; nothing where it is not known."""
  given = result.get('class_accuracy')
  return tuple(map(reading.number, given)) if isinstance(given, list) else ()


def _listed(value) -> list:
  return value if isinstance(value, list) else []


def _charged(run: dict, config: dict, result: dict, known: dict) -> float:
  """What a run is charged for those that it needs: all that they cost, or by `shared_by`.

  Where neither plan nor result says it, as older ones do not, a finished run's share of full
  training holds it; NaN where nothing does.
  """
  planned, left = (
    found if isinstance(found := entry.get('selection'), dict) else {} for entry in (run, result)
  )
  for said in (left, planned):
    if 'forward_equivalents_charged' in said:
      return reading.number(said['forward_equivalents_charged'])
  if not (planned or plan_file.needs(run)):
    return 0.0
  spent, share = (
    reading.number(found.get(name) if isinstance(found := result.get(key), dict) else None)
    for key, name in (('cost', 'forward_equivalents'), ('realised_budgets', 'compute'))
  )
  charged = share * 3 * known['epochs'] * known['num_train'] - spent
  if math.isfinite(charged):
    return float(max(0, round(charged)))
  alone = config.get('shared_by', 1) == 1
  return reading.number(planned.get('forward_equivalents')) if alone else math.nan


def _device(device) -> str:
  """The device record as a phrase, such as `cpu, 2 host CPUs`."""
  if not isinstance(device, dict):
    return str(device or '')
  kinds = dict.fromkeys(str(device[key]) for key in ('platform', 'kind') if device.get(key))
  count = device.get('devices', 1)
  names = [' '.join(kinds) + (f' × {count}' if count != 1 else '')]
  return ', '.join(names + [f'{device[k]} host CPUs' for k in ('host_cpus',) if device.get(k)])


def config_options(config: dict) -> dict:
  """The options of method and augmentation as one dict, as in plan.json."""
  parts = [config.get(key) for key in ('selector_options', 'augment_options')]
  return {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
