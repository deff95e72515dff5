"""The paper's own numbers, read at equal compute: no training, a second of work.

Every cell of Tables 2, 3, 4 and 6 is set against uniform sampling *at the same cost*.
Selective Backprop looks at every image before it chooses, so its budget B costs B + 1/3 of a
full training run; what unif-SGD reaches for that price is interpolated between its budgets,
with plain SGD as budget 1. The standard errors of all means involved are carried along.

    python examples/equal_compute_paper.py [figure.png]
"""

import sys

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jaxbudget.lab.paper import printed
from jaxbudget.lab.report import picture

SETTING = 'augmentation == "standard" and schedule == "linear"'


def main(figure: str | None = None) -> None:
  """Prints Selective Backprop's differences, and draws them if a file name is given."""
  found = printed.equal_compute().query(f'method == "SB" and {SETTING}')
  table = Table(title='Selective Backprop against unif-SGD at the same cost (points)')
  for name in ('dataset', 'budget', 'cost', 'SB', 'unif-SGD there', 'difference', '95% interval'):
    table.add_column(name, justify='left' if name == 'dataset' else 'right')
  for row in found.itertuples():
    table.add_row(
      row.dataset,
      f'{row.budget:g}',
      f'{row.cost:.2f}',
      f'{row.accuracy:.2f}',
      f'{row.baseline:.2f}',
      f'{row.difference:+.2f} ± {row.se:.2f}',
      f'{row.low:+.2f} to {row.high:+.2f}',
    )
  Console(width=100).print(table)
  usual = found[found['budget'] >= 0.2].groupby('dataset', sort=False)['difference']
  for dataset, differences in usual:
    ties = differences.abs().max() < 0.3  # the noise of 10,000 test images at 94 %
    verdict = 'ties with' if ties else 'is below' if differences.max() < 0 else 'is mixed against'
    values = ', '.join(f'{d:+.2f}' for d in differences)
    print(f'{dataset}: SB {verdict} uniform sampling at B = .2, .3, .5 ({values})')
  if figure:
    draw(figure)


def draw(path: str) -> None:
  """Accuracy on CIFAR-100 against the budget as printed and against the cost as charged."""
  accuracy = printed.results().query(f'table == 2 and {SETTING} and dataset == "cifar100"')
  with picture.settings():
    canvas = Figure(figsize=(5.6, 3.9), layout='constrained')
    ax = canvas.subplots()
    base = accuracy[accuracy['method'].isin(['unif-SGD', 'SGD'])].sort_values('budget')
    ax.errorbar(base['budget'], base['mean'], base['std'], color='black', marker='o', capsize=2,
                label='unif-SGD, SGD')  # fmt: skip
    sb = accuracy[accuracy['method'] == 'SB']
    ax.plot(sb['budget'], sb['mean'], color='#D55E00', marker='^', linestyle=':', fillstyle='none',
            label='SB at its budget')  # fmt: skip
    ax.errorbar(sb['budget'] + 1 / 3, sb['mean'], sb['std'], color='#D55E00', marker='^',
                capsize=2, linestyle='--', label='SB at its cost')  # fmt: skip
    ax.set(xlabel='cost (full runs of SGD = 1)', ylabel='test accuracy (%)', title='CIFAR-100')
    ax.legend()
    canvas.savefig(path)
  print(f'figure: {path}')


if __name__ == '__main__':
  main(*sys.argv[1:])
