"""Reads an optimised, scheduled HLO module as text."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {
  **dict.fromkeys(('pred', 's8', 'u8'), 8),
  **dict.fromkeys(('bf16', 'f16', 's16', 'u16'), 16),
  **dict.fromkeys(('s32', 'u32', 'f32'), 32),
  **dict.fromkeys(('s64', 'u64', 'f64'), 64),
}
# What runs nothing of its own; the end of an asynchronous operation is counted at its start.
FREE = {
  'parameter', 'get-tuple-element', 'tuple', 'bitcast', 'constant', 'after-all', 'partition-id',
  'opt-barrier', 'copy-done', 'async-done', 'async-update', 'slice-done', 'fusion-done',
  'all-reduce-done', 'all-gather-done', 'collective-permute-done', 'reduce-scatter-done', 'while',
  'conditional', 'call',
}  # fmt: skip
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'collective-permute', 'all-to-all')
SLICES = ('gather', 'dynamic-slice', 'slice')  # read a part of their first operand
UPDATES = {'dynamic-update-slice': 1, 'scatter': 2}  # write in place what this operand holds


class Array(NamedTuple):
  """An array in a type."""

  dtype: str
  shape: tuple[int, ...]
  layout: str

  @property
  def bytes(self) -> int:
    """Without padding."""
    return math.prod(self.shape) * BITS[self.dtype] // 8

  @property
  def in_main_memory(self) -> bool:
    """Not in a TPU's memory beside its core."""
    return 'S(' not in self.layout


