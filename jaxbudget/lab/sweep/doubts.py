"""What is allowed, but seldom meant: said before anything is trained."""

import collections
from collections.abc import Iterable

from jaxbudget import registry
from jaxbudget.lab.run.run import Run

_LARGE = 112  # pixels of the shorter side, from which a network for 32 is out of its element
_FEW = 100  # steps
_FOR_OTHERS = ('mlp', 'transformer', 'resnet50')  # networks of ours that are not for small images


def doubts(runs: Iterable[Run]) -> list[str]:
  """Doubts about runs, each kind in one sentence.

  Args:
    runs: of a plan.

  Returns:
    Sentences; none where there is nothing to doubt.
  """
  runs = list(runs)
  found = []
  small = set(registry.names('model')) - set(_FOR_OTHERS)
  large = collections.Counter(
    (run.cell.model, *run.info.image_shape[:2])
    for run in runs
    if run.cell.model in small and len(run.info.image_shape) == 3
    and min(run.info.image_shape[:2]) >= _LARGE
  )  # fmt: skip
  for model, height, width in large:
    times = height * width / 32**2
    found.append(
      f'{model} is made for images of about 32 pixels and begins at full resolution: '
      f'{height}x{width} cost {times:.0f} times as much, and each output sees a small part of the '
      'image; dataset_options.image_size=32 or 64 shrinks a folder of images'
    )
  few = [(_steps(run), run) for run in runs if _steps(run) < _FEW]
  if few:
    fewest, run = min(few, key=lambda pair: pair[0])
    found.append(
      f'{len(few)} of {len(runs)} runs take fewer than {_FEW} steps, the fewest {fewest} '
      f'({run.cell.selector} at budget {run.cell.budget:g}): more epochs or a smaller batch_size '
      'give a network time to learn'
    )
  return found


def _steps(run: Run) -> int:
  facts = run.parts.selector.facts
  return facts.epochs * facts.steps
