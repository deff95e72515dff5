"""The answer in one sentence, and the sentence that says why one may believe it."""

import pandas as pd

from jaxbudget.report.load import Workdir


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
  where = _where(known)
  tested = known[known['verdict'].ne('')]
  better, worse = (tested[tested['verdict'] == word] for word in ('better', 'worse'))
  if len(better) or len(worse):
    parts = [f'{_tally(better)} better' if len(better) else 'no method better']
    parts += [f'{_tally(worse)} worse'] if len(worse) else []
    sentence = f'At equal compute{where}: {" and ".join(parts)} than uniform sampling.'
  else:
    sentence = f'No method is shown to beat uniform sampling at equal compute{where}.'
    if len(tested) and (tested['verdict'] == 'too few seeds').all():
      sentence = (
        f'Too few seeds to tell: no method can be shown to beat uniform sampling at equal '
        f'compute{where}.'
      )
  return sentence, ' '.join(_evidence(compared, known, tested))


def status(workdir: Workdir) -> str:
  """How many runs there are and what is not finished, in one line."""
  counts = workdir.runs['status'].value_counts()
  text = f'{counts.get("done", 0)} of {len(workdir.runs)} planned runs have finished'
  others = [f'{n} {name}' for name, n in counts.items() if name != 'done']
  return text + (f' ({", ".join(others)})' if others else '') + '.'


def _nothing_yet(workdir: Workdir, compared: pd.DataFrame) -> tuple[str, str]:
  reasons = compared['reason'].value_counts()
  why = '; '.join(f'{n} × {reason}' for reason, n in reasons.head(3).items() if reason)
  if compared.empty:
    why = 'the plan has no method to compare with unif_sgd'
  return 'There is no comparison at equal compute yet.', f'Why: {why}.' if why else ''


def _where(known: pd.DataFrame) -> str:
  datasets = list(dict.fromkeys(known['dataset']))
  return f' on {", ".join(datasets[:4])}' + (' and others' if len(datasets) > 4 else '')


def _tally(rows: pd.DataFrame) -> str:
  """`p_sgd in 2 and c_sgd in 1 comparisons`, most often first."""
  counts = rows['method'].value_counts()
  texts = [f'{method} in {n}' for method, n in counts.items()]
  return ' and '.join(', '.join(texts).rsplit(', ', 1)) + ' comparison' + 's' * (counts.sum() > 1)


def _evidence(compared, known, tested) -> list[str]:
  best, worst = (known.loc[known['mean'].astype(float).agg(f)] for f in ('idxmax', 'idxmin'))
  sentences = [f'Largest gain: {_row(best)}; largest loss: {_row(worst)}.']
  if len(known) == 1:
    sentences = [f'{_row(best)}.']
  if len(tested):
    seeds = sorted({int(n) for n in tested['n']})
    apart = (tested['low'] > 0) | (tested['high'] < 0)
    smallest = tested['p_smallest'].min()
    sentences.append(
      f'{int(apart.sum())} of {len(tested)} 95 % intervals exclude zero, before any correction '
      f'for their number; with {" or ".join(map(str, seeds))} seeds the exact test cannot give '
      f'p below {smallest:.3g} ({min(1, smallest * len(tested)):.3g} after Holm).'
    )
  else:
    sentences.append('With one seed there is neither interval nor test.')
  floor = known['floor'].astype(float)
  if floor.notna().any():
    sentences.append(
      f'The test set alone is good for ± {floor.median():.2f} points (one standard error).'
    )
  left = compared[compared['state'].ne('')]
  if len(left):
    counts = left['state'].value_counts()
    sentences.append(
      'Not compared: ' + ', '.join(f'{n} {state}' for state, n in counts.items()) + '.'
    )
  return sentences


def _row(row: pd.Series) -> str:
  text = f'{row["method"]} at budget {row["budget"]:g} (cost {row["cost"]:.2f}) {row["mean"]:+.2f}'
  if pd.isna(row['low']):
    return f'{text} points'
  return f'{text} points, 95 % interval {row["low"]:+.2f} to {row["high"]:+.2f}'
