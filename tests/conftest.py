"""Strict modes for every test: rank promotion raises, dtypes never promote silently."""

import jax

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_num_cpu_devices', 2)
