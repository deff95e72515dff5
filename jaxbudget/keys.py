"""Random keys: derived from (seed, purpose, epoch, row), never carried along.

A run can therefore stop anywhere and go on with the same bits, and methods that share a
seed share their initial weights and their augmentation draws.
"""

import jax

PURPOSES = ('init_model', 'init_selector', 'plan', 'augment', 'select', 'scan')


def derive(root: jax.Array, purpose: str, *path: jax.Array | int) -> jax.Array:
  """Derives the key for one purpose at one place of a run.

  Args:
    root: the run's key, `jax.random.key(seed)`.
    purpose: one of `PURPOSES`.
    *path: integers that name the place: epoch, then row.

  Returns:
    A typed key.
  """
  key = jax.random.fold_in(root, PURPOSES.index(purpose))
  for step in path:
    key = jax.random.fold_in(key, step)
  return key
