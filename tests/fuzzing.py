"""Random configs, valid and with one fault, for `fuzz_test.py` and `benchmarks/faults.py`."""

import contextlib
import inspect
import io
import itertools
import json
import pathlib
import re
import shutil
import typing

import toys
from hypothesis import strategies as st

from jaxbudget import factories, registry, selectors
from jaxbudget.lab import config, launcher
from jaxbudget.scoring.choices import CHOICES
from jaxbudget.scoring.table import SCORES

NAN, INF = float('nan'), float('inf')
# Plain keys: what fits every valid config drawn here, and what must be refused by the key's name.
KEYS = {
  'learning_rate': ([0.1, 1], [0.0, -1.0, NAN, INF, '0.1', True]),
  'final_learning_rate': ([1e-6, 0.01], [-1.0, NAN]),
  'budget': ([1.0, 1, 0.5, 0.75], [0.0, -1.0, 1.5, NAN, '0.5', None]),
  'budget_unit': (['backward', 'compute'], ['flops', '']),
  'epochs': ([12, 15], [0, -1, 1.5, '3', True, 10**12, None]),
  'batch_size': ([8, 7, 16], [0, -8, 49, 2.0, 10**10]),
  'fidelity': (['released', 'corrected'], ['exact', '']),
  'seeds': ([1, (3,), (0, 1)], [20240501, 10**12, 0, -1, (), (1, 1), 2.5, 'a', (2**31,), None]),
  'evaluate_every': ([1, 2, 100], [0, -1]),
  'evaluate_batch': ([16, 1, 1000, 0, 10**9], [-5, 10**12]),
  'rows_per_call': ([0, 1, 10**6], [-1]),
  'checkpoint_every': ([1e-9, 300.0], [0.0, -1.0, NAN]),
  'devices': ([0, 1], [-1]),
  'threads': ([0], [-1, 1.5, True, 20240501]),
  'xla_optimization': ([3], [-1, 0, 1, 4, 2.5, True]),
  'placement': (['auto', 'device', 'host'], ['disk', '', 1]),
  'matmul_precision': (['highest', ''], ['tf32', 'HIGHEST', 3]),
  'train_part': ([(0, 1)], [(1, 1), (0, 0), (0,), 3, ('a', 2)]),
  'shared_by': ([1, 3], [0, -1, 0.5]),
  'data_dir': ([], [3]),
  'data_manual_dir': ([], [3]),
  'data_checksums': ([], [3]),
  'score_every': ([], [0, -1, 1.5, True]),  # refused where nothing is scored, see rescored_test
  'score_size': ([], [-1, 10**6, 0.5]),
  'record_selection': ([True, False], ['yes', 2]),
  'validation': ([0], [-1, 1000, 0.5]),
  'name': (['<b>[/x]\n', 'ü'], [3]),
  'grid': ([({'evaluate_every': 1}, {'evaluate_every': 2})], [5, (5,)]),
  'dataset': ([], ['npz:/no/such.npz', 'npz:', 'digit', '', 'npz:../../x', 'nzp:x', 7]),
  'model': ([], ['resnet', '', 'linear ', 'no.such:model', 'json:dumps', 'json:nothing']),
  'selector': ([], ['psgd', '', 'SGD', None, 'no.such:f', 'faulty:SIZE', 'json:dumps']),
  'augment': ([], ['mix-up', '', 'standard,ricap', 'mixup+', 'mixup+mixup', 'json:dumps']),
  'schedule': ([], ['steps', 'exponential', 'json:dumps']),
  'optimizer': ([], ['adm', '', 'json:dumps']),
  'averaging': ([], ['emma', '', 'json:dumps']),
  'tta': ([], ['mirrors', '']),
  'recipe': ([''], ['airbench49', 3]),
  'task': ([], ['regress', '', 'json:dumps', 'regression']),
  **{f'{kind}_options': ([], ['warmup', 3, ('b',)]) for kind in registry.KINDS},
  'slurm': ([], [3, {'gpu': 1}, {'minutes': 'x'}, {'partition': None}]),
}  # fmt: skip
NAMES = {
  'selector': registry.names('selector'),
  'augment': (*registry.names('augment'), 'randaugment+mixup', 'standard+ricap', 'ricap+mixup'),
  'model': ('linear', 'resnet8'),
  'schedule': registry.names('schedule'),
  'optimizer': registry.names('optimizer'),
  'averaging': registry.names('averaging'),
  'task': ('classification',),
}
_SHARE = ([0.0, 0.25], [-0.1, 1.0, NAN])
_INVERSE = {'mix': ([0, 0.5, 1], [-0.1, 1.5, NAN])}
_MOMENTUM = ([0.5, 0.9], ['x'])
_BETA, _EPS = ([0.0, 0.9], [1.0, -0.1, NAN]), ([1e-8, 1.0], [0.0, INF])
_DECAY = {
  'weight_decay': ([0, 0.1], [-1.0, INF]), 'decay_mask': (['all', 'matrices'], ['bias']),
  'clip_norm': ([1.0, None], [0.0, -1.0, NAN]),
}  # fmt: skip
_NETWORK = {
  'width': ([1, 2], [0, -1, 10**6]), 'compute_dtype': (['float32', 'bfloat16'], ['float16']),
  'conv': (['auto', 'lax'], ['fast']),
}  # fmt: skip
_PERIOD, _WARMUP, _MEMORY = ([1, 5], [0, -1]), ([0, 2], [-1]), ([1.0], [0.0, NAN])
# Options by kind and part: values in and out of range. Types are tried for all alike.
OPTIONS = {
  'selector': {
    'p_sgd': {'warmup': ([0, 1], [-1, 10**12]), **_INVERSE},
    'c_sgd': {'warmup': ([0, 2], [-1]), **_INVERSE},
    'selective_backprop': {
      'b': ([None, 0, 1.5], [-1.0, NAN, INF]), 'history': ([16, 64], [3, 10**12]),
      'staleness': ([1, 2], [0]),
    },
    'ordered_sgd': {'thresholds': ([(20.0, 30.0), [50]], [(90, 80), (), (101,), (0,)])},
    'coreset': {
      # Not those that look at less than the first of so few epochs.
      'score': ([s for s in SCORES if s not in ('dual', 'el2n_training')], ['luck']),
      'offset': ([0.0, 0.2], [-0.1, 1.5, NAN]), 'cutoff': ([0.0, 0.1], [-0.1, 1.5, NAN]),
      'bins': ([1, 10], [0]), 'concentration': ([1, 5.5], [0.0, NAN]), 'window': ([2, 4], [1]),
      'scoring': ([None, 1.0, 0.75], [0.0, 1.5, NAN]), 'runs': ([1, 2, None], [0]),
      'neighbours': ([1, 5], [0]), 'proxy': (['', 'linear'], ['resnet']),
      'scoring_schedule': (['', 'cosine'], ['cosin']),
    },
    'craig': {'period': _PERIOD, 'warmup': _WARMUP, 'memory_gib': _MEMORY},
    'gradmatch': {
      'ridge': ([None, 0, 0.5], [-1.0, NAN]),
      'tolerance': ([0.0, 1e-3], [-1.0, NAN]), 'period': _PERIOD, 'warmup': _WARMUP,
      'memory_gib': _MEMORY,
    },
    'glister': {
      'rate': ([0.0, 0.1], [-1.0, NAN]), 'held_out': ([10, 12], [1, 1000]), 'period': _PERIOD,
      'warmup': _WARMUP,
    },
    'rcap': {'temperature': ([0.5, 3], [0.0, NAN])},
    'infobatch': {
      'ratio': ([0, 0.5], [1.0, -0.1, NAN]), 'delta': ([0.5, 1], [1.5, NAN]),
      'exact': ([True], []),  # as published it takes the whole budget, see `consistent`
    },
    'online_batch_selection': {
      'pressure': ([1, 100.0], [0.5, INF, NAN]), 'final_pressure': ([1.01], [0.0, NAN]),
      'refresh': ([0, 0.5], [-1.0, NAN, INF]), **_INVERSE,
    },
    'gradient_bound': {
      'ratio': ([1, 2.5], [0.5, 1e9, NAN]), 'threshold': ([None, 0, 1.5], [-1.0, NAN, INF]),
      'smoothing': ([0, 1.0], [-1.0, INF, NAN]), 'power': ([1, 0.5, -1.0], [1.5, -INF, NAN]),
    },
    'rho_loss': {
      'temperature': ([0, 0.25], [-1.0, INF, NAN]), 'until': ([1, 0.5], [0.0, 2.0, NAN]),
    },
    'active_bias': {'warmup': ([0, 1], [-1]), **_INVERSE},
    'bsbs': {
      'moved': ([0, 0.15], [0.6, NAN]), 'decay': ([0, 0.7], [1.0, NAN]),
      're_enter': ([None, 0.2, 1], [0.0, 2.0, NAN]),
    },
    'average_top_k': {'share': ([0.5, 1], [0.0, NAN]), 'step': ([1, 0.1], [0.0, INF, NAN])},
    'focal': {'gamma': ([0, 2.0], [-1.0, INF, NAN])},
    'curriculum': {
      'start': ([None, 0.2], [0, 2.0, NAN]), 'lengths': ([None, (0.5,)], [(), (0.0,), (2.0,)]),
      'factor': ([None, 1.5], [0.5, INF, NAN]),
    },
    'kakurenbo': {
      'fraction': ([0, 0.4], [1.0, -0.1, NAN]), 'confidence': ([0.5, 1], [-1.0, NAN]),
      'exact': ([True], []),
    },
    'seta': {
      'ratio': ([0, 0.2], [1.0, NAN]), 'groups': ([1, 3], [0, 10**9]), 'share': ([0.5], [0.0, NAN]),
      'delta': ([0, 1], [1.5, NAN]), 'exact': ([True], []),
    },
    'self_paced': {
      'start': ([0.3, 1], [0.0, NAN]), 'until': ([0.5], [0.0, NAN]),
      'decay': ([0, 0.5], [1.0, NAN]),
    },
    'mentornet': {
      'share': ([0.5, 1], [0.0, NAN]),
      'decay': ([0, 0.5], [1.0, NAN]), 'drop': ([0, 0.5], [1.0, NAN]),
      'later_drop': ([0, 0.5], [1.0, NAN]),
    },
    'auto_assist': {'base': ([0.3, 1], [0.0, NAN])},
    'gradient_norm': {
      'every': ([2, 5], [0]), 'smoothing': ([0, 1.0], [-1.0, INF, NAN]), **_INVERSE,
    },
    'class_sampling': _INVERSE,
    'repeat_before_forgetting': {
      'recall': ([0.3], [0.0, 1.0, NAN]),
      'held_out': ([0.2, 0.5], [0.0, 0.9, NAN]), 'exact': ([True], []),
    },
    'local_to_global': {'groups': ([1, 2], [0]), 'exact': ([True], [])},
    'rais': {'mix': _INVERSE['mix']},
    'poisson_disk': {
      'radius': ([0, 0.5], [-1.0, INF, NAN]),
      'pool': ([1, 3], [0, 65]),
    },
    'dpp': {
      'balance': ([0, 1], [-0.1, NAN]), 'ridge': ([0.1], [0.0, INF, NAN]), 'pool': ([2], [0, 65]),
    },
    'proxy_filter': {
      'proxy': (['mlp'], ['resnet']), 'width': ([None], ['x']), 'keep': ([None], [0.0, 1.5, NAN]),
      'train_every': ([1, 4], [0]), 'learning_rate': ([0.1], [0.0, NAN, INF]),
      'weight_decay': ([0, 0.1], [-1.0, INF]), 'label_smoothing': ([0, 0.2], [1.0, NAN]),
      'recording': ([''], ['/no/such']), 'recording_digest': ([''], []),
    },
    'replay': {'recording': ([], ['/no/such']), 'recording_digest': ([], ['abc'])},
  },
  'augment': {
    'randaugment': {'n': ([1, 3], [0, 10**9]), 'm': ([3, 0.5, 30], [-1, 31, NAN])},
    'mixup': {'alpha': ([0.3, 1], [0, -1.0, NAN, INF])},
    'ricap': {'alpha': ([0.3, 1], [0, -1.0, NAN, INF])},
    'cutmix': {'alpha': ([0.3, 1], [0, NAN]), 'probability': ([0, 0.5], [-0.1, 1.5, NAN])},
    'trivialaugment': {'space': (['wide', 'official_small'], ['narrow'])},
    'augmix': {'severity': ([1, 10.0], [0.1, 11, NAN]), 'alpha': ([0.5, 1], [0, NAN])},
    'cutout': {'size': ([None, 3], [0, 9])},
    'random_erasing': {
      'probability': ([0, 0.5], [-0.1, 1.5, NAN]),
      'area': ([(0.1, 0.3)], [(0.3, 0.1), (0.1,), (0.0, 0.5), (0.5, 2.0), (0.1, NAN)]),
      'ratio': ([(0.5, 2)], [(2.0, 0.5), (1, 2, 3), (-1.0, 1.0)]),
    },
    'translate': {'pad': ([0, 3], [-1, 8]), 'mode': (['reflect', 'black'], ['wrap'])},
    'random_resized_crop': {
      'scale': ([(0.25, 1)], [(0.3, 0.1), (0.5,), (0.0, 0.5), (0.5, 2.0), (0.1, NAN)]),
      'ratio': ([(0.5, 2)], [(2.0, 0.5), (1, 2, 3), (-1.0, 1.0), (1.0, INF)]),
    },
  },
  'model': {
    'linear': {'scale': ([0.1, 1], [])},
    **dict.fromkeys(
      ('resnet8', 'resnet18'),
      {'width': ([2, 4], [0, -1, 10**6]), 'bn_ghost_size': ([0], [-1, True])},
    ),
    'resnet9': _NETWORK,
    'resnet50': {
      **_NETWORK, 'blocks': ([(1, 1)], [(), (0,), (1.5,), 6 * (1,)]),
      'bn_ghost_size': ([0], [-1, True]),
    },
    **dict.fromkeys(
      ('airbench95', 'airbench96', 'airbench_proxy'),
      {**_NETWORK, 'depth': ([2, 3], [1, 4])},
    ),
    'airbench94': {
      **_NETWORK, 'depth': ([2, 3], [1, 4]), 'head': (['torch', 'unit'], ['zero']),
    },
    'wrn': {**_NETWORK, 'depth': ([10, 16], [9, 4, 10**6])},
    'preact_resnet': {**_NETWORK, 'depth': ([8, 14], [10, 2])},
    'convmixer': {
      **_NETWORK, 'depth': ([1, 2], [0, 10**6]), 'kernel': ([3], [0, 10**6]),
      'patch': ([1, 2], [0, 9]),
    },
    'mlp': {'hidden': ([8], [0, 10**6]), 'depth': ([1], [0, 10**6])},
    'transformer': {
      'vocabulary': ([9], [0, 10**9]), 'width': ([8], [0, 10**6]), 'depth': ([1], [0, 10**6]),
      'heads': ([2], [0, 3]), 'head': (['mean', 'last'], ['first']),
    },
    'vit_tiny': {
      **_NETWORK, 'width': ([3, 6], [0, 4]), 'depth': ([1], [0]), 'heads': ([1, 3], [0, 5]),
      'patch': ([2, 4], [3, 0]),
    },
  },
  'schedule': {
    **{name: {'warmup': _SHARE} for name in ('constant', 'linear', 'cosine', 'exp', 'rex')},
    'step': {
      'milestones': ([(0.5,), (1 / 3, 2 / 3)], [(0.0,), (2 / 3, 1 / 3), (1.5,)]),
      'drop': ([0.5, 1], [0.0, 1.5]), 'warmup': _SHARE,
    },
    'poly': {'power': ([1, 0.5], [0.0, -1.0, NAN]), 'warmup': _SHARE},
    'htd': {'lower': ([-6.0], [5.0]), 'upper': ([3.0], [-5.0]), 'warmup': _SHARE},
    'clr': {
      'cycles': ([1, 2], [0]), 'decay': ([0.5], [0.0, 2.0]), 'base_momentum': _MOMENTUM,
      'max_momentum': _MOMENTUM, 'cycle_momentum': ([False], ['yes']), 'warmup': _SHARE,
    },
    'onecycle': {
      'pct': ([0.3], [0.0, 1.5]), 'div': ([10.0], [0.0]), 'final_div': ([100.0], [-1.0]),
      'base_momentum': _MOMENTUM, 'max_momentum': _MOMENTUM,
      'cycle_momentum': ([False], ['yes']), 'warmup': _SHARE,
    },
    'wsd': {'warmup': ([0.1], [-0.1, 1.0]), 'decay': ([0.3], [-0.1, 2.0])},
    'airbench': {
      'start': ([0.1], [-1.0]), 'peak': ([0.5], [-0.1, 1.0]), 'end': ([0.0], [-1.0]),
      'warmup': _SHARE,
    },
    'dawn': {'peak': ([0.4], [0.0, 1.0]), 'warmup': _SHARE},
  },
  'task': {'classification': {'label_smoothing': ([0, 0.1], [1.0, -0.1, NAN])}},
  'optimizer': {
    'sgd': {'momentum': _BETA, **_DECAY},
    'nesterov': {'momentum': _BETA, **_DECAY},
    'adamw': {'b1': _BETA, 'b2': _BETA, 'eps': _EPS, **_DECAY},
    'lion': {'b1': _BETA, 'b2': _BETA, **_DECAY},
    'muon': {'momentum': _BETA, 'b1': _BETA, 'b2': _BETA, 'eps': _EPS, **_DECAY},
    'airbench_sgd': {
      'momentum': _BETA, 'weight_decay': _DECAY['weight_decay'],
      'norm_bias_scale': ([1, 64.0], [0]),
      'whiten_share': ([0.3, 1], [0.0, 1.5, NAN]),
    },
    'airbench_muon': {
      'momentum': _BETA, 'filter_momentum': _BETA, 'weight_decay': _DECAY['weight_decay'],
      'bias_scale': ([1.0], [0.0, NAN]), 'head_scale': ([1.0], [0.0, NAN]),
      'whiten_share': ([0.3, 1], [0.0, 1.5, NAN]), 'iterations': ([1, 5], [0]),
    },
  },
  'averaging': {
    'ema': {'decay': _BETA, 'every': ([1, 5], [0])},
    'lookahead': {'decay': _BETA, 'every': ([1, 5], [0]), 'power': ([1, 3.0], [0.0, NAN])},
  },
}  # fmt: skip
# What each type refuses, whatever the option.
_WRONG = {bool: [1, 'yes'], int: ['x', True, 2.5], float: ['x', True], str: [7]}


