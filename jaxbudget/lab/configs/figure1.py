"""Figure 1: fixed subsets against fresh ones, and how evenly p-SGD samples.

  jaxbudget --config=figure1 --workdir=runs/study
  jaxbudget --config=figure1:method=coreset+random_subset,dataset=cifar10
  jaxbudget --config=figure1:scale=rehearsal --workdir=runs/rehearsal

(a), (b): a random subset, a core-set (most forgotten samples) and unif-SGD at B = .2, .3, .5,
.7 on CIFAR-10 and CIFAR-100, step schedule. (c), (d): H(c), the entropy of how often p-SGD
trained on each sample, at B = .3, without smoothing, without averaging, with RICAP.

Cost: 36 cells x 3 seeds and two scoring runs as released, 47.5 full trainings (3TN forward
equivalents each); 2 repaired variants (RICAP) add 1.8. A scoring run is a full training: the
plan shows it charged to the core-sets and not. Rehearsal: 20 runs on digits, 130 epochs of
full SGD.
The paper's answer: a fixed subset loses far more than a fresh one of the same size; the less
p-SGD insists on the hard samples, the nearer it is to uniform sampling.
"""

from jaxbudget.lab.paper import study


def get_config(arg: str | None = None):
  """Reads `scale=...` and what narrows the table, see `study.get_config`."""
  return study.get_config(['figure1'], arg)
