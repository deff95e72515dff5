"""Importance sampling by a table of gradient norms that is refreshed now and then, or stands.

Alain et al., `Variance Reduction in SGD by Distributed Importance Sampling
<https://arxiv.org/abs/1511.06481>`_, 2016; Zhao and Zhang, `Stochastic Optimization with Importance
Sampling for Regularized Loss Minimization <https://arxiv.org/abs/1401.2753>`_, 2015.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger, registry, scores
from jaxbudget.ledger import Budget
from jaxbudget.selectors import table
from jaxbudget.selectors.sgd import as_plan, plain_facts
from jaxbudget.types import Need, Needed, Outputs, Scan, Selector, Spec

TABLES = ('latest', 'features')
_UNKNOWN = -1.0


def _remember(state, batch, outputs):
  return scores.remember(state, batch, scores.own_bound(outputs, batch.part_label))


def _refresh(state, key, seen):
  """Bounds of all samples."""
  del state, key
  return scores.own_bound(Outputs(seen.logits, seen.loss), seen.label[:, None])[:, 0]


def gradient_norm(
  spec: Spec,
  budget: Budget | float,
  features: Needed = None,
  *,
  table_of: Literal['latest', 'features'] = 'latest',
  every: int = 2,
  smoothing: float = 0.1,
  weights: Literal['none', 'inverse'] = 'inverse',
  replacement: bool = True,
  mix: float = 1.0,
) -> Selector:
  """floor(N*B) samples an epoch, drawn by the latest bound of their gradient's norm.

  The bound is ||softmax - target||_2 (the original: the norm of the whole gradient, computed by
  helpers beside the training). It is measured for all samples every few epochs, and on the pass
  of every step. Before the first look everybody is as likely.

  Args:
    spec: sizes of the run.
    budget: B.
    features: f32[N,D] of a trained net, for a table of them; or a dict of them and `head_bias`,
      see `Model`.
    table_of: `latest` bounds; or `features`, a table that stands before the run, as Zhao and Zhang
      have it of linear models: sqrt(1 + ||h||^2), ||h|| without a bias, by which the last layer's
      gradient is bounded whatever the model says. Looks at nobody.
    every: epochs between two looks at all samples; the first comes before the second epoch.
    smoothing: c, added to every bound (at most 1.42); large is uniform.
    weights: `inverse` makes the mean loss unbiased, or `none`.
    replacement: draw with replacement; without, the draw is systematic if weights are inverse.
    mix: lam, the share of chances that goes by the bounds; 1 - lam is uniform.

  Returns:
    A selector.

  Raises:
    ValueError: an option out of range, no full batch fits, or a compute budget that the looks
      alone use up.
  """
  table.check(weights, mix)
  registry.check('table_of', table_of, TABLES)
  stands = table_of == 'features'
  lengths = None if features is None else _lengths(features)
  if every < 1:
    raise ValueError(f'every={every} must be 1 or more epochs')
  if not 0 <= smoothing < math.inf:
    raise ValueError(f'smoothing={smoothing} must be 0 or more')
  looks = 0 if stands else len(range(1, spec.epochs, every))
  scored = looks * spec.num_examples
  samples = ledger.trainable(spec, budget, scored, 'gradient_norm')
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(
    scan=Scan(every, first=1, wants=('logits',)) if looks else Scan(),
    planned=facts.planned._replace(scored=scored),
    distinct=not replacement,
    asks=() if stands else ('probabilities', 'gradient_norm'),
    uniform_on_ties=not stands or lengths is None or bool(np.ptp(lengths) == 0),
  )
  padded = spec.num_examples // facts.candidates

  def init(key):
    del key
    if not stands:
      return jnp.full(spec.num_examples, _UNKNOWN, jnp.float32)
    if lengths is None:
      raise ValueError("gradient_norm with table_of='features' cannot start without features")
    return jnp.asarray(lengths, jnp.float32)

  def plan(bound, key, epoch):
    del epoch
    known = jnp.all(bound >= 0)
    value = jnp.where(known, bound + jnp.float32(smoothing), jnp.ones_like(bound))
    index, weight = table.weighted(key, value, samples, weights, replacement, mix)
    return bound, as_plan(index, facts.rows, facts.candidates, padded, weight)

  if stands:
    return Selector(facts, init, plan)
  return Selector(facts, init, plan, update=_remember, scan=_refresh)


def _lengths(found: Any) -> np.ndarray:
  """Lengths of features, with a 1 before them if there is a bias, which is given that: f32[N]."""
  features, bias = found, True
  if isinstance(found, Mapping):
    features, bias = found['features'], found['head_bias']
  return np.sqrt(int(bias) + (np.asarray(features, np.float32) ** 2).sum(axis=1))


def _needs(options: Mapping[str, Any]) -> tuple[Need, ...]:
  stands = options['table_of'] == 'features'
  return (Need('features', ('features', 'head_bias')),) if stands else ()


gradient_norm.needs = _needs
