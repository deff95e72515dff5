"""The parts of `accelerator.py`. They need no more than jax, flax, optax, chex and numpy."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # what is measured need not be installed
