"""What p-SGD itself costs: planning an epoch and taking a batch's feedback, for many samples.

  python benchmarks/plan_cost.py
  python benchmarks/plan_cost.py --smoke     # seconds: does it run?

The plan is the real `plan_program` of `p_sgd`: importance -> weights -> draw without
replacement -> shuffle -> rows. The update is the feedback of one batch of 128, with the
state donated. `bytes` is what the memory analysis counts: state, plan and scratch.
"""

import argparse
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import record

from jaxbudget import epoch
from jaxbudget.selectors import make_selector
from jaxbudget.types import Outputs, Spec, blank_batch

BATCH, CLASSES, BUDGET = 128, 10, 0.3
TARGETS = {50_000: 0.020, 10_000_000: 10.0}  # seconds to plan an epoch
MOST_BYTES = {10_000_000: 600e6}
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


def verdict(case):
  """The targets that a size has, and whether they were met."""
  n = case['num_examples']
  checks = [case['state_bytes_a_sample'] <= STATE_BYTES]
  if n in TARGETS:
    checks.append(statistics.median(case['plan']) <= TARGETS[n])
  if n in MOST_BYTES:
    checks.append(case['bytes'] <= MOST_BYTES[n])
  return all(checks)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sizes', type=int, nargs='+', default=[50_000, 1_000_000, 10_000_000])
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--smoke', action='store_true', help='small sizes; nothing is stored')
  flags = parser.parse_args()
  if flags.smoke:
    flags.sizes, flags.repeats = [1_000, 50_000], 1
  print('| samples | plan, ms | spread | update, ms | MB | state, B a sample | compile, s | |')
  print('|---|---|---|---|---|---|---|---|')
  found = []
  for n in flags.sizes:
    case = measure(n, flags.repeats)
    found.append(case)
    plan, update = (1e3 * statistics.median(case[key]) for key in ('plan', 'update'))
    low, high = 1e3 * min(case['plan']), 1e3 * max(case['plan'])
    print(
      f'| {n:,} | {plan:,.1f} | {low:,.1f} to {high:,.1f} | {update:.2f} '
      f'| {case["bytes"] / 1e6:,.1f} | {case["state_bytes_a_sample"]:.0f} '
      f'| {case["compile"]:.1f} | {"met" if verdict(case) else "missed"} |',
      flush=True,
    )
  first, last = found[0], found[-1]
  grew = statistics.median(last['plan']) / statistics.median(first['plan'])
  sizes = first['num_examples'], last['num_examples']
  n_log_n = sizes[1] * math.log(sizes[1]) / (sizes[0] * math.log(sizes[0]))
  print(f'grew {grew:.0f} times from {sizes[0]:,} to {sizes[1]:,}; N log N grows {n_log_n:.0f}')
  if not flags.smoke:
    print(record.store('plan_cost', found))
  return 0


if __name__ == '__main__':
  sys.exit(main())
