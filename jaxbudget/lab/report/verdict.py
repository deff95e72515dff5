"""The answer in one sentence, and the sentence that says why one may believe it."""

from collections.abc import Sequence

import pandas as pd

from jaxbudget.lab.report import cells, layout, render
from jaxbudget.lab.report.load import Workdir

_NAMED = 6  # in one sentence
_WHY = {
  'outside': 'that cost less or more than any unif_sgd or sgd run (nothing is extrapolated)',
  'missing': (
    'whose runs or baseline have not finished, have no known score or cost, or share no seed'
  ),
  'refused': 'that differ from the baseline in more than the method',
}


def verdict(workdir: Workdir, compared: pd.DataFrame) -> tuple[str, str]:
  """Says what the workdir shows at equal compute, and no more than it can show.

  Args:
    workdir: a loaded workdir.
    compared: of `frontier.equal_compute`.

  Returns:
    (the sentence, its evidence).
  """
  known = compared[compared['state'].eq('')]
  if known.empty:
    return _nothing_yet(workdir, compared)
  tested = known[known['verdict'].ne('')]
  words = {word: _often(tested[tested['verdict'] == word], tested) for word in ('better', 'worse')}
  where = f'At equal compute on {_datasets(known)}'
  better, worse = words['better'], words['worse']
  if better or worse:
    best = (
      f'better than uniform sampling: {better}' if better else 'no method beats uniform sampling'
    )
    sentence = f'{where}, {best}{f"; worse: {worse}" if worse else ""}.'
  elif (tested['verdict'] == 'too few seeds').all():
    seeds = int(known['n'].max())
    sentence = (
      f'{where}, {seeds} seed{"s" * (seeds > 1)} cannot tell: no method is shown to beat uniform '
      'sampling.'
    )
  else:
    sentence = f'{where}, no method is shown to beat uniform sampling.'
  return sentence, ' '.join(_evidence(compared, known, tested))


def status(workdir: Workdir, allow: Sequence[str] = ()) -> str:
  """How many runs there are, what is not finished and which locks are open, in one line."""
  counts = workdir.runs['status'].value_counts()
  text = f'{counts.get("done", 0)} of {len(workdir.runs)} planned runs have finished'
  others = [f'{n} {name}' for name, n in counts.items() if name != 'done']
  text += (f' ({", ".join(others)})' if others else '') + '.'
  return text + (f' Compared in spite of differences in: {", ".join(allow)}.' if allow else '')


def _nothing_yet(workdir: Workdir, compared: pd.DataFrame) -> tuple[str, str]:
  reasons = compared['reason'].value_counts()
  why = '; '.join(f'{n} × {reason}' for reason, n in reasons.head(3).items() if reason)
  if compared.empty:
    why = 'the plan has no method to compare with unif_sgd'
  return 'There is no comparison at equal compute yet.', f'Why: {why}.' if why else ''


def _datasets(known: pd.DataFrame) -> str:
  names = list(dict.fromkeys(known['dataset']))
  return ', '.join(names[:4]) + (' and others' if len(names) > 4 else '')


def _often(rows: pd.DataFrame, tested: pd.DataFrame) -> str:
  """`p_sgd (1 of 2)`: the methods of some rows, and how many of their comparisons these are.

  Where there are several data sets, each method says on which: `p_sgd on svhn (1 of 2)`.
  """
  keys = ['method', 'dataset'] if tested['dataset'].nunique() > 1 else ['method']
  of, counts = tested[keys].value_counts(), rows[keys].value_counts()
  words = [f'{" on ".join(key)} ({n} of {of[key]})' for key, n in counts.items()]
  more = f' and {len(words) - _NAMED} others' if len(words) > _NAMED else ''
  return ', '.join(words[:_NAMED]) + more


def _evidence(compared, known, tested) -> list[str]:
  best, worst = (known.loc[known['mean'].astype(float).agg(f)] for f in ('idxmax', 'idxmin'))
  where = [name for name in cells.SETTING if known[name].nunique() > 1]
  sentences = [f'Best difference: {_row(best, where)}. Worst: {_row(worst, where)}.']
  if len(known) == 1:
    sentences = [f'The one difference: {_row(best, where)}.']
  if len(tested):
    seeds = ' or '.join(str(int(n)) for n in sorted(set(tested['n'])))
    smallest, count = tested['p_smallest'].min(), len(tested)
    above, below = tested[tested['low'] > 0], tested[tested['high'] < 0]
    sentences.append(
      'Taken one by one, 95% intervals lie above zero for '
      f'{_often(above, tested) or "none"} and below it for {_often(below, tested) or "none"}; '
      f'with {seeds} seeds the exact test can give p down to {smallest:.3g} '
      f'({min(1, smallest * count):.3g} after Holm over {count} comparisons).'
    )
  else:
    sentences.append('With one seed there is neither interval nor test.')
  floor = known['floor'].astype(float)
  if floor.notna().any():
    span = render.span(floor.min(), floor.max(), '.2f')
    sentences.append(f'Noise of the test set alone: ± {span} points (one SE).')
  counts = compared.loc[compared['state'].ne(''), 'state'].value_counts()
  if len(counts):
    words = ', '.join(f'{n} {_WHY.get(state, state)}' for state, n in counts.items())
    sentences.append(f'Not compared: {words}.')
  return sentences


def _row(row: pd.Series, where: Sequence[str]) -> str:
  """A comparison in words, with all that tells it from the others."""
  place = f' on {", ".join(row[list(where)])}' if where else ''
  text = f'{row["method"]} at budget {layout.plain(row["budget"])}{place} (cost {row["cost"]:.2f})'
  text = f'{text} {render.signed(row["mean"])} points'
  if pd.isna(row['low']):
    return text
  return f'{text}, 95% interval {render.interval(row["low"], row["high"])}'
