"""Strict modes for every test: rank promotion raises, dtypes never promote silently."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_num_cpu_devices', 2)

# The longest first, lest the workers wait for one of them at the end (minutes on two cores).
FIRST = ('slurm_test', 'faults_test', 'hosts_test', 'workers_test', 'parallel_test', 'train_test')


def pytest_collection_modifyitems(items):
  """Sorts by file: those of `FIRST`, then the others as collected."""
  rank = {name: place for place, name in enumerate(FIRST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(FIRST)))
