"""Strict modes for every test: rank promotion raises, dtypes never promote silently."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_num_cpu_devices', 2)

# Long files that would come last in the alphabet, lest the workers wait for one of them.
FIRST = ('slurm_test', 'train_test', 'workers_test')


def pytest_collection_modifyitems(items):
  """Sorts by file: those of `FIRST`, then the others as collected."""
  rank = {name: place for place, name in enumerate(FIRST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(FIRST)))
