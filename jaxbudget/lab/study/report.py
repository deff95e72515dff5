"""Makes the study's page, its tables and figures of what was trained; no number is typed.

  python -m jaxbudget.lab.study.report runs/study               # into docs/study and README.md
  python -m jaxbudget.lab.study.report                          # again, of docs/study/results.csv

Runs of several workdirs, and those of before in `results.csv`, are put together.
"""

import argparse
import collections
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import pandas as pd

from jaxbudget.lab import plain
from jaxbudget.lab.run import files, run_state
from jaxbudget.lab.study import claims, compare, families, figures, limits, results, tables, words
from jaxbudget.lab.study.compare import Comparison

COMPARISONS, PAGE = 'comparisons.csv', 'README.md'
_TEMPLATE = pathlib.Path(__file__).with_name('page.md')
_MARKS = ('<!-- study: written by jaxbudget.lab.study.report -->', '<!-- end of study -->')


def main(arguments: Sequence[str] | None = None) -> None:
  """The command, see the head of this module."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('workdirs', nargs='*', type=pathlib.Path)
  parser.add_argument('--out', type=pathlib.Path, default='docs/study')
  parser.add_argument('--readme', type=pathlib.Path, default='README.md')
  parser.add_argument('--commit', default='', help='of the code, where the runs could not know it')
  told = parser.parse_args(arguments)
  fault = _fault(told)
  if fault:
    parser.error(plain.text(fault))
  try:
    if told.workdirs or not (told.out / results.RESULTS).exists():
      gather(told.workdirs, told.out, told.commit)
    runs = results.load(told.out)
    results.check(runs)
    made = compare.table(families.compared(runs))
  except ValueError as e:  # of several studies
    parser.error(plain.text(str(e)))
  files.write_bytes(told.out / COMPARISONS, made.to_csv(index=False, float_format='%.6g').encode())
  comparisons = read_comparisons(told.out)
  for name, svg in figures.draw(runs, comparisons).items():
    files.write_bytes(told.out / name, svg)
  files.write_bytes(told.out / PAGE, page(runs, comparisons).encode())
  before = told.readme.read_text(encoding='utf-8')
  files.write_bytes(told.readme, with_summary(before, runs, comparisons).encode())
  for verdict in claims.verdicts(comparisons):
    print(plain.text(f'({verdict.claim.key}) {verdict.set}: {verdict.verdict}'))


def _fault(told: argparse.Namespace) -> str:
  """Why there can be no page; nothing has been written then."""
  for workdir in told.workdirs:
    states = (run_state.look(directory).name for directory in workdir.glob('runs/*'))
    if run_state.DONE not in states:
      return f'{workdir}: no workdir with a finished run'
  if not told.workdirs and not (told.out / results.RESULTS).exists():
    return f'{told.out / results.RESULTS} is not there yet, and no workdir is named'
  return '' if told.readme.is_file() else f'--readme={told.readme}: no such file'


def gather(workdirs: Sequence[pathlib.Path], out: pathlib.Path, commit: str = '') -> None:
  """Puts the runs of workdirs to those that are there, and writes both tables.

  A run takes the place of one of the same cell, seed and machine, of other code too; that is said.

  Args:
    workdirs: of the launcher.
    out: folder of the tables.
    commit: of the code, where the runs could not know it.

  Raises:
    ValueError: they are runs of several studies; nothing is written then.
  """
  runs, curves = results.read(workdirs, commit)
  if (out / results.RESULTS).exists():
    before = results.load(out), pd.read_csv(out / results.CURVES, dtype={'machine': str})
    _say_replaced(before[0], runs)
    runs = _together(before[0], runs, ['cell', 'seed', 'machine'])
    curves = _together(before[1], curves, ['cell', 'seed', 'machine', 'epoch'])
  runs = runs.sort_values(['part', 'set', 'cell', 'seed', 'machine'])
  results.check(runs)
  results.write(out, runs, curves.sort_values(['cell', 'seed', 'machine', 'epoch']))


def _say_replaced(before: pd.DataFrame, now: pd.DataFrame) -> None:
  """Notes runs of other code that go, while what was compared with them stays."""
  both = before.merge(now, on=['cell', 'seed', 'machine'], suffixes=('', '_now'))
  gone = both[both['commit'] != both['commit_now']]
  for (cell, old, new), own in gone.groupby(['cell', 'commit', 'commit_now']):
    results.tell(f'{cell}: {len(own)} runs of commit {old} give way to those of {new}')


def _together(before: pd.DataFrame, now: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
  parts = [frame for frame in (before, now) if len(frame)]
  return pd.concat(parts).drop_duplicates(keys, keep='last')


def read_comparisons(out: pathlib.Path) -> list[Comparison]:
  """The comparisons that the command wrote: with their digits, so that all that follows agrees."""
  frame = pd.read_csv(out / COMPARISONS, dtype={'claim': str, 'name': str, 'set': str})
  return compare.of_table(frame.fillna({'word': ''}))


def page(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> str:
  """The page, docs/study/README.md.

  Args:
    runs: of `results.load`.
    comparisons: of `read_comparisons`.

  Returns:
    Markdown.
  """
  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters |= {'title': words.title, 'points': words.points}
  environment.globals |= {name: getattr(tables, name) for name in ('evidence', 'counts', 'sets_of')}
  return (
    environment.from_string(_TEMPLATE.read_text(encoding='utf-8')).render(_facts(runs, comparisons))
    + '\n'
  )


def _facts(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> dict[str, Any]:
  """All that the template may name."""
  found = claims.verdicts(comparisons)
  trained = runs[~runs['needed'].astype(bool)]
  machines = runs.groupby(['machine', 'device', 'cpu', 'jax'], sort=False)
  several = trained.groupby('cell')['machine'].nunique()
  by_claim = collections.defaultdict(list)
  for c in comparisons:
    by_claim[c.claim].append(c)
  ranked = sorted((c for c in by_claim['C'] if c.enough), key=lambda c: -c.mean)
  return {
    'claims': claims.CLAIMS.values(),
    'verdicts': found,
    'by_claim': by_claim,
    'ranked': ranked,
    'best': ranked[: max(5, 1 + max((k for k, c in enumerate(ranked) if c.low > 0), default=0))],
    'sentences': words.sentences(comparisons),
    'runs': len(runs),
    'full_trainings': runs['forward_equivalents'].sum() / (3 * 20 * 10_000),
    'machines': [(*key, len(rows)) for key, rows in machines],
    'commits': sorted(set(runs['commit'])),
    'mixed_cells': int((several > 1).sum()),
    'hours': runs[['seconds_compile', 'seconds_train', 'seconds_evaluate']].sum().sum() / 3600,
    'parts': {part: len(rows) for part, rows in runs.groupby('part')},
    'figures': figures.names(comparisons),
    'accuracy': _accuracy(results.once(trained)),
    'titles': figures.TITLES,
    'unfit': tables.unfit(by_claim['C']) if by_claim['C'] else '',
    'untrained': tables.untrained(by_claim['C']) if by_claim['C'] else '',
    'sets': set(runs['set']),
    'unscored': limits.unscored(trained),
    'ordered': limits.ordered(trained),
    'other_commits': limits.other_commits(trained),
  }


def _accuracy(runs: pd.DataFrame) -> list[tuple[str, list[str]]]:
  """Mean accuracy of uniform sampling by budget, a row a set."""
  own = runs[runs['augment'].eq('standard') & runs['schedule'].eq('linear')]
  own = own[own['selector'].isin(('unif_sgd', 'sgd')) & own['budget_unit'].eq('backward')]
  found = []
  for name, rows in own.groupby('set'):
    means = rows.groupby('budget')['final_accuracy'].mean()
    found.append((name, [f'{means[b]:.1f}' if b in means else '' for b in (*claims.BUDGETS, 1.0)]))
  return found


def summary(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> str:
  """What README.md says of the study: a figure and three sentences."""
  told = words.sentences(comparisons)[:3]
  ours = {v.claim.key: v.verdict for v in claims.verdicts(comparisons)}
  seeds = max((c.n for c in comparisons), default=0)
  return '\n\n'.join((
    '![What each method gains over uniform sampling at equal budget](docs/study/methods.svg)',
    ' '.join(told),
    f'A small ResNet on 10,000 images, up to {seeds} paired seeds, {len(runs):,} runs; '
    f'{len(ours)} claims with their verdicts: [the study](docs/study/README.md).',
  ))  # fmt: skip


def with_summary(readme: str, runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> str:
  """README.md with the summary between its marks; unchanged if it has none.

  Args:
    readme: its text.
    runs: of `results.load`.
    comparisons: of `read_comparisons`.

  Returns:
    Its text.
  """
  begin, end = map(re.escape, _MARKS)
  told = summary(runs, comparisons) if comparisons else ''
  block = '\n'.join(filter(None, (_MARKS[0], told, _MARKS[1])))
  return re.sub(f'{begin}.*{end}', lambda _: block, readme, flags=re.S)


if __name__ == '__main__':
  main()
