"""What p-SGD itself costs: planning an epoch and taking a batch's feedback, for many samples.

  python benchmarks/plan_cost.py
  python benchmarks/plan_cost.py --smoke     # seconds: does it run?

The plan is the real `plan_program` of `p_sgd`: importance -> weights -> draw without
replacement -> shuffle -> rows. The update is the feedback of one batch of 128, with the
state donated. `bytes` is what the memory analysis counts: state, plan and scratch.
"""

import argparse
import itertools
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import record
from record import Figure

from jaxbudget import epoch
from jaxbudget.selectors import make_selector
from jaxbudget.types import Outputs, Spec, blank_batch

BATCH, CLASSES, BUDGET = 128, 10, 0.3
TARGETS = {50_000: 20.0, 10_000_000: 10_000.0}  # milliseconds to plan an epoch
MOST_MEGABYTES = {10_000_000: 600.0}
STATE_BYTES = 16  # a sample


def measure(num_examples, repeats):
  """Times plan and update; returns figures."""
  spec = Spec(num_examples, BATCH, CLASSES, 200, (1, 1, 1))
  selector = make_selector('p_sgd', spec, BUDGET)
  root, place = jax.random.key(0), jnp.int32(0)
  batch = blank_batch(spec, BATCH)._replace(
    index=jax.random.randint(root, (BATCH,), 0, num_examples), weight=jnp.ones(BATCH)
  )
  batch = batch._replace(part_index=batch.index[:, None], part_share=jnp.ones((BATCH, 1)))
  outputs = Outputs(jnp.zeros((BATCH, CLASSES)), jnp.zeros(BATCH))
  state = selector.init(root)
  start = time.perf_counter()
  plan = epoch.plan_program.lower(
    selector.plan, num_examples // BATCH, state, place, root
  ).compile()
  compile_seconds = time.perf_counter() - start
  update = jax.jit(selector.update, donate_argnums=0).lower(state, batch, outputs).compile()
  times = {'plan': [], 'update': []}
  for repeat in range(1 + repeats):
    start = time.perf_counter()
    state, *planned = jax.block_until_ready(plan(state, place, root))
    middle = time.perf_counter()
    state = jax.block_until_ready(update(state, batch, outputs))
    if repeat:
      times['plan'].append(middle - start)
      times['update'].append(time.perf_counter() - middle)
    del planned
  memory = plan.memory_analysis()
  results = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    'num_examples': num_examples,
    'compile': compile_seconds,
    **times,
    'bytes': memory.argument_size_in_bytes + memory.temp_size_in_bytes + results,
    'state_bytes_a_sample': sum(x.nbytes for x in jax.tree.leaves(state)) / num_examples,
  }


def figures(case):
  """Lines of the table about one size."""
  n = case['num_examples']
  plan, update = ([1e3 * seconds for seconds in case[key]] for key in ('plan', 'update'))
  return [
    Figure(f'plan of an epoch, {n:,} samples', plan, 'ms', at_most=TARGETS.get(n)),
    Figure(f'feedback of a batch, {n:,} samples', update, 'ms'),
    Figure(
      f'memory to plan, {n:,} samples', [case['bytes'] / 1e6], 'MB', at_most=MOST_MEGABYTES.get(n)
    ),
    Figure(f'compile the plan, {n:,} samples', [case['compile']], 's'),
  ]


def growth(small, large, at_most=None):
  """How much dearer a plan got, over how much N log N grew."""
  n, m = small['num_examples'], large['num_examples']
  grew = statistics.median(large['plan']) / statistics.median(small['plan'])
  over = grew / (m * math.log(m) / (n * math.log(n)))
  return Figure(f'growth from {n:,} to {m:,} over that of N log N', [over], 'x', at_most=at_most)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sizes', type=int, nargs='+', default=[50_000, 1_000_000, 10_000_000])
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--smoke', action='store_true', help='small sizes; nothing is stored')
  flags = parser.parse_args()
  if flags.smoke:
    flags.sizes, flags.repeats = [1_000, 50_000], 1
  cases = [measure(n, flags.repeats) for n in flags.sizes]
  table = [figure for case in cases for figure in figures(case)]
  table += [growth(*pair) for pair in itertools.pairwise(cases)]
  table.append(growth(cases[0], cases[-1], at_most=1.0))
  state = cases[-1]['state_bytes_a_sample']
  table.append(Figure('state of p_sgd, bytes a sample', [state], 'B', at_most=STATE_BYTES))
  if flags.smoke:
    return record.show(table)
  return record.store('plan_cost', table)


if __name__ == '__main__':
  sys.exit(main())
