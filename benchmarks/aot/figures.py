"""What a compiled row costs: kernels, bytes, FLOPs, copies, loops, collectives, a bound in time."""

import collections
import re
from typing import Any, NamedTuple

from benchmarks.aot import hlo
from benchmarks.aot.targets import Target

LARGE_COPY = 2**16  # bytes
MOVES = {'copy', 'transpose', 'reshape'}


class Cost(NamedTuple):
  """Sums over the kernels of a row.

  Attributes:
    kernels: launches; what is in a loop counts as often as it turns, once where nobody knows.
    bytes: of main memory, read and written.
    flops: of convolutions and matrix products.
    seconds: of each kernel the dearer one of its bytes and its FLOPs, at the device's peaks.
    cycles: by a TPU's compiler.
    copies: (kernel, bytes) of large ones.
    collectives: (kind, bytes).
    loops: (where from, trips; None: unknown).
    convolutions: how many of each kind.
  """

  kernels: int = 0
  bytes: int = 0
  flops: int = 0
  seconds: float = 0.0
  cycles: int = 0
  copies: tuple[tuple[str, int], ...] = ()
  collectives: tuple[tuple[str, int], ...] = ()
  loops: tuple[tuple[str, int | None], ...] = ()
  convolutions: collections.Counter = collections.Counter()

  def __add__(self, other: 'Cost') -> 'Cost':
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))

  def repeated(self, times: int) -> 'Cost':
    """In a loop; where something comes from is named once."""
    return self._replace(
      **{
        key: times * getattr(self, key)
        for key in ('kernels', 'bytes', 'flops', 'seconds', 'cycles')
      }
    )


def row_loop(module: hlo.Module) -> hlo.Op:
  """The loop over rows: the one of the program's with the most in it."""
  loops = [op for op in module.computations[module.entry] if op.code == 'while']
  return max(loops, key=lambda op: len(module.computations[op.attribute('body')]))


def row_cost(module: hlo.Module, target: Target) -> tuple[Cost, Cost]:
  """The cost of a row.

  Returns:
    (a row that does the most, one that does the least: it takes no step).
  """
  return cost(module, row_loop(module).attribute('body'), target)


def cost(module: hlo.Module, computation: str, target: Target) -> tuple[Cost, Cost]:
  """The cost of a computation: with the dearest branches of its conditions, and the cheapest.

  A loop around a step is how a step is taken or not: one of those there are, or none. Several are
  steps on prefixes of the batch, one of which is always taken; see `_on_a_prefix`. Any other loop
  of unknown length turns once.
  """
  most = least = Cost()
  steps, choices = [], []
  for op in module.computations[computation]:
    bodies = [cost(module, name, target) for name in op.bodies]
    if op.code == 'while':
      trips = module.trips(op)
      if trips is None and bodies[0][0].convolutions:
        steps.append(bodies[0][0])
        continue
      loop = Cost(loops=((op.source, trips),))
      most, least = (
        total + body.repeated(trips or 1) + loop
        for total, body in zip((most, least), bodies[0], strict=True)
      )
    elif bodies:
      choices.append(bodies)
    elif op.code not in hlo.FREE:
      kernel = kernel_cost(module, op, target)
      most, least = most + kernel, least + kernel
  if len(steps) > 1:
    row = most + _on_a_prefix(steps, choices)
    return row, row
  for bodies in choices:
    most += max((each[0] for each in bodies), key=_weight)
    least += min((each[1] for each in bodies), key=_weight)
  return most + max(steps, key=_weight, default=Cost()), least


def _on_a_prefix(steps, choices):
  """The dearer of: all branches that pass the network and the largest part; none and the whole.

  The whole batch is trained on where nothing ranked it, and only then.
  """
  whole, *parts = sorted(steps, key=_weight, reverse=True)
  ranked, plain = parts[0], whole
  for bodies in choices:
    dear, cheap = (pick((each[0] for each in bodies), key=_weight) for pick in (max, min))
    ranked += dear
    plain += cheap if dear.convolutions else dear
  return max(ranked, plain, key=_weight)


def _weight(cost):
  return cost.seconds, cost.cycles, cost.kernels


def kernel_cost(module: hlo.Module, op: hlo.Op, target: Target) -> Cost:
  """The cost of one kernel."""
  moved = hlo.traffic(module, op)
  found = list(hlo.products(module, op))
  kind = op.code.removesuffix('-start')
  inside = {o.code for o in module.inside(op)} - hlo.FREE
  large = bool(inside) and inside <= MOVES and hlo.size(op.arrays) > LARGE_COPY
  return Cost(
    kernels=1,
    bytes=moved,
    flops=sum(flops for _, flops in found),
    seconds=max(
      moved / target.bandwidth, sum(flops / target.peak(dtype) for dtype, flops in found)
    ),
    cycles=op.cycles,
    copies=((op.name, hlo.size(op.arrays)),) if large else (),
    collectives=((kind, hlo.size(op.arrays)),) if kind in hlo.COLLECTIVES else (),
    convolutions=collections.Counter(
      _convolution(module, o)
      for o in module.inside(op)
      if o.code == 'convolution' or 'cudnn$conv' in o.target
    ),
  )


def _convolution(module, op) -> str:
  """As `bf16 x bf16 -> bf16, b01f_o01i->b01f`."""
  sides = [module.ops[name].arrays[0].dtype for name in op.operands[:2]]
  labels = re.search(r'dim_labels=([\w>\-]+)', op.line)[1]
  return f'{" x ".join(sides)} -> {op.arrays[0].dtype}, {labels}'


def plain(cost: Cost, target: Target, dtype: str) -> dict[str, Any]:
  """A cost as plain values, with the bound in time and the share of the peak that it leaves."""
  seconds = cost.seconds
  if target.clock:
    seconds = max(seconds, cost.cycles / target.clock)
  return {
    'kernels': cost.kernels,
    'bytes': cost.bytes,
    'flops': cost.flops,
    'cycles': cost.cycles,
    'bound_ms': round(1e3 * seconds, 4),
    'share_of_peak': round(cost.flops / (seconds * target.flops[dtype]), 4) if seconds else 0,
    'copies': cost.copies,
    'collectives': len(cost.collectives),
    'exchange': cost.collectives,
    'loops': cost.loops,
    'convolutions': dict(cost.convolutions),
  }
