"""What the page says of how the runs were made: settings, versions, command."""

import json

import pandas as pd

from jaxbudget.lab.differences import flatten
from jaxbudget.lab.report import render
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.render import Table
from jaxbudget.lab.report.sections import Listing

_OWN = ('run_id', 'cell_id', 'seed', 'config_hash', 'identity')


def blocks(workdir: Workdir) -> list[Table | Listing]:
  """The page's section on how its runs came about.

  Args:
    workdir: a loaded workdir.

  Returns:
    The command, versions and devices, the settings common to all runs and those that vary.
  """
  command = workdir.command or f'python launch.py --config=... --workdir={workdir.path.name}'
  missing = 'The plan does not record its command; name the config file that made it.'
  reproduce = Listing('Reproduce', command, '' if workdir.command else missing)
  return [reproduce, versions_table(workdir), settings_table(workdir)]


def settings_table(workdir: Workdir) -> Table:
  """Every key of the runs' configs: its value, or the values it takes."""
  values: dict[str, dict[str, int]] = {}
  for config in workdir.configs.values():
    for key, value in flatten(config):
      if key.partition('.')[0] not in _OWN:
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