def values(kind: str, part: factories.Part, option: str) -> tuple[list, list]:
  """Values that fit an option, and values that do not; a choice says so itself."""
  annotation = part.options[option].annotation
  known = OPTIONS[kind].get(part.short, {}).get(option)
  if known is None and typing.get_origin(annotation) is typing.Literal:
    return list(typing.get_args(annotation)), ['nonsense', 7]
  valid, invalid = known or ([True, False], [] if annotation is bool else None)
  return valid, [*invalid, *_WRONG.get(annotation, ['nonsense'])]


@st.composite
def valid(draw) -> dict:
  """A config that must be accepted: any part, any of its options."""
  keys = [key for key, (fitting, _) in KEYS.items() if fitting]
  drawn = {
    k: draw(st.sampled_from(KEYS[k][0])) for k in draw(st.sets(st.sampled_from(keys), max_size=4))
  }
  for kind, names in NAMES.items():
    drawn[kind] = draw(st.sampled_from(names))
    parts = factories.chain(kind, drawn[kind])
    for part in parts:
      for option in sorted(part.options):
        fitting = values(kind, part, option)[0]
        if fitting and draw(st.integers(0, 3)) == 0:
          key = [f'{kind}_options', *([part.short] if len(parts) > 1 else []), option]
          drawn['.'.join(key)] = draw(st.sampled_from(fitting))
  return consistent(drawn)


