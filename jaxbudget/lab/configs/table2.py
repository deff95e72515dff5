"""Table 2: under a budget, does it matter which samples one sees, or the schedule?

  jaxbudget --config=table2 --workdir=runs/study
  jaxbudget --config=table2:dataset=cifar10,method=p_sgd+unif_sgd,budget=0.3
  jaxbudget --config=table2:scale=rehearsal --workdir=runs/rehearsal

SGD and six budgeted methods on CIFAR-10 and CIFAR-100, B = .2, .3, .5, step and linear
schedules, standard augmentation.

Cost: 76 cells x 3 seeds as released, 95.9 full trainings (3TN forward equivalents each); 24
repaired variants (c-SGD and Selective Backprop) add 36.0. Rehearsal: 50 runs on digits, 325
epochs of full SGD.
The paper's answer: the linear schedule lifts every method at equal budget. Only Selective
Backprop leads clearly, on CIFAR-10, and its scoring passes, a third of a full training, are
not in its budget.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['2'], arg)
