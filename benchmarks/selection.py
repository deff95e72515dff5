"""What selection costs: ratios of epoch times, taken in one process, beside counted costs.

  python benchmarks/selection.py                      # ResNet-18 width 16, batch 128
  python benchmarks/selection.py --smoke              # seconds: does it run?

Each case is run once per round, in turn, so that a slow minute hits all of them; a ratio is
that of one round. `by counted cost` is the ratio of the forward equivalents really spent: what the
measured ratio would be if selection, augmentation and book-keeping were free.
"""

import argparse
import sys
import time

import jax
import jax.numpy as jnp
import record
from record import Figure

from jaxbudget import engine, ledger
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors.importance import p_sgd
from jaxbudget.selectors.ordered import ordered_sgd
from jaxbudget.selectors.selective_backprop import selective_backprop
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.types import Cost, Data, Spec

# (what, case over case, unit, target): an epoch over an epoch, or a row over a row.
RATIOS = (
  ('p_sgd epoch / uniform epoch', 'p_sgd', 'unif_sgd', 'epoch', 1.03),
  ('selective_backprop epoch / uniform epoch', 'sb', 'unif_sgd', 'epoch', 2.3),
  ('ordered_sgd compact at its least q / dense', 'compact', 'dense', 'epoch', 0.5),
  ('row without a step / uniform row', 'sb_never', 'unif_sgd', 'row', 0.36),
)


class Case:
  """A method at work: epochs on demand, with their seconds and their costs."""

  def __init__(self, selector, spec, model, augment, data, *, prepare=lambda state: state):
    optimizer = make_optimizer()
    self.data, self.prepare = data, prepare
    budget = ledger.as_budget(1, 'compute')  # for the cap: what is timed is whole epochs
    self.trained = engine.start(spec, model, augment, selector, optimizer, budget)
    self.run(0, stop=1)  # compiles, and warms up by one row

  def run(self, number, stop=None):
    """Runs an epoch. Returns (seconds, forward equivalents) of the epoch and of a row."""
    state = self.trained.state
    state = state.replace(selector=self.prepare(state.selector))
    rows = self.trained.selector.facts.rows
    jax.block_until_ready(state)
    start = time.perf_counter()
    self.trained, progress = engine.run_epoch(
      self.trained._replace(state=state), self.data, number, 0.01, stop
    )
    jax.block_until_ready((self.trained.state, progress))
    seconds = time.perf_counter() - start
    trained = int(progress.metrics.trained.sum())
    spent = ledger.price(Cost(int(progress.metrics.scored.sum()), trained, trained), 'compute')
    return {'epoch': (seconds, spent), 'row': (seconds / rows, spent / rows)}


def make_cases(flags):
  """The methods to compare, compiled."""
  side, examples = flags.side, flags.examples
  shape = (side, side, 3)
  spec = Spec(examples, flags.batch_size, 10, 1 + flags.repeats, shape)
  info = Info('random', examples, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=side // 8)
  image_key, label_key = jax.random.split(jax.random.key(1))
  data = Data(
    jax.random.bits(image_key, (examples, *shape), jnp.uint8),
    jax.random.randint(label_key, (examples,), 0, 10),
  )
  model = make_model(flags.model, 10, shape, width=flags.width)
  budget, common = flags.budget, (spec, model, make_augment('standard', info), data)
  history = max(1024, flags.batch_size)
  smallest_q = jnp.int32(max(1, flags.batch_size // 16))
  return {
    'unif_sgd': Case(unif_sgd(spec, budget), *common),
    'p_sgd': Case(p_sgd(spec, budget), *common),
    'sb': Case(selective_backprop(spec, budget, prime=False, history=history), *common),
    'sb_never': Case(
      selective_backprop(spec, budget, b=1e9, prime=False, history=history), *common
    ),
    'dense': Case(ordered_sgd(spec, 1.0), *common),
    'compact': Case(
      ordered_sgd(spec, 1.0, backward='compact'),
      *common,
      prepare=lambda state: state._replace(q=jnp.copy(smallest_q)),
    ),
  }


def ratio(rounds, above, below, unit, field):
  """A ratio of two cases in each round."""
  return [results[above][unit][field] / results[below][unit][field] for results in rounds]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--examples', type=int, default=3_840, help='training samples')
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--side', type=int, default=32, help='pixels')
  parser.add_argument('--model', default='resnet18')
  parser.add_argument('--width', type=int, default=16, help='channels of its first stage')
  parser.add_argument('--budget', type=float, default=0.3)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--smoke', action='store_true', help='tiny sizes; nothing is stored')
  flags = parser.parse_args()
  if flags.smoke:
    flags.examples, flags.batch_size, flags.side, flags.repeats = 256, 32, 8, 1
    flags.model, flags.width = 'resnet8', 4
  cases = make_cases(flags)
  rounds = [
    {name: case.run(number) for name, case in cases.items()}
    for number in range(1, 1 + flags.repeats)
  ]
  table = []
  for what, above, below, unit, target in RATIOS:
    table.append(Figure(what, ratio(rounds, above, below, unit, 0), 'x', at_most=target))
    table.append(Figure(f'{what}, by counted cost', ratio(rounds, above, below, unit, 1), 'x'))
  if flags.smoke:
    return record.show(table)
  return record.store('selection', table, {'flags': vars(flags), 'rounds': rounds})


if __name__ == '__main__':
  sys.exit(main())
