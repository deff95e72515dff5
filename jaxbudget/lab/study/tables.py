"""Comparisons and verdicts of the study as tables in Markdown."""

import collections
import math
from collections.abc import Sequence

from jaxbudget.lab.study import claims, words
from jaxbudget.lab.study.compare import Comparison

_AT_EQUAL_COST = ('C', 'D', 'cheaper')  # claims that show what choosing left to train on
_SPENT = ('i', *_AT_EQUAL_COST)  # and those that show what was spent
_BY_INTERVAL = ('v', 'C')  # claims whose rules ask for intervals


def counts(verdict: claims.Verdict) -> str:
  """Of how many comparisons each word is said; cells of a row."""
  family = verdict.family
  said = collections.Counter(c.word for c in family)
  found = [said[word] for word in ('higher', 'lower', 'equal', 'open')]
  if verdict.claim.key in _BY_INTERVAL:
    found = [said['above'], said['below'], '', '']
  return ' | '.join(map(str, found))


def evidence(family: Sequence[Comparison]) -> str:
  """Comparisons as a table in Markdown."""
  unit = 'nats' if family[0].claim == 'vi' else 'points'
  charged, spent = (family[0].claim in claims for claims in (_AT_EQUAL_COST, _SPENT))
  told = f'{" scores every |" * charged}{" spent, % |" * spent}'
  told += ' trained, % | uniform that trains on as many |' * charged
  lines = [
    f'| what | B |{told} minus | mean | {unit} | 95 % interval | p | Holm | seeds | |',
    f'|---|---:|{"---:|" * (3 * charged + spent)}---|---:|---:|---|---:|---:|---:|---|',
  ]
  several = len({c.set for c in family}) > 1
  for c in family:
    where = f' on {words.title(c.set)}' if several else ''
    digits = 4 if unit == 'nats' else 2
    as_many = '' if math.isnan(c.as_many) else f'{c.as_many:.1f}'
    share = f' {_epochs(c.every)} |' * charged + f' {100 * c.cost:.3g} |' * spent
    share += f' {100 * c.trained:.2g} | {as_many} |' * charged
    found = f'{c.value:.{digits}f} | {words.points(c.mean, digits)} | {words.interval(c)}'
    lines.append(
      f'| {c.name}{where} | {c.budget:g} |{share} {c.baseline} | {found} | {words.p_text(c.p)} '
      f'| {words.p_text(c.p_holm)} | {c.n} | {c.word} |'
    )
  return '\n'.join(lines)


def _epochs(every: int) -> str:
  return '' if every == 1 else f'{every} epochs'


def sets_of(verdict: claims.Verdict) -> str:
  """The sets that a verdict is about, in words: of (C) those on which anything was trained."""
  there = dict.fromkeys(c.set for c in verdict.family)
  return ' and '.join(words.title(name) for name in there)


def unfit(family: Sequence[Comparison]) -> str:
  """Methods of part C that fit on no set at a budget at which nearly all others were trained."""
  always = set.intersection(*(set(_missing(family, where)) for where in _sets(family)))
  return ', '.join(f'{name} at B = {b:g}' for b, name in sorted(always))


def untrained(family: Sequence[Comparison]) -> str:
  """Methods that are missing on one set alone: they fit, and nobody trained them there."""
  missing = {where: set(_missing(family, where)) for where in _sets(family)}
  always = set.intersection(*missing.values())
  return ', '.join(
    f'{name} at B = {b:g} on {words.title(where)}'
    for where, own in missing.items()
    for b, name in sorted(own - always)
  )


def _sets(family):
  return sorted({c.set for c in family})


def _missing(family, where):
  """(B, method) without a comparison on a set, at budgets at which most methods have one there."""
  everybody = {c.name for c in family}
  for b in claims.EQUAL_COST:
    there = {c.name for c in family if (c.set, c.budget) == (where, b)}
    if len(there) > 0.9 * len(everybody):
      yield from ((b, name) for name in everybody - there)
