"""The claims of docs/study/protocol.md, and the rules that read a verdict off comparisons.

The rules are those of the protocol, word by word, and were written before the first run. What they
say of all methods of a part they say only when all are there: what was not trained, or has too few
seeds, is no method that did not fit.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxbudget.lab.configs import methods as every_method
from jaxbudget.lab.configs import study
from jaxbudget.lab.study.compare import MARGIN, Comparison

SUPPORTED, REFUTED, OPEN = 'supported', 'refuted', 'cannot tell'
BUDGETS = (0.05, 0.1, 0.3)
EQUAL_COST = (0.1, 0.3)
AUGMENTS = ('ricap', 'mixup', 'randaugment')
METHODS = ('p_sgd', 'c_sgd', 'selective_backprop', 'scan_sgd', 'ordered_sgd')
COLLAPSE = 5.0  # points
# Part C has all methods beside uniform sampling, and core-sets more; of these and of part D all fit
# at both budgets, but RHO at the larger alone.
_OF_C = len(every_method.METHODS) - 1 + len(study.CORESETS)
_OF_D = {(name, b) for name in study.PAYING for b in EQUAL_COST} - {('rho_loss', EQUAL_COST[0])}


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


def _words(family: Sequence[Comparison], *words: str) -> int:
  return sum(c.word in words for c in family)


def _by_name(family: Iterable[Comparison]) -> dict[str, list[Comparison]]:
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
  methods = _by_name(c for c in family if c.enough).values()
  full = [own for own in methods if len(own) == 2 * len(EQUAL_COST)]
  if any(all(c.low > 0 for c in own) for own in full):
    return SUPPORTED
  sets = {c.set for c in family if c.enough}
  below = all(sum(c.high < MARGIN for c in own) >= 2 for own in methods)
  return REFUTED if len(methods) >= _OF_C and below and len(sets) == 2 else OPEN


def choosing_pays(family: Sequence[Comparison]) -> str:
  """(D), on one set."""
  there = {(c.name, c.budget) for c in family if c.enough}
  for name, own in _by_name(family).items():
    asked = {pair for pair in _OF_D if pair[0] == name}
    if asked <= there and _words(own, 'higher') == len(own):
      return SUPPORTED
  none = not _words(family, 'higher', 'too few seeds') and all(c.high < MARGIN for c in family)
  return REFUTED if there >= _OF_D and none else OPEN


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
    comparisons: of `families.compared`.

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