def consistent(drawn: dict) -> dict:
  """Sees to what one value asks of another."""
  if drawn['selector'] in ('sgd', 'dynamics_sgd'):
    drawn['budget'] = 1.0
  if drawn['selector'] == 'replay':
    drawn['selector_options.recording'] = toys.recording()
  name = drawn['selector']
  asks = 'table_of', 'join'  # what these say may need a full run
  options = {k: drawn[f'selector_options.{k}'] for k in asks if f'selector_options.{k}' in drawn}
  needs = name != 'replay' and selectors.needs(name, factories.find('selector', name).fill(options))
  # Scoring leaves no full batch of so few.
  dear = ('replay', 'kakurenbo', 'gradient_bound', 'proxy_filter')
  if needs or name in dear:
    drawn['budget_unit'] = 'backward'
  if drawn['selector'] == 'glister':
    drawn['budget'] = 0.75  # a part is held out
  if drawn['selector'] == 'coreset':
    drawn['budget'] = 0.75
    known = {name: inspect.getfullargspec(make).kwonlyargs for name, make in CHOICES.items()}
    own = known.get(drawn.get('selector_options.choice'), ())
    for option in {*itertools.chain(*known.values())} - {*own}:
      drawn.pop(f'selector_options.{option}', None)
  if drawn['selector'] == 'selective_backprop':
    drawn.setdefault('selector_options.history', 16)  # more than that no epoch has
  if str(drawn.get('selector_options.form')).startswith('w'):  # it draws uniformly
    for option in ('replacement', 'weights', 'mix'):
      drawn.pop(f'selector_options.{option}', None)
  if drawn['schedule'] == 'wsd':
    drawn.pop('schedule_options.warmup', None)
  return drawn


