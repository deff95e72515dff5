"""Fast, and what selection and augmentation add: rows a second inside the compiled epoch."""

import functools
import json
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbudget import ledger, selectors
from jaxbudget.epoch import plan_program
from jaxbudget.lab.run.flops import forward_macs
from jaxbudget.models import make_model
from jaxbudget.types import Cost, Spec
from on_device import ROOT, peer
from on_device.rows import Rows, Setting

COMPILED = ROOT / 'docs' / 'results' / 'aot.json'  # see benchmarks/aot


class Card(NamedTuple):
  """A device that is known.

  Attributes:
    peaks: dense ones that the makers publish, FLOP/s by number format.
    target: what `benchmarks/aot` compiles for, if it is this one.
  """

  peaks: dict[str, float]
  target: str = ''


# By what JAX calls them. PCIe and NVL cards have other peaks. A TPU multiplies float32 in one pass
# of bfloat16 unless it is told to be exact.
_HOPPER = {'bfloat16': 989e12, 'tf32': 494e12, 'float32': 67e12}
_AMPERE = {'bfloat16': 312e12, 'tf32': 156e12, 'float32': 19.5e12}
CARDS = {
  r'H100 80GB HBM3': Card(_HOPPER, 'h100'),
  r'H200$': Card(_HOPPER),
  r'A100-SXM4-80GB': Card(_AMPERE, 'a100'),
  r'A100': Card(_AMPERE),
  r'TPU v5 ?(lite|e)': Card({'bfloat16': 197e12, 'tf32': 197e12}, 'v5e'),
}


def card(kind: str) -> Card:
  """What is known of a kind of device: nothing of most."""
  return next((found for name, found in CARDS.items() if re.search(name, kind)), Card({}))


@functools.cache
def flops(model: str, width: int, side: int) -> float:
  """Of training on an image: three forward passes, products with padding counted."""
  shape = (side, side, 3)
  return 3 * 2 * forward_macs(make_model(model, 10, shape, width=width, conv='lax'), shape)


def shares(setting: Setting, seconds: float, kind: str) -> dict[str, float]:
  """What a row attains, in percent.

  Args:
    setting: a row of it.
    seconds: that it takes.
    kind: of device.

  Returns:
    The share of the peak, where it is known, and of the bound on the compiled program, where there
    is one of this very row.
  """
  found, shown = card(kind), {}
  if setting.format in found.peaks and setting.model.startswith('resnet'):
    needed = flops(setting.model, setting.width, setting.side) * setting.batch
    shown['share of peak, padding counted, %'] = (
      100 * needed / seconds / found.peaks[setting.format]
    )
  numbers = {'bfloat16': 'bfloat16', 'tf32': 'float32'}.get(setting.format)
  name = f'{found.target}-{setting.selector}-{setting.augment}-{numbers}-1x50000'
  if setting == Setting(setting.selector, augment=setting.augment, format=setting.format):
    programs = json.loads(COMPILED.read_text())['programs'] if COMPILED.exists() else {}
    if name in programs:
      shown['share of the compiled bound %'] = programs[name]['bound_ms'] / seconds / 10
  return shown


def row(made: Callable[[], Rows], peers: dict[str, peer.Peer], repeats: int) -> dict[str, Any]:
  """Rows a second of a setting, in turns with PyTorch where there are peers, who end with it."""
  try:
    return _in_turns(made(), peers, repeats)
  finally:
    for other in peers.values():
      other.close()


def _in_turns(ours: Rows, peers: dict[str, peer.Peer], repeats: int) -> dict[str, Any]:
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
    **ours.compilation(),
  }
  figures |= shares(setting, median, jax.devices()[0].device_kind)
  figures |= {f'PyTorch {form}, ms a row': [1e3 * t for t in theirs[form]] for form in theirs}
  figures |= {f'PyTorch {form}, ms a row': f'failed: {why}' for form, why in faults.items() if why}
  if theirs:
    best = [min(of) for of in zip(*theirs.values(), strict=True)]
    figures['PyTorch at its best / ours'] = [b / a for a, b in zip(times, best, strict=True)]
  return figures


def ratio(made: Callable[[], Rows], uniform: Callable[[], Rows], repeats: int) -> dict[str, Any]:
  """A row of a method over a row of uniform sampling, in turns; and the counted cost of both."""
  plain, other, times, spent = uniform(), made(), [], []
  for _ in range(repeats):
    base = plain.seconds()
    start = time.perf_counter()
    progress = other.epoch()
    rows = int(progress.row)
    times.append((base, (time.perf_counter() - start) / rows))
    metrics = jax.device_get(progress.metrics)
    trained = int(metrics.trained.sum())
    cost = ledger.price(Cost(int(metrics.scored.sum()), trained, trained), 'compute')
    spent.append(cost / rows / (3 * plain.setting.batch))
  return {
    'ms a row': [1e3 * b for _, b in times],
    'over a uniform row': [b / a for a, b in times],
    'by counted cost': spent,
    'over its counted cost': [b / a / c for (a, b), c in zip(times, spent, strict=True)],
    **other.compilation(),
  }


def plan(name: str, samples: int, batch: int, repeats: int) -> dict[str, Any]:
  """Milliseconds to plan an epoch of N samples."""
  spec = Spec(samples, batch, 10, epochs=10_000, image_shape=(32, 32, 3))
  selector = selectors.make_selector(name, spec, 0.3)
  root = jax.random.key(0)
  state = jax.jit(selector.init)(root)
  rows, slots = selector.facts.rows, samples // batch

  def once(state, number):
    return plan_program(selector.plan, slots, state, jnp.int32(number), root)[0]

  state = jax.block_until_ready(once(state, 2))
  times = []
  for number in range(repeats):
    start = time.perf_counter()
    state = jax.block_until_ready(once(state, 3 + number))
    times.append(1e3 * (time.perf_counter() - start))
  return {'ms': times, 'rows planned': rows}
