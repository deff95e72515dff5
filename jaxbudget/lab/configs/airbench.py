"""Recipes beside each other by FLOPs, and selection where it may pay: a small proxy that filters.

  jaxbudget --config=airbench --stage=plan
  python -m jaxbudget.lab.study.images cifar10 cifar-10-binary.tar.gz data/study
  jaxbudget --config=airbench:part=equal,dataset=npz:data/study/cifar.npz,side=16
  jaxbudget --config=airbench:part=proxy,dataset=npz:data/study/cifar.npz,side=16

`part=recipes`: airbench94, 95, 96, airbench94_muon, ResNet-9 and the paper's ResNet-18 as they are
published, whole and at B = .3, on CIFAR-10; compare them by `flops`. `part=equal`: a narrow
airbench94 against the paper's ResNet-18, as narrow, at as many FLOPs. `part=proxy`: in a narrow
airbench94 a proxy filter and Selective Backprop at half of compute, every pass charged, and the
line of uniform sampling that equal costs are read off.

`width` is that of airbench94, `resnet_width` that of ResNet-18, `side` that of the images, which
FLOPs are counted for. Rates go with `batch_size`. Any other key goes behind the colon.

Cost: `recipes` 12 cells x 3 seeds, for an accelerator. On 10,000 images of 16 x 16
a run of either network at full length takes 1 to 1.5 minutes of a CPU's thread: `equal` 2 cells x
6 seeds, a quarter of an hour, `proxy` 8 x 6, an hour; evaluation and compilation come on top.
"""

from jaxbudget import registry
from jaxbudget.lab import config
from jaxbudget.lab.run import flops
from jaxbudget.models import make_model

RECIPES = ('airbench94', 'airbench95', 'airbench96', 'airbench94_muon', 'resnet9', 'paper')
LINE = (0.25, 0.4, 0.5, 0.6, 0.8, 1.0)
_RATE = 1.5 / 1024  # of airbench94, for each image of a batch


def get_config(arg: str | None = None):
  """Reads `part`, `side`, `width`, `resnet_width` and `key=value,...` for all cells."""
  values = config.parse_arg(arg)
  part = values.pop('part', 'recipes')
  registry.check('part', part, _PARTS)
  sizes = {'side': 32, 'width': 16, 'resnet_width': 16}
  sizes = {key: values.pop(key, size) for key, size in sizes.items()}
  common = {'name': f'airbench_{part}', 'seeds': 3, **_COMMON[part], **values}
  grid = tuple(_PARTS[part](sizes, common))
  return config.defaults(**{**common, 'grid': grid})


def _recipes(sizes, common):
  """As published: no size is another."""
  del sizes, common
  for recipe in RECIPES:
    for budget in (1.0, 0.3):
      yield {'recipe': recipe, 'budget': budget}


def _equal(sizes, common):
  """airbench94, and ResNet-18 for as many epochs as take the same FLOPs."""
  yield _narrow(sizes, common)
  ours, theirs = (_macs(*net, sizes['side']) for net in (
    ('airbench94', sizes['width']), ('resnet18', sizes['resnet_width'])
  ))  # fmt: skip
  wanted = common['epochs'] * ours / theirs
  epochs = max(3, -int(-wanted // 1))
  yield {
    'recipe': 'paper',
    'width': sizes['resnet_width'],
    'batch_size': common['batch_size'],
    'epochs': epochs,
    'budget': round(wanted / epochs, 4),
  }


def _proxy(sizes, common):
  """All at B = .5 of compute, but for the line of uniform sampling."""
  main = _narrow(sizes, common) | {'budget_unit': 'compute'}
  for budget in LINE:
    yield {**main, 'selector': 'unif_sgd', 'budget': budget}
  unprimed = {'selector_options': {'prime': False}}  # half of compute leaves no first epoch on all
  yield {**main, 'selector': 'selective_backprop', 'budget': 0.5, **unprimed}
  proxy = {
    'proxy': 'airbench_proxy',
    'width': max(1, sizes['width'] // 4),
    'learning_rate': 9 / 7850.67 * common['batch_size'],
  }
  yield {**main, 'selector': 'proxy_filter', 'budget': 0.5, 'selector_options': proxy}


def _narrow(sizes, common):
  """airbench94 of another width, its rate by the batch size."""
  own = {key: common[key] for key in ('epochs', 'batch_size')}
  rate = round(_RATE * common['batch_size'], 6)
  return {'recipe': 'airbench94', 'width': sizes['width'], 'learning_rate': rate, **own}


def _macs(name, width, side):
  model = make_model(name, 10, (side, side, 3), width=width, conv='lax')
  return flops.forward_macs(model, (side, side, 3))


_SMALL = {'batch_size': 128, 'epochs': 20, 'evaluate_every': 5, 'seeds': 6}
_COMMON = {'recipes': {}, 'equal': _SMALL, 'proxy': _SMALL}
_PARTS = {'recipes': _recipes, 'equal': _equal, 'proxy': _proxy}