def names(key: str, said: str) -> bool:
  """Whether a refusal names a key: as a word, not within another one."""
  return re.search(rf'(?<!\w){re.escape(key)}(?!\w)', said) is not None


@st.composite
def mutated(draw) -> tuple[dict, str]:
  """A valid config with one fault, and the key that must be named."""
  drawn = draw(valid())
  kinds = [kind for kind in NAMES if any(p.options for p in factories.chain(kind, drawn[kind]))]
  if draw(st.booleans()) or not kinds:
    key = draw(st.sampled_from(list(KEYS)))
    drawn[key] = draw(st.sampled_from(KEYS[key][1]))
    if key == 'evaluate_every':  # a grid would set it again
      drawn.pop('grid', None)
    return drawn, key
  kind = draw(st.sampled_from(kinds))
  parts = [part for part in factories.chain(kind, drawn[kind]) if part.options]
  part = draw(st.sampled_from(parts))
  option = draw(st.sampled_from(sorted(part.options)))
  single = '+' not in drawn[kind]
  place = f'{kind}_options.' + ('' if single else f'{part.short}.')
  if draw(st.integers(0, 3)) == 0:  # misspelt
    drawn[f'{place}{option}z'] = draw(st.sampled_from(values(kind, part, option)[0] or [0]))
    return drawn, f'{option}z'
  drawn[place + option] = draw(st.sampled_from(values(kind, part, option)[1]))
  return drawn, option


