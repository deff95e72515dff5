"""jaxbudget: which samples should a model see under a fixed compute budget?

>>> from jaxbudget import Spec, make_selector
>>> spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
>>> make_selector('p_sgd', spec, budget=0.3).facts.rows
117
"""

from jaxbudget import scan
from jaxbudget.epoch import begin_epoch, make_program, train_rows
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
  'init_state',
  'load',
  'make_program',
  'make_selector',
  'make_step',
  'plain_batch',
  'scan',
  'train_rows',
]


def __getattr__(name):
  if name == 'load':  # pulls in configs and data sets, which a selector does not need
    from jaxbudget.lab.run.loading import load

    return load
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
