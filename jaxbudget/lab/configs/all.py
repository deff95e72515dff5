"""The whole study: Tables 1-6 and Figure 1, every experiment once.

  jaxbudget --config=all --stage=plan
  jaxbudget --config=all:table=2+3,dataset=cifar10 --workdir=runs/study
  jaxbudget --config=all:scale=rehearsal --workdir=runs/rehearsal

Cost: 321 cells x 3 seeds as released (two scoring runs among them have one seed), 395.9 full
trainings (3TN forward equivalents each); 131 repaired variants add 188.2. Rehearsal: 155 runs
on digits, 1,020 epochs of full SGD.
The paper's answer: under a fixed budget no way of choosing samples beats uniform sampling
consistently, and augmentation is worth more than any.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the study, see `study.get_config`."""
  return study.get_config(study.TABLES, arg)
