r"""What selection costs: ratios of epoch times, taken in one process, beside counted costs.

  python benchmarks/selection.py                      # ResNet-18 width 16, batch 128
  python benchmarks/selection.py --model=resnet8 --width=4 --side=8 --examples=256 \
    --batch_size=32 --repeats=1                       # does it run at all?

Each case is run once per round, in turn, so that a slow minute hits all of them; a ratio is
that of the medians. `counted` is the ratio of the forward equivalents really spent: what the
measured ratio would be if selection, augmentation and book-keeping were free.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp
from absl import app, flags
from rich.console import Console
from rich.table import Column, Table

from jaxbudget import build, epoch, ledger
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.selectors.importance import p_sgd
from jaxbudget.selectors.ordered import ordered_sgd
from jaxbudget.selectors.selective_backprop import selective_backprop
from jaxbudget.selectors.sgd import unif_sgd
from jaxbudget.state import init_state
from jaxbudget.types import Cost, Data, Spec

FLAGS = flags.FLAGS
flags.DEFINE_integer('examples', 12_800, 'training samples, random images')
flags.DEFINE_integer('batch_size', 128, 's')
flags.DEFINE_integer('side', 32, 'pixels')
flags.DEFINE_string('model', 'resnet18', 'network')
flags.DEFINE_integer('width', 16, 'channels of its first stage')
flags.DEFINE_float('budget', 0.3, 'B')
flags.DEFINE_integer('repeats', 3, 'rounds')

# (what, case over case, target): an epoch over an epoch, or a row over a row.
RATIOS = (
  ('p_sgd / unif_sgd, epoch', 'p_sgd', 'unif_sgd', 'epoch', 1.03),
  ('selective_backprop, later / unif_sgd, epoch', 'sb', 'unif_sgd', 'epoch', 2.3),
  ('ordered_sgd compact, least q / dense, epoch', 'compact', 'dense', 'epoch', 0.5),
  ('step not taken / step taken, row', 'sb_never', 'unif_sgd', 'row', 0.36),
)


class Case:
  """A method at work: epochs on demand, with their seconds and their costs."""

  def __init__(self, selector, spec, model, augment, data, *, prepare=lambda state: state):
    optimizer = build.momentum_sgd(0.9, 1e-4)
    self.selector, self.data, self.prepare = selector, data, prepare
    self.program = epoch.make_program(spec.num_classes, model, augment, selector, optimizer)
    # Budget 1 for the cap: what is timed is whole epochs.
    self.state = init_state(0, spec, model, selector, optimizer, 1.0, 'compute')
    self.rates = jnp.full(self.state.plan.index.shape[0], 0.01)
    self.root = jax.random.key(0)
    self.run(0, stop=1)  # compiles, and warms up by one row

  def run(self, number, stop=None):
    """Runs an epoch. Returns (seconds an epoch, seconds a row, forward equivalents a row)."""
    state = self.state.replace(selector=self.prepare(self.state.selector))
    rows = self.selector.facts.rows
    jax.block_until_ready(state)
    start = time.perf_counter()
    state = epoch.begin_epoch(self.selector, state, number, self.root)
    stop = jnp.int32(rows if stop is None else stop)
    state, progress = epoch.train_rows(self.program, state, self.data, self.rates, self.root, stop)
    jax.block_until_ready((state, progress))
    seconds = time.perf_counter() - start
    self.state = state
    trained = int(progress.metrics.trained.sum())
    spent = ledger.price(Cost(int(progress.metrics.scored.sum()), trained, trained), 'compute')
    return {'epoch': (seconds, spent), 'row': (seconds / rows, spent / rows)}


def make_cases():
  """The methods to compare, compiled."""
  side, examples = FLAGS.side, FLAGS.examples
  shape = (side, side, 3)
  spec = Spec(examples, FLAGS.batch_size, 10, 1 + FLAGS.repeats, shape)
  info = Info('random', examples, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=side // 8)
  image_key, label_key = jax.random.split(jax.random.key(1))
  data = Data(
    jax.random.bits(image_key, (examples, *shape), jnp.uint8),
    jax.random.randint(label_key, (examples,), 0, 10),
  )
  model = make_model(FLAGS.model, 10, shape, FLAGS.width)
  budget, common = FLAGS.budget, (spec, model, make_augment('standard', info), data)
  history = max(1024, FLAGS.batch_size)
  smallest_q = jnp.int32(max(1, FLAGS.batch_size // 16))
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


def main(argv):
  """Measures and prints; exit code 1 if a target is missed."""
  del argv
  cases = make_cases()
  rounds = [
    {name: case.run(number) for name, case in cases.items()}
    for number in range(1, 1 + FLAGS.repeats)
  ]

  def median(name, unit, field):
    return statistics.median(results[name][unit][field] for results in rounds)

  table = Table(Column('ratio', no_wrap=True), 'seconds', 'measured', 'counted', 'target', '')
  missed = False
  for what, above, below, unit, target in RATIOS:
    times = [median(name, unit, 0) for name in (above, below)]
    counted = median(above, unit, 1) / median(below, unit, 1)
    measured = times[0] / times[1]
    missed |= measured > target
    verdict = 'missed' if measured > target else 'met'
    seconds = f'{times[0]:.3g} / {times[1]:.3g}'
    table.add_row(what, seconds, f'{measured:.3f}', f'{counted:.3f}', f'<= {target}', verdict)
  device = jax.devices()[0]
  console = Console(width=100)
  console.print(
    f'{FLAGS.model} width {FLAGS.width}, {FLAGS.side}x{FLAGS.side}, batch {FLAGS.batch_size}, '
    f'N={FLAGS.examples}, B={FLAGS.budget}, {FLAGS.repeats} rounds, {device.device_kind}'
  )
  console.print(table)
  sys.exit(int(missed))


if __name__ == '__main__':
  app.run(main)
