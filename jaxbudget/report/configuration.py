"""What the page says of how the runs were made: settings, deviations, versions, command."""

import html
import importlib
import json

import pandas as pd

from jaxbudget.report import render
from jaxbudget.report.files import Problem
from jaxbudget.report.load import Workdir
from jaxbudget.report.render import Table

_OWN = ('run_id', 'cell_id', 'seed', 'config_hash')


def blocks(workdir: Workdir) -> list:
  """Tables and HTML for the page's last section.

  Args:
    workdir: a loaded workdir.

  Returns:
    The command, the settings common to all runs and those that vary, the deviations from
    the paper in force, versions and devices.
  """
  command = workdir.command or f'python launch.py --config=... --workdir={workdir.path.name}'
  said = '' if workdir.command else (
    '<p class="note">The plan does not record its command; name the config file that made '
    'it.</p>'
  )  # fmt: skip
  found = [f'<h3>Reproduce</h3><pre>{html.escape(command)}</pre>{said}', versions_table(workdir)]
  deviations = deviations_table(workdir)
  found += [deviations] if deviations else []
  return [*found, settings_table(workdir)]


def settings_table(workdir: Workdir) -> Table:
  """Every key of the runs' configs: its value, or the values it takes."""
  values: dict[str, dict[str, int]] = {}
  for config in workdir.configs.values():
    for key, value in flatten(config):
      if key not in _OWN:
        text = json.dumps(value, default=str, ensure_ascii=False)
        seen = values.setdefault(key, {})
        seen[text] = seen.get(text, 0) + 1
  rows, data = [], []
  for key, seen in sorted(values.items(), key=lambda item: (len(item[1]) == 1, item[0])):
    shown = ', '.join(list(seen)[:12]) + (', …' if len(seen) > 12 else '')
    rows.append((render.text_cell(key), render.text_cell(shown)))
    data.append({'key': key, 'values': ' | '.join(seen)})
  title = 'Settings, those that vary first'
  frame = pd.DataFrame(data, columns=['key', 'values'])
  return Table('settings', title, ('key', 'value'), rows, frame, labels=2)


def versions_table(workdir: Workdir) -> Table:
  """Code, JAX and device behind the finished runs."""
  columns = ['version', 'commit', 'jax', 'device', 'data_fingerprint']
  done = workdir.runs[workdir.runs['status'] == 'done']
  counts = done.groupby(columns, sort=False).size().reset_index(name='runs')
  rows = [
    (*(render.text_cell(row[name] or '–') for name in columns), render.number_cell(row['runs'], 0))
    for row in counts.to_dict('records')
  ]
  names = ('jaxbudget', 'commit', 'jax', 'device', 'data fingerprint', 'runs')
  return Table('versions', 'Code, device and data', names, rows, counts, labels=5)


def deviations_table(workdir: Workdir) -> Table | None:
  """Where the runs follow the released code rather than the paper, and the other way round.

  Returns:
    A table, or None if nothing is known of deviations.
  """
  try:
    in_force = importlib.import_module('jaxbudget.deviations').in_force
  except ModuleNotFoundError:
    return None
  found: dict[tuple, dict] = {}
  for run_id, config in workdir.configs.items():
    try:
      entries = in_force(config) if config else ()
    except (KeyError, TypeError, AttributeError) as error:
      what = f'deviations unknown: the config is incomplete ({error!r})'
      workdir.problems.append(Problem(f'runs/{run_id}/config.json', what))
      continue
    for entry in entries:
      key = entry['id'], str(entry.get('effect'))
      found.setdefault(key, {**entry, 'runs': 0})['runs'] += 1
  columns = ('id', 'title', 'paper', 'code', 'effect')
  rows = [
    (*(render.text_cell(entry.get(name, '')) for name in columns),
     render.number_cell(float(entry['runs']), 0))
    for entry in found.values()
  ]  # fmt: skip
  if not rows:
    return None
  data = pd.DataFrame(list(found.values()))
  title = 'Deviations between paper and code that are in force'
  return Table('deviations_in_force', title, (*columns, 'runs'), rows, data, labels=5)


def flatten(config: dict, prefix: str = ''):
  """Pairs of dotted key and value; the options of methods are one level down."""
  for key, value in config.items():
    if isinstance(value, dict) and value:
      yield from flatten(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value
