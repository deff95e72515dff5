"""Names: of the parts that people type, how they are checked, and how numbered ones sort.

A part has a known name, a known prefix with an argument (`npz:PATH`), or is anybody's
`package.module:factory`. The table says where the known ones are; nothing is imported
before it is asked for by name, see `factories`.
"""

import difflib
import re
from collections.abc import Iterable

NAMES: dict[str, dict[str, str]] = {
  'selector': {
    'sgd': 'jaxbudget.selectors.sgd:sgd',
    'scan_sgd': 'jaxbudget.selectors.sgd:scan_sgd',
    'unif_sgd': 'jaxbudget.selectors.sgd:unif_sgd',
    'p_sgd': 'jaxbudget.selectors.importance:p_sgd',
    'c_sgd': 'jaxbudget.selectors.importance:c_sgd',
    'selective_backprop': 'jaxbudget.selectors.selective_backprop:selective_backprop',
    'ordered_sgd': 'jaxbudget.selectors.ordered:ordered_sgd',
    'random_subset': 'jaxbudget.selectors.subset:random_subset',
    'coreset': 'jaxbudget.selectors.coreset:coreset',
    'dynamics_sgd': 'jaxbudget.selectors.dynamics:dynamics_sgd',
    'craig': 'jaxbudget.selectors.craig:craig',
    'gradmatch': 'jaxbudget.selectors.gradmatch:gradmatch',
    'glister': 'jaxbudget.selectors.glister:glister',
    'rcap': 'jaxbudget.selectors.rcap:rcap',
    'replay': 'jaxbudget.selectors.replay:replay',
    'rs2': 'jaxbudget.selectors.rs2:rs2',
    'infobatch': 'jaxbudget.selectors.infobatch:infobatch',
    'online_batch_selection': 'jaxbudget.selectors.online_batch_selection:online_batch_selection',
    'gradient_bound': 'jaxbudget.selectors.gradient_bound:gradient_bound',
    'active_bias': 'jaxbudget.selectors.active_bias:active_bias',
    'rho_loss': 'jaxbudget.selectors.rho_loss:rho_loss',
    'bsbs': 'jaxbudget.selectors.bsbs:bsbs',
    'average_top_k': 'jaxbudget.selectors.loss_side:average_top_k',
    'focal': 'jaxbudget.selectors.loss_side:focal',
    'curriculum': 'jaxbudget.selectors.curriculum:curriculum',
    'kakurenbo': 'jaxbudget.selectors.kakurenbo:kakurenbo',
    'seta': 'jaxbudget.selectors.seta:seta',
    'self_paced': 'jaxbudget.selectors.self_paced:self_paced',
    'mentornet': 'jaxbudget.selectors.self_paced:mentornet',
    'auto_assist': 'jaxbudget.selectors.auto_assist:auto_assist',
    'gradient_norm': 'jaxbudget.selectors.gradient_norm:gradient_norm',
    'class_sampling': 'jaxbudget.selectors.class_sampling:class_sampling',
    'repeat_before_forgetting': (
      'jaxbudget.selectors.repeat_before_forgetting:repeat_before_forgetting'
    ),
    'local_to_global': 'jaxbudget.selectors.local_to_global:local_to_global',
    'rais': 'jaxbudget.selectors.rais:rais',
    'poisson_disk': 'jaxbudget.selectors.poisson_disk:poisson_disk',
    'dpp': 'jaxbudget.selectors.dpp:dpp',
    'proxy_filter': 'jaxbudget.selectors.proxy_filter:proxy_filter',
  },
  'augment': {
    'standard': 'jaxbudget.augment.named:standard',
    'none': 'jaxbudget.augment.named:none',
    'randaugment': 'jaxbudget.augment.named:randaugment',
    'mixup': 'jaxbudget.augment.named:mixup',
    'ricap': 'jaxbudget.augment.named:ricap',
    'cutmix': 'jaxbudget.augment.named:cutmix',
    'trivialaugment': 'jaxbudget.augment.named:trivialaugment',
    'autoaugment': 'jaxbudget.augment.named:autoaugment',
    'augmix': 'jaxbudget.augment.named:augmix',
    'cutout': 'jaxbudget.augment.named:cutout',
    'random_erasing': 'jaxbudget.augment.named:random_erasing',
    'translate': 'jaxbudget.augment.named:translate',
    'alternating_flip': 'jaxbudget.augment.named:alternating_flip',
    'random_resized_crop': 'jaxbudget.augment.named:random_resized_crop',
  },
  'model': {
    'resnet18': 'jaxbudget.models.resnet:resnet18',
    'resnet8': 'jaxbudget.models.resnet:resnet8',
    'resnet50': 'jaxbudget.models.resnet50:resnet50',
    'resnet9': 'jaxbudget.models.resnet9:resnet9',
    'wrn': 'jaxbudget.models.wrn:wrn',
    'preact_resnet': 'jaxbudget.models.wrn:preact_resnet',
    'convmixer': 'jaxbudget.models.convmixer:convmixer',
    'vit_tiny': 'jaxbudget.models.vit:vit_tiny',
    'airbench94': 'jaxbudget.models.airbench:airbench94',
    'airbench95': 'jaxbudget.models.airbench:airbench95',
    'airbench96': 'jaxbudget.models.airbench:airbench96',
    'airbench_proxy': 'jaxbudget.models.airbench:airbench_proxy',
    'mlp': 'jaxbudget.models.mlp:mlp',
    'transformer': 'jaxbudget.models.transformer:transformer',
  },
  'dataset': {
    'digits': 'jaxbudget.data.named:digits',
    'cifar10': 'jaxbudget.data.named:cifar10',
    'cifar100': 'jaxbudget.data.named:cifar100',
    'svhn': 'jaxbudget.data.named:svhn',
    'mini_imagenet': 'jaxbudget.data.named:mini_imagenet',
    'imagenet': 'jaxbudget.data.named:imagenet',
    'imagenet64': 'jaxbudget.data.named:imagenet64',
    'imagenet32': 'jaxbudget.data.named:imagenet32',
    'imagenet16': 'jaxbudget.data.named:imagenet16',
    'imagenet8': 'jaxbudget.data.named:imagenet8',
    'npz': 'jaxbudget.data.named:npz',
    'folder': 'jaxbudget.data.named:folder',
    'tfds': 'jaxbudget.data.named:tfds',
  },
  'schedule': {
    'constant': 'jaxbudget.schedules.decay:constant',
    'linear': 'jaxbudget.schedules.decay:linear',
    'step': 'jaxbudget.schedules.decay:step',
    'cosine': 'jaxbudget.schedules.decay:cosine',
    'poly': 'jaxbudget.schedules.decay:poly',
    'exp': 'jaxbudget.schedules.decay:exp',
    'htd': 'jaxbudget.schedules.decay:htd',
    'rex': 'jaxbudget.schedules.decay:rex',
    'clr': 'jaxbudget.schedules.cycles:clr',
    'onecycle': 'jaxbudget.schedules.cycles:onecycle',
    'wsd': 'jaxbudget.schedules.trapezoids:wsd',
    'airbench': 'jaxbudget.schedules.trapezoids:airbench',
    'dawn': 'jaxbudget.schedules.trapezoids:dawn',
  },
  'task': {
    'classification': 'jaxbudget.task:classification',
    'regression': 'jaxbudget.task:regression',
  },
  'optimizer': {
    'sgd': 'jaxbudget.optimizers:sgd',
    'nesterov': 'jaxbudget.optimizers:nesterov',
    'adamw': 'jaxbudget.optimizers:adamw',
    'lion': 'jaxbudget.optimizers:lion',
    'muon': 'jaxbudget.optimizers:muon',
    'airbench_sgd': 'jaxbudget.grouped:airbench_sgd',
    'airbench_muon': 'jaxbudget.grouped:airbench_muon',
  },
  'averaging': {
    'none': 'jaxbudget.averaging:none',
    'ema': 'jaxbudget.averaging:ema',
    'lookahead': 'jaxbudget.averaging:lookahead',
  },
}
KINDS = tuple(NAMES)
# The option that stands behind the colon of `NAME:ARGUMENT`.
PREFIXES: dict[str, dict[str, str]] = {
  'selector': {'replay': 'recording'},
  'dataset': {'npz': 'path', 'folder': 'path', 'tfds': 'name'},
}
_PATH = re.compile(r'[~./].*|[^:]*/[^:]*|[^:]+\.npz', re.S)
# What people call things elsewhere, in small letters.
_ELSEWHERE = {
  'algorithm': 'selector',
  'arch': 'model',
  'architecture': 'model',
  'aug': 'augment',
  'augmentation': 'augment',
  'bs': 'batch_size',
  'data': 'dataset',
  'final_lr': 'final_learning_rate',
  'init_lr': 'learning_rate',
  'lr': 'learning_rate',
  'lr_schedule': 'schedule',
  'lr_scheduler': 'schedule',
  'method': 'selector',
  'min_lr': 'final_learning_rate',
  'net': 'model',
  'network': 'model',
  'opt': 'optimizer',
  'optim': 'optimizer',
  'sampler': 'selector',
  'wd': 'weight_decay',
}
CHAINED = ('augment',)  # kinds of which several make one, joined by `+`


