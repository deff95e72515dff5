"""What was found, in sentences; every number is a field of a comparison."""

import collections
from collections.abc import Iterable, Sequence

from jaxbudget.lab.study import claims, figures
from jaxbudget.lab.study.compare import Comparison

_NAMED = {'selective_backprop': 'Selective Backprop, which is not primed here,'}


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
  """What was found, for readers in a hurry; what says most comes first."""
  found = claims.verdicts([c for c in comparisons if c.enough])
  tellers = {
    'i': _of_methods, 'C': _of_compute, 'D': _of_paying, 'ii': _of_schedules, 'v': _of_backprop,
    'iii': _of_mixing, 'B': _of_released,
  }  # fmt: skip
  told = {key: [teller(v) for v in found if v.claim.key == key] for key, teller in tellers.items()}
  primed = [*map(_of_primed, _primed(comparisons))]
  lost = [_of_losers(v) for v in found if v.claim.key == 'i' and _below(v)]
  rest = [line for key in ('ii', 'v', 'iii') for line in told[key]]
  cheaper = [c for c in comparisons if c.claim == 'cheaper' and c.enough]
  paying = [*told['D'], *_of_cheaper(cheaper)]
  return [*told['i'], *told['C'], *lost, *paying, *primed, *told['B'], *rest]


def _primed(comparisons: Sequence[Comparison]) -> list[Comparison]:
  """Selective Backprop as published, beside uniform sampling that trains on as much."""
  return [
    c for c in comparisons
    if c.claim == 'primed' and c.baseline.startswith('unif_sgd') and c.name.endswith('standard')
    if c.enough
  ]  # fmt: skip


def _of_primed(c: Comparison) -> str:
  return (
    f'Primed, its first epoch on everything as published, Selective Backprop at B = {c.budget:g} '
    f'stands at {c.value:.1f} %, uniform sampling that trains on as much at {c.against:.1f} %: '
    f'{_told(c)}.'
  )


def _of_methods(verdict: claims.Verdict) -> str:
  where, family = title(verdict.set), verdict.family
  above = collections.Counter(c.name for c in family if c.word == 'higher')
  best = max(family, key=lambda c: c.mean)
  said = {
    claims.SUPPORTED: 'no method beat uniform sampling consistently',
    claims.REFUTED: f'{_listed([n for n, k in above.items() if k > 1])} beat uniform sampling',
    claims.OPEN: 'no method is shown to beat uniform sampling consistently',
  }[verdict.verdict]
  others = [c for c in family if c.word == 'higher' and c is not best]
  too = [f'{c.name} at B = {c.budget:g}, {_told(c)}{_spent(c)}' for c in others]
  return (
    f'On {where}, at equal budgets of back-propagated samples, {said}; the best, {best.name} at '
    f'B = {best.budget:g}, came out {_told(best)}{_spent(best)}'
    f'{"; higher too: " + "; ".join(too) if too else ""}.'
  )


def _spent(c: Comparison) -> str:
  """What one of (i) costs more than uniform sampling, which costs B."""
  if c.cost <= 1.01 * c.budget:
    return ', which costs no more' if c.word == 'higher' else ''
  return f', at {100 * c.cost:.0f} % of a full training where that costs {100 * c.budget:g} %'


def _below(verdict: claims.Verdict) -> list[Comparison]:
  return [c for c in verdict.family if c.word == 'lower']


def _of_losers(verdict: claims.Verdict) -> str:
  below = _below(verdict)
  worst = min(below, key=lambda c: c.mean)
  at: dict[str, list[str]] = {}
  for c in below:
    at.setdefault(_NAMED.get(c.name, c.name), []).append(f'{c.budget:g}')
  losers = _listed(f'{name} at B = {_listed(budgets)}' for name, budgets in at.items())
  return (
    f'On {title(verdict.set)}, {losers} lost to uniform sampling, the most at '
    f'B = {worst.budget:g}, {_told(worst)}.'
  )


def _of_compute(verdict: claims.Verdict) -> str:
  family = verdict.family
  seeds, names = max(c.n for c in family), {c.name for c in family}
  above, below = _beside_zero(family)
  where = '; '.join(f'{title(s)}: {_budgets(family, s)}' for s in sorted({c.set for c in family}))
  always = [n for n in names if all(c.low > 0 for c in family if c.name == n)]
  said = {
    claims.SUPPORTED: f'{_listed(always)} gained in every comparison',
    claims.REFUTED: 'no method gained consistently',
    claims.OPEN: 'no method is shown to gain consistently',
  }[verdict.verdict]
  best = max(family, key=lambda c: (c.low > 0, c.mean))
  largest = (
    f'; the largest gain, {best.name} at B = {best.budget:g} on {title(best.set)}, is {_told(best)}'
    if above
    else ''
  )
  return (
    f'Once everything is charged, {said}: of {len(family)} comparisons of {len(names)} methods and '
    f'core-sets at equal compute ({seeds} seeds; {where}), {above} intervals lie above zero and '
    f'{below} below{largest}.'
  )


