"""Core-sets: any score, any choice, at what they cost, against fresh samples that cost the same.

  python launch.py --config=configs/coresets.py --workdir=runs/coresets
  python launch.py --config=configs/coresets.py --workdir=runs/coresets --only='budget=0.3'

Every score with the highest kept and with strata over all levels (CCS), at 10% and 30% of real
8x8 digits; the methods of papers by their own choices (Moderate, DUAL, D2, DRoP, Data Diet's
window); CRAIG, GradMatch and GLISTER, which choose anew every 5 epochs, and RCAP; random subsets,
and uniform sampling at B = f and at what each of the others costs in all.

Cost: 85 cells x 2 seeds and 14 scoring runs of a small network, 38.5 full trainings of 20 epochs.
The plan's column `unif B` says what a subset costs if it alone pays for its scores, and if all
that use them share.
Expected: at 10% hard samples alone lose to random ones, strata lose less; no fixed subset beats
fresh uniform samples, and none pays for a full scoring run that it does not share.
"""

from jaxbudget.lab import config

EPOCHS, PERIOD = 20, 5
SHARES = (0.1, 0.3)
SCORES = (
  'least_confidence', 'entropy', 'margin', 'kcenter', 'forgetting', 'el2n', 'grand',
  'grand_last_layer', 'aum', 'data_map', 'dyn_unc', 'dual', 'moderate', 'herding',
)  # fmt: skip
# DUAL looks at 15% of the epochs: at 3 of these.
OPTIONS = {'dual': {'window': 3}}
STRATA = {0.1: {'cutoff': 0.3}, 0.3: {'cutoff': 0.1}}  # of CCS, for CIFAR-10
PAPERS = (
  {'score': 'moderate', 'choice': 'middle'},
  {'score': 'dual', 'choice': 'beta', **OPTIONS['dual']},
  {'score': 'forgetting', 'choice': 'graph', 'cutoff': 0.4},
  {'score': 'none', 'choice': 'random', 'quota': 'drop'},
  {'score': 'none', 'choice': 'random', 'quota': 'proportional'},
  {'score': 'el2n', 'choice': 'offset', 'offset': 0.5},
)
RESELECT = ('craig', 'gradmatch', 'glister')


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells."""
  found = config.defaults(
    name='coresets',
    dataset='digits',
    model='resnet8',
    epochs=EPOCHS,
    batch_size=32,
    seeds=2,
    evaluate_every=5,
    grid=tuple(_cells()),
  )
  config.override(found, config.parse_arg(arg))  # refuses what the grid sets
  return found


def _cells():
  yield {'selector': 'sgd', 'budget': 1.0}
  looks = EPOCHS // PERIOD / (3 * EPOCHS)
  for share in SHARES:
    # What costs the same: a subset, its looks by the way, DUAL's scoring run on top.
    for budget in (share, round(share + looks, 4), round(share + 0.15, 4)):
      yield {'selector': 'unif_sgd', 'budget': budget}
    yield {'selector': 'random_subset', 'budget': share}
    yield {'selector': 'rcap', 'budget': share}
    for name in RESELECT:
      yield {'selector': name, 'budget': share, 'selector_options': {'period': PERIOD}}
    for score in SCORES:
      given = {'score': score, **OPTIONS.get(score, {})}
      yield _coreset(share, given)
      yield _coreset(share, {**given, 'choice': 'strata', **STRATA[share]})
    for given in PAPERS:
      yield _coreset(share, given)


def _coreset(share, options):
  return {'selector': 'coreset', 'budget': share, 'selector_options': options}
