"""The study on real images: does anything beat uniform sampling at equal compute?

  python -m jaxbudget.lab.study.images cifar10 cifar-10-binary.tar.gz data/study
  python -m jaxbudget.lab.study.images fashion /usr/share/datasets/fashion-mnist data/study
  jaxbudget --config=study:part=A --workdir=runs/study_a

Four parts, as docs/study/protocol.md lays down: A the paper's claims, B what the released code's
slips are worth, C all methods at equal compute, D where selection may pay (wrong labels, a long
tail, stale scores, scores on small images and by a small network). CIFAR-10 at 16 x 16, A and C
also Fashion-MNIST at 14 x 14, N = 10,000, resnet8 of width 16, T = 20 epochs in batches of 100.

`data=` is the folder of the npz files, `sets=cifar` or `sets=fashion` one of the two. Any other key
goes behind the colon. What was found: docs/study/README.md.

Cost in full trainings (3TN forward equivalents): A 104 cells x 10 seeds, 302; B 18 cells beside
those of A x 10, 57; C 160 cells x 6, 191; D 63 cells x 10, 140.
"""

import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxbudget import registry
from jaxbudget.lab import config, equal_compute, plain
from jaxbudget.lab.configs import methods

PARTS = ('A', 'B', 'C', 'D')
SETS = ('cifar', 'fashion')
BUDGETS = (0.05, 0.1, 0.3)
MIXED = ('ricap', 'mixup', 'randaugment')
COMMON = {
  'model': 'resnet8',
  'model_options': {'width': 16, 'bn_running_var': 'biased'},
  'epochs': 20,
  'batch_size': 100,
  'evaluate_every': 5,
}
SEEDS = {'A': 10, 'B': 10, 'C': 6, 'D': 10}
# Core-sets worth their cost: balanced ones need no scores, others share one scoring run.
CORESETS = (
  {'score': 'none', 'choice': 'random', 'quota': 'proportional'},
  {'score': 'forgetting', 'choice': 'strata', 'cutoff': 0.1},
)
PAYING = ('p_sgd', 'selective_backprop', 'rho_loss', 'infobatch', 'gradient_bound', 'rs2')
# Whose forward passes may be saved, and how.
SAVING = ('selective_backprop', 'rho_loss', 'gradient_bound')
CHEAPER = ({'score_every': 2}, {'score_every': 5}, {'score_size': 8})
# A network that scores for a tenth of what the trained one would; its rate goes with the batch.
PROXY = {'proxy': 'airbench_proxy', 'width': 4, 'learning_rate': 9 / 7850.67 * 100}
_EQUAL = (0.1, 0.3)  # budgets of compute
_LINE = (0.05, 0.08, 0.1, 0.2, 0.3, 0.5)  # budgets of uniform sampling, whole batches all
# The first epoch of Selective Backprop trains on everything, beyond its budget: of 20 epochs that
# would nearly double B = .05. The study keeps to the budget; part B trains both.
_UNPRIMED = {'selector_options': {'prime': False}}
_RAW = {'smoothing': False, 'average': False}


def get_config(arg: str | None = None):
  """Reads `part`, `data`, `sets` and `key=value,...` for all cells."""
  values = config.parse_arg(arg)
  part = values.pop('part', 'A')
  registry.check('part', part, PARTS)
  folder = pathlib.PurePath(str(values.pop('data', 'data/study')))
  sets = str(values.pop('sets', '+'.join(SETS))).split('+')
  for name in sets:
    registry.check('set', name, SETS)
  if not pathlib.Path(folder).expanduser().is_dir():
    _note(f'there is no folder {folder}: python -m jaxbudget.lab.study.images makes the sets')
  common = {**COMMON, 'name': f'study_{part.lower()}', 'seeds': SEEDS[part], **values}
  cells = _CELLS[part](folder, sets, common)
  return config.defaults(**{**common, 'grid': tuple(cells)})


def _on(folder: pathlib.PurePath, name: str) -> dict[str, Any]:
  """The keys of a set: photographs are mirrored, clothes and shoes are not."""
  flip = 0.0 if name == 'fashion' else 0.5
  return {'dataset': f'npz:{folder / name}.npz', 'dataset_options': {'flip': flip}}


def _cells_a(folder, sets, common) -> Iterator[dict[str, Any]]:
  """The paper's claims; what decides most comes first."""
  del common
  for name in sets:
    where = _on(folder, name)
    yield from _with(where, _standard())
    if name == 'cifar':
      yield from _with(where, _entropy())
      for augment in MIXED:
        yield from _with(where | {'augment': augment}, _compared())
  for name in sets:
    yield from _with(_on(folder, name) | {'schedule': 'step'}, _compared())
  if 'fashion' in sets:
    for augment in MIXED:
      cells = _compared(('unif_sgd', 'selective_backprop'), BUDGETS[:2])
      yield from _with(_on(folder, 'fashion') | {'augment': augment}, cells[1:])