def names(kind: str) -> tuple[str, ...]:
  """The known names of a kind, those that want an argument included."""
  return tuple(NAMES[kind])


def data_name(name: str) -> str:
  """The name of a data set, of which a path is read as people mean it.

  Args:
    name: any; `./pets` and `~/pets` are folders, `some/set.npz` and `set.npz` files of arrays.

  Returns:
    `folder:PATH` or `npz:PATH` for a path that names no kind, else the name.
  """
  if not _PATH.fullmatch(name) or name in NAMES['dataset']:
    return name
  return f'{"npz" if name.endswith(".npz") else "folder"}:{name}'


def closest(value: object, known: Iterable[str]) -> str | None:
  """What somebody may have meant, in capitals or not, or by the name that others give it.

  Args:
    value: what was given.
    known: the names that exist.

  Returns:
    The closest name; None if none is close.
  """
  folded: dict[str, str] = {}
  for name in known:
    folded.setdefault(name.casefold(), name)
  given = str(value).casefold()
  if _ELSEWHERE.get(given) in folded:
    return folded[_ELSEWHERE[given]]
  close = difflib.get_close_matches(given, folded, n=1, cutoff=0.5)
  return folded[close[0]] if close else None


def check(key: str, value: object, known: Iterable[str]) -> None:
  """Refuses a name that is not known.

  Args:
    key: what the name is for, as the user wrote it.
    value: the name given.
    known: the names that exist.

  Raises:
    ValueError: with key, value, the closest match and all known names.
  """
  known = list(known)
  if value in known:
    return
  close = closest(value, known)
  hint = f'; did you mean {close!r}?' if close else ''
  raise ValueError(f'unknown {key} {value!r}{hint} (known: {", ".join(known) or "none"})')


def by_number(name: str) -> tuple:
  """A key to sort names by that takes the numbers in them as numbers, padded or not.

  Args:
    name: any, such as `epoch_10000`, which comes after `epoch_9999`.

  Returns:
    Something that compares.
  """
  parts = re.split('([0-9]+)', name)  # text and digits in turn
  digits = [part.lstrip('0') for part in parts[1::2]]
  parts[1::2] = [(len(number), number) for number in digits]
  return parts, name
