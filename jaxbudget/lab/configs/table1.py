"""Table 1: do published methods save time without losing accuracy, as they promise?

  jaxbudget --config=table1 --workdir=runs/study
  jaxbudget --config=table1:scale=rehearsal --workdir=runs/rehearsal

SGD, p-SGD, c-SGD, Selective Backprop and Ordered SGD on CIFAR-10 and CIFAR-100 at the budgets
their authors chose (B = .7 to 1), step schedule; p-SGD and c-SGD start with 70 uniform epochs.

Cost: 10 cells x 3 seeds as released, 26.1 full trainings (3TN forward equivalents each);
6 repaired variants add 14.1. Rehearsal: 14 runs on digits, 171 epochs of full SGD.
The paper's answer: barely. All lose a little; the time saved is what the budget leaves out,
and Ordered SGD saves none.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['1'], arg)
