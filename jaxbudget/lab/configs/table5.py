"""Table 5: what does a run take, by method and augmentation, at B = .3?

  jaxbudget --config=table5 --workdir=runs/study
  jaxbudget --config=table5:scale=rehearsal --workdir=runs/rehearsal

unif-SGD, p-SGD and Selective Backprop under four augmentations on CIFAR-100, linear schedule,
and full SGD (a run of Table 3) as what times are relative to. Compare runs of one device only.

Cost: 13 cells x 3 seeds as released, 17.8 full trainings (3TN forward equivalents each); 6
repaired variants add 9.4. All are runs of Table 3. Rehearsal: 19 runs on digits, 138 epochs
of full SGD.
The paper's answer: p-SGD and augmentation are free (47 to 49 minutes, 141 for full SGD);
Selective Backprop takes twice as long (91 to 95), for it passes every sample forward.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['5'], arg)
