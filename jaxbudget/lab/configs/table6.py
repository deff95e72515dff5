"""Table 6: what is left at extreme budgets?

  jaxbudget --config=table6 --workdir=runs/study
  jaxbudget --config=table6:scale=rehearsal --workdir=runs/rehearsal

unif-SGD, p-SGD and Selective Backprop under four augmentations on CIFAR-10, CIFAR-100 and
mini-ImageNet, B = .05 and .1, linear schedule.

Cost: 72 cells x 3 seeds as released, 40.3 full trainings (3TN forward equivalents each); 36
repaired variants (mixup, RICAP and Selective Backprop) add 32.3. Rehearsal: 36 runs on digits,
130 epochs of full SGD.
The paper's answer: augmentation that paid at larger budgets hurts at B = .05, RandAugment most;
Selective Backprop collapses under RandAugment and RICAP.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['6'], arg)
