"""How long re-selection takes to search a class: in NumPy, as it is, and compiled.

  python benchmarks/subset_search.py            # 5,000 samples of a class, 10% and 30% kept
  python benchmarks/subset_search.py --smoke    # seconds: does it run?

Facility location (CRAIG) looks again only at what may still be the best; compiled, it looks at
everything each time. Matching pursuit (GradMatch) is the same rule in both, but that the compiled
one never throws an atom out, which is less work. CPU seconds of one process; waiting threads of
BLAS count, so that others' work makes NumPy look slower. What it says (docs/results): facility
location stays in NumPy, a tenth of a compiled one or less; of matching pursuit the compiled half
of the rule is faster, 13 times for 500 atoms and twice for 1,500.
"""

import argparse
import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import record
from record import Figure

from jaxbudget import gradients
from jaxbudget.selectors.craig import facility_location, similarity
from jaxbudget.selectors.gradmatch import matching_pursuit


@functools.partial(jax.jit, static_argnums=1)
def compiled_cover(nearness, count):
  """Facility location, every sample looked at every time."""

  def add(t, carry):
    chosen, covered = carry
    gain = jnp.sum(jnp.maximum(nearness - covered[None], 0), axis=1)
    best = jnp.argmax(gain.at[chosen].set(-1, mode='drop')).astype(jnp.int32)
    return chosen.at[t].set(best), jnp.maximum(covered, nearness[best])

  n = len(nearness)
  start = jnp.full(count, n, jnp.int32), jnp.zeros(n, jnp.float32)
  return jax.lax.fori_loop(0, count, add, start)[0]


@functools.partial(jax.jit, static_argnums=(2, 3))
def compiled_pursuit(atoms, wanted, count, ridge):
  """Orthogonal matching pursuit by a growing inverse, nothing thrown out."""
  aims = atoms @ wanted

  def add(t, carry):
    chosen, inverse, taken, missing = carry
    new = jnp.argmax(jnp.where(taken, -jnp.inf, atoms @ missing)).astype(jnp.int32)
    own = jnp.where(jnp.arange(count)[:, None] < t, atoms[chosen], 0)
    solved = inverse @ (own @ atoms[new])
    pivot = atoms[new] @ atoms[new] + ridge - (own @ atoms[new]) @ solved
    step = solved.at[t].set(-1)
    inverse = inverse + jnp.outer(step, step) / pivot
    chosen = chosen.at[t].set(new)
    weight = inverse @ jnp.where(jnp.arange(count) <= t, aims[chosen], 0)
    return chosen, inverse, taken.at[new].set(True), wanted - weight @ atoms[chosen]

  start = (
    jnp.zeros(count, jnp.int32), jnp.zeros((count, count)), jnp.zeros(len(atoms), bool), wanted,
  )  # fmt: skip
  return jax.lax.fori_loop(0, count, add, start)[0]


def seconds(function, repeats):
  """CPU seconds of calls, behind one that compiles."""
  jax.block_until_ready(function())
  found = []
  for _ in range(repeats):
    start = time.process_time()
    jax.block_until_ready(function())
    found.append(time.process_time() - start)
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--samples', type=int, default=5000, help='of a class')
  parser.add_argument('--classes', type=int, default=10)
  parser.add_argument('--features', type=int, default=512)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--smoke', action='store_true', help='tiny sizes; nothing is stored')
  flags = parser.parse_args()
  if flags.smoke:
    flags.samples, flags.features, flags.repeats = 200, 16, 1
  random, n = np.random.default_rng(0), flags.samples
  error = random.dirichlet(np.full(flags.classes, 0.3), n).astype(np.float32)
  error[:, 0] -= 1  # of one class
  features = np.maximum(random.normal(size=(n, flags.features)), 0).astype(np.float32)
  of_bias = gradients.last_layer(error)
  atoms = gradients.last_layer(error[:, [0]], features)
  dense = jnp.asarray(atoms.left * atoms.right)
  wanted = gradients.total(atoms, np.ones(n, np.float32))
  table = [
    Figure('similarities of a class', seconds(lambda: similarity(of_bias), flags.repeats), 's')
  ]
  nearness = similarity(of_bias)
  on_device = jnp.asarray(nearness)
  for share in (0.1, 0.3):
    k = int(share * n)
    cases = {
      'facility location, NumPy': lambda k=k: facility_location(nearness, k),
      'facility location, compiled': lambda k=k: compiled_cover(on_device, k),
      'matching pursuit, NumPy': lambda k=k: matching_pursuit(atoms, wanted, k, ridge=0.5).chosen,
      'matching pursuit, compiled': lambda k=k: compiled_pursuit(dense, wanted[0], k, 0.5),
    }
    table += [
      Figure(f'{what}, {k} of {n}', seconds(case, flags.repeats), 's')
      for what, case in cases.items()
    ]
  if flags.smoke:
    return record.show(table)
  return record.store('subset_search', table, {'flags': vars(flags)})


if __name__ == '__main__':
  sys.exit(main())
