"""What is allowed but seldom meant is said before anything is trained."""

import dataclasses

from jaxbudget.lab import config
from jaxbudget.lab.sweep import doubts, inputs


def test_few_steps_and_large_images_are_doubted():
  values = dict(dataset='digits', model='resnet8', epochs=10, batch_size=32, seeds=2)
  grid = {'budget': 0.1}, {'budget': 0.3}
  runs = inputs.plan_runs(config.defaults(**values, grid=grid))[1]
  (few,) = doubts.doubts(runs)
  assert few.startswith(
    '2 of 4 runs take fewer than 100 steps, the fewest 40 (unif_sgd at budget 0'
  )
  assert doubts.doubts(runs[2:]) == []
  large = dataclasses.replace(runs[2].info, image_shape=(224, 300, 3))
  (said,) = doubts.doubts([dataclasses.replace(run, info=large) for run in runs[2:]])
  assert 'resnet8' in said and '224x300 cost 66 times' in said and 'image_size=32' in said
