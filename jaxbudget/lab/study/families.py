"""The comparisons of the study: for each claim the runs that it sets against each other."""

import json
from collections.abc import Iterator

import pandas as pd

from jaxbudget.lab.configs import study
from jaxbudget.lab.study import compare
from jaxbudget.lab.study.claims import AUGMENTS, BUDGETS, CLAIMS, METHODS
from jaxbudget.lab.study.compare import ENTROPY_MARGIN, MARGIN, Comparison

_UNPRIMED = {'prime': False}
_RAW = {'smoothing': False, 'average': False}
_FULL = {'smoothing': True, 'average': True}
_PLAIN = {'augment': 'standard', 'schedule': 'linear', 'budget_unit': 'backward'}


def compared(runs: pd.DataFrame) -> list[Comparison]:
  """All comparisons of the study for which there are runs.

  Args:
    runs: of `results.load`.

  Returns:
    The comparisons, corrected within their families and judged.
  """
  found = []
  for name in ('cifar', 'fashion'):
    own = runs[runs['set'] == name]
    for claim, family in _OF_A.items():
      if name in CLAIMS[claim].sets:
        margin = ENTROPY_MARGIN if claim == 'vi' else MARGIN
        found += compare.judge(_filled(family(own, name)), margin, by_interval=claim == 'v')
    found += compare.judge(_filled(_methods(own, name)), correct=False, by_interval=True)
  cifar = runs[runs['set'] == 'cifar']
  found += compare.judge(_filled(_released(cifar)))
  found += compare.judge(_filled(_primed(cifar)))
  for name in ('cifar_noise', 'cifar_tail'):
    found += compare.judge(_filled(_methods(runs[runs['set'] == name], name, 'D')))
  found += compare.judge(_filled(_cheaper(cifar)), correct=False, by_interval=True)
  return found


def _filled(family: Iterator[Comparison]) -> list[Comparison]:
  """Comparisons that have any pair."""
  return [c for c in family if c.n]


def _cell(runs, selector, budget, options=None, **values) -> pd.DataFrame:
  if selector == 'selective_backprop' and options is None:
    options = _UNPRIMED
  if selector == 'p_sgd' and options is None:
    options = _FULL
  values = {**_PLAIN, 'fidelity': 'corrected', **values}
  if (
    values['fidelity'] is None or selector not in _SWITCHED
  ):  # presets that do not differ are one run
    del values['fidelity']
  found = compare.pick(runs, options, selector=selector, budget=float(budget), **values)
  if found['cell'].nunique() > 1:
    raise ValueError(f'these would be one: {", ".join(found["cell"].unique())}')
  return found


_SWITCHED = ('p_sgd', 'c_sgd', 'selective_backprop')


def _against(claim, where, name, budget, baseline, own, other, column='final_accuracy'):
  pairs = compare.paired(own, other, column)
  return compare.measure(claim, where, name, budget, baseline, own, pairs)


def _equal_budget(runs, where) -> Iterator[Comparison]:
  """(i): methods less uniform sampling at the same B."""
  for method in METHODS:
    for b in BUDGETS:
      own, other = _cell(runs, method, b), _cell(runs, 'unif_sgd', b)
      yield _against('i', where, method, b, 'unif_sgd', own, other)


def _schedules(runs, where) -> Iterator[Comparison]:
  """(ii): the linear schedule less the step schedule."""
  cells = [(m, b) for m in ('unif_sgd', 'p_sgd', 'selective_backprop') for b in BUDGETS]
  for method, b in [*cells, ('sgd', 1.0)]:
    own, other = _cell(runs, method, b), _cell(runs, method, b, schedule='step')
    yield _against('ii', where, method, b, 'step', own, other)


def _ricap_for_all(runs, where) -> Iterator[Comparison]:
  """(iii): RICAP at B = .3 less full SGD without it."""
  own, other = _cell(runs, 'unif_sgd', 0.3, augment='ricap'), _cell(runs, 'sgd', 1.0)
  yield _against('iii', where, 'unif_sgd + ricap', 0.3, 'sgd', own, other)


def _mixing_hurts(runs, where) -> Iterator[Comparison]:
  """(iv): RICAP and mixup less standard at B = .05."""
  for augment in ('ricap', 'mixup'):
    own, other = _cell(runs, 'unif_sgd', 0.05, augment=augment), _cell(runs, 'unif_sgd', 0.05)
    yield _against('iv', where, f'unif_sgd + {augment}', 0.05, 'standard', own, other)


def _collapses(runs, where) -> Iterator[Comparison]:
  """(v): Selective Backprop less uniform sampling under the same augmentation."""
  for augment in AUGMENTS:
    for b in BUDGETS[:2]:
      own = _cell(runs, 'selective_backprop', b, augment=augment)
      other = _cell(runs, 'unif_sgd', b, augment=augment)
      name = f'selective_backprop + {augment}'
      yield _against('v', where, name, b, f'unif_sgd + {augment}', own, other)


