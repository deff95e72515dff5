"""ImageNet under budgets: ResNet-50 with the usual recipe, or a narrow WRN on downsampled images.

  jaxbudget --config=imagenet --stage=plan
  jaxbudget --config=imagenet:data_manual_dir=/data/imagenet --workdir=runs/imagenet
  jaxbudget --config=imagenet:dataset=imagenet32,data_manual_dir=/data/imagenet32

All samples, and uniform sampling, p-SGD, Selective Backprop, RS2 and InfoBatch at B = .1 to .5, in
bfloat16. `/data/imagenet` holds `train/` and `val/` as they are published (docs/own_data.md).
`dataset` is `imagenet`, or `imagenet64`, `imagenet32`, `imagenet16` or `imagenet8`, which are npz
batches in `data_manual_dir`, or any other that the recipe fits. `selectors` and `budgets` choose;
any other key goes behind the colon.

Cost: 21 cells x 3 seeds. A full run of ResNet-50 takes 90 epochs, 2.8 EFLOP, and B times as much a
method that does not look at what it does not train on. `--stage=plan` needs no data, and tells it.
"""

from jaxbudget.data.tables import DOWNSAMPLED
from jaxbudget.lab import config

SELECTORS = ('unif_sgd', 'p_sgd', 'selective_backprop', 'rs2', 'infobatch')
BUDGETS = (0.1, 0.2, 0.3, 0.5)


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells, and `selectors` and `budgets`."""
  values = config.parse_arg(arg)
  selectors, budgets = values.pop('selectors', SELECTORS), values.pop('budgets', BUDGETS)
  dataset = values.pop('dataset', 'imagenet')
  recipe = values.pop('recipe', 'downsampled_imagenet' if dataset in DOWNSAMPLED else 'imagenet')
  grid = [{'selector': 'sgd', 'budget': 1.0}]
  grid += [{'selector': name, 'budget': b} for name in selectors for b in budgets]
  found = config.defaults(
    name='imagenet',
    dataset=dataset,
    recipe=recipe,
    compute_dtype='bfloat16',
    seeds=3,
    grid=tuple(grid),
  )
  config.override(found, values)  # refuses what the grid sets
  return found
