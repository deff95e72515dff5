"""Core-sets: subsets that a score and a choice make of all samples, before training starts.

Scores come of a *scoring run* of `dynamics_sgd`, an ordinary run of the plan: of its record of
training, or of what its trained model says of all samples (`jaxbudget.scoring`). Any score
goes with any choice.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import factories, ledger, registry
from jaxbudget.ledger import Budget
from jaxbudget.scoring import dynamics, quotas
from jaxbudget.scoring.choices import CHOICES, ChoiceName, Ranked
from jaxbudget.scoring.table import SCORES, ScoreName, Setting, score_of
from jaxbudget.selectors.subset import fixed_subset
from jaxbudget.types import Need, Needed, Selector, Spec

QUOTAS = ('none', 'proportional', 'drop')
# What a choice takes of the scoring run beside the scores.
_TAKEN = {'strata': ('scores',), 'beta': ('scores',), 'graph': ('scores', 'features')}


def coreset(
  spec: Spec,
  budget: Budget | float,
  scores: Needed = None,
  first_half: Needed = None,
  second_half: Needed = None,
  *,
  score: ScoreName = 'forgetting',
  choice: ChoiceName = 'top',
  quota: Literal['none', 'proportional', 'drop'] = 'none',
  offset: float = 0.0,
  cutoff: float = 0.0,
  bins: int = 50,
  concentration: float = 4.0,
  neighbours: int = 5,
  window: int = 10,
  scoring: float | None = None,
  scoring_schedule: str = '',
  runs: int | None = None,
  proxy: str = '',
) -> Selector:
  """floor(N*B) samples that a score and a choice make, before the run (fidelity.md 2.9).

  The defaults keep the samples that were forgotten most often. Methods by other names:
  `moderate` with `middle` (Moderate), any score with `strata` and a cut-off (CCS), `dual` with
  `beta` (DUAL), any score with `graph` (D2), `none` with `random` and the quota `drop` (DRoP),
  `el2n` (Data Diet), `least_confidence` with a proxy (Selection via Proxy).

  Args:
    spec: sizes of the run.
    budget: B, the share of samples kept.
    scores: what the scoring run left, or each of several; f32[N] are scores of your own, high
      for samples to keep first; None gives a selector that can be planned but not started.
    first_half: under the quota `drop`, logits f32[N,C] of a model that was trained on the first
      half of the data.
    second_half: the same of the second half.
    score: a key of `scoring.table.SCORES`.
    choice: a key of `scoring.choices.CHOICES`.
    quota: `none`; the choice is made in each class by itself, in proportion to the classes
      (`proportional`) or by the errors of models on samples held out from them (`drop`).
    offset: of the choice `offset`.
    cutoff: of `strata` and `graph`: the share of the samples, the hardest, that is left out.
    bins: of the choice `strata`.
    concentration: c of the choice `beta`.
    neighbours: of each sample, of the choice `graph`.
    window: epochs in a window of `dyn_unc` and `dual`.
    scoring: share of the full epochs that a scoring run has; None: what the score's paper has.
    scoring_schedule: of the scoring runs, over their own length; empty: the step schedule for
      those of all epochs, else the rate with which that starts.
    runs: scoring runs, whose scores are averaged; None: as many as the score's paper has.
    proxy: model of the scoring runs; empty: that of the run.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, scores that do not fit, no full batch fits, or a
      compute budget that the scoring runs alone use up.
  """
  registry.check('score', score, SCORES)
  registry.check('choice', choice, CHOICES)
  registry.check('quota', quota, QUOTAS)
  given = dict(
    offset=offset, cutoff=cutoff, bins=bins, concentration=concentration, neighbours=neighbours
  )
  make = functools.partial(CHOICES[choice], **_options_of(choice, given))
  early = _check_scoring(spec, score, scoring, window, runs)
  _check_parts(proxy, scoring_schedule)
  budget = ledger.left_of(spec, budget)
  samples = ledger.share(spec.num_examples, budget)
  _check_choice(1 - samples / spec.num_examples, **given)
  found = _check_scores(spec, scores)

  def choose(key):
    ranked = _rank(score, choice, found, Setting(key, samples, early, window))
    if quota == 'none':
      return make(ranked, samples)
    label = np.asarray(found[0]['label'])
    size = np.bincount(label)
    if quota == 'drop':
      share = quotas.drop(size, samples, quotas.held_out_recall(first_half, second_half, label))
    else:
      share = quotas.proportional(size, samples)
    return quotas.in_classes(make, ranked, label, share)

  def init(key):
    if found is None:
      raise ValueError(f'coreset with score={score!r} cannot start without the scores')
    if quota != 'none' and 'label' not in found[0]:
      raise ValueError(f'quota={quota!r} needs the labels beside the scores')
    if not isinstance(key, jax.core.Tracer):
      return jnp.asarray(choose(key))
    # Traced, for shapes or within somebody's program: the host is called once that runs.
    again = lambda data: choose(jax.random.wrap_key_data(data))
    order = jax.ShapeDtypeStruct((spec.num_examples,), jnp.int32)
    return jax.pure_callback(again, order, jax.random.key_data(key))

  subset = fixed_subset(spec, budget, init)
  return subset._replace(
    facts=subset.facts._replace(uniform_on_ties=False, asks=('probabilities',))
  )


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  """Scoring runs, and of them the record or what their models say at the end."""
  score = SCORES.get(options['score'], SCORES['none'])
  share = score.early if options['scoring'] is None else options['scoring']
  runs = score.runs if options['runs'] is None else options['runs']
  proxy = (('model', options['proxy']),) if options['proxy'] else ()
  run = functools.partial(
    Need,
    selector='dynamics_sgd',
    budget=share,
    schedule=options['scoring_schedule'] or ('step' if share == 1 else 'constant'),
    settings=proxy,
  )
  takes = tuple(dict.fromkeys((*score.takes, *_TAKEN.get(options['choice'], ()), 'label')))
  needs = (run('scores', takes, count=runs),)
  if options['quota'] == 'drop':
    needs += run('first_half', 'logits', part=(0, 2)), run('second_half', 'logits', part=(1, 2))
  return needs


coreset.needs = _needs


def _options_of(choice: str, given: Mapping[str, Any]) -> dict[str, Any]:
  """The options of a choice; refuses those that are set, but are of another one."""
  known = {name: inspect.getfullargspec(make).kwonlyargs for name, make in CHOICES.items()}
  unset = inspect.getfullargspec(coreset).kwonlydefaults
  for key, value in given.items():
    if key not in known[choice] and value != unset[key]:
      knows = ' and '.join(name for name, options in known.items() if key in options)
      raise ValueError(f'{key}={value} is of choice={knows}, not of choice={choice}')
  return {key: value for key, value in given.items() if key in known[choice]}


def _check_choice(left_out: float, offset, cutoff, bins, concentration, neighbours) -> None:
  """Whether the options of a choice are in range, where a share of all samples is left out."""
  for key, value in (('offset', offset), ('cutoff', cutoff)):
    if not 0 <= value <= left_out + 1e-9:
      raise ValueError(
        f'{key}={value} must be in [0, {left_out:.4g}], the share that this budget leaves out'
      )
  for key, value in (('bins', bins), ('neighbours', neighbours)):
    if value < 1:
      raise ValueError(f'{key} must be at least 1, got {value}')
  if not 0 < concentration < float('inf'):
    raise ValueError(f'concentration must be positive, got {concentration}')


def _check_scoring(
  spec: Spec, score: str, scoring: float | None, window: int, runs: int | None
) -> int:
  """Whether the scoring run can be; the epochs that the score looks at."""
  kind = SCORES[score]
  if scoring is not None and not 0 < scoring <= 1:
    raise ValueError(f'scoring must be a share of the full run in (0, 1], got {scoring}')
  if runs is not None and runs < 1:
    raise ValueError(f'runs must be at least 1, got {runs}')
  if window < 2:
    raise ValueError(f'window must be at least 2 epochs, got {window}')
  lasts = ledger.share(spec.epochs, kind.early if scoring is None else scoring)
  of_record = 'scores' in kind.takes  # of which it looks at the start; else at the trained model
  most = ledger.share(spec.epochs, kind.early) if of_record else spec.epochs
  early, least = min(lasts, most), window if kind.windowed else 1
  if early < least:
    ways = ['raise `scoring`'] * (lasts < most) + ['raise the epochs']
    ways += ['lower `window`'] * (least > 1)
    raise ValueError(
      f'score={score!r} needs {least} epochs of its scoring run, but looks at {early} of '
      f'{spec.epochs}: {" or ".join(ways)}'
    )
  return early


def _check_parts(proxy: str, schedule: str) -> None:
  """Whether there are such parts for the scoring run."""
  for key, kind, name in (('proxy', 'model', proxy), ('scoring_schedule', 'schedule', schedule)):
    try:
      if name:
        factories.find(kind, name)
    except ValueError as e:
      raise ValueError(f'{key}={name!r} is refused: {e}') from e


def _check_scores(spec: Spec, scores: Any) -> tuple[Mapping[str, Any], ...] | None:
  """What each scoring run left."""
  if scores is None:
    return None
  if isinstance(scores, tuple | Mapping):
    found = scores if isinstance(scores, tuple) else (scores,)
    for one in found:
      _check_found(spec, one)
    return found
  own = np.asarray(scores, np.float32)
  if own.shape != (spec.num_examples,) or np.isnan(own).any():
    raise ValueError(
      f'scores must be {spec.num_examples} numbers, one a training sample, got shape '
      f'{own.shape} with {np.isnan(own).sum()} NaN'
    )
  return ({'own': own},)


def _check_found(spec: Spec, found: Mapping[str, Any]) -> None:
  """Whether what a scoring run left is of as many samples as there are."""
  for name, values in found.items():
    if name == 'head_bias':  # of the network
      continue
    shape, count = np.shape(values), spec.num_examples
    if name == 'scores':
      fits, told = shape[::2] == (4, count), f'(4, ..., {count})'
    else:
      fits, told = shape[:1] == (count,), f'({count}, ...)'
    if not fits:
      raise ValueError(f'{name} of the scoring run must be {told} numbers, got shape {shape}')


def _rank(score: str, choice: str, found, setting: Setting) -> Ranked:
  """What the choice may look at, the mean of all scoring runs."""
  missing = [taken for taken in _TAKEN.get(choice, ()) if taken not in found[0]]
  if missing:
    raise ValueError(f'choice={choice} needs {", ".join(missing)} of a scoring run beside scores')

  def mean(function):
    return np.mean([function(one) for one in found], axis=0, dtype=np.float32)

  values = mean(lambda one: one['own'] if 'own' in one else score_of(score, one, setting))
  if np.isnan(values).any():
    raise ValueError(f'score={score} is NaN for {np.isnan(values).sum()} of {len(values)} samples')
  if choice in _TAKEN and not np.isfinite(values).all():
    raise ValueError(f'choice={choice} needs finite scores')
  ranked = Ranked(values, np.asarray(jax.random.bits(setting.key, values.shape, jnp.uint32)))
  if choice in ('strata', 'graph'):
    ranked = ranked._replace(aum=mean(lambda one: dynamics.aum(one['scores'], 'probability')))
  if choice == 'beta':
    p = lambda one: dynamics.data_map(one['scores'], setting.early).confidence
    ranked = ranked._replace(confidence=mean(p))
  if choice == 'graph':  # nearness in one model's features
    ranked = ranked._replace(features=np.asarray(found[0]['features']))
  return ranked
