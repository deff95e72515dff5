"""Which training samples should a model see under a fixed compute budget?

A selector is a value of pure hooks, as an optax `GradientTransformation` is: made by name, called
from anybody's loop or from the compiled epoch here. Every forward and backward pass is counted.

Examples:
  >>> from jaxbudget import Spec, make_selector
  >>> spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
  >>> make_selector('p_sgd', spec, budget=0.3).facts.rows
  117

Choosing:

- `make_selector`: a method by name, or `package.module:factory`.
- `Selector`: its hooks (init, plan, select, weigh, update, scan, report, scores) and `Facts`.
- `Facts`, `Cost`: what is known of its run before it starts, epochs, rows, what it spends.
- `Plan`: rows of candidates for an epoch, i32[R,K].
- `Spec`, `Budget`: the sizes of a run; what of full training it may spend, and in what unit.
- `Scan`, `Seen`: looking at all N samples between epochs, by `scan.before` or `scan.observe`.
- `Need`, `Needed`: what other runs must leave before this one starts.

Training:

- `init_state`: the state of a run, one pytree, `jaxbudget.state.TrainState`.
- `make_step`: the one training step, for a loop of one's own (examples/own_loop.py).
- `engine`: a run set up and its epochs, each as one compiled program (`make_program`,
  `begin_epoch` and `train_rows` are its parts).
- `check_labels`: whether labels are what a task wants; called once, before a loop of one's own.
- `affordable`: whether a step still fits under the cap.
- `Batch`, `Outputs`: examples on their way through a step, made by `plain_batch`, `blank_batch`.
- `Model`, `Augment`, `Data`: a network, an augmentation, a split on the device.
- `load`: the trained network out of the directory of a finished run.

Shapes: N training samples, s batch size, K candidates in a plan row, C classes, M samples shown in
one picture (1; 2 under mixup; 4 under RICAP), R rows in a full epoch. Units: losses and entropies
in nats, accuracies in percent, costs in samples or in forward equivalents (a forward pass of one
sample is 1, a backward pass 2), budgets in shares of full training, 3TN. What is wrong is refused
by `ValueError`, with key, value, what is allowed and the closest match.

Source: Arazo et al., How Important is Importance Sampling for Deep Budgeted Training?, BMVC 2021
(https://arxiv.org/abs/2110.14283); each method's docstring names its own, and docs/fidelity.md,
cited as fidelity.md, the section of the paper or the code behind each rule. The laboratory
(configs, sweeps, reports) is `jaxbudget.lab`; from Python, `jaxbudget.lab.api`.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from jaxbudget import engine, scan
  from jaxbudget.checks import check_labels
  from jaxbudget.epoch import begin_epoch, make_program, train_rows
  from jaxbudget.lab.run.loading import load
  from jaxbudget.ledger import Budget, affordable
  from jaxbudget.selectors import make_selector
  from jaxbudget.state import init_state
  from jaxbudget.step import make_step
  from jaxbudget.types import (
    Augment,
    Batch,
    Cost,
    Data,
    Facts,
    Model,
    Need,
    Needed,
    Outputs,
    Plan,
    Scan,
    Seen,
    Selector,
    Spec,
    blank_batch,
    plain_batch,
  )

__version__ = '0.1.0'

__all__ = [
  'Augment',
  'Batch',
  'Budget',
  'Cost',
  'Data',
  'Facts',
  'Model',
  'Need',
  'Needed',
  'Outputs',
  'Plan',
  'Scan',
  'Seen',
  'Selector',
  'Spec',
  'affordable',
  'begin_epoch',
  'blank_batch',
  'check_labels',
  'engine',
  'init_state',
  'load',
  'make_program',
  'make_selector',
  'make_step',
  'plain_batch',
  'scan',
  'train_rows',
]


# Where each name is. They are fetched when they are first asked for, so that `jaxbudget --help`
# and Ctrl-C are answered before JAX is loaded.
_HOME = {
  'checks': ('check_labels',),
  'epoch': ('begin_epoch', 'make_program', 'train_rows'),
  'lab.run.loading': ('load',),
  'ledger': ('Budget', 'affordable'),
  'selectors': ('make_selector',),
  'state': ('init_state',),
  'step': ('make_step',),
  'types': (
    'Augment', 'Batch', 'Cost', 'Data', 'Facts', 'Model', 'Need', 'Needed', 'Outputs', 'Plan',
    'Scan', 'Seen', 'Selector', 'Spec', 'blank_batch', 'plain_batch',
  ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __dir__():
  return [*globals(), *__all__]


def __getattr__(name):
  if name in _MODULE_OF:
    value = getattr(importlib.import_module(f'{__name__}.{_MODULE_OF[name]}'), name)
  elif not name.startswith('_') and importlib.util.find_spec(f'{__name__}.{name}'):
    value = importlib.import_module(f'{__name__}.{name}')
  else:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  globals()[name] = value
  return value
