"""jaxbudget: which samples should a model see under a fixed compute budget?

>>> from jaxbudget import Spec, make_selector
>>> spec = Spec(50_000, 128, 10, epochs=200, image_shape=(32, 32, 3))
>>> make_selector('p_sgd', spec, budget=0.3).facts.rows
117
"""

from jaxbudget.selectors import SELECTORS, make_selector
from jaxbudget.types import (
  Augment,
  Batch,
  Cost,
  Data,
  Facts,
  Model,
  Outputs,
  Plan,
  Selector,
  Spec,
  blank_batch,
  plain_batch,
)

__all__ = [
  'SELECTORS',
  'Augment',
  'Batch',
  'Cost',
  'Data',
  'Facts',
  'Model',
  'Outputs',
  'Plan',
  'Selector',
  'Spec',
  'blank_batch',
  'load',
  'make_selector',
  'plain_batch',
]


def __getattr__(name):
  if name == 'load':  # pulls in configs and data sets, which a selector does not need
    from jaxbudget.lab.run.loading import load

    return load
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
