"""The two presets: the study as its code was released, and with that code's slips repaired.

They differ in the switches below and in nothing else (fidelity.md section 4; prose and
evidence in docs/deviations.md). A switch belongs to one method, augmentation or network of
ours: others may call an option of theirs `credit` or `warmup`, no preset touches it. An option
that a config sets itself wins over the preset.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxbudget.factories import Part

PRESETS = ('released', 'corrected')


class Switch(NamedTuple):
  """An option that the presets set otherwise.

  Attributes:
    part: the method, augmentation or network whose option it is.
    option: its name.
    released: what the released code did.
    corrected: what repairs it.
    mixed: only where a picture shows several samples.
    beside: only with this method; empty: with any.
  """

  part: str
  option: str
  released: Any
  corrected: Any
  mixed: bool = False
  beside: str = ''


SWITCHES = (
  # Q1, D7: who is credited when a picture shows several samples.
  Switch('p_sgd', 'credit', 'first', 'aligned', mixed=True),
  Switch('c_sgd', 'credit', 'first', 'aligned', mixed=True),
  # D4: c-SGD ranks the unseen last.
  Switch('c_sgd', 'unseen', 'code', 'max_c'),
  # Q3: label weights of the queue's head for all.
  Switch('selective_backprop', 'label_weights', 'head', 'own', mixed=True),
  # An epoch's last accepted samples are trained on as a partial batch, not kept for the next.
  Switch('selective_backprop', 'tail', 'flush', 'carry'),
  # D11: a row has the learning rate of the next.
  Switch('selective_backprop', 'lr_ahead', True, False),
  # Q2: Selective Backprop + mixup leaves the images alone, and folds lambda.
  Switch('mixup', 'mix_image', False, True, beside='selective_backprop'),
  Switch('mixup', 'fold', True, False, beside='selective_backprop'),
  # BatchNorm's running variance is PyTorch's.
  Switch('resnet18', 'bn_running_var', 'unbiased', 'biased'),
  Switch('resnet8', 'bn_running_var', 'unbiased', 'biased'),
)
WARMED = ('p_sgd', 'c_sgd')  # D6: `released` warms up for n-1 epochs instead of n


def options() -> set[str]:
  """Names of the options that a preset may decide."""
  return {switch.option for switch in SWITCHES}


def resolve(
  preset: str, part: Part, given: Mapping[str, Any], selector: str, mixes: bool
) -> dict[str, Any]:
  """Lets a preset decide what a config leaves open.

  Where a switch makes no difference (credit without mixing) both presets leave the option
  alone, so that the runs they share are the same run.

  Args:
    preset: one of `PRESETS`.
    part: a method, an augmentation or a network.
    given: its options, as the config sets them.
    selector: name of the method.
    mixes: whether a picture shows several samples; of an augmentation it is not asked.

  Returns:
    The options given, and those that the preset sets.
  """
  decided = dict(given)
  if part.outside:
    return decided
  for switch in SWITCHES:
    if switch.part == part.short and _matters(switch, selector, mixes):
      value = switch.released if preset == 'released' else switch.corrected
      decided.setdefault(switch.option, value)
  if part.short in WARMED and preset == 'released' and given.get('warmup'):
    decided['warmup'] = given['warmup'] - 1
  return decided


def _matters(switch: Switch, selector: str, mixes: bool) -> bool:
  return (mixes or not switch.mixed) and switch.beside in ('', selector)


def mixes(record: Mapping[str, Any]) -> bool:
  """Whether pictures of a run show several samples.

  Args:
    record: its entry in plan.json, or its config.json; those of older runs do not say it, but
      there were two such augmentations.
  """
  parts = record.get('parts')
  known = isinstance(parts, int | float) and parts == parts  # NaN in a table of older runs
  return parts > 1 if known else record.get('augment') in ('mixup', 'ricap')


def affected(record: Mapping[str, Any]) -> bool:
  """Whether a run is another one under the other preset.

  Args:
    record: its entry in plan.json: read are `selector`, `augment`, `options` and `parts`.

  Returns:
    False where both presets give the same run.
  """
  selector = record['selector']
  parts = (selector, *str(record['augment']).split('+'))
  switched = any(s.part in parts and _matters(s, selector, mixes(record)) for s in SWITCHES)
  return switched or (selector in WARMED and bool(record['options'].get('warmup')))


def as_asked(preset: str, selector: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Options as a config sets them, where a preset changes what it is given (D6).

  Args:
    preset: one of `PRESETS`.
    selector: name of the method.
    options: as they are resolved.

  Returns:
    The options, the same under every preset.
  """
  warmup = options.get('warmup')  # of a file, which may hold anything
  short = preset == 'released' and selector in WARMED and isinstance(warmup, int) and warmup
  return {**options, 'warmup': warmup + 1} if short else dict(options)
