"""How long re-selection takes to search a class: in NumPy, as it is, and compiled.

  python benchmarks/subset_search.py            # 5,000 samples of a class, 10% and 30% kept
  python benchmarks/subset_search.py --smoke    # seconds: does it run?

Facility location (CRAIG) looks again only at what may still be the best; compiled, it looks at
everything each time. Matching pursuit (GradMatch) is the same rule in both: what would have a
negative weight is thrown out, systems are solved in float64. CPU seconds of one thread: with more,
those of BLAS wait for each other, and others' work makes NumPy look slower. What it says
(docs/results): both stay in NumPy. Facility location takes a tenth of a compiled one or less;
matching pursuit 1.5 times as long as a compiled one for 500 atoms, and 0.4 times for 1,500.
"""

import argparse
import functools
import os
import sys
import time

os.environ['OPENBLAS_NUM_THREADS'] = '1'

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
def _pursuit(atoms, wanted, count, ridge):
  """See `compiled_pursuit`; slots of atoms that were thrown out stay empty."""
  aims = (atoms @ wanted).astype(jnp.float64)

  def add(carry):
    t, chosen, there, inverse, weight, missing, _ = carry
    taken = jnp.zeros(len(atoms), bool).at[jnp.where(there, chosen, len(atoms))].set(True)
    gain = jnp.where(taken, -jnp.inf, atoms @ missing)
    new = jnp.argmax(gain).astype(jnp.int32)
    own = jnp.where(there[:, None], atoms[chosen], 0)
    across = (own @ atoms[new]).astype(jnp.float64)
    solved = inverse @ across
    norm = (atoms[new] @ atoms[new]).astype(jnp.float64) + ridge
    pivot = norm - across @ solved
    helps = (gain[new] > 0) & (pivot > 1e-6 * norm)
    column = solved.at[t].set(-1)
    inverse = inverse + jnp.outer(column, column / pivot)
    chosen, now = chosen.at[t].set(new), there.at[t].set(True)
    right = aims[chosen]

    def throw(carry):
      now, inverse, weight = carry
      out = jnp.argmin(weight).astype(jnp.int32)
      inverse = inverse - jnp.outer(inverse[:, out], inverse[:, out] / inverse[out, out])
      inverse, now = inverse.at[out].set(0).at[:, out].set(0), now.at[out].set(False)
      return now, inverse, inverse @ jnp.where(now, right, 0)

    start = now, inverse, inverse @ jnp.where(now, right, 0)
    now, inverse, after = jax.lax.while_loop(lambda c: jnp.min(c[2]) < 0, throw, start)
    own = own.at[t].set(atoms[new])
    left = wanted - jnp.where(now, after, 0).astype(jnp.float32) @ own
    there, weight = jnp.where(helps, now, there), jnp.where(helps, after, weight)
    missing = jnp.where(helps, left, missing)
    return t + 1, chosen, there, inverse, weight, missing, helps & there[t]

  def goes_on(carry):
    return (carry[0] < count) & carry[-1] & (jnp.linalg.norm(carry[-2]) >= 1e-4 * size)

  size = jnp.linalg.norm(wanted)
  blank = jnp.zeros(count, jnp.int32), jnp.zeros(count, bool), jnp.zeros((count, count))
  start = jnp.int32(0), *blank, jnp.zeros(count), wanted, jnp.array(True)
  _, chosen, there, _, weight, *_ = jax.lax.while_loop(goes_on, add, start)
  return chosen, there, weight


def compiled_pursuit(atoms, wanted, count, ridge):
  """Orthogonal matching pursuit by a growing inverse in float64, as in NumPy, thrown out likewise.

  Returns:
    (i32[m], f32[m]) chosen atoms and their weights.
  """
  with jax.enable_x64(True):
    chosen, there, weight = jax.device_get(_pursuit(atoms, wanted, count, ridge))
  return chosen[there], weight[there].astype(np.float32)


def check(match, chosen, weight, dense, wanted):
  """Refuses to compare two searches that do not match as well."""
  missing = np.linalg.norm(wanted - weight @ dense[chosen]) / np.linalg.norm(wanted)
  if abs(match.residual - missing) > 1e-4 or abs(len(chosen) - len(match.chosen)) > 10:
    raise SystemExit(f'{len(match.chosen)} atoms leave {match.residual}, {len(chosen)} {missing}')


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
    found = matching_pursuit(atoms, wanted, k, ridge=0.5)
    check(found, *compiled_pursuit(dense, wanted[0], k, 0.5), np.asarray(dense), wanted[0])
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
