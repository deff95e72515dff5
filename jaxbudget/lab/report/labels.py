"""Names for the methods of a report, long enough to tell its cells apart."""

from collections import Counter

import pandas as pd

from jaxbudget.lab import fidelity


def method_labels(runs: pd.DataFrame) -> pd.Series:
  """Names for the methods of a table: the selector, with what tells its cells apart.

  Args:
    runs: rows with `selector`, `augment`, `fidelity` and `options`.

  Returns:
    One label per row, such as `p_sgd`, `p_sgd smoothing=False` or `p_sgd (released)`.
  """
  labels = runs['selector'].astype(str)
  switches = set(fidelity.PRESETS['released'])
  usual_fidelity = _most_common(runs['fidelity'])
  for _, part in runs.groupby('selector', dropna=False):
    names = sorted({name for o in part['options'] for name in o} - switches - {'budget_unit'})
    _extend(labels, part, names)
    for _, alike in part.groupby(['augment', 'fidelity'], dropna=False):
      _extend(labels, alike, sorted({n for o in alike['options'] for n in o} & switches))
    for index in part.index:
      run = runs.loc[index]
      affected = fidelity.affected(run['selector'], run['augment'], run['options'])
      if affected and runs['fidelity'][index] != usual_fidelity:
        labels[index] += f' ({runs["fidelity"][index]})'
  return labels


def _extend(labels: pd.Series, part: pd.DataFrame, names: list[str]) -> None:
  """Adds to the labels, in place, the options in which runs depart from most others."""
  for name in names:
    # A run without the option (another augmentation's, say) departs from nothing.
    values = pd.Series({i: repr(o[name]) for i, o in part['options'].items() if name in o})
    for index, value in values[values != _most_common(values)].items():
      labels[index] += f' {name}={value}'


def _most_common(values: pd.Series) -> str:
  """The commonest value; among equals the first seen."""
  return Counter(values).most_common(1)[0][0] if len(values) else ''
