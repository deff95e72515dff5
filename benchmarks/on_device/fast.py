"""Fast, and what selection and augmentation add: rows a second inside the compiled epoch."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbudget import ledger, selectors
from jaxbudget.epoch import plan_program
from jaxbudget.types import Cost, Spec
from on_device import peer
from on_device.rows import Rows, Setting

# Dense peaks that the makers publish, FLOP/s by number format.
PEAKS = {
  'H100': {'bfloat16': 989e12, 'tf32': 494e12, 'float32': 67e12},
  'H200': {'bfloat16': 989e12, 'tf32': 494e12, 'float32': 67e12},
  'A100': {'bfloat16': 312e12, 'tf32': 156e12, 'float32': 19.5e12},
}
FLOPS = 3 * 2 * 0.5556e9  # of training ResNet-18 of width 64 on an image of 32x32: 3 x 2 x MACs


def peaks() -> dict[str, float] | None:
  """Of the card that is here, if it is a known one."""
  kind = jax.devices()[0].device_kind
  return next((values for name, values in PEAKS.items() if name in kind), None)


def row(setting: Setting, repeats: int, beside: bool) -> dict[str, Any]:
  """Rows a second of a setting, in turns with PyTorch if it is wanted and installed."""
  beside = beside and peer.there() and jax.default_backend() == 'gpu'
  peers = {form: peer.Peer(setting, form, 'cuda') for form in peer.FORMS if beside}
  try:
    return _in_turns(Rows(setting), repeats, peers)  # all of them compile at once
  finally:
    for other in peers.values():
      other.close()


def _in_turns(ours: Rows, repeats: int, peers: dict[str, peer.Peer]) -> dict[str, Any]:
  setting, times = ours.setting, []
  faults = {form: other.fault() for form, other in peers.items()}
  theirs: dict[str, list] = {form: [] for form in peers if not faults[form]}
  for _ in range(repeats):
    times.append(ours.seconds())
    for form, found in theirs.items():
      found.append(peers[form].seconds())
  median = statistics.median(times)
  figures: dict[str, Any] = {
    'ms a row': [1e3 * t for t in times],
    'rows/s': 1 / median,
    'images/s': setting.batch / median,
    'compilation, s': ours.compiling,
  }
  known = peaks()
  if known and setting.model == 'resnet18':
    flops = FLOPS * (setting.width / 64) ** 2 * (setting.side / 32) ** 2 * setting.batch
    figures['share of peak %'] = 100 * flops / median / known[setting.format]
  figures |= {f'PyTorch {form}, ms a row': [1e3 * t for t in theirs[form]] for form in theirs}
  figures |= {f'PyTorch {form}, ms a row': f'failed: {why}' for form, why in faults.items() if why}
  if theirs:
    best = [min(of) for of in zip(*theirs.values(), strict=True)]
    figures['PyTorch at its best / ours'] = [b / a for a, b in zip(times, best, strict=True)]
  return figures


def ratio(setting: Setting, uniform: Callable[[], Rows], repeats: int) -> dict[str, Any]:
  """A row of a setting over a row of uniform sampling, in turns; and the counted cost of both."""
  plain, other, times, spent = uniform(), Rows(setting), [], []
  for _ in range(repeats):
    base = plain.seconds()
    start = time.perf_counter()
    progress = other.epoch()
    rows = int(progress.row)
    times.append((base, (time.perf_counter() - start) / rows))
    metrics = jax.device_get(progress.metrics)
    trained = int(metrics.trained.sum())
    cost = ledger.price(Cost(int(metrics.scored.sum()), trained, trained), 'compute')
    spent.append(cost / rows / (3 * setting.batch))
  return {
    'ms a row': [1e3 * b for _, b in times],
    'over a uniform row': [b / a for a, b in times],
    'by counted cost': spent,
    'over its counted cost': [b / a / c for (a, b), c in zip(times, spent, strict=True)],
    'compilation, s': other.compiling,
  }


def plan(name: str, samples: int, batch: int, repeats: int) -> dict[str, Any]:
  """Milliseconds to plan an epoch of N samples."""
  spec = Spec(samples, batch, 10, epochs=10_000, image_shape=(32, 32, 3))
  selector = selectors.make_selector(name, spec, 0.3)
  root = jax.random.key(0)
  state = jax.jit(selector.init)(root)
  rows = selector.facts.rows

  def once(state, number):
    return plan_program(selector.plan, rows, state, jnp.int32(number), root)[0]

  state = jax.block_until_ready(once(state, 2))
  times = []
  for number in range(repeats):
    start = time.perf_counter()
    state = jax.block_until_ready(once(state, 3 + number))
    times.append(1e3 * (time.perf_counter() - start))
  return {'ms': times, 'rows planned': rows}