def _budgets(family: Sequence[Comparison], where: str) -> str:
  there = collections.Counter(c.budget for c in family if c.set == where)
  return ', '.join(f'{count} at B = {b:g}' for b, count in sorted(there.items()))


def _of_paying(verdict: claims.Verdict) -> str:
  best = max(verdict.family, key=lambda c: c.mean)
  said = {
    claims.SUPPORTED: 'choosing pays',
    claims.REFUTED: 'choosing does not pay',
    claims.OPEN: 'choosing is not shown to pay',
  }[verdict.verdict]
  return (
    f'On {title(verdict.set)}, {said} at equal compute: the best, {best.name} at B = '
    f'{best.budget:g}, came out {_told(best)}, corrected p {p_text(best.p_holm)}.'
  )


def _of_cheaper(family: Sequence[Comparison]) -> list[str]:
  """Of scores that cost less; who never scored was uniform sampling, and says nothing of them."""
  scored = [c for c in family if c.cost > 1.001 * c.trained]
  if not scored:
    return []
  above, below = _beside_zero(scored)
  best = max(scored, key=lambda c: c.mean)
  never = len(family) - len(scored)
  return [
    'With scores of every second or fifth epoch only, of smaller images or by a small network, at '
    f'equal compute {above} of {len(scored)} intervals lie above zero and {below} below'
    f'{f" ({never} more never scored)" if never else ""}; the best, {best.name} at '
    f'B = {best.budget:g}, came out {_told(best)}.'
  ]


def _beside_zero(family: Sequence[Comparison]) -> tuple[int, int]:
  """How many intervals lie above and below zero."""
  return sum(c.low > 0 for c in family), sum(c.high < 0 for c in family)


def _of_schedules(verdict: claims.Verdict) -> str:
  family = verdict.family
  said = collections.Counter(c.word for c in family)
  return (
    f'On {title(verdict.set)}, the linear schedule came out higher than the step schedule in '
    f'{said["higher"]} of {len(family)} comparisons and lower in {said["lower"]}; '
    f'{_largest(family)}'
  )


def _of_released(verdict: claims.Verdict) -> str:
  family = verdict.family
  said = collections.Counter(c.word for c in family)
  return (
    f'Of {len(family)} comparisons of the released code with the corrected, {said["lower"]} came '
    f'out lower and {said["higher"]} higher; {_largest(family)}'
  )


def _largest(family: Sequence[Comparison]) -> str:
  most = max(family, key=lambda c: abs(c.mean))
  return f'the largest difference, {most.name} at B = {most.budget:g}, is {_told(most)}.'


def _of_backprop(verdict: claims.Verdict) -> str:
  worst = min(verdict.family, key=lambda c: c.mean)
  return (
    f'Under augmentation on {title(verdict.set)}, {worst.name} at B = {worst.budget:g} stands at '
    f'{worst.value:.1f} %, uniform sampling at {worst.against:.1f} %: {_told(worst)}.'
  )


def _of_mixing(verdict: claims.Verdict) -> str:
  (c,) = verdict.family
  said = {
    claims.SUPPORTED: 'reaches', claims.REFUTED: 'does not reach',
    claims.OPEN: 'is not shown to reach',
  }[verdict.verdict]  # fmt: skip
  return (
    f'With so few steps RICAP at B = {c.budget:g} {said} full SGD without it: {c.value:.1f} % and '
    f'{c.against:.1f} %, {_told(c)}.'
  )


def _listed(names: Iterable[str]) -> str:
  return ' and '.join(sorted(names))


def points(value: float, digits: int = 2) -> str:
  """A difference with its sign."""
  return f'{value:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')


def interval(c: Comparison) -> str:
  """An interval, with the digits that its unit wants."""
  digits = 4 if c.claim == 'vi' else 2
  return f'{c.low:+.{digits}f} to {c.high:+.{digits}f}'.replace('-', '\N{MINUS SIGN}')


def p_text(p: float) -> str:
  """A p, empty where there is none."""
  return '' if p != p else f'{p:.3f}' if p >= 0.001 else '< .001'


def title(name: str) -> str:
  """A set in words."""
  return figures.TITLES.get(name, name)


def _told(c: Comparison) -> str:
  """A difference in words, with its interval."""
  where = 'above' if c.mean >= 0 else 'below'
  return f'{abs(c.mean):.1f} points {where} (95 % interval {interval(c)})'