def _cells_b(folder, sets, common) -> Iterator[dict[str, Any]]:
  """The released code beside the corrected, and Selective Backprop primed as published."""
  del sets, common
  where = _on(folder, 'cifar')
  for preset in ('released', 'corrected'):
    for budget in BUDGETS:
      yield from _with(where | {'fidelity': preset}, [{'selector': 'c_sgd', 'budget': budget}])
      for augment in ('ricap', 'mixup'):
        cells = _compared(('p_sgd', 'selective_backprop'), [budget])[1:]
        yield from _with(where | {'fidelity': preset, 'augment': augment}, cells)
  for augment in ('standard', *MIXED):
    primed = {'selector': 'selective_backprop', 'budget': BUDGETS[0]}
    for cell in (primed, primed | _UNPRIMED, {'selector': 'unif_sgd', 'budget': BUDGETS[1]}):
      yield {**where, 'augment': augment, **cell}


def _cells_c(folder, sets, common) -> Iterator[dict[str, Any]]:
  """Every method at equal compute, all passes charged."""
  for name in sets:
    where = _on(folder, name)
    yield from _fitted([m for m in methods.METHODS if m != 'unif_sgd'], where, common)
    for options in CORESETS:
      yield from _fitted(['coreset'], where | {'selector_options': options}, common)
    yield from _line(where)


def _cells_d(folder, sets, common) -> Iterator[dict[str, Any]]:
  """Wrong labels, a long tail; on the plain set staler and cheaper scores, and a proxy's."""
  del sets
  for name in ('cifar_noise', 'cifar_tail'):
    where = _on(folder, name)
    yield from _fitted(PAYING, where, common)
    yield from _line(where)
  where = _on(folder, 'cifar')
  yield from _line(where)
  for selector in SAVING:
    for cheaper in CHEAPER:
      fitted = _fitted([selector], where | cheaper, common, told=False)
      # What needs more than was asked to fit is a cell of part C, or none of the study.
      yield from [cell for cell in fitted if cheaper.items() <= cell.items()]
  yield from _fitted(['proxy_filter'], where | {'selector_options': PROXY}, common)


def _standard() -> list[dict[str, Any]]:
  """Every method of the paper, with the linear schedule and the standard augmentation."""
  return _compared(
    ('unif_sgd', 'p_sgd', 'c_sgd', 'selective_backprop', 'scan_sgd', 'ordered_sgd'), BUDGETS
  )


def _compared(
  selectors: Iterable[str] = ('unif_sgd', 'p_sgd', 'selective_backprop'),
  budgets: Iterable[float] = BUDGETS,
) -> list[dict[str, Any]]:
  """SGD, and methods at budgets of back-propagated samples."""
  cells = [{'selector': 'sgd', 'budget': 1.0}]
  for selector in selectors:
    own = _UNPRIMED if selector == 'selective_backprop' else {}
    cells += [{'selector': selector, 'budget': budget, **own} for budget in budgets]
  return cells


def _entropy() -> list[dict[str, Any]]:
  """The cells of Figure 1 (c) that no table has."""
  raw = {'selector': 'p_sgd', 'budget': 0.3}
  return [
    {**raw, 'schedule': 'step', 'selector_options': _RAW},
    {**raw, 'selector_options': _RAW},
    {**raw, 'selector_options': {'smoothing': False}},
    {**raw, 'augment': 'ricap', 'fidelity': 'released'},
  ]


def _line(where: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
  """What costs are read off: uniform sampling from little to all."""
  for budget in _LINE:
    yield {**where, 'selector': 'unif_sgd', 'budget': budget}
  yield {**where, 'selector': 'sgd', 'budget': 1.0}


def _fitted(selectors, where, common, told: bool = True) -> list[dict[str, Any]]:
  """Methods at budgets of compute; what does not fit is named."""
  seeds = len(config.seed_tuple(common['seeds']))
  found = equal_compute.fit(selectors, _EQUAL, seeds, common | where)
  for line in found.left_out if told else ():
    _note(line)
  return _with(where, found.cells)


def _note(text: str) -> None:
  print(plain.text(f'note: {text}'), file=sys.stderr)


def _with(where: Mapping[str, Any], cells: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  return [{**where, **cell} for cell in cells]


_CELLS = {'A': _cells_a, 'B': _cells_b, 'C': _cells_c, 'D': _cells_d}
