"""The two presets: the study as its code was released, and with that code's slips repaired.

They differ in the switches below and in nothing else (fidelity.md section 4; prose and
evidence in docs/deviations.md). An option that a config sets itself wins over the preset.
"""

from collections.abc import Mapping
from typing import Any

PRESETS = {
  'released': {
    'credit': 'first',  # Q1, D7: who is credited when a picture shows several samples
    'unseen': 'code',  # D4: c-SGD ranks the unseen last
    'label_weights': 'first',  # Q3: label weights of the first queue entry for all
    'mix_image': False,  # Q2: Selective Backprop + mixup leaves the images alone
    'fold': True,  # Q2: and folds lambda to max(lambda, 1 - lambda)
    'short_warmup': True,  # D6: n-1 epochs instead of n
  },
  'corrected': {
    'credit': 'aligned',
    'unseen': 'max_c',
    'label_weights': 'own',
    'mix_image': True,
    'fold': False,
    'short_warmup': False,
  },
}


MIXING = ('mixup', 'ricap')  # augmentations that show several samples in one picture


def affected(selector: str, augment: str, options: Mapping[str, Any]) -> bool:
  """Whether a cell is another run under the other preset.

  Args:
    selector: name of the method.
    augment: name of the augmentation.
    options: of both, resolved.

  Returns:
    False where both presets give the same run.
  """
  return any(
    (
      augment in MIXING and ('credit' in options or 'label_weights' in options),
      'unseen' in options,
      selector == 'selective_backprop' and 'mix_image' in options,
      bool(options.get('warmup')),
    )
  )


def resolve(
  preset: str, selector: str, augment: str, selector_options: dict, augment_options: dict
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Lets a preset decide what a config leaves open.

  Where a switch makes no difference (credit without mixing) both presets give the same
  value, so that the runs they share are the same run.

  Args:
    preset: a key of `PRESETS`.
    selector: name of the method.
    augment: name of the augmentation.
    selector_options: all options of the method, None where the config is silent.
    augment_options: all options of the augmentation, likewise.

  Returns:
    (selector options, augment options); what is still None is the method's own default.
  """
  switches = PRESETS[preset]
  selector_options, augment_options = dict(selector_options), dict(augment_options)

  def decide(options, key, relevant):
    if key in options and options[key] is None:
      options[key] = (switches if relevant else PRESETS['corrected'])[key]

  decide(selector_options, 'credit', augment in MIXING)
  decide(selector_options, 'label_weights', augment in MIXING)
  decide(selector_options, 'unseen', True)
  if selector_options.get('warmup') and switches['short_warmup']:
    selector_options['warmup'] -= 1
  for key in ('mix_image', 'fold'):
    decide(augment_options, key, selector == 'selective_backprop')
  return selector_options, augment_options


def as_asked(preset: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Options as a config sets them, where a preset changes what it is given (D6).

  Args:
    preset: a key of `PRESETS`.
    options: as `resolve` gave them.

  Returns:
    The options, the same under every preset.
  """
  short = PRESETS.get(preset, {}).get('short_warmup') and options.get('warmup')
  return {**options, 'warmup': options['warmup'] + 1} if short else dict(options)