def attempt(
  common: dict, drawn: dict, workdir: pathlib.Path, stage: str = 'train'
) -> tuple[str, str]:
  """Launches a config as a user would; says how it ended, and what was said.

  Raises:
    AssertionError: it ended otherwise than planned, trained, diverged or refused.
  """
  said = io.StringIO()
  shutil.rmtree(workdir, ignore_errors=True)
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    try:
      values = config.defaults(**{**common, **drawn})
    except ValueError as e:  # launch.py prints it and exits with 2
      print(e)
      code = 2
    else:
      code = launcher.launch(values, workdir, stage)
  said = said.getvalue()
  assert 'Traceback' not in said and 'error.log' not in said, said
  if code == 2:
    assert not workdir.exists(), 'refused, yet something was written'
    return 'refused', said
  if stage == 'plan':
    assert code == 0 and (workdir / 'plan.json').exists(), said
    return 'planned', said
  results = [json.loads(path.read_text()) for path in workdir.glob('runs/*/result.json')]
  assert results, said
  if code == 1:
    assert any('not finite' in result.get('error', '') for result in results), said
    return 'diverged', said
  assert code == 0 and all(result['status'] == 'done' for result in results), said
  for path in workdir.glob('runs/*/metrics.jsonl'):
    assert json.loads(path.read_text().splitlines()[0])['epoch'] == 1
  return 'trained', said
