"""Table 3: is variety in the images worth more than the choice of images?

  jaxbudget --config=table3 --workdir=runs/study
  jaxbudget --config=table3:augment=ricap,dataset=cifar100 --workdir=runs/x
  jaxbudget --config=table3:scale=rehearsal --workdir=runs/rehearsal

SGD, unif-SGD, p-SGD and Selective Backprop under four augmentations on CIFAR-10 and
CIFAR-100, B = .2, .3, .5, linear schedule.

Cost: 80 cells x 3 seeds as released, 120.0 full trainings (3TN forward equivalents each); 36
repaired variants (mixup, RICAP and Selective Backprop) add 60.1. The standard rows are runs of
Table 2. Rehearsal: 58 runs on digits, 453 epochs of full SGD.
The paper's answer: yes. unif-SGD with RICAP at B = .3 reaches full SGD without it (94.93 and
94.80 on CIFAR-10, 76.27 and 75.44 on CIFAR-100).
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['3'], arg)
