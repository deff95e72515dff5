"""Table 4: does Table 3 hold on SVHN and mini-ImageNet?

  jaxbudget --config=table4 --workdir=runs/study
  jaxbudget --config=table4:dataset=svhn --workdir=runs/svhn
  jaxbudget --config=table4:scale=rehearsal --workdir=runs/rehearsal

SGD, unif-SGD, p-SGD and Selective Backprop under four augmentations, B = .2, .3, .5, linear
schedule.

Cost: 80 cells x 3 seeds as released, 120.0 full trainings (3TN forward equivalents each; an
84x84 image costs about 7 of 32x32); 36 repaired variants (mixup, RICAP and Selective
Backprop) add 60.1. Rehearsal: 58 runs on digits, 453 epochs of full SGD, those of Table 3.
The paper's answer: augmentation lifts every method and makes p-SGD and unif-SGD alike.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['4'], arg)