def _entropies(runs, where) -> Iterator[Comparison]:
  """(vi): neighbours in the order of Figure 1 (c)."""
  part = lambda options, **values: _cell(runs, 'p_sgd', 0.3, options, **values)
  chain = [
    ('step, raw', part(_RAW, schedule='step')),
    ('linear, raw', part(_RAW)),
    ('linear, without smoothing', part({'smoothing': False, 'average': True})),
    ('linear, full', part(_FULL)),
    ('linear, full, RICAP as released', part(_FULL, augment='ricap', fidelity='released')),
  ]
  for (lower, other), (name, own) in zip(chain, chain[1:], strict=False):
    yield _against('vi', where, name, 0.3, lower, own, other, 'entropy_nats')


_OF_A = {
  'i': _equal_budget, 'ii': _schedules, 'iii': _ricap_for_all, 'iv': _mixing_hurts,
  'v': _collapses, 'vi': _entropies,
}  # fmt: skip


def _released(runs) -> Iterator[Comparison]:
  """(B): the released code less the corrected."""
  cells = [('selective_backprop', a) for a in ('ricap', 'mixup')]
  cells += [('p_sgd', a) for a in ('ricap', 'mixup')] + [('c_sgd', 'standard')]
  for method, augment in cells:
    for b in BUDGETS:
      own, other = (
        _cell(runs, method, b, augment=augment, fidelity=preset)
        for preset in ('released', 'corrected')
      )
      yield _against('B', 'cifar', f'{method} + {augment}', b, 'corrected', own, other)


def _primed(runs) -> Iterator[Comparison]:
  """Selective Backprop with a first epoch that trains on everything, beyond its budget.

  Of 20 epochs it makes B = .05 into .0975: uniform sampling at B = .1 trains on as much.
  """
  for augment in ('standard', *AUGMENTS):
    own, not_primed = (
      _cell(runs, 'selective_backprop', 0.05, {'prime': prime}, augment=augment)
      for prime in (True, False)
    )
    uniform = _cell(runs, 'unif_sgd', 0.1, augment=augment)
    name = f'selective_backprop primed + {augment}'
    yield _against('primed', 'cifar', name, 0.05, 'not primed', own, not_primed)
    twice = _cell(runs, 'selective_backprop', 0.1, {'prime': False}, augment=augment)
    yield _against('primed', 'cifar', name, 0.05, 'not primed at 0.1', own, twice)
    yield _against('primed', 'cifar', name, 0.05, 'unif_sgd at 0.1', own, uniform)


def _line(runs) -> pd.DataFrame:
  """What costs are read off: uniform sampling at several budgets, and SGD."""
  values = {**_PLAIN, 'score_every': 1, 'score_size': 0}
  own = compare.pick(runs, selector='unif_sgd', **values)
  return pd.concat([own, compare.pick(runs, selector='sgd', budget=1.0, **values)])


def _methods(runs, where, claim='C') -> Iterator[Comparison]:
  """(C), (D): methods at equal cost, everything charged."""
  own = compare.pick(runs, budget_unit='compute', schedule='linear', augment='standard')
  yield from _charged(own[_saved(own) == ''], _line(runs), claim, where)


def _cheaper(runs) -> Iterator[Comparison]:
  """Staler scores, and scores on small images and by a small network, at equal cost."""
  own = compare.pick(runs, budget_unit='compute')
  yield from _charged(own[_saved(own) != ''], _line(runs), 'cheaper', 'cifar')


def _saved(runs: pd.DataFrame) -> pd.Series:
  """How part D saves on scores in a cell; empty for cells of other parts and sets."""
  found = pd.Series('', runs.index)
  asked = runs['selector'].isin(study.SAVING) & (runs['set'] == 'cifar')
  for saving in study.CHEAPER:
    ((key, value),) = saving.items()
    word = f', every {value} epochs' if key == 'score_every' else f', {value} px'
    found[asked & (runs[key] == value)] += word
  found[runs['selector'] == 'proxy_filter'] = ', a small network'
  return found


def _charged(own, line, claim, where) -> Iterator[Comparison]:
  if own.empty:
    return
  names = own['selector'] + own['options'].map(_core_set) + _saved(own)
  for (name, b), rows in own.groupby([names, own['budget']], sort=False):
    # What fits depends on how many seeds share the runs that come first: the cell of most seeds.
    rows = rows[rows['cell'] == rows['cell'].value_counts().idxmax()]
    pairs = compare.at_equal_cost(rows, line)
    found = compare.measure(claim, where, name, b, 'unif_sgd', rows, pairs)
    # What the choice itself is worth: uniform sampling costs what it trains.
    as_many = compare.at_equal_cost(rows.assign(cost=rows['realised_budget']), line)['other'].mean()
    yield found._replace(every=_between_scores(rows.iloc[0]), as_many=float(as_many))


def _between_scores(run: pd.Series) -> int:
  """Epochs from one scoring pass to the next, by a key or an option of the method."""
  options = json.loads(run['options'])
  return int(max(run['score_every'], options.get('every', 1), options.get('period', 1)))


def _core_set(options: str) -> str:
  """What tells the core-sets of part C apart, from their options."""
  found = json.loads(options)
  if 'choice' not in found or found['choice'] in ('top', None):
    return ''
  return f' ({found["score"]}, {found["choice"]})'