class Op(NamedTuple):
  """One instruction."""

  name: str
  code: str
  arrays: tuple[Array, ...]  # what comes out
  operands: tuple[str, ...]
  line: str

  def attribute(self, key: str) -> str | None:
    """The value of `key=`, without its percent sign."""
    found = re.search(rf'\b{key}=(%?[\w.\-]+)', self.line)
    return found and found[1].lstrip('%')

  @property
  def source(self) -> str:
    """The path of the traced function that it comes from."""
    found = re.search(r'op_name="([^"]*)"', self.line)
    return found[1] if found else ''

  @property
  def cycles(self) -> int:
    """As a TPU's compiler estimates them; 0 of what it has no estimate for."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.line)
    return int(found[1]) if found else 0

  @property
  def target(self) -> str:
    """Of a custom call."""
    found = re.search(r'custom_call_target="([^"]*)"', self.line)
    return found[1] if found else ''

  @property
  def bodies(self) -> list[str]:
    """Computations that it runs one of, or again and again: not those of a fusion."""
    if self.code == 'conditional':
      found = re.search(r'branch_computations=\{([^}]*)\}', self.line)
      if found:
        return re.findall(r'%([\w.\-]+)', found[1])
      return [self.attribute('true_computation'), self.attribute('false_computation')]
    if self.code == 'while':
      return [self.attribute('body')]
    return [self.attribute('to_apply')] if self.code == 'call' else []


class Module(NamedTuple):
  """A program: its computations, and the instructions in all of them by name."""

  computations: dict[str, list[Op]]
  entry: str
  ops: dict[str, Op]

  def trips(self, loop: Op) -> int | None:
    """How often a while turns; None where it depends on what is computed."""
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.line)
    if found:
      return int(found[1])
    condition = self.computations[loop.attribute('condition')]  # a TPU's compiler leaves it here
    counts = [re.search(r'constant\((\d+)\)', op.line) for op in condition if op.code == 'constant']
    counted = {op.code for op in condition} == {
      'constant',
      'parameter',
      'get-tuple-element',
      'compare',
    }
    return int(counts[0][1]) if counted and len(condition) == 4 and counts[0] else None

  def inside(self, op: Op) -> list[Op]:
    """What is fused into an instruction; itself if it is none that fuses."""
    if op.code != 'fusion':
      return [op]
    return [each for o in self.computations[op.attribute('calls')] for each in self.inside(o)]


def parse(text: str) -> Module:
  """Reads the text of a module."""
  computations: dict[str, list[Op]] = {}
  entry, current = '', None
  for line in text.splitlines():
    head = re.match(r'^(ENTRY )?%?([\w.\-]+) (\(.*)?\{$', line)
    if head:
      current = computations.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
      continue
    found = re.match(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$', line)
    if found and current is not None:
      kind, rest = _split_type(found[2])
      code = re.match(r'([\w\-]+)\(', rest)
      if code:
        inside = re.sub(r'/\*.*?\*/', '', rest[code.end() :].split(')', 1)[0])
        operands = re.findall(r'%?\b([A-Za-z_][\w.\-]*)', inside)
        arrays = _arrays(_result(kind, code[1]))
        begun = code[1].replace('fusion-start', 'fusion')
        current.append(Op(found[1], begun, arrays, tuple(operands), line))
  ops = {op.name: op for each in computations.values() for op in each}
  return Module(computations, entry, ops)


def _split_type(text):
  """The type in front, which may be a tuple, and what follows it."""
  depth = 0
  for place, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if letter == ' ' and not depth:
      return text[:place], text[place + 1 :]
  return text, ''


def _result(kind, code):
  """The type of what comes out, of an operation that is only begun without what goes in."""
  if code == 'copy-start':  # (out, in, ...)
    return _split_type(kind[1:])[0]
  if kind.startswith('((') or code in ('all-gather-start', 'collective-permute-start'):
    return _split_type(kind[1:])[1]  # (in, out, ...)
  return kind


def _arrays(kind):
  found = re.findall(r'(\w+)\[([\d,]*)\](?:\{([^}]*)\})?', kind)
  return tuple(
    Array(dtype, tuple(int(d) for d in shape.split(',') if d), layout)
    for dtype, shape, layout in found
    if dtype in BITS
  )


def size(arrays) -> int:
  """Bytes of arrays that are in main memory."""
  return sum(array.bytes for array in arrays if array.in_main_memory)


def traffic(module: Module, op: Op) -> int:
  """Bytes that a kernel reads from main memory and writes to it, each once.

  Of what it takes slices or rows of, these alone; of what it updates in place, what is written.
  """
  if op.code == 'fusion':
    body = module.computations[op.attribute('calls')]
    parameters = {int(re.search(r'parameter\((\d+)\)', o.line)[1]): o
                  for o in body if o.code == 'parameter'}  # fmt: skip
    read = sum(
      min(_touched(body, parameters[k].name), size(module.ops[name].arrays))
      for k, name in enumerate(op.operands)
      if name not in op.operands[:k]
    )
    root = next(o for o in body if o.line.lstrip().startswith('ROOT'))
    return read + min(_written(module, root), size(op.arrays))
  operands = [size(module.ops[name].arrays) for name in op.operands if name in module.ops]
  if op.code.removesuffix('-start') in SLICES:
    read = sum(array.bytes for array in op.arrays) if operands[0] else 0
    return read + size(op.arrays) + sum(operands[1:])
  if op.code in UPDATES:
    return 2 * operands[UPDATES[op.code]]
  return size(op.arrays) + sum(operands)


def _touched(body, name) -> int:
  """Bytes that a fusion reads of a parameter."""
  total = 0
  for op in body:
    if name not in op.operands:
      continue
    first = op.operands[0] == name
    if first and op.code in SLICES:
      total += sum(array.bytes for array in op.arrays)
    elif op.code in ('bitcast', 'get-tuple-element'):
      total += _touched(body, op.name)
    elif not (first and op.code in UPDATES):
      return 2**63
  return total


def _written(module, root) -> int:
  """Bytes that a fusion writes."""
  if root.code == 'tuple':
    return sum(_written(module, module.ops[name]) for name in root.operands)
  if root.code == 'bitcast':
    return _written(module, module.ops[root.operands[0]])
  if root.code in UPDATES:
    return sum(a.bytes for a in module.ops[root.operands[UPDATES[root.code]]].arrays)
  return sum(array.bytes for array in root.arrays)


def products(module: Module, op: Op) -> Iterator[tuple[str, int]]:
  """Convolutions and matrix products in a kernel: (type of what is multiplied, FLOPs).

  Products with padding are left out, as in XLA's own count.
  """
  for o in module.inside(op):
    if o.code == 'convolution' or 'cudnn$conv' in o.target:
      yield _operand(module, o).dtype, _convolution_flops(module, o)
    elif o.code == 'dot':
      left, contracted = (
        _operand(module, o),
        re.search(r'lhs_contracting_dims=\{([\d,]*)\}', o.line),
      )
      summed = math.prod(left.shape[int(d)] for d in contracted[1].split(',') if d)
      yield left.dtype, 2 * math.prod(o.arrays[0].shape) * summed
    elif 'gemm' in o.target:
      left, found = (
        _operand(module, o),
        re.search(r'"lhs_contracting_dimensions":\[([^\]]*)', o.line),
      )
      summed = math.prod(left.shape[int(d)] for d in re.findall(r'\d+', found[1]))
      yield left.dtype, 2 * math.prod(o.arrays[0].shape) * summed


def _operand(module, op, k=0) -> Array:
  return module.ops[op.operands[k]].arrays[0]


def _convolution_flops(module, op) -> int:
  """2 x batch x features in x features out x pairs of output pixel and tap that meet a pixel."""
  image, window, out = _operand(module, op), _operand(module, op, 1), op.arrays[0]
  if op.target.endswith('BackwardInput'):  # all are described as the forward convolution
    image, out = out, image
  elif op.target.endswith('BackwardFilter'):
    window, out = out, window
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', op.line)
  image, window, out = (
    dict(zip(label, array.shape, strict=True))
    for label, array in zip(labels.groups(), (image, window, out), strict=True)
  )
  pairs = 1
  for axis, rule in enumerate(window_rules(op.line, sum(d.isdigit() for d in labels[1]))):
    pairs *= _pairs(image[str(axis)], window[str(axis)], out[str(axis)], rule)
  return 2 * out['b'] * out['f'] * window['i'] * pairs


def window_rules(line: str, axes: int) -> list[dict[str, int]]:
  """Of each axis: stride, padding in front, dilation of the window and of the image."""
  text = (re.search(r'window=\{([^}]*)\}', line) or ('', ''))[1]
  found = dict(part.split('=') for part in text.split())

  def per_axis(key, default):
    return found[key].split('x') if key in found else [default] * axes

  return [
    {'stride': int(s), 'low': int(p.split('_')[0]), 'taps': int(r), 'spread': int(d)}
    for s, p, r, d in zip(
      per_axis('stride', '1'), per_axis('pad', '0_0'), per_axis('rhs_dilate', '1'),
      per_axis('lhs_dilate', '1'), strict=True,
    )
  ]  # fmt: skip


def _pairs(image, window, out, rule) -> int:
  """Output positions and taps of an axis that meet a pixel, not padding or a hole."""
  last = (image - 1) * rule['spread']
  return sum(
    0 <= place <= last and place % rule['spread'] == 0
    for o in range(out)
    for k in range(window)
    for place in (o * rule['stride'] + k * rule['taps'] - rule['low'],)
  )
