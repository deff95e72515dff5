"""Which schedule of the learning rate does best under which budget, on real 8x8 digits.

  python launch.py --config=configs/schedules.py --workdir=runs/schedules
  python launch.py --config=configs/schedules.py --workdir=runs/schedules --only=budget=0.05

All schedules by name, and the other forms of three of them, for fresh uniform samples at
B = .05 to .5 and for SGD. Each is a shape over the progress of the run, so that a budget
compresses all of it.

Cost: 96 cells x 2 seeds of a small network, 66.3 full trainings of 10 epochs.
Expected: those that end near zero beat a constant rate, the more the smaller the budget; among
them the differences are within the noise between seeds (Li et al., 2020, found linear as good as
any).
"""

from jaxbudget.lab import config

BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5)
SCHEDULES = (
  ('linear', {}), ('step', {}), ('cosine', {}), ('constant', {}), ('poly', {}), ('exp', {}),
  ('htd', {}), ('rex', {}), ('clr', {}), ('clr', {'mode': 'triangular2', 'cycles': 2}),
  ('clr', {'mode': 'exp_range', 'cycles': 2}), ('onecycle', {}), ('onecycle', {'form': 'fastai'}),
  ('wsd', {}), ('airbench', {}), ('dawn', {}),
)  # fmt: skip


def get_config(arg: str | None = None):
  """Reads `key=value,...` for all cells."""
  cells = [('unif_sgd', budget) for budget in BUDGETS] + [('sgd', 1.0)]
  grid = [
    {
      'selector': selector, 'budget': budget, 'schedule': name,
      **({'schedule_options': options} if options else {}),
    }
    for selector, budget in cells
    for name, options in SCHEDULES
  ]  # fmt: skip
  found = config.defaults(
    name='schedules',
    dataset='digits',
    model='resnet8',
    epochs=10,
    batch_size=32,
    seeds=2,
    evaluate_every=5,
    grid=tuple(grid),
  )
  config.override(found, config.parse_arg(arg))  # refuses what the grid sets
  return found
