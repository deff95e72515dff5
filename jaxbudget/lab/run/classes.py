"""Accuracy class by class, and whether it is any better than guessing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxbudget import data

_SURE = 2.0  # standard errors


def number(info: data.Info) -> int:
  """How many classes data have; 0 where labels are numbers."""
  return 0 if info.label_mean else info.num_classes


def counts(label: np.ndarray, info: data.Info) -> np.ndarray:
  """Samples of each class.

  Args:
    label: of a split.
    info: of the data set.

  Returns:
    i64[C]; i64[0] where labels are numbers.
  """
  classes = number(info)
  return np.bincount(label, minlength=classes) if classes else np.zeros(0, np.int64)


def summary(tested: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
  """What result.json says of classes.

  Args:
    tested: i64[C], test samples of each.
    correct: i64[C], those that were told right.

  Returns:
    In percent `class_accuracy` (None for a class without a test sample), its mean
    `balanced_accuracy`, `majority_share` of the most frequent class, and `guessing`: whether both
    accuracies are within two standard errors of what guessing gives. Nothing where there are no
    classes, or where right answers were not counted by class.
  """
  if not tested.sum() or correct.shape != tested.shape:
    return {}
  there = tested > 0
  each = correct[there] / tested[there]
  share = tested.max() / tested.sum()
  chance = 1 / len(tested)
  error = np.sqrt(share * (1 - share) / tested.sum())
  balanced_error = np.sqrt(chance * (1 - chance) * np.sum(1 / tested[there])) / there.sum()
  guessing = (
    correct.sum() / tested.sum() <= share + _SURE * error
    and each.mean() <= chance + _SURE * balanced_error
  )
  percent = [
    100 * c / n if n else None for c, n in zip(correct.tolist(), tested.tolist(), strict=True)
  ]
  return {
    'class_accuracy': percent,
    'balanced_accuracy': 100 * float(each.mean()),
    'majority_share': 100 * float(share),
    'guessing': bool(guessing),
  }


def warning(result: Mapping[str, Any]) -> str:
  """What to say behind the accuracy of a run that is no better than guessing; '' of others."""
  if not result.get('guessing'):
    return ''
  share, classes = result['majority_share'], len(result['class_accuracy'])
  return (
    f', no better than guessing: the most frequent of {classes} classes is {share:.2f} % of the '
    'test samples'
  )
