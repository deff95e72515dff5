"""The claims of docs/study/protocol.md: what is compared for each, and what decides it.

`compared` makes the comparisons of every claim from the runs; `VERDICTS` reads a verdict off them.
The rules are those of the protocol, word by word, and were written before the first run.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from jaxbudget.lab.configs import study
from jaxbudget.lab.study import compare
from jaxbudget.lab.study.compare import ENTROPY_MARGIN, FEWEST, MARGIN, Comparison

SUPPORTED, REFUTED, OPEN = 'supported', 'refuted', 'cannot tell'
BUDGETS = (0.05, 0.1, 0.3)
EQUAL_COST = (0.1, 0.3)
AUGMENTS = ('ricap', 'mixup', 'randaugment')
METHODS = ('p_sgd', 'c_sgd', 'selective_backprop', 'scan_sgd', 'ordered_sgd')
COLLAPSE = 5.0  # points
_UNPRIMED = {'prime': False}
_RAW = {'smoothing': False, 'average': False}
_FULL = {'smoothing': True, 'average': True}
_PLAIN = {'augment': 'standard', 'schedule': 'linear', 'budget_unit': 'backward'}


class Claim(NamedTuple):
  """A claim.

  Attributes:
    key: by which comparisons name it.
    title: as the page says it.
    sets: of images that it is asked of.
    verdict: reads it off the comparisons of one set.
    whole: how many comparisons a set has when all is trained; 0 where that depends on what fits.
  """

  key: str
  title: str
  sets: tuple[str, ...]
  verdict: Callable[[Sequence[Comparison]], str]
  whole: int = 0


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
        found += compare.judge(_filled(family(own, name)), margin)
    found += compare.judge(_filled(_methods(own, name)), correct=False)
  cifar = runs[runs['set'] == 'cifar']
  found += compare.judge(_filled(_released(cifar)))
  found += compare.judge(_filled(_primed(cifar)))
  for name in ('cifar_noise', 'cifar_tail'):
    found += compare.judge(_filled(_methods(runs[runs['set'] == name], name, 'D')))
  found += compare.judge(_filled(_cheaper(cifar)), correct=False)
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
  return compare.pick(runs, options, selector=selector, budget=float(budget), **values)


_SWITCHED = ('p_sgd', 'c_sgd', 'selective_backprop')


def _against(claim, where, name, budget, baseline, own, other, column='final_accuracy'):
  pairs = compare.paired(own, other, column)
  return compare.measure(claim, where, name, budget, baseline, pairs, own['cost'].mean())


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

  Of 20 epochs it makes B = .05 into .0975: uniform sampling at B = .1 spends as much.
  """
  for augment in ('standard', *AUGMENTS):
    own, not_primed = (
      _cell(runs, 'selective_backprop', 0.05, {'prime': prime}, augment=augment)
      for prime in (True, False)
    )
    uniform = _cell(runs, 'unif_sgd', 0.1, augment=augment)
    name = f'selective_backprop primed + {augment}'
    yield _against('primed', 'cifar', name, 0.05, 'not primed', own, not_primed)
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
  """Staler scores, and scores on small images, at equal cost."""
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
  return found


def _charged(own, line, claim, where) -> Iterator[Comparison]:
  if own.empty:
    return
  names = own['selector'] + own['options'].map(_core_set) + _saved(own)
  for (name, b), rows in own.groupby([names, own['budget']], sort=False):
    pairs = compare.at_equal_cost(rows, line)
    yield compare.measure(claim, where, name, b, 'unif_sgd', pairs, rows['cost'].mean())


def _core_set(options: str) -> str:
  """What tells the core-sets of part C apart, from their options."""
  found = json.loads(options)
  if 'choice' not in found or found['choice'] in ('top', None):
    return ''
  return f' ({found["score"]}, {found["choice"]})'


def _words(family: Sequence[Comparison], *words: str) -> int:
  return sum(c.word in words for c in family)


def _by_name(family: Sequence[Comparison]) -> dict[str, list[Comparison]]:
  found: dict[str, list[Comparison]] = {}
  for c in family:
    found.setdefault(c.name, []).append(c)
  return found


def _whole(family: Sequence[Comparison], count: int) -> bool:
  """Whether a family has all its comparisons, with seeds enough."""
  return len(family) == count and not _words(family, 'too few seeds')


def no_method_beats(family: Sequence[Comparison]) -> str:
  """(i)."""
  methods = _by_name(family).values()
  if any(_words(own, 'higher') >= 2 and not _words(own, 'lower') for own in methods):
    return REFUTED
  bounded = all(sum(c.high < MARGIN for c in own) >= 2 for own in methods)
  whole = _whole(family, len(METHODS) * len(BUDGETS))
  return SUPPORTED if bounded and whole else OPEN


