"""All methods at equal compute: which choose better than at random, if choosing is charged?

  jaxbudget --config=methods --stage=plan
  jaxbudget --config=methods --workdir=runs/methods --allow=score_every
  jaxbudget --config=methods:dataset=cifar10,model=resnet18,epochs=200,batch_size=128

B = .1 and .3 of a full run in forward equivalents: scoring passes, looks at all samples and runs
that come first, shared by all who need them, are charged. A method whose own passes would take
more than half of a budget scores less often; what still does not fit is named, with the budget
that it takes. Uniform sampling is there at half and three quarters of each budget too: some methods
spend less than they might, and accuracy is a curve of cost. Any key goes behind the colon;
`methods` and `budgets` choose, `scale=smoke` is the smallest there is.

Cost: 71 cells x 6 seeds of a small network on digits and the 4 runs that they need, 85 full
trainings of 20 epochs.
"""

import sys

from jaxbudget import registry
from jaxbudget.lab import config, equal_compute, plain

# A proxy as small as these networks go is no cheaper than they are: see configs/airbench.py.
_OTHERS = ('sgd', 'dynamics_sgd', 'replay', 'proxy_filter')
METHODS = tuple(name for name in registry.names('selector') if name not in _OTHERS)
SCALES = {
  'digits': {'dataset': 'digits', 'model': 'resnet8', 'width': 4, 'epochs': 20, 'batch_size': 32},
  'smoke': {'dataset': 'digits', 'model': 'resnet8', 'width': 2, 'epochs': 10, 'batch_size': 32},
}


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells, and `methods`, `budgets`, `seeds`, `scale`."""
  values = config.parse_arg(arg)
  scale = values.pop('scale', 'digits')
  registry.check('scale', scale, SCALES)
  common = {**SCALES[scale], 'evaluate_every': 1000, **values}
  methods = common.pop('methods', METHODS)
  budgets = common.pop('budgets', (0.1, 0.3))
  seeds = config.seed_tuple(common.pop('seeds', 1 if scale == 'smoke' else 6))
  fitted = equal_compute.fit(methods, budgets, len(seeds), common)
  for line in fitted.left_out:
    print(plain.text(f'note: {line}'), file=sys.stderr)
  whole = {'selector': 'sgd', 'budget': 1.0, 'budget_unit': 'compute'}
  less = sorted({round(share * b, 4) for b in budgets for share in (0.5, 0.75)} - {*budgets})
  between = [{'selector': 'unif_sgd', 'budget': b, 'budget_unit': 'compute'} for b in less]
  return config.defaults(
    **{'name': 'methods', **common, 'seeds': seeds, 'grid': (whole, *between, *fitted.cells)}
  )
