"""Scores by name: what each is computed from, and how."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxbudget.scoring import distances, dynamics, trained
from jaxbudget.types import Key


class Setting(NamedTuple):
  """What a score may depend on besides the scoring run.

  Attributes:
    key: for what is left to chance.
    samples: that will be kept.
    early: epochs at the start of training, for scores that look at no more.
    window: epochs in a window.
  """

  key: Key
  samples: int
  early: int
  window: int


Found = Mapping[str, Any]  # what the scoring run left, by the names of `Need.takes`


class Score(NamedTuple):
  """A score of samples, high for those to keep first.

  Attributes:
    takes: what it is computed from: `scores` is the record of `dynamics_sgd`.
    compute: `(found, setting) -> f32[N]`.
    early: share of the full run after which its paper scores.
    windowed: it needs a window of epochs.
    runs: scoring runs that its paper averages.
  """

  takes: tuple[str, ...]
  compute: Callable[[Found, Setting], np.ndarray]
  early: float = 1.0
  windowed: bool = False
  runs: int = 1


def _recorded(function, early=1.0, windowed=False):
  return Score(('scores',), lambda f, s: function(f['scores'], s), early, windowed)


def _predicted(function):
  return Score(('logits',), lambda f, s: function(f['logits']))


def _kcenter(found: Found, setting: Setting) -> np.ndarray:
  features = jnp.asarray(found['features'])
  order = np.asarray(distances.kcenter_order(features, setting.key, setting.samples))
  rank = np.zeros(len(features), np.float32)
  rank[order] = np.arange(len(order), 0, -1)
  return rank


ScoreName = Literal[
  'forgetting', 'aum', 'aum_probability', 'aum_last', 'data_map', 'dyn_unc', 'dual',
  'el2n_training', 'least_confidence', 'entropy', 'margin', 'el2n', 'grand', 'grand_last_layer',
  'kcenter', 'moderate', 'herding', 'none',
]  # fmt: skip
SCORES: dict[ScoreName, Score] = {
  'none': Score(('label',), lambda f, s: np.zeros(len(f['label']), np.float32)),
  # Of the record of training.
  'forgetting': _recorded(lambda record, s: dynamics.forgetting(record)),
  'aum': _recorded(lambda record, s: -dynamics.aum(record)),
  'aum_probability': _recorded(lambda record, s: -dynamics.aum(record, 'probability')),
  'aum_last': _recorded(lambda record, s: -dynamics.aum(record, 'last')),
  'data_map': _recorded(lambda record, s: dynamics.data_map(record).variability),
  'dyn_unc': _recorded(lambda record, s: dynamics.dyn_unc(record, s.window), windowed=True),
  # 30, and 10, of 200 epochs.
  'dual': _recorded(lambda record, s: dynamics.dual(record, s.window, s.early), 0.15, True),
  'el2n_training': _recorded(lambda record, s: dynamics.el2n_training(record, s.early), 0.05),
  # Of the trained model's predictions and gradients; after 20 of 200 epochs.
  'least_confidence': _predicted(trained.least_confidence),
  'entropy': _predicted(trained.entropy),
  'margin': _predicted(trained.margin),
  'el2n': Score(
    ('logits', 'label'), lambda f, s: trained.el2n(f['logits'], f['label']), 0.1, runs=10
  ),
  'grand': Score(('gradient_norm',), lambda f, s: f['gradient_norm'], 0.1, runs=10),
  'grand_last_layer': Score(
    ('logits', 'features', 'head_bias', 'label'),
    lambda f, s: trained.grand_last_layer(
      f['logits'], f['label'], f['features'], f.get('head_bias', True)
    ),
    0.1,
    runs=10,
  ),
  # Of where its features lie.
  'kcenter': Score(('features',), _kcenter),
  'moderate': Score(
    ('features', 'label'), lambda f, s: distances.moderate(f['features'], f['label'])
  ),
  'herding': Score(
    ('features', 'label'), lambda f, s: distances.herding(f['features'], f['label'], s.samples)
  ),
}


def score_of(name: str, found: Found, setting: Setting) -> np.ndarray:
  """Scores all samples.

  Args:
    name: a key of `SCORES`.
    found: what the scoring run left.
    setting: of the choice to be made.

  Returns:
    f32[N], high for samples to keep first.
  """
  return np.asarray(SCORES[name].compute(found, setting), np.float32)