def linear_beats_step(family: Sequence[Comparison]) -> str:
  """(ii)."""
  if _words(family, 'higher') >= 8 and not _words(family, 'lower'):
    return SUPPORTED
  return REFUTED if _words(family, 'lower', 'equal') >= 3 else OPEN


def ricap_reaches_full(family: Sequence[Comparison]) -> str:
  """(iii)."""
  if not _whole(family, 1):
    return OPEN
  return SUPPORTED if family[0].low > -MARGIN else REFUTED if family[0].high < -MARGIN else OPEN


def mixing_hurts(family: Sequence[Comparison]) -> str:
  """(iv)."""
  if _words(family, 'higher', 'equal'):
    return REFUTED
  return SUPPORTED if _words(family, 'lower') == 2 else OPEN


def backprop_collapses(family: Sequence[Comparison]) -> str:
  """(v)."""
  if not _whole(family, 2 * len(AUGMENTS)):
    return OPEN
  if all(c.high < -COLLAPSE for c in family):
    return SUPPORTED
  return REFUTED if 2 * sum(c.low > -COLLAPSE for c in family) >= len(family) else OPEN


def entropy_rises(family: Sequence[Comparison]) -> str:
  """(vi)."""
  if _words(family, 'lower', 'equal'):
    return REFUTED
  return SUPPORTED if _words(family, 'higher') == 4 else OPEN


def is_artefact(family: Sequence[Comparison]) -> str:
  """(B), of Selective Backprop under RICAP."""
  own = [c for c in family if c.name == 'selective_backprop + ricap']
  if _words(own, 'lower') >= 2:
    return SUPPORTED
  return REFUTED if _words(own, 'higher', 'equal') >= 2 else OPEN


def something_beats(family: Sequence[Comparison]) -> str:
  """(C), over both sets."""
  methods = [own for own in _by_name(family).values() if all(c.n >= FEWEST for c in own)]
  full = [own for own in methods if len(own) == 2 * len(EQUAL_COST)]
  if any(all(c.low > 0 for c in own) for own in full):
    return SUPPORTED
  sets = {c.set for c in family}
  below = all(sum(c.high < MARGIN for c in own) >= 2 for own in methods)
  return REFUTED if methods and below and len(sets) == 2 else OPEN


def choosing_pays(family: Sequence[Comparison]) -> str:
  """(D), on one set."""
  methods = _by_name(family).values()
  if any(_words(own, 'higher') == len(own) for own in methods):
    return SUPPORTED
  none = not _words(family, 'higher', 'too few seeds') and all(c.high < MARGIN for c in family)
  return REFUTED if family and none else OPEN


_BOTH, _CIFAR = ('cifar', 'fashion'), ('cifar',)
CLAIMS = {
  claim.key: claim
  for claim in (
    Claim('i', 'No method beats uniform sampling consistently at equal budget', _BOTH,
          no_method_beats, 15),
    Claim('ii', 'The linear schedule beats the step schedule for nearly all', _BOTH,
          linear_beats_step, 10),
    Claim('iii', 'Uniform sampling with RICAP at B = .3 reaches full SGD without it', _CIFAR,
          ricap_reaches_full, 1),
    Claim('iv', 'RICAP and mixup hurt at B = .05', _CIFAR, mixing_hurts, 2),
    Claim('v', 'Selective Backprop collapses under augmentation at small B', _BOTH,
          backprop_collapses, 6),
    Claim('vi', 'The entropy H(c) rises in the order of Figure 1 (c)', _CIFAR, entropy_rises, 4),
    Claim('B', 'The collapse of Selective Backprop under RICAP is in part an artefact of the '
          'released code', _CIFAR, is_artefact, 15),
    Claim('C', 'Some method beats uniform sampling at equal compute, all passes charged', _BOTH,
          something_beats),
    Claim('D', 'Choosing pays with wrong labels; with a long tail', ('cifar_noise', 'cifar_tail'),
          choosing_pays),
  )
}  # fmt: skip


class Verdict(NamedTuple):
  """What the study says of a claim on a set; of (C), which asks both sets at once, on both."""

  claim: Claim
  set: str
  verdict: str
  family: tuple[Comparison, ...]


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
  """Reads all verdicts off comparisons; claims of which nothing was trained are left out.

  Args:
    comparisons: of `compared`.

  Returns:
    A verdict for each claim and set.
  """
  found = []
  for claim in CLAIMS.values():
    own = [c for c in comparisons if c.claim == claim.key]
    for name in ['cifar + fashion'] if claim.key == 'C' else claim.sets:
      family = [c for c in own if claim.key == 'C' or c.set == name]
      if family:
        found.append(Verdict(claim, name, claim.verdict(family), tuple(family)))
  return found
